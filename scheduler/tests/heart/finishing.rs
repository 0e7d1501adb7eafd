//! Epochs, evaluations, and the ways in which a run ends by itself.

use convoy_scheduler::*;

use crate::script::{check, short_plan};

#[test]
fn a_run_without_validation_saves_and_is_complete() {
    check(
        Run::new(short_plan()),
        "> 0 join 1 x1
        record generation 1 started at step 0
        open training step 0: 4 shards
        record worker 1 joined x1
        send worker 1 #0: shards 0..4
        > 1 done 1 #0
        > 2 reduced 0
        record step 0 committed: 0..4 by 1
        commit step 0
        checkpoint step 1: Finish
        > 3 written 1
        record finished: completed
        finish: completed
        > 4 deadline
        ? deadline
        never",
    );
}

#[test]
fn a_step_whose_sums_overflow_is_not_committed() {
    check(
        Run::new(short_plan()),
        "> 0 join 1 x1
        record generation 1 started at step 0
        open training step 0: 4 shards
        record worker 1 joined x1
        send worker 1 #0: shards 0..4
        > 1 overflowed 0
        ignore step not finite: not all nodes of the step have arrived
        > 2 done 1 #0
        > 3 overflowed 0
        abandon training step 0: NotFinite
        record finished: a NaN or an infinity in the training of step 0, shards 0..4
        finish: a NaN or an infinity in the training of step 0, shards 0..4",
    );
}

#[test]
fn a_run_whose_last_checkpoint_fails_does_not_end_well() {
    check(
        Run::new(short_plan()),
        "> 0 join 1 x1
        record generation 1 started at step 0
        open training step 0: 4 shards
        record worker 1 joined x1
        send worker 1 #0: shards 0..4
        > 1 done 1 #0
        > 2 reduced 0
        record step 0 committed: 0..4 by 1
        commit step 0
        checkpoint step 1: Finish
        > 3 unwritten 1
        record finished: the checkpoint of step 1, the last, could not be written
        finish: the checkpoint of step 1, the last, could not be written",
    );
}

#[test]
fn an_epoch_ends_with_its_evaluation_and_then_its_checkpoint() {
    check(
        Run::new(RunPlan { evaluate_shards: 3, epochs: 2, ..short_plan() }),
        "> 0 join 1 x1
        record generation 1 started at step 0
        open training step 0: 4 shards
        record worker 1 joined x1
        send worker 1 #0: shards 0..4
        > 1 done 1 #0
        > 2 reduced 0
        record step 0 committed: 0..4 by 1
        commit step 0
        open evaluation step 1: 3 shards
        send worker 1 #1: shards 0..3
        > 3 done 1 #1
        > 4 evaluated 1
        record step 1 evaluated
        checkpoint step 1: EpochEnd
        open training step 1: 4 shards
        send worker 1 #2: shards 0..4
        > 5 written 1
        > 6 done 1 #2
        > 7 reduced 1
        record step 1 committed: 0..4 by 1
        commit step 1
        open evaluation step 2: 3 shards
        send worker 1 #3: shards 0..3
        > 8 done 1 #3
        > 9 evaluated 2
        record step 2 evaluated
        checkpoint step 2: Finish
        > 10 written 2
        record finished: completed
        finish: completed",
    );
}

#[test]
fn an_epoch_without_validation_ends_with_its_checkpoint() {
    check(
        Run::new(RunPlan { epochs: 2, ..short_plan() }),
        "> 0 join 1 x1
        record generation 1 started at step 0
        open training step 0: 4 shards
        record worker 1 joined x1
        send worker 1 #0: shards 0..4
        > 1 done 1 #0
        > 2 reduced 0
        record step 0 committed: 0..4 by 1
        commit step 0
        checkpoint step 1: EpochEnd
        open training step 1: 4 shards
        send worker 1 #1: shards 0..4",
    );
}

#[test]
fn enough_is_enough() {
    check(
        Run::new(RunPlan { evaluate_shards: 3, epochs: 2, ..short_plan() }),
        "> 0 join 1 x1
        record generation 1 started at step 0
        open training step 0: 4 shards
        record worker 1 joined x1
        send worker 1 #0: shards 0..4
        > 1 done 1 #0
        > 2 reduced 0
        record step 0 committed: 0..4 by 1
        commit step 0
        open evaluation step 1: 3 shards
        send worker 1 #1: shards 0..3
        > 3 done 1 #1
        > 4 evaluated 1 enough
        record step 1 evaluated, enough
        checkpoint step 1: Finish
        > 5 written 1
        record finished: stopped early
        finish: stopped early",
    );
}

#[test]
fn enough_at_the_very_end_is_complete() {
    check(
        Run::new(RunPlan { evaluate_shards: 3, ..short_plan() }),
        "> 0 join 1 x1
        record generation 1 started at step 0
        open training step 0: 4 shards
        record worker 1 joined x1
        send worker 1 #0: shards 0..4
        > 1 done 1 #0
        > 2 reduced 0
        record step 0 committed: 0..4 by 1
        commit step 0
        open evaluation step 1: 3 shards
        send worker 1 #1: shards 0..3
        > 3 done 1 #1
        > 4 evaluated 1 enough
        record step 1 evaluated, enough
        checkpoint step 1: Finish
        > 5 written 1
        record finished: completed
        finish: completed",
    );
}
