use convoy_common::counted_sum::Summand;
use convoy_model::digest_elements;

use super::*;

const OWNER: WorkerId = WorkerId(9);
const ONE: WorkerId = WorkerId(1);
const TWO: WorkerId = WorkerId(2);
const LEFT: Node = Node { first: 0, last: 1 };
const RIGHT: Node = Node { first: 1, last: 2 };

fn buffer(value: f32) -> ChunkBuffer {
    ChunkBuffer::of(&[value])
}

/// The first step of an owner of one chunk, over two shards, in which its sum is audited.
fn opened() -> SumAudits {
    let mut audits = SumAudits::new(100);
    audits.open(2, &BTreeMap::from([(OWNER, vec![7])]), 3);
    assert!(!audits.are_over());
    audits
}

/// The owner says that its sum is `sum`, and all were asked. Worker 1 has computed the left shard, worker 2 the right
/// one, and both are done.
fn asked(sum: f32) -> SumAudits {
    let mut audits = opened();
    assert!(audits.done(LEFT, ONE).is_empty());
    assert_eq!(audits.summed(7, buffer(sum).fingerprint()), [AuditWish::AskKept { index: 7, of: None }]);
    assert!(audits.done(RIGHT, TWO).is_empty(), "nobody can have answered");
    audits.asked(7, [ONE, TWO, OWNER]);
    audits
}

/// Both have sent what they keep: 1 and 2.
fn answered(sum: f32) -> (SumAudits, Vec<AuditWish>) {
    let mut audits = asked(sum);
    for (worker, node, value) in [(ONE, LEFT, 1.0), (TWO, RIGHT, 2.0)] {
        audits.kept(worker, 7, node, buffer(value));
    }
    let wishes = audits.sent(TWO, 7);
    (audits, wishes)
}

#[test]
fn a_sum_that_is_equal_is_told_and_waited_for_no_more() {
    let mut audits = asked(3.0);
    audits.kept(ONE, 7, LEFT, buffer(1.0));
    assert!(audits.sent(ONE, 7).is_empty() && !audits.are_over());
    audits.kept(TWO, 7, RIGHT, buffer(2.0));
    assert_eq!(audits.sent(TWO, 7), [AuditWish::Found(OWNER, SumFinding::Equal)]);
    assert!(audits.are_over());
}

#[test]
fn where_sums_differ_the_owner_is_asked_what_it_was_brought() {
    let digest = |value| digest_elements(&buffer(value));
    for (right, finding) in [(2.0, SumFinding::Wrong), (5.0, SumFinding::Disagrees(TWO))] {
        let (mut audits, wishes) = answered(4.0);
        assert_eq!(wishes, [AuditWish::AskBrought { index: 7, owner: OWNER }]);
        let brought = [(LEFT, digest(1.0)), (RIGHT, digest(right))];
        assert_eq!(audits.brought(7, Some(&brought)), [AuditWish::Found(OWNER, finding)]);
        assert!(audits.are_over() && audits.brought(7, Some(&brought)).is_empty());
    }
}

#[test]
fn an_owner_that_does_not_say_it_does_not_get_away_with_its_sum() {
    let silent = [AuditWish::Unanswered(OWNER), AuditWish::Unexplained(OWNER)];
    let (mut audits, _) = answered(4.0);
    assert_eq!(audits.brought(7, None), silent);
    let (mut audits, _) = answered(4.0);
    assert_eq!(audits.give_up(), silent);
    let (mut audits, _) = answered(4.0);
    assert_eq!(audits.gone(OWNER), silent);
}

#[test]
fn who_had_not_computed_a_node_when_all_were_asked_is_asked_once_more() {
    let mut audits = asked(3.0);
    audits.kept(ONE, 7, LEFT, buffer(1.0));
    // Worker 1 has the right shard as well now; it was lost, and computed again.
    audits.done(RIGHT, ONE);
    assert_eq!(audits.sent(ONE, 7), [AuditWish::AskKept { index: 7, of: Some(ONE) }]);
    audits.asked(7, [ONE]);
    audits.kept(ONE, 7, RIGHT, buffer(2.0));
    assert_eq!(audits.sent(ONE, 7), [AuditWish::Found(OWNER, SumFinding::Equal)]);
}

