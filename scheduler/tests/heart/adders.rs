//! Workers that compute nothing and only own chunks.

use convoy_scheduler::*;

use crate::script::{check, plan_of, play, short_plan};

/// Two that compute and two that only add: from the second step on the latter own all chunks.
fn two_and_two(rest: &str) -> String {
    format!(
        "> 0 join 1 x1
         record generation 1 started at step 0
         open training step 0: 4 shards
         record worker 1 joined x1
         send worker 1 #0: shards 0..4
         > 0 join 3 x0
         record worker 3 joined x0
         > 0 join 2 x1
         record worker 2 joined x1
         > 0 join 4 x0
         record worker 4 joined x0
         > 0 ready 1 0
         > 0 ready 2 0
         > 0 reaches 1 2 3 4
         > 0 reaches 2 1 3 4
         > 100 done 1 #0 25
         > 100 reduced 0
         record step 0 committed: 0..4 by 1
         commit step 0
         owners 1: 3 4 3 4 3 4, as a step begins
         open training step 1: 4 shards
         send worker 1 #1: shards 0..2
         send worker 2 #2: shards 2..4
         > 100 ready 1 1
         > 100 ready 2 1
         {rest}"
    )
}

/// The third step, which all of them own but worker 4.
const ALL_OWN: &str = "record step 1 committed: 0..2 by 1, 2..4 by 2
    commit step 1
    owners 3: 3 1 2 1 2 3, as a step begins
    open training step 2: 4 shards
    send worker 1 #3: shards 0..2
    send worker 2 #4: shards 2..4";

fn plan() -> RunPlan {
    RunPlan { chunks: 6, ..plan_of(2, 3, 4, 4) }
}

#[test]
fn a_run_waits_for_a_worker_that_computes() {
    check(
        Run::new(short_plan()),
        "> 0 join 1 x0
         record generation 1 started at step 0
         open training step 0: 4 shards
         record worker 1 joined x0
         > 5 ready 1 0
         ? waiting
         workers: none is connected for the training of step 0
         > 10 join 2 x2
         record worker 2 joined x2
         send worker 2 #0: shards 0..4
         > 20 left 2
         record worker 2 gone: Closed
         ? waiting
         workers: none is connected for the training of step 0",
    );
}

#[test]
fn who_only_adds_owns_chunks_without_parameters_and_without_a_word_of_whom_it_reaches() {
    check(
        Run::new(plan()),
        &two_and_two(
            "> 150 done 1 #1 25 v1
             > 150 done 2 #2 25 v1
             ? waiting
             worker 3 to send its sums of step 1, since 0.0 s
             > 160 sums 3 2 v1
             > 160 sums 4 2 v1
             > 160 reduced 1
             record step 1 committed: 0..2 by 1, 2..4 by 2
             commit step 1
             open training step 2: 4 shards
             send worker 1 #3: shards 0..2
             send worker 2 #4: shards 2..4",
        ),
    );
}

#[test]
fn with_fewer_of_them_who_computes_owns_as_much() {
    check(
        Run::new(plan()),
        &two_and_two(&format!(
            "> 120 left 4
             record worker 4 gone: Closed
             owners 2: 3 3 3 3 3 3, as worker 4 is gone
             > 150 done 1 #1 25 v2
             > 150 done 2 #2 25 v2
             > 160 sums 3 2 v2
             > 160 reduced 1
             {ALL_OWN}"
        )),
    );
}

#[test]
fn one_that_wants_to_leave_stays_for_its_step_unless_its_sums_are_late() {
    check(
        Run::new(plan()),
        &two_and_two(&format!(
            "> 150 done 1 #1 25 v1
             > 150 done 2 #2 25 v1
             > 155 drain 4
             > 160 sums 3 2 v1
             ? deadline
             at 2150 ms
             > 1900 beat 1
             > 1900 beat 2
             > 1900 beat 3
             > 1900 beat 4
             > 2150 deadline
             owners 2: 3 3 3 3 3 3, as the sums of worker 4 do not come
             disconnect worker 4: Drained
             record worker 4 gone: Drained
             > 2155 done 1 #1 25 v2
             > 2155 done 2 #2 25 v2
             > 2160 sums 3 2 v2
             > 2170 reduced 1
             {ALL_OWN}"
        )),
    );
}

/// Nobody who could finish the step is there, and nobody will be sent to a run that stops.
#[test]
fn a_run_that_is_to_stop_does_not_wait_for_those_who_only_add() {
    check(
        Run::new(plan()),
        &two_and_two(
            "> 110 stop
             > 120 left 1
             record worker 1 gone: Closed
             send worker 2 #3 epoch 1: shards 0..2
             > 130 left 2
             record worker 2 gone: Closed
             abandon training step 1: Stopped
             checkpoint step 1: Stop",
        ),
    );
}

#[test]
fn of_a_machine_that_is_there_under_two_numbers_nobody_who_only_adds_owns_anything() {
    let lines = [
        "> 0 join 1 x1 a ox",
        "> 0 join 2 x1 b yak",
        "> 0 join 3 x0 c ox",
        "> 0 join 4 x0 d elk",
        "> 0 ready 1 0",
        "> 0 ready 2 0",
        "> 0 reaches 1 2 3 4",
        "> 0 reaches 2 1 3 4",
        "> 100 done 1 #0 25",
        "> 100 reduced 0",
    ];
    let said = play(&mut Run::new(plan()), &lines);
    assert!(said.iter().any(|line| line == "owners 1: 1 2 4 1 2 4, as a step begins"), "{said:?}");
}

#[test]
fn who_only_adds_fetches_no_parameters_and_accuses_nobody_of_wrong_ones() {
    check(
        Run::new(plan()),
        &two_and_two(
            "> 110 misserved 3 4
             ignore wrong parameters: the worker computes nothing
             ? waiting
             worker 1 for shards 0..2 of the training of step 1, since 0.0 s",
        ),
    );
}
