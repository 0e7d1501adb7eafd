//! Numbers that are not believed at once: absurd ones, and steps that get another digest after a restart.

use convoy_scheduler::*;

use crate::script::{audited_plan, check, digest};

#[test]
fn absurd_numbers_are_believed_when_another_worker_gets_such_numbers_too() {
    check(
        Run::new(RunPlan::new(2, 3, 4, 4)),
        "> 0 join 1 x1
        record generation 1 started at step 0
        open training step 0: 4 shards
        record worker 1 joined x1
        send worker 1 #0: shards 0..4
        > 0 ready 1 @0
        > 0 join 2 x1
        record worker 2 joined x1
        > 0 ready 2 @0
        > 1 done 1 #0 100 absurd
        doubt worker 1 #0: shards 0..4
        abandon training step 0: Doubted
        open training step 0: 4 shards
        send worker 2 #1 epoch 1: shards 0..4
        > 2 done 2 #1 100 absurd
        > 2 reduced 0
        record step 0 committed: 0..4 by 2
        commit step 0
        open training step 1: 4 shards
        send worker 2 #2: shards 0..4",
    );
}

#[test]
fn a_node_that_was_brought_in_two_ways_goes_to_others_and_is_audited() {
    check(
        Run::new(audited_plan()),
        "> 0 join 1 x1
        record generation 1 started at step 0
        open training step 0: 4 shards
        record worker 1 joined x1
        send worker 1 #0: shards 0..4
        > 0 ready 1 @0
        > 0 join 2 x1
        record worker 2 joined x1
        > 0 ready 2 @0
        > 0 join 3 x1
        record worker 3 joined x1
        > 0 ready 3 @0
        > 0 join 4 x1
        record worker 4 joined x1
        > 0 ready 4 @0
        > 1 left 1
        record worker 1 gone: Closed
        send worker 2 #1 epoch 1: shard 1, with its digest
        send worker 2 #2 epoch 1: shard 0
        send worker 3 #3 epoch 1: shard 2, with its digest
        send worker 4 #4 epoch 1: shard 3, with its digest
        > 2 contradicted 0 0 4 1 2
        contradict step 0, shards 0..4: 1, 2
        revoke worker 2 #1: StepAbandoned
        revoke worker 2 #2: StepAbandoned
        revoke worker 3 #3: StepAbandoned
        revoke worker 4 #4: StepAbandoned
        abandon training step 0: Doubted
        open training step 0: 4 shards
        send worker 3 #5 epoch 2: shard 0, with its digest
        send worker 3 #6 epoch 2: shard 2, with its digest
        send worker 4 #7 epoch 2: shard 1, with its digest
        send worker 4 #8 epoch 2: shard 3, with its digest",
    );
}

/// Worker 1 sends half of a node wrongly and is gone, and comes again as worker 5 and 6.
#[test]
fn a_machine_that_is_gone_when_its_half_node_is_contradicted_sits_out_and_who_is_there_does_not() {
    check(
        Run::new(RunPlan::new(1, 9, 4, 4)),
        "> 0 join 1 x1 mallory mallory
        record generation 1 started at step 0
        open training step 0: 4 shards
        record worker 1 joined x1
        send worker 1 #0: shards 0..4
        > 0 ready 1 @0
        > 0 join 2 x1
        record worker 2 joined x1
        > 0 ready 2 @0
        > 0 join 3 x1
        record worker 3 joined x1
        > 0 ready 3 @0
        > 1 left 1
        record worker 1 gone: Closed
        send worker 2 #1 epoch 1: shards 0..2
        send worker 3 #2 epoch 1: shards 2..4
        > 2 contradicted 0 0 4 1 2
        contradict step 0, shards 0..4: 1, 2
        revoke worker 2 #1: StepAbandoned
        revoke worker 3 #2: StepAbandoned
        abandon training step 0: Doubted
        open training step 0: 4 shards
        send worker 3 #3 epoch 2: shards 0..2
        send worker 3 #4 epoch 2: shards 2..4
        > 2 join 5 x1 alice mallory
        record worker 5 joined x1
        > 2 ready 5 @0
        > 3 done 3 #3
        > 3 done 3 #4
        > 4 reduced 0
        record step 0 committed: 0..2 by 3, 2..4 by 3
        commit step 0
        open training step 1: 4 shards
        send worker 2 #5: shards 0..2
        send worker 3 #6: shards 2..4
        > 4 ready 5 @1
        > 5 done 2 #5
        > 5 done 3 #6
        > 6 reduced 1
        record step 1 committed: 0..2 by 2, 2..4 by 3
        commit step 1
        open training step 2: 4 shards
        send worker 2 #7: shards 0..2
        send worker 3 #8: shard 2
        send worker 5 #9: shard 3
        > 6 ready 5 @2",
    );
}

