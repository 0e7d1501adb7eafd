//! A share of all shards is computed twice, by two workers, and compared.

use std::collections::BTreeSet;

use convoy_scheduler::*;

use crate::script::{audited_plan, check, digest, plan_of};

#[test]
fn the_first_shard_of_a_newcomer_is_computed_by_another_as_well() {
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
        > 1 done 1 #0
        > 1 reduced 0
        record step 0 committed: 0..4 by 1
        commit step 0
        open training step 1: 4 shards
        send worker 1 #1: shard 1, with its digest
        send worker 1 #2: shard 0
        send worker 2 #3: shard 3, with its digest
        send worker 2 #4: shard 2
        > 2 done 1 #1 100 =3
        > 3 done 2 #3 100 =4
        send worker 2 #5 epoch 1: shard 1, audit
        send worker 1 #6 epoch 1: shard 3, audit
        > 3 done 1 #2 100
        > 3 done 2 #4 100
        > 4 done 1 #6 100 =4
        > 4 reduced 1
        ignore step reduced: not all nodes of the step have arrived
        > 5 done 2 #5 100 =3
        > 5 reduced 1
        record step 1 committed: 0..1 by 1, 1..2 by 1 and 2, 2..3 by 2, 3..4 by 2 and 1
        commit step 1
        open training step 2: 4 shards
        send worker 1 #7: shards 0..2
        send worker 2 #8: shards 2..4",
    );
}

#[test]
fn two_that_differ_wait_for_a_third() {
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
        > 1 done 1 #0
        > 1 reduced 0
        record step 0 committed: 0..4 by 1
        commit step 0
        open training step 1: 4 shards
        send worker 1 #1: shard 1, with its digest
        send worker 1 #2: shard 0
        send worker 2 #3: shard 3, with its digest
        send worker 2 #4: shard 2
        > 2 done 1 #1 100 =3
        > 2 done 2 #3 100 =4
        send worker 2 #5 epoch 1: shard 1, audit
        send worker 1 #6 epoch 1: shard 3, audit
        > 3 done 1 #2 100
        > 3 done 2 #4 100
        > 4 done 1 #6 100 =4
        > 5 done 2 #5 100 =9
        dispute step 1, shard 1: 1, 2
        ? waiting
        one more worker: worker 1 and worker 2 computed shard 1 of the training of step 1 and did not come out the same
        ? deadline
        at 2004 ms
        > 6 reduced 1
        ignore step reduced: not all nodes of the step have arrived
        > 7 left 1
        record worker 1 gone: Closed
        ? waiting
        one more worker: worker 1 and worker 2 computed shard 1 of the training of step 1 and did not come out the same
        > 8 join 3 x1
        record worker 3 joined x1
        send worker 3 #7 epoch 2: shard 1, audit
        > 8 ready 3 @1
        > 9 done 3 #7 100 =3
        record worker 2 (machine 2) evicted since step 1
        evict worker 2 (machine 2) at step 1, shard 1, say worker 1 and worker 3: since step 1
        disconnect worker 2: Evicted
        record worker 2 gone: Evicted
        abandon training step 1: Doubted
        open training step 1: 4 shards
        send worker 3 #8 epoch 1: shard 0
        send worker 3 #9 epoch 3: shard 1",
    );
}

#[test]
fn a_dispute_without_a_judge_does_not_keep_a_run_from_stopping() {
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
        > 1 done 1 #0
        > 1 reduced 0
        record step 0 committed: 0..4 by 1
        commit step 0
        open training step 1: 4 shards
        send worker 1 #1: shard 1, with its digest
        send worker 1 #2: shard 0
        send worker 2 #3: shard 3, with its digest
        send worker 2 #4: shard 2
        > 2 done 1 #1 100 =3
        > 2 done 2 #3 100 =4
        send worker 2 #5 epoch 1: shard 1, audit
        send worker 1 #6 epoch 1: shard 3, audit
        > 3 done 1 #2 100
        > 3 done 2 #4 100
        > 4 done 1 #6 100 =4
        > 5 done 2 #5 100 =9
        dispute step 1, shard 1: 1, 2
        > 6 stop
        abandon training step 1: Stopped
        checkpoint step 1: Stop",
    );
}

