//! Slow links: a worker computes, and then sends. Bytes that flow are neither late nor silent.

use convoy_scheduler::*;

use crate::script::{check, plan, plan_of};

#[test]
fn a_node_whose_bytes_flow_is_neither_copied_nor_late_however_long_it_takes() {
    check(
        Run::new(plan()),
        "> 0 join 1 x1
        record generation 1 started at step 0
        open training step 0: 8 shards
        record worker 1 joined x1
        send worker 1 #0: shards 0..8
        > 0 join 2 x1
        record worker 2 joined x1
        > 0 ready 1 @9
        > 0 ready 2 @9
        > 800 computed 1 #0
        > 1800 done 1 #0 100
        > 1800 reduced 0
        record step 0 committed: 0..8 by 1
        commit step 0
        open training step 1: 8 shards
        send worker 1 #1: shards 0..4
        send worker 2 #2: shards 4..8
        > 2200 computed 1 #1
        > 2200 computed 2 #2
        > 3200 done 1 #1 100
        > 4100 pushed 2
        > 4100 beat 1
        ? deadline
        at 6100 ms
        > 6000 pushed 2
        > 6000 beat 1
        > 6100 deadline
        > 7900 pushed 2
        > 7900 beat 1
        > 8000 deadline
        > 9000 done 2 #2 100
        > 9000 reduced 1
        record step 1 committed: 0..4 by 1, 4..8 by 2
        commit step 1
        open training step 2: 5 shards
        send worker 1 #3: shards 0..5",
    );
}

/// It is late ten seconds after it has computed, or eight times what others need, and sits out. What it took is
/// forgotten sixteen times as slowly as it went by.
#[test]
fn who_sends_much_longer_than_others_is_late_though_its_bytes_flow() {
    let plan = plan_of(1, 5, 8, 8);
    let patient = Timeouts { heartbeat_silence: Micros::seconds(1000), quiet: Micros::seconds(1000), ..plan.timeouts };
    check(
        Run::new(RunPlan { timeouts: patient, ..plan }),
        "> 0 join 1 x1
        record generation 1 started at step 0
        open training step 0: 8 shards
        record worker 1 joined x1
        send worker 1 #0: shards 0..8
        > 0 join 2 x1
        record worker 2 joined x1
        > 0 ready 1 @9
        > 0 ready 2 @9
        > 800 computed 1 #0
        > 1000 done 1 #0 100
        > 1000 reduced 0
        record step 0 committed: 0..8 by 1
        commit step 0
        open training step 1: 8 shards
        send worker 1 #1: shards 0..4
        send worker 2 #2: shards 4..8
        > 1400 computed 1 #1
        > 1400 computed 2 #2
        > 1600 done 1 #1 100
        > 11000 pushed 2
        ? deadline
        at 11400 ms
        > 11400 deadline
        overdue worker 2 #2: shards 4..8 for 10.4 s
        send worker 1 #3 epoch 1: shards 4..8
        > 11800 computed 1 #3
        > 12000 done 1 #3 100
        revoke worker 2 #2: AnotherWasFirst
        > 12000 reduced 1
        record step 1 committed: 0..4 by 1, 4..8 by 1
        commit step 1
        open training step 2: 8 shards
        send worker 1 #4: shards 0..8
        > 12800 computed 1 #4
        > 13000 done 1 #4 100
        > 13000 reduced 2
        record step 2 committed: 0..8 by 1
        commit step 2
        open training step 3: 8 shards
        send worker 1 #5: shards 0..8
        > 13800 computed 1 #5
        > 14000 done 1 #5 100
        > 190100 beat 2
        > 190200 reduced 3
        record step 3 committed: 0..8 by 1
        commit step 3
        open training step 4: 8 shards
        send worker 1 #6: shards 0..4
        send worker 2 #7: shards 4..8",
    );
}

#[test]
fn nodes_beside_one_another_have_the_time_of_all_of_them() {
    check(
        Run::new(RunPlan { limits: Limits { lease_shards: 2, ..Limits::default() }, ..plan() }),
        "> 0 join 1 x1
        record generation 1 started at step 0
        open training step 0: 8 shards
        record worker 1 joined x1
        send worker 1 #0: shards 0..2
        send worker 1 #1: shards 2..4
        > 0 ready 1 @9
        > 200 computed 1 #0
        > 300 done 1 #0 100
        send worker 1 #2: shards 4..6
        > 400 computed 1 #1
        > 600 computed 1 #2
        > 20300 pushed 1
        ? deadline
        at 20400 ms",
    );
}

#[test]
fn a_node_of_which_no_byte_comes_for_two_seconds_goes_to_another() {
    check(
        Run::new(plan()),
        "> 0 join 1 x1
        record generation 1 started at step 0
        open training step 0: 8 shards
        record worker 1 joined x1
        send worker 1 #0: shards 0..8
        > 0 ready 1 @9
        > 0 join 2 x1
        record worker 2 joined x1
        > 0 ready 2 @9
        > 800 computed 1 #0
        > 1500 pushed 1
        > 3400 beat 1
        > 3400 beat 2
        ? deadline
        at 3500 ms
        > 3500 deadline
        overdue worker 1 #0: shards 0..8 for 3.5 s
        send worker 2 #1 epoch 1: shards 0..8",
    );
}

