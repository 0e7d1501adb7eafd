//! Epochs, evaluations, checkpoints, and every way to end.

use convoy_scheduler::*;

use crate::script::{check, plan};

/// One epoch of one step of four shards, so that little stands between a test and its end.
fn short() -> RunPlan {
    RunPlan::new(1, 1, 4, 4)
}

#[test]
fn a_run_without_validation_saves_and_is_complete() {
    check(
        Run::new(short()),
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
        Run::new(short()),
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
        Run::new(short()),
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
fn a_checkpoint_that_failed_is_asked_for_again_at_the_end() {
    check(
        Run::new(RunPlan { checkpoint_every_steps: 1, ..RunPlan::new(1, 2, 4, 4) }),
        "> 0 join 1 x1
        record generation 1 started at step 0
        open training step 0: 4 shards
        record worker 1 joined x1
        send worker 1 #0: shards 0..4
        > 1 done 1 #0
        > 2 reduced 0
        record step 0 committed: 0..4 by 1
        commit step 0
        open training step 1: 4 shards
        send worker 1 #1: shards 0..4
        checkpoint step 1: Interval
        > 3 unwritten 1
        > 4 left 1
        record worker 1 gone: Closed
        > 5 stop
        abandon training step 1: Stopped
        checkpoint step 1: Stop
        > 7 written 1
        record finished: stopped
        finish: stopped",
    );
}

#[test]
fn an_epoch_ends_with_its_evaluation_and_then_its_checkpoint() {
    check(
        Run::new(RunPlan { evaluate_shards: 3, epochs: 2, ..short() }),
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
        Run::new(RunPlan { epochs: 2, ..short() }),
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
        Run::new(RunPlan { evaluate_shards: 3, epochs: 2, ..short() }),
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
        Run::new(RunPlan { evaluate_shards: 3, ..short() }),
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
        record step 1 evaluated
        checkpoint step 1: Finish
        > 5 written 1
        record finished: completed
        finish: completed",
    );
}

#[test]
fn a_stop_finishes_the_step_in_flight() {
    check(
        Run::new(plan()),
        "> 0 join 1 x1
        record generation 1 started at step 0
        open training step 0: 8 shards
        record worker 1 joined x1
        send worker 1 #0: shards 0..8
        > 1 stop
        > 1 stop
        ignore stop requested: the run is stopping already
        > 2 done 1 #0
        > 3 reduced 0
        record step 0 committed: 0..8 by 1
        commit step 0
        checkpoint step 1: Stop
        > 3 stop
        ignore stop requested: the run is stopping already
        > 4 written 1
        record finished: stopped
        finish: stopped
        > 5 stop
        ignore stop requested: the run is over",
    );
}

#[test]
fn a_stop_without_workers_does_not_wait_for_any() {
    check(
        Run::new(plan()),
        "> 0 stop
        record generation 1 started at step 0
        open training step 0: 8 shards
        abandon training step 0: Stopped
        checkpoint step 0: Stop
        > 1 written 0
        record finished: stopped
        finish: stopped",
    );
}

#[test]
fn a_stop_gives_up_the_step_when_the_last_worker_leaves() {
    check(
        Run::new(plan()),
        "> 0 join 1 x1
        record generation 1 started at step 0
        open training step 0: 8 shards
        record worker 1 joined x1
        send worker 1 #0: shards 0..8
        > 1 stop
        > 2 left 1
        record worker 1 gone: Closed
        abandon training step 0: Stopped
        checkpoint step 0: Stop
        > 3 written 0
        record finished: stopped
        finish: stopped",
    );
}

#[test]
fn a_stop_gives_up_the_step_when_the_last_worker_is_drained() {
    let limits = Limits { lease_shards: 3, ..Limits::default() };
    check(
        Run::new(RunPlan { limits, queue_per_thread: 1, ..plan() }),
        "> 0 join 1 x1
        record generation 1 started at step 0
        open training step 0: 8 shards
        record worker 1 joined x1
        send worker 1 #0: shards 0..2
        > 1 drain 1
        > 2 stop
        > 3 done 1 #0
        disconnect worker 1: Drained
        record worker 1 gone: Drained
        abandon training step 0: Stopped
        checkpoint step 0: Stop",
    );
}

#[test]
fn a_stop_waits_for_the_reducer_even_when_no_worker_is_left() {
    check(
        Run::new(plan()),
        "> 0 join 1 x1
        record generation 1 started at step 0
        open training step 0: 8 shards
        record worker 1 joined x1
        send worker 1 #0: shards 0..8
        > 1 done 1 #0
        > 2 left 1
        record worker 1 gone: Closed
        > 3 stop
        > 4 reduced 0
        record step 0 committed: 0..8 by 1
        commit step 0
        checkpoint step 1: Stop",
    );
}

#[test]
fn a_stop_gives_up_an_evaluation() {
    check(
        Run::new(RunPlan { evaluate_shards: 3, epochs: 2, ..short() }),
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
        > 3 stop
        revoke worker 1 #1: StepAbandoned
        abandon evaluation step 1: Stopped
        checkpoint step 1: Stop
        > 4 done 1 #1
        ignore node done: step 1 is not in work, step 1 is committed
        > 5 written 1
        record finished: stopped
        finish: stopped",
    );
}

#[test]
fn a_stop_needs_no_second_checkpoint_of_the_same_parameters() {
    check(
        Run::new(RunPlan { epochs: 2, ..short() }),
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
        send worker 1 #1: shards 0..4
        > 3 left 1
        record worker 1 gone: Closed
        > 4 stop
        abandon training step 1: Stopped
        > 5 written 1
        record finished: stopped
        finish: stopped",
    );
}

#[test]
fn checkpoints_come_by_steps_one_at_a_time() {
    check(
        Run::new(RunPlan { checkpoint_every_steps: 2, ..RunPlan::new(1, 9, 1, 1) }),
        "> 0 join 1 x1
        record generation 1 started at step 0
        open training step 0: 1 shards
        record worker 1 joined x1
        send worker 1 #0: shard 0
        > 1 done 1 #0
        > 1 reduced 0
        record step 0 committed: 0..1 by 1
        commit step 0
        open training step 1: 1 shards
        send worker 1 #1: shard 0
        > 2 done 1 #1
        > 2 reduced 1
        record step 1 committed: 0..1 by 1
        commit step 1
        open training step 2: 1 shards
        send worker 1 #2: shard 0
        checkpoint step 2: Interval
        > 3 done 1 #2
        > 3 reduced 2
        record step 2 committed: 0..1 by 1
        commit step 2
        open training step 3: 1 shards
        send worker 1 #3: shard 0
        > 4 done 1 #3
        > 4 reduced 3
        record step 3 committed: 0..1 by 1
        commit step 3
        open training step 4: 1 shards
        send worker 1 #4: shard 0
        > 5 done 1 #4
        > 6 written 2
        checkpoint step 4: Interval
        > 7 written 4",
    );
}

#[test]
fn checkpoints_come_by_time_when_there_is_something_new() {
    check(
        Run::new(RunPlan { checkpoint_every: Micros::seconds(60), ..RunPlan::new(1, 9, 1, 1) }),
        "> 100 join 1 x1
        record generation 1 started at step 0
        open training step 0: 1 shards
        record worker 1 joined x1
        send worker 1 #0: shard 0
        > 100 ready 1 @9
        > 60200 beat 1
        overdue worker 1 #0: shard 0 for 60.1 s
        > 60300 done 1 #0
        > 60300 reduced 0
        record step 0 committed: 0..1 by 1
        commit step 0
        open training step 1: 1 shards
        send worker 1 #1: shard 0
        checkpoint step 1: Interval
        > 60400 beat 1
        > 60500 done 1 #1
        > 60500 reduced 1
        record step 1 committed: 0..1 by 1
        commit step 1
        open training step 2: 1 shards
        send worker 1 #2: shard 0
        > 60600 written 1
        > 120000 beat 1
        overdue worker 1 #2: shard 0 for 59.5 s
        ? deadline
        at 120300 ms
        > 120300 deadline
        checkpoint step 2: Interval",
    );
}
