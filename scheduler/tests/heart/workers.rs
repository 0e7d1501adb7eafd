//! Workers come, fall silent, drain and go.

use convoy_scheduler::*;

use crate::script::{check, plan};

#[test]
fn a_silent_worker_is_evicted_and_its_leases_go_to_the_others() {
    check(
        Run::new(plan()),
        "> 0 join 1 x1
        record generation 1 started at step 0
        open training step 0: 8 shards
        record worker 1 joined x1
        send worker 1 #0: shards 0..8
        > 0 join 2 x1
        record worker 2 joined x1
        > 500 beat 1
        > 700 beat 2
        ? deadline
        at 2500 ms
        > 2000 beat 2
        > 2499 deadline
        > 2500 deadline
        disconnect worker 1: silent for 2.0 s
        record worker 1 gone: Silent
        send worker 2 #1 epoch 1: shards 0..8
        ? deadline
        at 4000 ms
        > 2600 beat 1
        > 2600 left 1
        ignore worker gone: the worker is no member",
    );
}

#[test]
fn heartbeats_that_queued_up_while_the_coordinator_slept_are_heard() {
    check(
        Run::new(plan()),
        "> 0 join 1 x1
        record generation 1 started at step 0
        open training step 0: 8 shards
        record worker 1 joined x1
        send worker 1 #0: shards 0..8
        > 9000 beat 1
        > 9000 deadline",
    );
}

#[test]
fn a_draining_worker_finishes_what_it_holds() {
    check(
        Run::new(RunPlan { limits: Limits { lease_shards: 2, ..Limits::default() }, ..plan() }),
        "> 0 join 1 x1
        record generation 1 started at step 0
        open training step 0: 8 shards
        record worker 1 joined x1
        send worker 1 #0: shards 0..2
        send worker 1 #1: shards 2..4
        > 0 ready 1 @0
        > 1 join 2 x1
        record worker 2 joined x1
        > 1 ready 2 @0
        send worker 2 #2: shards 6..8
        > 2 drain 1
        send worker 2 #3: shards 4..6
        > 3 done 1 #0
        > 4 done 1 #1
        disconnect worker 1: Drained
        record worker 1 gone: Drained
        > 5 drain 2",
    );
}

#[test]
fn an_idle_worker_that_drains_goes_at_once() {
    check(
        Run::new(plan()),
        "> 0 join 1 x1
        record generation 1 started at step 0
        open training step 0: 8 shards
        record worker 1 joined x1
        send worker 1 #0: shards 0..8
        > 0 join 2 x1
        record worker 2 joined x1
        > 1 drain 2
        disconnect worker 2: Drained
        record worker 2 gone: Drained",
    );
}

#[test]
fn who_is_one_too_many_or_there_already_is_told_so() {
    check(
        Run::new(RunPlan { limits: Limits { workers: 1, ..Limits::default() }, ..plan() }),
        "> 0 join 1 x1
        record generation 1 started at step 0
        open training step 0: 8 shards
        record worker 1 joined x1
        send worker 1 #0: shards 0..8
        > 0 join 1 x1
        ignore worker joined: the worker is a member already
        > 0 join 2 x1
        disconnect worker 2: Full { limit: 1 }
        > 0 ready 2 @0
        ignore worker ready: the worker is no member",
    );
}

#[test]
fn a_joiner_that_holds_no_parameters_yet_holds_up_nobody() {
    check(
        Run::new(plan()),
        "> 0 join 1 x1
        record generation 1 started at step 0
        open training step 0: 8 shards
        record worker 1 joined x1
        send worker 1 #0: shards 0..8
        > 0 ready 1 @0
        > 1 join 2 x1
        record worker 2 joined x1
        > 2 done 1 #0
        > 2 reduced 0
        record step 0 committed: 0..8 by 1
        commit step 0
        open training step 1: 8 shards
        send worker 1 #1: shards 0..8
        > 3 ready 2 @1
        > 4 done 1 #1
        > 4 reduced 1
        record step 1 committed: 0..8 by 1
        commit step 1
        open training step 2: 5 shards
        send worker 1 #2: shards 0..2
        send worker 1 #3: shard 4
        send worker 2 #4: shards 2..4",
    );
}

#[test]
fn a_worker_that_never_gets_its_parameters_is_late_after_the_grace() {
    check(
        Run::new(plan()),
        "> 0 join 1 x1
        record generation 1 started at step 0
        open training step 0: 8 shards
        record worker 1 joined x1
        send worker 1 #0: shards 0..8
        > 0 join 2 x1
        record worker 2 joined x1
        > 9000 beat 1
        > 9000 ready 2 @0
        ? deadline
        at 10000 ms
        > 10000 deadline
        overdue worker 1 #0: shards 0..8 for 10.0 s
        send worker 2 #1 epoch 1: shards 0..8",
    );
}
