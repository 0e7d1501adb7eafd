//! Who gets which nodes when a step opens, when a worker has room, and when one is lost.

use convoy_scheduler::*;

use crate::script::{check, plan};

#[test]
fn one_worker_gets_the_whole_step_as_one_node() {
    check(
        Run::new(plan()),
        "> 0 join 1 x2
        record generation 1 started at step 0
        open training step 0: 8 shards
        record worker 1 joined x2
        send worker 1 #0: shards 0..8
        > 1 ready 1 @0
        > 900 done 1 #0
        > 950 reduced 0
        record step 0 committed: 0..8 by 1
        commit step 0
        open training step 1: 8 shards
        send worker 1 #1: shards 0..8",
    );
}

#[test]
fn two_workers_halve_the_next_step() {
    check(
        Run::new(plan()),
        "> 0 join 1 x2
        record generation 1 started at step 0
        open training step 0: 8 shards
        record worker 1 joined x2
        send worker 1 #0: shards 0..8
        > 1 ready 1 @0
        > 2 join 2 x2
        record worker 2 joined x2
        > 3 ready 2 @0
        > 900 done 1 #0
        > 950 reduced 0
        record step 0 committed: 0..8 by 1
        commit step 0
        open training step 1: 8 shards
        send worker 1 #1: shards 0..4
        send worker 2 #2: shards 4..8
        > 951 done 2 #2
        > 952 done 1 #1
        > 953 reduced 1
        record step 1 committed: 0..4 by 1, 4..8 by 2
        commit step 1
        open training step 2: 5 shards
        send worker 1 #3: shards 0..2
        send worker 1 #4: shard 4
        send worker 2 #5: shards 2..4",
    );
}

#[test]
fn a_step_goes_by_measured_speed() {
    check(
        Run::new(plan()),
        "> 0 join 1 x1
        record generation 1 started at step 0
        open training step 0: 8 shards
        record worker 1 joined x1
        send worker 1 #0: shards 0..8
        > 0 join 2 x1
        record worker 2 joined x1
        > 1 ready 1 @0
        > 1 ready 2 @0
        > 900 done 1 #0 100
        > 950 reduced 0
        record step 0 committed: 0..8 by 1
        commit step 0
        open training step 1: 8 shards
        send worker 1 #1: shards 0..4
        send worker 2 #2: shards 4..8
        > 1000 done 1 #1 100
        > 1000 done 2 #2 300
        > 1000 reduced 1
        record step 1 committed: 0..4 by 1, 4..8 by 2
        commit step 1
        open training step 2: 5 shards
        send worker 1 #3: shards 0..2
        send worker 1 #4: shard 4
        send worker 2 #5: shards 2..4
        > 1200 done 1 #3 100
        > 1200 done 1 #4 100
        > 1200 done 2 #5 300
        > 1200 reduced 2
        record step 2 committed: 0..2 by 1, 2..4 by 2, 4..5 by 1
        commit step 2
        checkpoint step 3: EpochEnd
        open training step 3: 8 shards
        send worker 1 #6: shards 0..4
        send worker 1 #7: shards 4..6
        send worker 2 #8: shards 6..8",
    );
}

#[test]
fn no_more_is_sent_than_a_queue_holds() {
    check(
        Run::new(RunPlan { limits: Limits { lease_shards: 2, ..Limits::default() }, ..plan() }),
        "> 0 join 1 x1
        record generation 1 started at step 0
        open training step 0: 8 shards
        record worker 1 joined x1
        send worker 1 #0: shards 0..2
        send worker 1 #1: shards 2..4
        > 1 done 1 #1
        send worker 1 #2: shards 4..6
        > 2 done 1 #0
        send worker 1 #3: shards 6..8
        > 3 done 1 #2
        > 4 done 1 #3",
    );
}

#[test]
fn an_idle_worker_takes_over_what_is_not_sent() {
    check(
        Run::new(RunPlan { limits: Limits { lease_shards: 2, ..Limits::default() }, ..plan() }),
        "> 0 join 1 x1
        record generation 1 started at step 0
        open training step 0: 8 shards
        record worker 1 joined x1
        send worker 1 #0: shards 0..2
        send worker 1 #1: shards 2..4
        > 0 join 2 x1
        record worker 2 joined x1
        send worker 2 #2: shards 6..8
        > 1 ready 1 @0",
    );
}

#[test]
fn a_lost_workers_nodes_go_to_the_others_in_parts() {
    check(
        Run::new(RunPlan::new(1, 3, 16, 16)),
        "> 0 join 1 x2
        record generation 1 started at step 0
        open training step 0: 16 shards
        record worker 1 joined x2
        send worker 1 #0: shards 0..16
        > 0 ready 1 @0
        > 1 join 2 x2
        record worker 2 joined x2
        > 1 join 3 x2
        record worker 3 joined x2
        > 1 ready 2 @0
        > 1 ready 3 @0
        > 2 done 1 #0
        > 3 reduced 0
        record step 0 committed: 0..16 by 1
        commit step 0
        open training step 1: 16 shards
        send worker 1 #1: shards 0..4
        send worker 1 #2: shards 12..14
        send worker 2 #3: shards 4..8
        send worker 2 #4: shard 14
        send worker 3 #5: shards 8..12
        send worker 3 #6: shard 15
        > 4 done 3 #4
        ignore node done: lease 4 was given to worker 2
        > 5 left 2
        record worker 2 gone: Closed
        send worker 1 #7 epoch 1: shards 6..8
        send worker 3 #8 epoch 1: shards 4..6
        send worker 3 #9 epoch 1: shard 14
        > 6 left 1
        record worker 1 gone: Closed",
    );
}

#[test]
fn answers_that_are_stale_foreign_or_repeated_count_for_nothing() {
    check(
        Run::new(plan()),
        "> 0 join 1 x1
        record generation 1 started at step 0
        open training step 0: 8 shards
        record worker 1 joined x1
        send worker 1 #0: shards 0..8
        > 0 join 2 x1
        record worker 2 joined x1
        > 1 done 7 #0
        ignore node done: the worker is no member
        > 1 done 1 stale
        ignore node done: it answers generation 0, this is generation 1
        > 1 done 1 #9
        ignore node done: there is no lease 9 in this step
        > 1 done 2 #0
        ignore node done: lease 0 was given to worker 1
        > 1 reduced 0
        ignore step reduced: not all nodes of the step have arrived
        > 2 done 1 #0
        > 3 done 1 #0
        ignore node done: lease 0 has ended before
        > 3 broken 1 #0
        ignore lease failed: lease 0 has ended before
        > 4 reduced 1
        ignore step reduced: step 1 is not in work, step 0 is committed
        > 4 evaluated 0
        ignore evaluation reduced: step 0 is not in work, step 0 is committed
        > 4 reduced 0
        record step 0 committed: 0..8 by 1
        commit step 0
        open training step 1: 8 shards
        send worker 1 #1: shards 0..4
        send worker 2 #2: shards 4..8
        > 5 done 1 #0
        ignore node done: step 0 is not in work, step 1 is committed
        > 5 reduced 0
        ignore step reduced: step 0 is not in work, step 1 is committed
        > 5 written 0
        ignore checkpoint written: no checkpoint of step 0 is being written",
    );
}
