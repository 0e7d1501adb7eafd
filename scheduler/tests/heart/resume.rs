//! Starting again from what the journal says.

use convoy_scheduler::*;

use crate::script::{check, digest, plan};

const WHOLE: &str = "the journal is whole";

fn started(generation: u64, first: u64) -> Record {
    Record::Started { generation: RunGeneration(generation), first_step: StepId(first) }
}

fn committed(step: u64) -> Record {
    let node = tree::root(plan().shards(StepId(step)));
    let ledger = vec![LedgerEntry { node, worker: WorkerId(1), auditor: None }];
    Record::StepCommitted {
        step: StepId(step),
        digest: digest(step),
        ledger,
        owners: Vec::new(),
        audited_owners: Vec::new(),
    }
}

fn evaluated(step: u64, stop_early: bool) -> Record {
    Record::Evaluated { step: StepId(step), stop_early }
}

/// Start `generation` from the checkpoint of parameters `first`.
fn again(generation: u64, first: u64) -> RunPlan {
    RunPlan { generation: RunGeneration(generation), first_step: StepId(first), ..plan() }
}

#[test]
fn steps_after_the_checkpoint_are_computed_again() {
    let journal = [started(1, 0), committed(0), committed(1)];
    let run = Run::resume(again(2, 1), journal).expect(WHOLE);
    check(
        run,
        "> 0 join 1 x1
        record generation 2 started at step 1
        open training step 1: 8 shards
        record worker 1 joined x1
        send worker 1 #0: shards 0..8
        > 1 done 1 #0
        > 2 reduced 1
        record step 1 committed: 0..8 by 1
        commit step 1
        open training step 2: 5 shards
        send worker 1 #1: shards 0..5
        > 3 done 1 #1
        > 4 reduced 2
        record step 2 committed: 0..5 by 1
        commit step 2
        checkpoint step 3: EpochEnd
        open training step 3: 8 shards
        send worker 1 #2: shards 0..8",
    );
}

#[test]
fn a_step_that_comes_out_different_ends_the_run() {
    let Record::StepCommitted { step, ledger, .. } = committed(1) else { unreachable!() };
    let other = Record::StepCommitted { step, digest: [9; 32], ledger, owners: Vec::new(), audited_owners: Vec::new() };
    let run = Run::resume(again(2, 1), [started(1, 0), committed(0), other]).expect(WHOLE);
    check(
        run,
        "> 0 join 1 x1
        record generation 2 started at step 1
        open training step 1: 8 shards
        record worker 1 joined x1
        send worker 1 #0: shards 0..8
        > 1 done 1 #0
        > 2 reduced 1
        abandon training step 1: Diverged
        record finished: step 1 was computed again and came out different from what the journal says
        finish: step 1 was computed again and came out different from what the journal says",
    );
}

#[test]
fn a_pending_evaluation_comes_first() {
    let journal = [started(1, 0), committed(0), committed(1), committed(2)];
    let plan = RunPlan { evaluate_shards: 4, evaluation_pending: true, ..again(2, 3) };
    let run = Run::resume(plan, journal).expect(WHOLE);
    check(
        run,
        "> 0 join 1 x1
        record generation 2 started at step 3
        open evaluation step 3: 4 shards
        record worker 1 joined x1
        send worker 1 #0: shards 0..4
        > 1 done 1 #0
        > 2 evaluated 3
        record step 3 evaluated
        checkpoint step 3: EpochEnd
        open training step 3: 8 shards
        send worker 1 #1: shards 0..8",
    );
}

#[test]
fn a_run_that_was_complete_is_complete_again() {
    let journal = [started(1, 0)].into_iter().chain((0..6).map(committed));
    let run = Run::resume(again(2, 6), journal).expect(WHOLE);
    check(
        run,
        "> 0 deadline
        record generation 2 started at step 6
        checkpoint step 6: Finish
        > 1 written 6
        record finished: completed
        finish: completed",
    );
}

#[test]
fn a_run_that_had_stopped_early_does_not_go_on() {
    let journal = [started(1, 0), committed(0), committed(1), committed(2), evaluated(3, true)];
    let plan = RunPlan { evaluate_shards: 4, ..again(2, 3) };
    let run = Run::resume(plan, journal).expect(WHOLE);
    check(
        run,
        "> 0 deadline
        record generation 2 started at step 3
        checkpoint step 3: Finish
        > 1 written 3
        record finished: stopped early
        finish: stopped early",
    );
}

