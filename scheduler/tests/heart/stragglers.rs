//! Slow and overdue leases: who gets a copy, whose answer counts, and who sits out.

use convoy_scheduler::*;

use crate::script::{check, plan, plan_of};

#[test]
fn an_idle_worker_gets_a_copy_of_a_slow_lease_and_the_first_answer_wins() {
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
        > 800 done 1 #0 100
        > 800 reduced 0
        record step 0 committed: 0..8 by 1
        commit step 0
        open training step 1: 8 shards
        send worker 1 #1: shards 0..4
        send worker 2 #2: shards 4..8
        > 800 ready 1 @1
        > 800 ready 2 @1
        > 1200 done 1 #1 100
        ? deadline
        at 1600 ms
        > 1599 beat 2
        > 1600 deadline
        send worker 1 #3 epoch 1: shards 4..8
        ? deadline
        at 2400 ms
        > 1900 done 1 #3 100
        revoke worker 2 #2: AnotherWasFirst
        > 1901 done 2 #2 280
        ignore node done: lease 2 has ended before
        > 1902 reduced 1
        record step 1 committed: 0..4 by 1, 4..8 by 1
        commit step 1
        open training step 2: 5 shards
        send worker 1 #4: shards 0..5",
    );
}

#[test]
fn a_hung_worker_is_named_and_sits_out_until_it_answers() {
    check(
        Run::new(RunPlan { timeouts: Timeouts { lease_factor: 2, ..Timeouts::default() }, ..plan() }),
        "> 0 join 1 x1
        record generation 1 started at step 0
        open training step 0: 8 shards
        record worker 1 joined x1
        send worker 1 #0: shards 0..8
        > 0 join 2 x1
        record worker 2 joined x1
        > 0 ready 1 @0
        > 0 ready 2 @0
        > 800 done 1 #0 100
        > 800 reduced 0
        record step 0 committed: 0..8 by 1
        commit step 0
        open training step 1: 8 shards
        send worker 1 #1: shards 0..4
        send worker 2 #2: shards 4..8
        > 800 ready 1 @1
        > 800 ready 2 @1
        > 1200 done 1 #1 100
        > 1600 beat 2
        > 1600 deadline
        send worker 1 #3 epoch 1: shards 4..8
        > 2800 beat 2
        > 2800 deadline
        overdue worker 2 #2: shards 4..8 for 2.0 s
        > 2900 done 1 #3 100
        revoke worker 2 #2: AnotherWasFirst
        > 2900 reduced 1
        record step 1 committed: 0..4 by 1, 4..8 by 1
        commit step 1
        open training step 2: 5 shards
        send worker 1 #4: shards 0..5
        > 3000 done 2 #2 2000
        ignore node done: step 1 is not in work, step 2 is committed
        > 3300 done 1 #4 100
        > 3300 reduced 2
        record step 2 committed: 0..5 by 1
        commit step 2
        checkpoint step 3: EpochEnd
        open training step 3: 8 shards
        send worker 1 #5: shards 0..4
        send worker 1 #6: shards 4..6
        send worker 2 #7: shard 7",
    );
}

#[test]
fn an_overdue_lease_goes_to_a_busy_worker_too() {
    let limits = Limits { lease_shards: 1, ..Limits::default() };
    let timeouts = Timeouts { lease_floor: Micros::millis(1), lease_factor: 1, ..Timeouts::default() };
    let impatient = RunPlan { timeouts, limits, ..plan_of(1, 3, 6, 6) };
    check(
        Run::new(impatient),
        "> 0 join 1 x1
        record generation 1 started at step 0
        open training step 0: 6 shards
        record worker 1 joined x1
        send worker 1 #0: shard 0
        send worker 1 #1: shard 1
        > 0 ready 1 @0
        > 0 join 2 x1
        record worker 2 joined x1
        > 0 ready 2 @0
        send worker 2 #2: shard 5
        > 90 done 1 #0 100
        send worker 1 #3: shard 2
        > 180 done 1 #1 100
        send worker 1 #4: shard 3
        > 200 done 1 #4 100
        send worker 1 #5: shard 4
        > 201 deadline
        overdue worker 2 #2: shard 5 for 0.2 s
        > 210 done 1 #3 100
        send worker 1 #6 epoch 1: shard 5",
    );
}

#[test]
fn an_idle_worker_copies_the_first_lease_of_all_before_it_is_late() {
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
        > 1 ready 2 @0
        > 9000 beat 1
        > 9000 beat 2
        > 9999 deadline
        > 10000 deadline
        send worker 2 #1 epoch 1: shards 0..8
        > 11000 done 2 #1
        revoke worker 1 #0: AnotherWasFirst",
    );
}

#[test]
fn a_worker_that_lost_a_race_it_began_sits_out_the_next_step() {
    check(
        Run::new(plan_of(1, 9, 8, 8)),
        "> 0 join 1 x1
        record generation 1 started at step 0
        open training step 0: 8 shards
        record worker 1 joined x1
        send worker 1 #0: shards 0..8
        > 0 join 2 x1
        record worker 2 joined x1
        > 0 ready 1 @9
        > 0 ready 2 @9
        > 800 done 1 #0 100
        > 800 reduced 0
        record step 0 committed: 0..8 by 1
        commit step 0
        open training step 1: 8 shards
        send worker 1 #1: shards 0..4
        send worker 2 #2: shards 4..8
        > 1200 done 1 #1 100
        > 1600 beat 1
        > 1600 deadline
        send worker 1 #3 epoch 1: shards 4..8
        > 2000 done 1 #3 100
        revoke worker 2 #2: AnotherWasFirst
        > 2000 reduced 1
        record step 1 committed: 0..4 by 1, 4..8 by 1
        commit step 1
        open training step 2: 8 shards
        send worker 1 #4: shards 0..8
        > 2800 done 1 #4 100
        > 79900 beat 1
        > 79900 beat 2
        > 80000 reduced 2
        record step 2 committed: 0..8 by 1
        commit step 2
        open training step 3: 8 shards
        send worker 1 #5: shards 0..4
        send worker 2 #6: shards 4..8",
    );
}

