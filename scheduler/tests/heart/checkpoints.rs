//! When checkpoints are asked for.

use convoy_scheduler::*;

use crate::script::check;

/// A checkpoint whenever so many steps are committed.
fn every_steps(steps: u64) -> CheckpointIntervals {
    CheckpointIntervals { steps, ..CheckpointIntervals::default() }
}

#[test]
fn a_checkpoint_that_failed_is_asked_for_again_at_the_end() {
    check(
        Run::new(RunPlan { checkpoint: every_steps(1), ..RunPlan::new(1, 2, 4, 4) }),
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
fn checkpoints_come_by_steps_one_at_a_time() {
    check(
        Run::new(RunPlan { checkpoint: every_steps(2), ..RunPlan::new(1, 9, 1, 1) }),
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
    let every_minute = CheckpointIntervals { time: Micros::seconds(60), ..CheckpointIntervals::default() };
    check(
        Run::new(RunPlan { checkpoint: every_minute, ..RunPlan::new(1, 9, 1, 1) }),
        "> 100 join 1 x1
        record generation 1 started at step 0
        open training step 0: 1 shards
        record worker 1 joined x1
        send worker 1 #0: shard 0
        > 100 ready 1 @9
        > 60200 beat 1
        > 60200 deadline
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
        > 120000 deadline
        overdue worker 1 #2: shard 0 for 59.5 s
        ? deadline
        at 120300 ms
        > 120300 deadline
        checkpoint step 2: Interval",
    );
}