/// Nothing that it says is wrong: it only takes leases, and goes.
#[test]
fn a_machine_that_is_lost_with_its_leases_again_and_again_sits_out() {
    check(
        Run::new(RunPlan::new(1, 9, 4, 4)),
        "> 0 join 1 x1 ox ox
        record generation 1 started at step 0
        open training step 0: 4 shards
        record worker 1 joined x1
        send worker 1 #0: shards 0..4
        > 0 ready 1 @0
        > 0 join 2 x1
        record worker 2 joined x1
        > 0 ready 2 @0
        > 1 done 1 #0
        > 1 reduced 0
        record step 0 committed: 0..4 by 1
        commit step 0
        open training step 1: 4 shards
        send worker 1 #1: shards 0..2
        send worker 2 #2: shards 2..4
        > 1 ready 1 @1
        > 1 ready 2 @1
        > 2 left 1
        record worker 1 gone: Closed
        send worker 2 #3 epoch 1: shards 0..2
        > 2 join 3 x1 ox ox
        record worker 3 joined x1
        > 2 ready 3 @1
        > 3 done 2 #2
        > 3 done 2 #3
        > 3 reduced 1
        record step 1 committed: 0..2 by 2, 2..4 by 2
        commit step 1
        open training step 2: 4 shards
        send worker 2 #4: shards 0..2
        send worker 3 #5: shards 2..4
        > 3 ready 3 @2
        > 3 ready 2 @2
        > 4 left 3
        record worker 3 gone: Closed
        send worker 2 #6 epoch 1: shards 2..4
        > 4 join 4 x1 ox ox
        record worker 4 joined x1
        > 4 ready 4 @2
        > 5 done 2 #4
        > 5 done 2 #6
        > 6 reduced 2
        record step 2 committed: 0..2 by 2, 2..4 by 2
        commit step 2
        open training step 3: 4 shards
        send worker 2 #7: shards 0..4
        > 6 ready 4 @3
        > 6 ready 2 @3
        > 7 done 2 #7
        > 8 reduced 3
        record step 3 committed: 0..4 by 2
        commit step 3
        open training step 4: 4 shards
        send worker 2 #8: shards 0..2
        send worker 4 #9: shards 2..4",
    );
}

/// A journal in which step 0 has the digest 7.
fn journal() -> Vec<Record> {
    let node = Node { first: 0, last: 4 };
    let ledger = vec![LedgerEntry { node, worker: WorkerId(1), auditor: None }];
    vec![
        Record::Started { generation: RunGeneration(1), first_step: StepId(0) },
        Record::WorkerJoined { worker: WorkerId(1), machine: "bad".to_owned(), name: "b".to_owned(), threads: 1 },
        Record::StepCommitted {
            step: StepId(0),
            digest: digest(7),
            ledger,
            owners: Vec::new(),
            audited_owners: Vec::new(),
        },
    ]
}

fn again(records: Vec<Record>) -> Run {
    Run::resume(RunPlan { generation: RunGeneration(2), ..audited_plan() }, records).expect("the journal is good")
}

#[test]
fn another_digest_after_a_restart_is_believed_once_two_workers_agree_on_each_node() {
    check(
        again(journal()),
        "> 0 join 1 x1
        record generation 2 started at step 0
        open training step 0: 4 shards
        record worker 1 joined x1
        send worker 1 #0: shards 0..4
        > 0 ready 1 @0
        > 0 join 2 x1
        record worker 2 joined x1
        > 0 ready 2 @0
        > 1 done 1 #0
        > 1 reduced 0
        abandon training step 0: Doubted
        open training step 0: 4 shards
        send worker 1 #1 epoch 1: shard 1, with its digest
        send worker 1 #2 epoch 1: shard 0, with its digest
        send worker 2 #3 epoch 1: shard 3, with its digest
        send worker 2 #4 epoch 1: shard 2, with its digest
        > 2 done 1 #1 100 =1
        > 2 done 1 #2 100 =2
        > 2 done 2 #3 100 =3
        send worker 2 #5 epoch 2: shard 0, audit
        send worker 1 #6 epoch 2: shard 3, audit
        > 2 done 2 #4 100 =4
        send worker 2 #7 epoch 2: shard 1, audit
        send worker 1 #8 epoch 2: shard 2, audit
        > 3 done 2 #5 100 =2
        > 3 done 1 #6 100 =3
        > 3 done 2 #7 100 =1
        > 3 done 1 #8 100 =4
        > 4 reduced 0
        record disbelieved since step 0
        record step 0 committed: 0..1 by 1 and 2, 1..2 by 1 and 2, 2..3 by 2 and 1, 3..4 by 2 and 1
        commit step 0
        open training step 1: 4 shards
        send worker 1 #9: shards 0..2
        send worker 2 #10: shards 2..4",
    );
}

#[test]
fn another_digest_after_a_restart_that_nobody_can_check_ends_the_run() {
    check(
        again(journal()),
        "> 0 join 1 x1
        record generation 2 started at step 0
        open training step 0: 4 shards
        record worker 1 joined x1
        send worker 1 #0: shards 0..4
        > 0 ready 1 @0
        > 1 done 1 #0
        > 1 reduced 0
        abandon training step 0: Diverged
        record finished: step 0 was computed again and came out different from what the journal says
        finish: step 0 was computed again and came out different from what the journal says",
    );
}

#[test]
fn the_journal_keeps_who_was_evicted_and_which_steps_are_not_believed() {
    let mut records = journal();
    assert_eq!(believed(&records).len(), 1);
    let since = StepId(0);
    let (machine, name) = ("bad".to_owned(), "b".to_owned());
    records.push(Record::Evicted { worker: WorkerId(1), machine, name, since });
    assert_eq!(believed(&records).len(), 0);
    check(
        again(records),
        "> 0 join 1 x1 bad
        record generation 2 started at step 0
        open training step 0: 4 shards
        disconnect worker 1: Evicted
        > 0 join 2 x1
        record worker 2 joined x1
        send worker 2 #0: shards 0..4
        > 0 ready 2 @0
        > 1 done 2 #0
        > 1 reduced 0
        record step 0 committed: 0..4 by 2
        commit step 0
        open training step 1: 4 shards
        send worker 2 #1: shards 0..4",
    );
}
