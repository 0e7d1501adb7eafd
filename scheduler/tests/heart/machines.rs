//! What one machine can do, under however many names and over however many connections; and what many can do together.

use convoy_scheduler::*;

use crate::script::{check, plan, short_plan};

#[test]
fn a_machine_that_fails_over_and_over_ends_nothing_where_another_computes() {
    check(
        Run::new(plan()),
        "> 0 join 1 x1 a bad
        record generation 1 started at step 0
        open training step 0: 8 shards
        record worker 1 joined x1
        send worker 1 #0: shards 0..8
        > 0 join 2 x1 b bad
        record worker 2 joined x1
        > 0 join 3 x1 c good
        record worker 3 joined x1
        > 1 unreadable 1 #0
        send worker 3 #1 epoch 1: shards 0..8
        > 2 ready 3 @0
        > 3 done 3 #1
        > 4 reduced 0
        record step 0 committed: 0..8 by 3
        commit step 0
        open training step 1: 8 shards
        send worker 3 #2: shards 0..8",
    );
}

#[test]
fn the_only_machine_that_is_there_ends_what_it_cannot_read() {
    check(
        Run::new(plan()),
        "> 0 join 1 x1 a only
        record generation 1 started at step 0
        open training step 0: 8 shards
        record worker 1 joined x1
        send worker 1 #0: shards 0..8
        > 0 join 2 x1 b only
        record worker 2 joined x1
        > 1 unreadable 1 #0
        send worker 1 #1 epoch 1: shards 0..8
        > 2 unreadable 1 #1
        abandon training step 0: Failed
        checkpoint step 0: Stop",
    );
}

#[test]
fn a_machine_that_finds_nan_over_all_its_connections_is_not_believed() {
    check(
        Run::new(short_plan()),
        "> 0 join 1 x1 a bad
        record generation 1 started at step 0
        open training step 0: 4 shards
        record worker 1 joined x1
        send worker 1 #0: shards 0..4
        > 0 ready 1 @0
        > 0 join 2 x1 b bad
        record worker 2 joined x1
        > 0 join 3 x1 c good
        record worker 3 joined x1
        > 0 ready 2 @0
        > 0 ready 3 @0
        > 1 done 1 #0 100 nan
        doubt worker 1 #0: shards 0..4
        abandon training step 0: Doubted
        open training step 0: 4 shards
        send worker 3 #1 epoch 1: shards 0..4
        > 2 done 3 #1",
    );
}

/// A machine whose process dies of every lease, as often as `times`.
fn dying(times: u32) -> String {
    let mut script = String::from("> 0 join 1 x1 a ox\nrecord generation 1 started at step 0\n");
    script += "open training step 0: 4 shards\nrecord worker 1 joined x1\nsend worker 1 #0: shards 0..4\n";
    for i in 1..=times {
        let ms = i * 2000;
        if i > 1 {
            let epoch = i - 1;
            script += &format!("> {ms} join {i} x1 a ox\nrecord worker {i} joined x1\n");
            script += &format!("send worker {i} #{epoch} epoch {epoch}: shards 0..4\n");
        }
        script += &format!("> {ms} ready {i} @0\n> {ms} left {i}\nrecord worker {i} gone: Closed\n");
    }
    script
}

#[test]
fn a_node_of_which_all_workers_die_ends_the_run_in_words() {
    check(Run::new(short_plan()), &dying(4));
    let words = "workers died again and again at the training of step 0, shards 0..4, last worker 5; see whether the \
                 job needs more memory than they have, and lower train.shard";
    let end = "abandon training step 0: Failed\ncheckpoint step 0: Stop\n> 10001 written 0";
    check(Run::new(short_plan()), &format!("{}{end}\nrecord finished: {words}\nfinish: {words}", dying(5)));
}

/// Two nodes of four shards, and two deaths that end a run.
fn frail() -> Run {
    let limits = Limits { deaths: 2, lease_shards: 4, ..Limits::default() };
    Run::new(RunPlan { limits, ..plan() })
}