#[test]
fn an_audit_that_nobody_else_can_do_is_given_up() {
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
        > 1 done 1 #0
        > 1 reduced 0
        record step 0 committed: 0..4 by 1
        commit step 0
        open training step 1: 4 shards
        send worker 1 #1: shard 1, with its digest
        send worker 1 #2: shard 0
        send worker 2 #3: shard 3, with its digest
        send worker 2 #4: shard 2
        > 2 done 1 #1 100 =3
        > 3 done 1 #2 100
        > 4 left 2
        record worker 2 gone: Closed
        send worker 1 #5 epoch 1: shard 3, with its digest
        send worker 1 #6 epoch 1: shard 2
        > 5 done 1 #5 100 =5
        > 6 done 1 #6 100
        > 7 reduced 1
        record step 1 committed: 0..1 by 1, 1..2 by 1, 2..3 by 1, 3..4 by 1
        commit step 1
        open training step 2: 4 shards
        send worker 1 #7: shards 0..4
        > 8 join 3 x1
        record worker 3 joined x1
        > 8 ready 3 @2
        > 9 done 1 #7 100
        > 9 reduced 2
        record step 2 committed: 0..4 by 1
        commit step 2
        checkpoint step 3: EpochEnd
        open training step 3: 4 shards
        send worker 1 #8: shard 1, with its digest
        send worker 1 #9: shard 0
        send worker 3 #10: shard 3, with its digest
        send worker 3 #11: shard 2",
    );
}

#[test]
fn an_audit_that_hangs_is_given_up() {
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
        > 1 done 1 #0
        > 1 reduced 0
        record step 0 committed: 0..4 by 1
        commit step 0
        open training step 1: 4 shards
        send worker 1 #1: shard 1, with its digest
        send worker 1 #2: shard 0
        send worker 2 #3: shard 3, with its digest
        send worker 2 #4: shard 2
        > 1 ready 1 @1
        > 1 ready 2 @1
        > 2 done 1 #1 100 =3
        > 2 done 2 #3 100 =4
        send worker 2 #5 epoch 1: shard 1, audit
        send worker 1 #6 epoch 1: shard 3, audit
        > 3 done 1 #2 100
        > 3 done 2 #4 100
        > 4 done 1 #6 100 =4
        > 1900 beat 1
        > 1900 beat 2
        > 1900 deadline
        > 3200 beat 1
        > 3200 beat 2
        ? deadline
        at 3202 ms
        > 3202 deadline
        overdue worker 2 #5: shard 1 for 3.2 s
        revoke worker 2 #5: AuditDropped
        > 3202 reduced 1
        record step 1 committed: 0..1 by 1, 1..2 by 1, 2..3 by 2, 3..4 by 2 and 1
        commit step 1
        open training step 2: 4 shards
        send worker 1 #7: shards 0..4",
    );
}

