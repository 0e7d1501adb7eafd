//! Who gets what, when a step opens and when things go wrong in it.

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
        send worker 1 #3: shards 0..4
        send worker 2 #4: shard 4",
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
        send worker 1 #4: shards 0..4
        send worker 2 #5: shard 4",
    );
}

#[test]
fn a_hung_worker_is_named_and_sits_out_until_it_answers() {
    check(
        Run::new(RunPlan { lease_factor: 2, ..plan() }),
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
        send worker 1 #3 epoch 1: shards 4..8
        > 2800 beat 2
        overdue worker 2 #2: shards 4..8 for 2.0 s
        > 2800 deadline
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
    let impatient = RunPlan { lease_floor: Micros::millis(1), lease_factor: 1, limits, ..RunPlan::new(1, 3, 6, 6) };
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
        overdue worker 2 #2: shard 5 for 0.2 s
        send worker 1 #5: shard 4
        > 201 deadline
        > 210 done 1 #3 100
        send worker 1 #6 epoch 1: shard 5",
    );
}

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
        send worker 1 #2: shards 0..4
        send worker 2 #3: shards 4..8",
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

#[test]
fn a_worker_that_lost_a_race_it_began_sits_out_the_next_step() {
    check(
        Run::new(RunPlan::new(1, 9, 8, 8)),
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
        send worker 1 #3 epoch 1: shards 4..8
        > 2000 done 1 #3 100
        revoke worker 2 #2: AnotherWasFirst
        > 2000 reduced 1
        record step 1 committed: 0..4 by 1, 4..8 by 1
        commit step 1
        open training step 2: 8 shards
        send worker 1 #4: shards 0..8
        > 2800 done 1 #4 100
        > 2800 reduced 2
        record step 2 committed: 0..8 by 1
        commit step 2
        open training step 3: 8 shards
        send worker 1 #5: shards 0..4
        send worker 1 #6: shards 4..6
        send worker 2 #7: shards 6..8",
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
        overdue worker 1 #0: shards 0..4 for 240.0 s
        send worker 2 #2 epoch 1: shards 0..4
        send worker 2 #3 epoch 1: shards 4..8",
    );
}

#[test]
fn an_evaluation_goes_by_training_until_it_is_measured() {
    check(
        Run::new(RunPlan { evaluate_shards: 1, ..RunPlan::new(1, 1, 2, 2) }),
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
        Run::new(RunPlan::new(1, 9, 2, 2)),
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
        send worker 1 #3: shards 0..2
        > 500 done 1 #3 100
        > 500 reduced 2
        record step 2 committed: 0..2 by 1
        commit step 2
        open training step 3: 2 shards
        send worker 1 #4: shard 0
        send worker 2 #5: shard 1",
    );
}

#[test]
fn a_worker_that_hung_before_gets_no_more_time_than_others() {
    let limits = Limits { lease_shards: 1, ..Limits::default() };
    let heartbeat_silence = Micros::seconds(10_000);
    check(
        Run::new(RunPlan { queue_per_thread: 1, heartbeat_silence, limits, ..RunPlan::new(1, 2, 2, 2) }),
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