#[test]
fn a_node_that_waits_for_another_of_its_worker_is_not_late() {
    check(
        Run::new(RunPlan { limits: Limits { lease_shards: 4, ..Limits::default() }, ..plan() }),
        "> 0 join 1 x1
        record generation 1 started at step 0
        open training step 0: 8 shards
        record worker 1 joined x1
        send worker 1 #0: shards 0..4
        send worker 1 #1: shards 4..8
        > 0 ready 1 @9
        > 0 join 2 x1
        record worker 2 joined x1
        > 0 ready 2 @9
        > 400 computed 1 #0
        > 800 computed 1 #1
        > 3000 beat 2
        > 3000 pushed 1
        > 3100 done 1 #0 100
        > 3100 deadline
        > 4900 beat 2
        > 4900 pushed 1
        ? deadline
        at 6900 ms",
    );
}

#[test]
fn what_sending_takes_is_not_speed() {
    check(
        Run::new(plan()),
        "> 0 join 1 x1
        record generation 1 started at step 0
        open training step 0: 8 shards
        record worker 1 joined x1
        send worker 1 #0: shards 0..8
        > 0 ready 1 @9
        > 800 computed 1 #0
        > 2000 pushed 1
        > 3900 pushed 1
        > 5000 done 1 #0 100
        > 5000 reduced 0
        record step 0 committed: 0..8 by 1
        commit step 0
        open training step 1: 8 shards
        send worker 1 #1: shards 0..8
        ? deadline
        at 6600 ms",
    );
}

#[test]
fn a_worker_that_takes_parameters_is_alive_and_not_late() {
    check(
        Run::new(plan()),
        "> 0 join 1 x1
        record generation 1 started at step 0
        open training step 0: 8 shards
        record worker 1 joined x1
        send worker 1 #0: shards 0..8
        > 0 join 2 x1
        record worker 2 joined x1
        > 0 ready 2 @0
        > 9000 fetched 1
        > 9000 beat 2
        > 10000 deadline
        > 18900 fetched 1
        > 18900 beat 2
        > 19000 deadline
        > 28800 beat 1
        > 28800 beat 2
        > 28900 deadline
        overdue worker 1 #0: shards 0..8 for 28.9 s
        send worker 2 #1 epoch 1: shards 0..8",
    );
}

/// Where nodes usually take 50 ms to be sent, one that stalls for half a second goes to an idle worker as well, long
/// before its own is late.
#[test]
fn a_node_that_stalls_where_others_are_fast_is_copied() {
    check(
        Run::new(plan()),
        "> 0 join 1 x1
        record generation 1 started at step 0
        open training step 0: 8 shards
        record worker 1 joined x1
        send worker 1 #0: shards 0..8
        > 0 join 2 x1
        record worker 2 joined x1
        > 0 ready 1 @9
        > 0 ready 2 @9
        > 800 computed 1 #0
        > 850 done 1 #0 100
        > 850 reduced 0
        record step 0 committed: 0..8 by 1
        commit step 0
        open training step 1: 8 shards
        send worker 1 #1: shards 0..4
        send worker 2 #2: shards 4..8
        > 1400 computed 1 #1
        > 1400 computed 2 #2
        > 1450 done 1 #1 100
        > 1700 pushed 2
        ? deadline
        at 2200 ms
        > 2200 beat 1
        > 2200 deadline
        send worker 1 #3 epoch 1: shards 4..8
        > 2600 computed 1 #3
        > 2800 done 1 #3 100
        revoke worker 2 #2: AnotherWasFirst",
    );
}

/// Both wait 200 ms in the third step, and one alone in the fifth. It gets less of the sixth, and half of the seventh:
/// sixteen times as long have passed by then.
#[test]
fn who_waits_alone_gets_less_for_a_while_and_what_all_wait_for_is_nobodys_fault() {
    check(
        Run::new(plan_of(1, 7, 8, 8)),
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
        > 1200 done 2 #2 100
        > 1200 reduced 1
        record step 1 committed: 0..4 by 1, 4..8 by 2
        commit step 1
        open training step 2: 8 shards
        send worker 1 #3: shards 0..4
        send worker 2 #4: shards 4..8
        > 1800 done 1 #3 100
        > 1800 done 2 #4 100
        > 1800 reduced 2
        record step 2 committed: 0..4 by 1, 4..8 by 2
        commit step 2
        open training step 3: 8 shards
        send worker 1 #5: shards 0..4
        send worker 2 #6: shards 4..8
        > 2200 done 1 #5 100
        > 2200 done 2 #6 100
        > 2200 reduced 3
        record step 3 committed: 0..4 by 1, 4..8 by 2
        commit step 3
        open training step 4: 8 shards
        send worker 1 #7: shards 0..4
        send worker 2 #8: shards 4..8
        > 2600 done 1 #7 100
        > 2800 done 2 #8 100
        > 2800 reduced 4
        record step 4 committed: 0..4 by 1, 4..8 by 2
        commit step 4
        open training step 5: 8 shards
        send worker 1 #9: shards 0..4
        send worker 1 #10: shard 6
        send worker 2 #11: shards 4..6
        send worker 2 #12: shard 7
        > 3000 done 2 #11 100
        > 3100 done 2 #12 100
        > 3200 done 1 #9 100
        > 3300 done 1 #10 100
        > 6100 reduced 5
        record step 5 committed: 0..4 by 1, 4..6 by 2, 6..7 by 1, 7..8 by 2
        commit step 5
        open training step 6: 8 shards
        send worker 1 #13: shards 0..4
        send worker 2 #14: shards 4..8",
    );
}
