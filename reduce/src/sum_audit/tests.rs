use super::*;

const ONE: WorkerId = WorkerId(1);
const TWO: WorkerId = WorkerId(2);

fn node(first: u32, last: u32) -> Node {
    Node { first, last }
}

fn buffer(value: f32) -> ChunkBuffer {
    ChunkBuffer::of(&[value, 1.0])
}

fn digest(value: &ChunkBuffer) -> Digest {
    digest_elements(value)
}

/// Worker 1 has done `[0, 2)` and `[2, 3)`, worker 2 `[3, 4)`: the numbers show in which order they were added.
fn holders() -> NodeHolders {
    let mut holders = NodeHolders::default();
    holders.done(node(0, 2), ONE);
    holders.done(node(2, 3), ONE);
    assert!(!holders.cover(4));
    holders.done(node(3, 4), TWO);
    assert!(holders.cover(4));
    holders
}

/// All was sent for an owner's sum that is `sum`.
fn audit(sum: f32) -> SumAudit {
    let mut audit = SumAudit::new(ChunkBuffer::of(&[sum, 3.0]).fingerprint(), 4);
    audit.sent(ONE, node(0, 2), buffer(1.0));
    audit.sent(ONE, node(2, 3), buffer(1e8));
    audit.sent(TWO, node(3, 4), buffer(-1e8));
    audit
}

/// `1 + (1e8 - 1e8)`.
const RIGHT: f32 = 1.0;

#[test]
fn a_sum_is_added_anew_in_the_order_of_the_tree() {
    assert_ne!(RIGHT, 1.0 + 1e8 - 1e8);
    assert_eq!(audit(RIGHT).is_equal(&holders()), Some(true));
    assert_eq!(audit(RIGHT + 8.0).is_equal(&holders()), Some(false));
}

#[test]
fn what_is_missing_is_known_and_nobody_else_can_bring_it() {
    let mut audit = SumAudit::new(buffer(0.0).fingerprint(), 4);
    audit.sent(ONE, node(0, 2), buffer(1.0));
    audit.sent(ONE, node(3, 4), buffer(1.0));
    assert_eq!(audit.missing(&holders()), [ONE, TWO]);
    assert_eq!(audit.is_equal(&holders()), None);
}

#[test]
fn who_has_done_a_node_first_holds_it_until_it_is_gone() {
    let mut holders = NodeHolders::default();
    holders.done(node(0, 4), ONE);
    holders.done(node(0, 4), TWO);
    holders.done(node(0, 2), TWO);
    assert_eq!(holders.iter().collect::<Vec<_>>(), [(node(0, 4), ONE)], "a copy, and a part of it");
    holders.gone(ONE);
    assert!(holders.are_gone());
    holders.done(node(0, 2), TWO);
    holders.done(node(2, 4), TWO);
    assert_eq!(holders.iter().collect::<Vec<_>>(), [(node(0, 2), TWO), (node(2, 4), TWO)]);
    assert!(!holders.are_gone() && holders.cover(4));
    holders.done(node(0, 4), ONE);
    assert_eq!(holders.iter().count(), 2, "a whole node that comes late");
}

#[test]
fn an_owner_that_was_brought_what_was_added_is_wrong() {
    let (audit, holders) = (audit(7.0), holders());
    let brought = [(node(0, 2), digest(&buffer(1.0))), (node(2, 3), digest(&buffer(1e8)))];
    let last = (node(3, 4), digest(&buffer(-1e8)));
    let finding = |brought: &[(Node, Digest)]| audit.finding(&holders, &brought.iter().copied().collect());
    assert_eq!(finding(&[brought[0], brought[1], last]), Some(SumFinding::Wrong));
    assert_eq!(finding(&brought), Some(SumFinding::Wrong), "it leaves something out");
    assert_eq!(finding(&[]), Some(SumFinding::Wrong));
    let part = (node(1, 2), digest(&buffer(9.0)));
    assert_eq!(finding(&[brought[0], part, brought[1], last]), None, "parts of a node that one worker has done");
}

#[test]
fn an_owner_that_was_brought_something_else_disagrees_with_whoever_brought_it() {
    let (audit, holders) = (audit(7.0), holders());
    let brought = [(node(0, 2), digest(&buffer(1.0))), (node(3, 4), digest(&buffer(9.0)))];
    assert_eq!(audit.finding(&holders, &brought.into()), Some(SumFinding::Disagrees(TWO)));
}