#[test]
fn deaths_count_for_the_node_in_work_and_only_while_nothing_gets_done() {
    check(
        frail(),
        "> 0 join 1 x1 a ox
        record generation 1 started at step 0
        open training step 0: 8 shards
        record worker 1 joined x1
        send worker 1 #0: shards 0..4
        send worker 1 #1: shards 4..8
        > 0 ready 1 @0
        > 1 left 1
        record worker 1 gone: Closed
        > 2 join 2 x1 a ox
        record worker 2 joined x1
        send worker 2 #2 epoch 1: shards 0..4
        send worker 2 #3 epoch 1: shards 4..8
        > 2 ready 2 @0
        > 3 done 2 #2 100
        > 3000 left 2
        record worker 2 gone: Closed
        > 3001 join 3 x1 a ox
        record worker 3 joined x1
        send worker 3 #4 epoch 2: shards 4..8
        > 3002 ready 3 @0
        > 6000 left 3
        record worker 3 gone: Closed
        abandon training step 0: Failed
        checkpoint step 0: Stop",
    );
}

#[test]
fn a_machine_that_dies_over_and_over_ends_nothing_where_another_computes() {
    check(
        frail(),
        "> 0 join 1 x1 a bad
        record generation 1 started at step 0
        open training step 0: 8 shards
        record worker 1 joined x1
        send worker 1 #0: shards 0..4
        send worker 1 #1: shards 4..8
        > 0 ready 1 @0
        > 0 join 2 x1 b bad
        record worker 2 joined x1
        > 0 ready 2 @0
        > 1 left 1
        record worker 1 gone: Closed
        send worker 2 #2 epoch 1: shards 0..4
        send worker 2 #3 epoch 1: shards 4..8
        > 1 join 3 x1 c good
        record worker 3 joined x1
        > 1 ready 3 @0
        > 4000 left 2
        record worker 2 gone: Closed
        send worker 3 #4 epoch 2: shards 0..4
        send worker 3 #5 epoch 2: shards 4..8",
    );
}

#[test]
fn who_was_not_heard_of_for_a_second_gets_no_lease_until_it_is() {
    check(
        Run::new(RunPlan::new(2, 3, 8, 5)),
        "> 0 join 1 x1
        record generation 1 started at step 0
        open training step 0: 8 shards
        record worker 1 joined x1
        send worker 1 #0: shards 0..8
        > 0 ready 1 @0
        > 0 join 2 x1
        record worker 2 joined x1
        > 0 ready 2 @0
        ? deadline
        at 1000 ms
        > 900 beat 1
        > 1000 deadline
        ? deadline
        at 1900 ms
        > 1100 done 1 #0
        > 1100 reduced 0
        record step 0 committed: 0..8 by 1
        commit step 0
        open training step 1: 8 shards
        send worker 1 #1: shards 0..8
        > 1200 beat 2
        > 1300 done 1 #1
        > 1300 reduced 1
        record step 1 committed: 0..8 by 1
        commit step 1
        open training step 2: 5 shards
        send worker 1 #2: shards 0..2
        send worker 1 #3: shard 4
        send worker 2 #4: shards 2..4",
    );
}

#[test]
fn workers_that_are_lost_all_at_once_have_died_of_nothing() {
    let mut script = String::from("> 0 join 1 x1\nrecord generation 1 started at step 0\n");
    script += "open training step 0: 8 shards\nrecord worker 1 joined x1\n";
    script += "send worker 1 #0: shards 0..4\nsend worker 1 #1: shards 4..8\n> 0 ready 1 @0\n";
    script += "> 0 join 2 x1\nrecord worker 2 joined x1\n> 0 ready 2 @0\n";
    script += "> 10 left 1\nrecord worker 1 gone: Closed\n";
    script += "send worker 2 #2 epoch 1: shards 0..4\nsend worker 2 #3 epoch 1: shards 4..8\n";
    script += "> 20 left 2\nrecord worker 2 gone: Closed\n? waiting\n";
    script += "workers: none is connected for the training of step 0";
    check(frail(), &script);
}