#[test]
fn a_run_that_was_complete_goes_on_when_it_is_planned_for_more_epochs() {
    let plan = RunPlan { epochs: 3, ..again(2, 6) };
    let whole = || [started(1, 0)].into_iter().chain((0..6).map(committed));
    let finished = Record::Finished { outcome: Outcome::Completed };
    check(
        Run::resume(plan.clone(), whole().chain([finished])).expect(WHOLE),
        "> 0 deadline
        record generation 2 started at step 6
        open training step 6: 8 shards",
    );
    // With more epochs from its start it would have stopped early.
    check(
        Run::resume(RunPlan { evaluate_shards: 4, ..plan }, whole().chain([evaluated(6, true)])).expect(WHOLE),
        "> 0 deadline
        record generation 2 started at step 6
        checkpoint step 6: Finish
        > 1 written 6
        record finished: stopped early
        finish: stopped early",
    );
}

#[test]
fn a_journal_of_several_starts_is_read_like_one() {
    let journal = [started(1, 0), committed(0), committed(1), started(2, 1), committed(1), committed(2)];
    let finished = Record::Finished { outcome: Outcome::Stopped };
    let run = Run::resume(again(3, 3), journal.into_iter().chain([finished])).expect(WHOLE);
    assert_eq!(run.progress().committed, StepId(3));
}

#[test]
fn a_journal_that_cannot_be_is_refused_with_the_reason() {
    let refused = |plan: RunPlan, journal: &[Record]| {
        Run::resume(plan, journal.iter().cloned()).expect_err("this cannot be").to_string()
    };
    assert_eq!(
        refused(again(2, 7), &[]),
        "the checkpoint stands at step 7, but the run ends at step 6; raise the epochs"
    );
    assert_eq!(
        refused(again(1, 0), &[started(1, 0)]),
        "the journal holds generation 1 already, so generation 1 cannot start; is another coordinator running it?"
    );
    assert_eq!(
        refused(again(3, 0), &[started(2, 0), started(1, 0)]),
        "the journal holds generation 1 already, so generation 3 cannot start; is another coordinator running it?"
    );
    assert_eq!(
        refused(again(2, 0), &[committed(0)]),
        "the journal names step 0 before any start; its beginning is missing"
    );
    assert_eq!(
        refused(again(2, 0), &[started(1, 0), committed(1)]),
        "the journal goes on with step 1 where step 0 should be; it lacks what is between"
    );
    assert_eq!(
        refused(again(3, 0), &[started(1, 0), started(2, 1)]),
        "the journal goes on with step 1 where step 0 should be; it lacks what is between"
    );
    let twice = Record::StepCommitted {
        step: StepId(0),
        digest: [9; 32],
        ledger: Vec::new(),
        owners: Vec::new(),
        audited_owners: Vec::new(),
    };
    assert_eq!(
        refused(again(3, 0), &[started(1, 0), committed(0), started(2, 0), twice]),
        "the journal holds two different digests of step 0; one of them was computed wrongly"
    );
    assert_eq!(
        refused(again(2, 1), &[started(1, 0)]),
        "the checkpoint stands at step 1, but the journal ends at step 0; they are not of one run, or the journal was \
         cut: resume from an older checkpoint"
    );
}

const LOST: Record = Record::Lost { at_most: 1 };

#[test]
fn what_is_lost_takes_nothing_else_along() {
    let whole = [started(1, 0), committed(0), committed(1), committed(2), started(2, 2), committed(2), committed(3)];
    for at in 0..whole.len() {
        let mut journal = whole.to_vec();
        journal[at] = LOST;
        let run = Run::resume(again(5, 4), journal).unwrap_or_else(|error| panic!("record {at}: {error}"));
        assert_eq!(run.progress().committed, StepId(4));
    }
    let run = Run::resume(again(2, 4), [LOST]).expect("a checkpoint may be all that is left");
    assert_eq!(run.progress().committed, StepId(4));
    assert!(Run::resume(again(3, 4), [started(2, 0)]).is_err(), "unless nothing is said to be lost");
}

#[test]
fn a_step_that_came_out_otherwise_after_a_loss_is_believed_as_it_came_last() {
    let wrong = |step| {
        let Record::StepCommitted { step, ledger, .. } = committed(step) else { unreachable!() };
        Record::StepCommitted { step, digest: [9; 32], ledger, owners: Vec::new(), audited_owners: Vec::new() }
    };
    let journal = [started(1, 0), committed(0), wrong(1), wrong(2), LOST, started(2, 1), committed(1)];
    let known: Vec<_> = believed(&journal).into_iter().collect();
    assert_eq!(known, [(StepId(0), digest(0)), (StepId(1), digest(1))], "what followed from the wrong step is not");
    Run::resume(again(3, 1), journal.clone()).expect("the record that says why is lost");
    let told = journal.into_iter().filter(|record| *record != LOST);
    assert!(Run::resume(again(3, 1), told).is_err(), "nothing says why");
}