#[test]
fn who_does_not_send_what_it_keeps_is_named_and_the_audit_is_due_again() {
    let mut audits = asked(3.0);
    audits.kept(ONE, 7, LEFT, buffer(1.0));
    assert_eq!(audits.give_up(), [AuditWish::Unanswered(TWO)]);
    assert!(audits.are_over());
    let chunks = BTreeMap::from([(OWNER, vec![7])]);
    audits.committed(&chunks);
    audits.open(2, &chunks, 3);
    assert!(!audits.are_over(), "it is still the first");
}

#[test]
fn who_is_gone_is_not_waited_for() {
    let mut audits = asked(3.0);
    assert!(audits.gone(WorkerId(5)).is_empty() && !audits.are_over(), "it keeps nothing");
    assert!(audits.gone(TWO).is_empty() && audits.are_over());
}

#[test]
fn a_chunk_that_moves_or_a_step_that_is_given_up_is_not_audited() {
    let mut audits = asked(3.0);
    audits.moved([3, 7]);
    assert!(audits.are_over());
    let mut audits = asked(3.0);
    audits.close();
    assert!(audits.are_over() && audits.give_up().is_empty());
}

#[test]
fn after_an_audit_the_next_one_is_due_after_some_chunks() {
    let (mut audits, _) = answered(3.0);
    let chunks = BTreeMap::from([(OWNER, (0..10).collect::<Vec<usize>>())]);
    let mut steps = Vec::new();
    for step in 0..100 {
        audits.committed(&chunks);
        audits.open(1, &chunks, 3);
        if let Some(index) = audits.open.keys().next().copied() {
            steps.push(step);
            audits.asked(index, [ONE]);
            audits.done(LEFT, ONE);
            audits.summed(index, buffer(1.0).fingerprint());
            audits.kept(ONE, index, LEFT, buffer(1.0));
            assert_eq!(audits.sent(ONE, index), [AuditWish::Found(OWNER, SumFinding::Equal)]);
        }
    }
    let gaps: Vec<i32> = steps.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(steps.len() > 5 && gaps.iter().all(|gap| (4..=15).contains(gap)), "{steps:?}");
}

#[test]
fn without_audits_nothing_is_waited_for() {
    let mut audits = SumAudits::new(0);
    audits.open(2, &BTreeMap::from([(OWNER, vec![7])]), 3);
    assert!(audits.are_over() && audits.summed(7, buffer(1.0).fingerprint()).is_empty());
}

/// An owner could say to have been brought the right chunk by itself, and add another.
#[test]
fn an_owner_must_send_what_it_has_said_to_have_been_brought_by_itself() {
    for (said, finding) in [(1.0, SumFinding::Equal), (5.0, SumFinding::Wrong)] {
        let mut audits = SumAudits::new(100);
        audits.open(2, &BTreeMap::new(), 3);
        assert!(audits.are_over(), "no audit of a sum is due");
        let digest = digest_elements(&buffer(said));
        let sum = |index| (index == 7).then(|| buffer(3.0).fingerprint());
        assert_eq!(audits.said(OWNER, LEFT, &[(7, digest)], sum), [AuditWish::AskKept { index: 7, of: None }]);
        audits.done(LEFT, OWNER);
        audits.done(RIGHT, TWO);
        audits.asked(7, [OWNER, TWO]);
        audits.kept(OWNER, 7, LEFT, buffer(1.0));
        audits.kept(TWO, 7, RIGHT, buffer(2.0));
        assert_eq!(audits.sent(OWNER, 7), [AuditWish::Found(OWNER, finding)]);
    }
    let mut audits = SumAudits::new(100);
    audits.open(2, &BTreeMap::new(), 3);
    assert!(audits.said(OWNER, LEFT, &[(7, Digest::default())], |_| None).is_empty() && !audits.are_over());
    assert_eq!(audits.summed(7, buffer(3.0).fingerprint()).len(), 1, "its sum comes later");
    assert!(audits.said(OWNER, LEFT, &[], |_| None).is_empty());
}