/// The first worker holds audits of the second one, which is gone, and is silent about them.
const AUDITS_WAIT: &str = "> 0 join 1 x1
        record generation 1 started at step 0
        open training step 0: 12 shards
        record worker 1 joined x1
        send worker 1 #0: shards 0..12
        > 0 ready 1 @0
        > 1 join 2 x1
        record worker 2 joined x1
        > 1 ready 2 @0
        > 2 done 1 #0
        > 2 reduced 0
        record step 0 committed: 0..12 by 1
        commit step 0
        checkpoint step 1: EpochEnd
        open training step 1: 12 shards
        send worker 1 #1: shard 9, with its digest
        send worker 1 #2: shards 0..4
        send worker 2 #3: shard 11, with its digest
        send worker 2 #4: shards 4..8
        > 2 ready 1 @1
        > 2 ready 2 @1
        > 3 done 2 #3 100 =4
        send worker 2 #5: shard 10, with its digest
        > 4 done 2 #4 100
        > 5 done 2 #5 100 =5
        send worker 2 #6: shard 8, with its digest
        > 6 done 2 #6 100 =6
        > 7 done 1 #1 100 =7
        send worker 1 #7 epoch 1: shard 8, audit
        send worker 2 #8 epoch 1: shard 9, audit
        > 8 done 1 #2 100
        send worker 1 #9 epoch 1: shard 10, audit
        > 9 done 2 #8 100 =7
        > 10 left 2
        record worker 2 gone: Closed
        > 1900 beat 1
        > 1900 deadline
        > 3200 beat 1";

#[test]
fn whose_audits_are_given_up_has_room_for_others() {
    let run = Run::new(RunPlan { audit_every: 1, ..RunPlan::new(2, 1, 12, 12) });
    let then = "? deadline
        at 3208 ms
        > 3208 deadline
        overdue worker 1 #9: shard 10 for 3.2 s
        revoke worker 1 #7: AuditDropped
        revoke worker 1 #9: AuditDropped
        send worker 1 #10 epoch 1: shard 11, audit
        ? waiting
        worker 1 for shard 11 of the training of step 1, since 0.0 s";
    check(run, &format!("{AUDITS_WAIT}\n{then}"));
}

#[test]
fn whose_audits_are_given_up_leaves_if_it_wanted_to() {
    let run = Run::new(RunPlan { audit_every: 1, ..RunPlan::new(2, 1, 12, 12) });
    let then = "> 3200 drain 1
        > 3208 deadline
        overdue worker 1 #9: shard 10 for 3.2 s
        revoke worker 1 #7: AuditDropped
        revoke worker 1 #9: AuditDropped
        disconnect worker 1: Drained
        record worker 1 gone: Drained
        ? waiting
        the reducer to finish step 1, since 0.0 s";
    check(run, &format!("{AUDITS_WAIT}\n{then}"));
}

#[test]
fn a_worker_whose_evaluation_was_clean_has_its_first_gradient_audited_too() {
    check(
        Run::new(RunPlan { evaluate_shards: 4, audit_every: 100, ..RunPlan::new(2, 1, 4, 4) }),
        "> 0 join 1 x1
        record generation 1 started at step 0
        open training step 0: 4 shards
        record worker 1 joined x1
        send worker 1 #0: shards 0..4
        > 0 ready 1 @0
        > 0 join 2 x1
        record worker 2 joined x1
        > 0 ready 2 @0
        > 1 done 1 #0 100
        > 1 reduced 0
        record step 0 committed: 0..4 by 1
        commit step 0
        open evaluation step 1: 4 shards
        send worker 1 #1: shard 1, with its digest
        send worker 1 #2: shard 0
        send worker 2 #3: shard 3, with its digest
        send worker 2 #4: shard 2
        > 2 done 1 #1 100 =1
        > 2 done 2 #3 100 =2
        send worker 2 #5 epoch 1: shard 1, audit
        send worker 1 #6 epoch 1: shard 3, audit
        > 3 done 1 #2 100
        > 3 done 2 #4 100
        > 4 done 1 #6 100 =2
        > 4 done 2 #5 100 =1
        > 5 evaluated 1
        record step 1 evaluated
        checkpoint step 1: EpochEnd
        open training step 1: 4 shards
        send worker 1 #7: shard 1, with its digest
        send worker 1 #8: shard 0
        send worker 2 #9: shard 3, with its digest
        send worker 2 #10: shard 2",
    );
}