#[test]
fn all_leases_of_a_late_worker_go_to_others_at_once() {
    check(
        Run::new(RunPlan { limits: Limits { lease_shards: 4, ..Limits::default() }, ..plan() }),
        "> 0 join 1 x1
        record generation 1 started at step 0
        open training step 0: 8 shards
        record worker 1 joined x1
        send worker 1 #0: shards 0..4
        send worker 1 #1: shards 4..8
        > 0 ready 1 @0
        > 0 join 2 x1
        record worker 2 joined x1
        > 0 ready 2 @0
        ? deadline
        at 2000 ms
        > 240000 beat 1
        > 240000 beat 2
        > 240000 deadline
        overdue worker 1 #0: shards 0..4 for 240.0 s
        send worker 2 #2 epoch 1: shards 0..4
        send worker 2 #3 epoch 1: shards 4..8",
    );
}

#[test]
fn an_evaluation_goes_by_training_until_it_is_measured() {
    check(
        Run::new(RunPlan { evaluate_shards: 1, ..plan_of(1, 1, 2, 2) }),
        "> 0 join 1 x1
        record generation 1 started at step 0
        open training step 0: 2 shards
        record worker 1 joined x1
        send worker 1 #0: shards 0..2
        > 0 join 2 x1
        record worker 2 joined x1
        > 0 ready 1 @1
        > 0 ready 2 @1
        > 600 done 1 #0 300
        > 600 reduced 0
        record step 0 committed: 0..2 by 1
        commit step 0
        open evaluation step 1: 1 shards
        send worker 1 #1: shard 0
        ? deadline
        at 1200 ms",
    );
}

#[test]
fn a_slow_worker_gets_another_chance_after_a_while() {
    check(
        Run::new(plan_of(1, 9, 2, 2)),
        "> 0 join 1 x1
        record generation 1 started at step 0
        open training step 0: 2 shards
        record worker 1 joined x1
        send worker 1 #0: shards 0..2
        > 0 join 2 x1
        record worker 2 joined x1
        > 0 ready 1 @9
        > 0 ready 2 @9
        > 200 done 1 #0 100
        > 200 reduced 0
        record step 0 committed: 0..2 by 1
        commit step 0
        open training step 1: 2 shards
        send worker 1 #1: shard 0
        send worker 2 #2: shard 1
        > 300 done 1 #1 100
        > 300 done 2 #2 205
        > 300 reduced 1
        record step 1 committed: 0..1 by 1, 1..2 by 2
        commit step 1
        open training step 2: 2 shards
        send worker 1 #3: shard 0
        send worker 2 #4: shard 1
        > 400 done 1 #3 100
        > 500 done 2 #4 205
        > 500 reduced 2
        record step 2 committed: 0..1 by 1, 1..2 by 2
        commit step 2
        open training step 3: 2 shards
        send worker 1 #5: shards 0..2
        > 580 done 1 #5 100
        > 580 reduced 3
        record step 3 committed: 0..2 by 1
        commit step 3
        open training step 4: 2 shards
        send worker 1 #6: shards 0..2
        > 680 done 1 #6 100
        > 680 reduced 4
        record step 4 committed: 0..2 by 1
        commit step 4
        open training step 5: 2 shards
        send worker 1 #7: shard 0
        send worker 2 #8: shard 1",
    );
}

#[test]
fn a_worker_that_hung_before_gets_no_more_time_than_others() {
    let limits = Limits { lease_shards: 1, queue_per_thread: 1, ..Limits::default() };
    let long = Micros::seconds(10_000);
    let timeouts = Timeouts { heartbeat_silence: long, quiet: long, ..Timeouts::default() };
    check(
        Run::new(RunPlan { timeouts, limits, ..plan_of(1, 2, 2, 2) }),
        "> 0 join 1 x1
        record generation 1 started at step 0
        open training step 0: 2 shards
        record worker 1 joined x1
        send worker 1 #0: shard 0
        > 0 ready 1 0
        > 1000 done 1 #0
        send worker 1 #1: shard 1
        > 5000 deadline
        overdue worker 1 #1: shard 1 for 4.0 s
        > 600000 join 2 x1
        record worker 2 joined x1
        > 600000 ready 2 0
        send worker 2 #2 epoch 1: shard 1
        > 601000 done 2 #2
        revoke worker 1 #1: AnotherWasFirst
        > 601100 reduced 0
        record step 0 committed: 0..1 by 1, 1..2 by 2
        commit step 0
        open training step 1: 2 shards
        send worker 2 #3: shard 0
        > 601150 ready 1 1
        > 601200 left 2
        record worker 2 gone: Closed
        send worker 1 #4 epoch 1: shard 0
        > 602000 join 3 x1
        record worker 3 joined x1
        > 602000 ready 3 1
        send worker 3 #5: shard 1
        > 603000 done 3 #5
        ? deadline
        at 603200 ms
        > 603200 deadline
        send worker 3 #6 epoch 2: shard 0",
    );
}
