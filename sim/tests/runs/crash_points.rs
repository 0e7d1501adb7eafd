//! The coordinator killed at each write to the journal, one after the other.

use convoy_scheduler::{CheckpointIntervals, Micros, RunPlan};
use convoy_sim::{CrashPoint, Fault, Scenario, Tail};

use crate::holds;

/// Two epochs of three steps and an evaluation each, with checkpoints between.
fn short(seed: u64) -> Scenario {
    let plan = RunPlan {
        evaluate_shards: 3,
        checkpoint: CheckpointIntervals { steps: 2, time: Micros::seconds(1) },
        ..RunPlan::new(2, 3, 8, 5)
    };
    Scenario { doubles: true, ..Scenario::calm(seed, plan, 2) }
}

/// Kills at write 1, 2, … until the run ends before. The answer is how many there were.
fn enumerate(seed: u64, written: bool, tail: Tail) -> u64 {
    for write in 1.. {
        let story = holds(&Scenario { crash_at: Some(CrashPoint { write, written, tail }), ..short(seed) });
        let killed = story.faults[Fault::CrashAtWrite as usize];
        assert_eq!(story.starts, 1 + killed, "a kill is one restart");
        if killed == 0 {
            return write - 1;
        }
    }
    unreachable!("there is a last write")
}

#[test]
fn a_kill_at_any_write_changes_nothing() {
    for seed in 0..20 {
        for written in [false, true] {
            for tail in [Tail::Kept, Tail::Lost] {
                let points = enumerate(seed, written, tail);
                // A start, a worker (the other may come when all is done), six steps, two evaluations, the end.
                assert!(points >= 11, "only {points} writes");
            }
        }
    }
}
