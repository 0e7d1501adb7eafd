//! What a plan says, and what it refuses.

use convoy_scheduler::*;

use crate::script::plan;

#[test]
fn steps_and_epochs_are_counted_over_the_whole_run() {
    let plan = plan();
    assert_eq!(plan.last_parameters(), StepId(6));
    let shards: Vec<u32> = (0..6).map(|step| plan.shards(StepId(step))).collect();
    assert_eq!(shards, [8, 8, 5, 8, 8, 5]);
    let ends: Vec<u64> = (0..7).filter(|step| plan.ends_epoch(StepId(*step))).collect();
    assert_eq!(ends, [3, 6]);
    let epochs: Vec<u32> = (0..7).map(|step| plan.epoch(StepId(step))).collect();
    assert_eq!(epochs, [0, 0, 0, 1, 1, 1, 2]);
}

#[test]
fn the_usual_plan_is_right() {
    assert_eq!(plan().check(), Ok(()));
}

#[test]
fn what_cannot_be_run_is_refused_with_the_reason() {
    let refused = |plan: RunPlan| plan.check().expect_err("it cannot be run").to_string();
    assert_eq!(refused(RunPlan { epochs: 0, ..plan() }), "epochs is 0; it must be at least 1");
    let limits = Limits { workers: 0, ..Limits::default() };
    assert_eq!(refused(RunPlan { limits, ..plan() }), "limits.workers is 0; it must be at least 1");
    assert_eq!(
        refused(RunPlan { steps_per_epoch: u64::MAX, ..plan() }),
        "2 epochs of 18446744073709551615 steps are too many; lower the epochs"
    );
    assert_eq!(
        refused(RunPlan { first_step: StepId(7), ..plan() }),
        "the checkpoint stands at step 7, but the run ends at step 6; raise the epochs"
    );
    let pending = "an evaluation is pending at step 3, where no epoch ends or nothing is there to validate on";
    assert_eq!(refused(RunPlan { first_step: StepId(3), evaluation_pending: true, ..plan() }), pending);
}