#[test]
fn a_node_that_a_newcomer_takes_over_is_audited() {
    let limits = Limits { lease_shards: 1, ..Limits::default() };
    check(
        Run::new(RunPlan { limits, audit_every: 100, ..RunPlan::new(2, 3, 8, 8) }),
        "> 0 join 1 x1
        record generation 1 started at step 0
        open training step 0: 8 shards
        record worker 1 joined x1
        send worker 1 #0: shard 0
        send worker 1 #1: shard 1
        > 0 ready 1 @0
        > 1 join 2 x1
        record worker 2 joined x1
        > 1 ready 2 @0
        send worker 2 #2: shard 7, with its digest
        > 2 done 1 #0 100
        send worker 1 #3: shard 2, with its digest
        > 2 done 2 #2 100 =1
        send worker 2 #4: shard 6",
    );
}

/// The steps in which a shard of worker 1 is audited, where workers own chunks and one of them is lost to another so
/// often in the second step, when worker 1 has answered.
fn audited(moves: usize) -> Vec<u64> {
    let plan = RunPlan { chunks: 8, audit_every: 4, ..plan_of(1, 16, 4, 4) };
    let (mut run, mut effects) = (Run::new(plan), Vec::new());
    let mut tell = |run: &mut Run, event| run.handle(RunTime(0), event, &mut effects);
    let workers: BTreeSet<WorkerId> = (1..=4).map(WorkerId).collect();
    for worker in workers.iter().copied() {
        let name = format!("machine {}", worker.0);
        tell(&mut run, Event::WorkerJoined { worker, machine: name.clone(), name, threads: 1 });
        tell(&mut run, Event::PeersReached { worker, reached: workers.clone() });
    }
    for worker in workers.iter().copied() {
        tell(&mut run, Event::PeersReached { worker, reached: workers.clone() });
        tell(&mut run, Event::WorkerReady { worker, step: StepId(0) });
    }
    let (mut audits, mut held, mut moved) = (Vec::new(), Vec::new(), 0);
    while run.outcome().is_none() {
        for effect in std::mem::take(&mut effects) {
            if let Effect::Send { worker, lease, check } = effect {
                held.push((worker, lease, check));
                let counts = check == Check::CountAndDigest && worker == WorkerId(1);
                audits.extend(counts.then_some(lease.at.step.0));
            }
        }
        let version = run.owners().0;
        let step = run.progress().committed;
        let mut tell = |event| run.handle(RunTime(0), event, &mut effects);
        if held.is_empty() {
            tell(Event::StepReduced { step, digest: digest(0) });
            workers.iter().for_each(|worker| tell(Event::WorkerReady { worker: *worker, step: step.next() }));
            tell(Event::CheckpointWritten { step: step.next() });
        } else if step == StepId(1) && moved < moves {
            // All but worker 4 have answered, and do so again.
            let told = held.iter().filter(|(worker, ..)| *worker != WorkerId(4));
            told.for_each(|(worker, lease, check)| tell(done(*worker, lease, *check, version)));
            tell(Event::PeerLost { worker: WorkerId(4), peer: WorkerId(2 + moved as u32), version });
            moved += 1;
        } else {
            let told = std::mem::take(&mut held);
            told.iter().for_each(|(worker, lease, check)| tell(done(*worker, lease, *check, version)));
        }
    }
    audits
}

fn done(worker: WorkerId, lease: &Lease, check: Check, version: OwnersVersion) -> Event {
    let digest = (check != Check::Count).then(|| digest(u64::from(lease.node.first)));
    Event::NodeDone {
        worker,
        at: lease.at,
        shard_micros: 1000,
        version,
        result: NodeResult::Good,
        digest: digest.map(NodeDigest::whole),
    }
}

#[test]
fn audits_are_not_put_off_where_nodes_are_sent_again() {
    let (never, twice) = (audited(0), audited(2));
    // Where another sits out, it has more shards to compute, and more of them are audited.
    assert!(never.len() > 2 && twice.len() >= never.len(), "{never:?}, and with moves {twice:?}");
}
