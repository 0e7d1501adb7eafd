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
        let brought = Some(BTreeMap::from(brought));
        assert_eq!(audits.brought(7, brought.as_ref()), [AuditWish::Found(OWNER, finding)]);
        assert!(audits.are_over() && audits.brought(7, brought.as_ref()).is_empty());
    }
}

#[test]
fn an_owner_that_does_not_say_it_does_not_get_away_with_its_sum() {
    let silent = [AuditWish::Unanswered(OWNER), AuditWish::Unexplained(OWNER)];
    let (mut audits, _) = answered(4.0);
    assert_eq!(audits.brought(7, None), silent);
    let (mut audits, _) = answered(4.0);
    assert!(audits.give_up().is_empty() && !audits.are_over(), "it has time of its own");
    let (mut audits, _) = answered(4.0);
    assert_eq!(audits.gone(OWNER), silent);
    let (mut audits, _) = answered(4.0);
    let part = BTreeMap::from([(Node { first: 0, last: 1 }, Digest::default())]);
    assert!(audits.brought(7, Some(&part)) != [AuditWish::Unexplained(OWNER)], "no part of a node");
}

/// An owner that keeps a node of its own, and brings a wrong sum of it, must not get away by hiding that node.
#[test]
fn an_owner_that_does_not_send_what_it_keeps_itself_does_not_get_away_with_its_sum() {
    let own = || {
        let mut audits = opened();
        audits.done(LEFT, OWNER);
        audits.done(RIGHT, TWO);
        audits.summed(7, buffer(4.0).fingerprint());
        audits.asked(7, [OWNER, TWO]);
        audits.kept(TWO, 7, RIGHT, buffer(2.0));
        assert!(audits.sent(TWO, 7).is_empty());
        audits
    };
    let mut audits = own();
    assert!(audits.have_come() && !audits.have_come(), "it is asked whether bytes flow");
    assert_eq!(audits.give_up(), [AuditWish::Unanswered(OWNER), AuditWish::Unexplained(OWNER)]);
    let mut audits = own();
    assert_eq!(audits.gone(OWNER), [AuditWish::Unanswered(OWNER), AuditWish::Unexplained(OWNER)]);
}

#[test]
fn who_left_before_a_sum_was_there_is_not_waited_for() {
    let mut audits = opened();
    audits.done(LEFT, ONE);
    audits.done(RIGHT, TWO);
    assert!(audits.gone(ONE).is_empty());
    audits.summed(7, buffer(3.0).fingerprint());
    audits.asked(7, [TWO, OWNER]);
    assert!(audits.sent(TWO, 7).is_empty() && audits.are_over());
}

#[test]
fn the_more_workers_send_the_fewer_audits_are_open_at_once() {
    let chunks: BTreeMap<WorkerId, Vec<usize>> =
        (0..100).map(|owner| (WorkerId(owner), vec![owner as usize])).collect();
    for (workers, most) in [(8, 16), (64, 2), (1000, 1)] {
        let mut audits = SumAudits::new(100);
        audits.open(2, &chunks, workers);
        assert_eq!(audits.open.len(), most, "{workers} workers");
        assert!(audits.said(OWNER, LEFT, &[(500, Digest::default())], |_| None).is_empty());
        assert_eq!(audits.open.len(), most, "{workers} workers");
    }
}

#[test]
fn who_had_not_computed_a_node_when_all_were_asked_is_asked_once_more() {
    let mut audits = asked(3.0);
    audits.kept(ONE, 7, LEFT, buffer(1.0));
    // Worker 2 is lost, and worker 1 computes the right shard as well.
    audits.holders.gone(TWO);
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
    assert!(steps.len() > 5 && gaps.iter().all(|gap| (1..=15).contains(gap)), "{steps:?}");
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
