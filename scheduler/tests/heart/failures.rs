//! Nodes that a worker cannot compute, or that come with a NaN: who tries next, and when the run ends.

use convoy_scheduler::*;

use crate::script::{check, plan};

#[test]
fn unreadable_samples_are_tried_by_another_worker_and_then_end_the_run() {
    check(
        Run::new(plan()),
        "> 0 join 1 x1
        record generation 1 started at step 0
        open training step 0: 8 shards
        record worker 1 joined x1
        send worker 1 #0: shards 0..8
        > 0 join 2 x1
        record worker 2 joined x1
        > 1 unreadable 1 #0
        send worker 2 #1 epoch 1: shards 0..8
        > 2 unreadable 2 #1
        abandon training step 0: Failed
        checkpoint step 0: Stop
        > 3 written 0
        record finished: the samples for the training of step 0, shards 0..8, could not be read, last by worker 2
        finish: the samples for the training of step 0, shards 0..8, could not be read, last by worker 2",
    );
}

#[test]
fn the_only_worker_may_try_twice() {
    check(
        Run::new(plan()),
        "> 0 join 1 x1
        record generation 1 started at step 0
        open training step 0: 8 shards
        record worker 1 joined x1
        send worker 1 #0: shards 0..8
        > 1 unreadable 1 #0
        send worker 1 #1 epoch 1: shards 0..8
        > 2 unreadable 1 #1
        abandon training step 0: Failed
        checkpoint step 0: Stop",
    );
}

#[test]
fn a_node_that_breaks_three_times_ends_the_run() {
    check(
        Run::new(plan()),
        "> 0 join 1 x1
        record generation 1 started at step 0
        open training step 0: 8 shards
        record worker 1 joined x1
        send worker 1 #0: shards 0..8
        > 0 join 2 x1
        record worker 2 joined x1
        > 1 broken 1 #0
        send worker 2 #1 epoch 1: shards 0..8
        > 2 broken 2 #1
        send worker 1 #2 epoch 2: shards 0..8
        > 3 broken 1 #2
        abandon training step 0: Failed
        checkpoint step 0: Stop
        > 4 written 0
        record finished: the training of step 0, shards 0..8, failed again and again, last in worker 1
        finish: the training of step 0, shards 0..8, failed again and again, last in worker 1",
    );
}

#[test]
fn a_worker_that_fails_sits_out_the_next_steps() {
    check(
        Run::new(plan()),
        "> 0 join 1 x1
        record generation 1 started at step 0
        open training step 0: 8 shards
        record worker 1 joined x1
        send worker 1 #0: shards 0..8
        > 0 join 2 x1
        record worker 2 joined x1
        > 0 ready 1 @0
        > 0 ready 2 @0
        > 1 broken 1 #0
        send worker 2 #1 epoch 1: shards 0..8
        > 2 done 2 #1 100
        > 3 reduced 0
        record step 0 committed: 0..8 by 2
        commit step 0
        open training step 1: 8 shards
        send worker 2 #2: shards 0..8",
    );
}

#[test]
fn a_number_that_is_finite_elsewhere_is_taken_from_there() {
    check(
        Run::new(plan()),
        "> 0 join 1 x1
        record generation 1 started at step 0
        open training step 0: 8 shards
        record worker 1 joined x1
        send worker 1 #0: shards 0..8
        > 0 ready 1 @0
        > 0 join 2 x1
        record worker 2 joined x1
        > 0 ready 2 @0
        > 1 done 1 #0 100 nan
        doubt worker 1 #0: shards 0..8
        abandon training step 0: Doubted
        open training step 0: 8 shards
        send worker 2 #1 epoch 1: shards 0..8
        > 2 done 2 #1
        > 2 reduced 0
        record step 0 committed: 0..8 by 2
        commit step 0
        open training step 1: 8 shards
        send worker 2 #2: shards 0..8",
    );
}

#[test]
fn a_number_that_is_not_finite_twice_ends_the_run_and_commits_nothing() {
    check(
        Run::new(plan()),
        "> 0 join 1 x1
        record generation 1 started at step 0
        open training step 0: 8 shards
        record worker 1 joined x1
        send worker 1 #0: shards 0..8
        > 0 ready 1 @0
        > 0 join 2 x1
        record worker 2 joined x1
        > 0 ready 2 @0
        > 1 done 1 #0
        > 1 reduced 0
        record step 0 committed: 0..8 by 1
        commit step 0
        open training step 1: 8 shards
        send worker 1 #1: shards 0..4
        send worker 2 #2: shards 4..8
        > 2 done 2 #2 100 nan
        doubt worker 2 #2: shards 4..8
        revoke worker 1 #1: StepAbandoned
        abandon training step 1: Doubted
        open training step 1: 8 shards
        send worker 1 #3 epoch 1: shards 0..4
        send worker 1 #4 epoch 1: shards 4..8
        > 3 done 1 #4 100 nan
        revoke worker 1 #3: StepAbandoned
        abandon training step 1: NotFinite
        record finished: a NaN or an infinity in the training of step 1, shards 4..8
        finish: a NaN or an infinity in the training of step 1, shards 4..8
        > 3 done 1 #1
        ignore node done: the run is over
        > 3 reduced 1
        ignore step reduced: the run is over
        > 4 join 3 x1
        disconnect worker 3: RunOver
        > 4 left 2
        > 4 beat 1",
    );
}
