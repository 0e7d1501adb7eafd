//! Somebody stops a run: what is finished first, and what is given up.

use convoy_scheduler::*;

use crate::script::{check, plan, short_plan};

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
    let limits = Limits { lease_shards: 3, queue_per_thread: 1, ..Limits::default() };
    check(
        Run::new(RunPlan { limits, ..plan() }),
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