#[test]
fn what_was_brought_in_one_piece_is_compared_with_the_sum_of_its_parts() {
    let (audit, holders) = (audit(7.0), holders());
    let right = ChunkBuffer::of(&[0.0, 2.0]);
    let first = (node(0, 2), digest(&buffer(1.0)));
    assert_eq!(audit.finding(&holders, &[first, (node(2, 4), digest(&right))].into()), Some(SumFinding::Wrong));
    let wrong = ChunkBuffer::of(&[0.0, 2.5]);
    let finding = audit.finding(&holders, &[first, (node(2, 4), digest(&wrong))].into());
    assert_eq!(finding, Some(SumFinding::Disagrees(ONE)));
}

#[test]
fn chunks_of_other_lengths_are_no_sum() {
    let mut audit = SumAudit::new(buffer(0.0).fingerprint(), 2);
    let mut holders = NodeHolders::default();
    holders.done(node(0, 1), ONE);
    holders.done(node(1, 2), TWO);
    audit.sent(ONE, node(0, 1), buffer(1.0));
    audit.sent(TWO, node(1, 2), ChunkBuffer::of(&[1.0]));
    assert_eq!(audit.is_equal(&holders), None);
}

/// Plays steps in which an owner adds so many chunks. The chunks between two audits, that with the audit included.
fn gaps(every: u32, chunks: u64, workers: u64) -> Vec<u64> {
    let (mut schedule, mut gaps, mut gap, mut seed) = (SumAuditSchedule::new(every), Vec::new(), 0, 1u64);
    for _ in 0..4000 {
        let audited = schedule.due(ONE, chunks, workers) > 0;
        gap += chunks;
        schedule.added(ONE, chunks, audited, |below| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % below
        });
        if audited {
            gaps.push(std::mem::take(&mut gap));
        }
    }
    gaps
}

#[test]
fn the_first_step_is_audited_and_then_any_may_be_and_one_chunk_in_150_is() {
    for chunks in [1, 5, 21, 43, 85, 140] {
        let gaps = gaps(100, chunks, 8);
        assert_eq!(gaps[0], chunks, "the first step");
        let (most, mean) = (gaps.iter().max().unwrap(), gaps.iter().sum::<u64>() as f64 / gaps.len() as f64);
        assert!(*most <= 150 && (mean <= 110.0 || chunks > 100), "{chunks} chunks a step: {most}, {mean}");
        let least = gaps[1..].iter().min();
        assert!(chunks > 43 || (mean > 50.0 && least == Some(&chunks)), "{chunks}: {least:?}, {mean}");
    }
    assert_eq!(SumAuditSchedule::new(100).due(ONE, 1000, 8), 10);
    assert_eq!(SumAuditSchedule::new(0).due(ONE, 1000, 8), 0);
    assert_eq!(SumAuditSchedule::new(100).due(ONE, 0, 8), 0);
}

#[test]
fn the_more_workers_send_what_is_audited_the_rarer_it_is() {
    let mean = |workers| {
        let gaps = gaps(100, 2, workers);
        gaps.iter().sum::<u64>() as f64 / gaps.len() as f64
    };
    assert!((60.0..90.0).contains(&mean(64)) && (150.0..200.0).contains(&mean(128)), "{} {}", mean(64), mean(128));
}

#[test]
fn an_audit_that_did_not_come_about_is_due_again() {
    let mut schedule = SumAuditSchedule::new(100);
    schedule.added(ONE, 5, false, |_| 0);
    assert_eq!(schedule.due(ONE, 5, 2), 1, "of the first it is nothing that one came and was not audited");
    schedule.added(ONE, 5, true, |below| below - 1);
    assert_eq!((schedule.due(ONE, 5, 2), schedule.due(TWO, 5, 2)), (0, 1));
    schedule.added(ONE, 144, false, |_| 0);
    for _ in 0..2 {
        assert_eq!(schedule.due(ONE, 5, 2), 1);
        schedule.added(ONE, 5, false, |_| 0);
    }
    schedule.added(ONE, 5, true, |_| 0);
    assert_eq!(schedule.due(ONE, 5, 2), 1, "nobody knows when it is the next one's turn");
    schedule.added(ONE, 5, true, |below| below - 1);
    schedule.retain(|owner| owner != ONE);
    assert_eq!(schedule.due(ONE, 5, 2), 1, "who comes again is audited at first");
}
