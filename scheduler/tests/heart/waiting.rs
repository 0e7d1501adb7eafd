//! What a run says it waits for, and how far it says it is.

use convoy_scheduler::*;

use crate::script::{check, plan};

#[test]
fn it_always_says_what_it_waits_for() {
    check(
        Run::new(RunPlan { evaluate_shards: 2, ..RunPlan::new(1, 1, 8, 8) }),
        "? waiting
        the run to start
        ? deadline
        at 0 ms
        > 0 deadline
        record generation 1 started at step 0
        open training step 0: 8 shards
        ? waiting
        workers: none is connected for the training of step 0
        ? deadline
        never
        > 100 join 3 x2
        record worker 3 joined x2
        send worker 3 #0: shards 0..8
        > 1400 beat 3
        ? waiting
        worker 3 to receive the parameters of step 0, since 1.3 s
        > 1400 ready 3 @0
        > 3700 beat 3
        ? waiting
        worker 3 for shards 0..8 of the training of step 0, since 2.3 s
        > 4000 done 3 #0
        > 4100 beat 3
        ? waiting
        the reducer to finish step 0, since 0.1 s
        > 4100 reduced 0
        record step 0 committed: 0..8 by 3
        commit step 0
        open evaluation step 1: 2 shards
        send worker 3 #1: shards 0..2
        > 4100 ready 3 @1
        > 4200 done 3 #1
        ? waiting
        the reducer to sum up the evaluation of step 1, since 0.0 s
        > 4200 evaluated 1
        record step 1 evaluated
        checkpoint step 1: Finish
        ? waiting
        the checkpoint of step 1 to be written
        > 4300 written 1
        record finished: completed
        finish: completed
        ? waiting
        nothing: completed",
    );
}

#[test]
fn progress_counts_steps_shards_and_workers() {
    let mut run = Run::new(plan());
    let mut effects = Vec::new();
    let (one, two) = (WorkerId(1), WorkerId(2));
    for (worker, name, threads) in [(one, "one", 2), (two, "two", 1)] {
        let [machine, name] = [name, name].map(str::to_owned);
        run.handle(RunTime(0), Event::WorkerJoined { worker, machine, name, threads }, &mut effects);
    }
    run.handle(RunTime(0), Event::WorkerReady { worker: one, step: StepId(0) }, &mut effects);
    let worker = WorkerProgress {
        worker: one,
        threads: 2,
        ready: Some(StepId(0)),
        draining: false,
        leases: 1,
        shards: 8,
        shard_micros: None,
    };
    let second = WorkerProgress { worker: two, threads: 1, ready: None, leases: 0, shards: 0, ..worker.clone() };
    let progress = Progress {
        committed: StepId(0),
        steps: 6,
        epoch: 0,
        epochs: 2,
        work: Some(Work::Train),
        shards_done: 0,
        shards: 8,
        workers: vec![worker.clone(), second.clone()],
    };
    assert_eq!(run.progress(), progress);

    let Some(Effect::Send { lease, .. }) = effects.iter().find(|effect| matches!(effect, Effect::Send { .. })) else {
        panic!("worker 1 has no lease: {effects:?}");
    };
    let done = Event::NodeDone {
        worker: one,
        at: lease.at,
        shard_micros: 7,
        version: OwnersVersion(0),
        result: NodeResult::Good,
        digest: None,
    };
    run.handle(RunTime(1), done, &mut Vec::new());
    let worker = WorkerProgress { leases: 0, shards: 0, shard_micros: Some(Micros(7)), ..worker };
    let progress = Progress { shards_done: 8, workers: vec![worker, second], ..progress };
    assert_eq!(run.progress(), progress);
}
