//! Owners of chunks are audited: their sums, what they say to have been brought, and what they hand out.

use convoy_scheduler::*;

use crate::script::{audited_plan, check, digest, plan_of, play, show};

/// Six chunks, one epoch of nine steps of four shards.
fn plan() -> RunPlan {
    RunPlan { chunks: 6, ..plan_of(1, 9, 4, 4) }
}

/// Workers 1 to 3 reach each other. The first has done the first step, with the coordinator as the only owner; they own
/// the second, and have done it.
fn three(rest: &str) -> String {
    format!(
        "> 0 join 1 x1
         record generation 1 started at step 0
         open training step 0: 4 shards
         record worker 1 joined x1
         send worker 1 #0: shards 0..4
         > 0 join 2 x1
         record worker 2 joined x1
         > 0 join 3 x1
         record worker 3 joined x1
         > 0 ready 1 0
         > 0 ready 2 0
         > 0 ready 3 0
         > 0 reaches 1 2 3
         > 0 reaches 2 1 3
         > 0 reaches 3 1 2
         > 100 done 1 #0 25
         > 100 reduced 0
         record step 0 committed: 0..4 by 1
         commit step 0
         owners 1: 1 2 3 1 2 3, as a step begins
         open training step 1: 4 shards
         send worker 1 #1: shards 0..2
         send worker 2 #2: shard 2
         send worker 3 #3: shard 3
         > 100 ready 1 1
         > 100 ready 2 1
         > 100 ready 3 1
         > 150 done 1 #1 25 v1
         > 150 done 2 #2 25 v1
         > 150 done 3 #3 25 v1
         {rest}"
    )
}

/// Four workers, each the owner of one of four chunks of the second step, in which a shard of each is audited.
fn four(rest: &str) -> String {
    format!(
        "> 0 join 1 x1
         record generation 1 started at step 0
         open training step 0: 4 shards
         record worker 1 joined x1
         send worker 1 #0: shards 0..4
         > 0 join 2 x1
         record worker 2 joined x1
         > 0 join 3 x1
         record worker 3 joined x1
         > 0 join 4 x1
         record worker 4 joined x1
         > 0 ready 1 0
         > 0 ready 2 0
         > 0 ready 3 0
         > 0 ready 4 0
         > 0 reaches 1 2 3 4
         > 0 reaches 2 1 3 4
         > 0 reaches 3 1 2 4
         > 0 reaches 4 1 2 3
         > 100 done 1 #0 25
         > 100 reduced 0
         record step 0 committed: 0..4 by 1
         commit step 0
         owners 1: 1 2 3 4, as a step begins
         open training step 1: 4 shards
         send worker 1 #1: shard 0, with its digest
         send worker 2 #2: shard 1, with its digest
         send worker 3 #3: shard 2, with its digest
         send worker 4 #4: shard 3, with its digest
         > 100 ready 1 1
         > 100 ready 2 1
         > 100 ready 3 1
         > 100 ready 4 1
         {rest}"
    )
}

/// Their plan.
fn plan_of_four() -> RunPlan {
    RunPlan { chunks: 4, ..audited_plan() }
}

/// The sums of worker 2 before its last clean audit are believed, those since are not.
#[test]
fn an_owner_that_has_added_wrongly_is_evicted() {
    check(
        Run::new(plan()),
        &three(
            "> 150 audited 1 2 equal
             > 150 audited 2 2 equal
             > 150 audited 3 2 equal
             > 150 reduced 1
             record step 1 committed: 0..2 by 1, 2..3 by 2, 3..4 by 3; sums of 1 audited; sums of 2 audited; sums of 3 audited
             commit step 1
             open training step 2: 4 shards
             send worker 1 #4: shards 0..2
             send worker 2 #5: shard 2
             send worker 3 #6: shard 3
             > 160 ready 1 2
             > 160 ready 2 2
             > 160 ready 3 2
             > 160 done 1 #4 25 v1
             > 160 done 2 #5 25 v1
             > 160 done 3 #6 25 v1
             > 170 audited 1 3 equal
             > 170 audited 2 3 wrong
             record worker 2 (machine 2) evicted since step 1
             evict worker 2 (machine 2) at step 2, its sum is wrong: since step 1
             disconnect worker 2: Evicted
             record worker 2 gone: Evicted
             abandon training step 2: Doubted
             record finished: worker 2 is not believed; what follows the parameters of step 1 is computed again
             finish: worker 2 is not believed; what follows the parameters of step 1 is computed again
             > 171 audited 3 3 equal
             ignore sum audited: the run is over",
        ),
    );
}

/// Worker 3 computed and added nothing before. Findings about an opening that is over do not count.
#[test]
fn a_wrong_sum_of_an_owner_of_which_nothing_is_committed_begins_the_step_anew() {
    check(
        Run::new(plan()),
        &three(
            "> 150 audited 3 1 wrong
             ignore sum audited: it is about opening 1, this is opening 2
             > 150 audited 3 2 wrong
             record worker 3 (machine 3) evicted since step 1
             evict worker 3 (machine 3) at step 1, its sum is wrong: since step 1
             disconnect worker 3: Evicted
             record worker 3 gone: Evicted
             abandon training step 1: Doubted
             owners 2: - - - - - -, as the step begins anew
             open training step 1: 4 shards
             send worker 1 #4 epoch 1: shards 0..2
             send worker 2 #5 epoch 1: shard 2
             send worker 2 #6 epoch 1: shard 3
             > 151 audited 1 2 wrong
             ignore sum audited: it is about opening 2, this is opening 3
             > 152 misserved 1 3
             ignore wrong parameters: the worker is no member
             > 160 done 1 #4 25 v2
             > 160 done 2 #5 25 v2
             > 160 done 2 #6 25 v2
             > 170 reduced 1
             record step 1 committed: 0..2 by 1, 2..3 by 2, 3..4 by 2
             commit step 1
             owners 3: 1 2 1 2 1 2, as a step begins
             open training step 2: 4 shards
             send worker 1 #7: shards 0..2
             send worker 2 #8: shards 2..4",
        ),
    );
}

/// Nobody knows which of them is wrong.
#[test]
fn of_two_that_disagree_neither_owns_chunks_and_both_compute() {
    check(
        Run::new(plan()),
        &three(
            "> 150 audited 2 2 says 3
             record machine 3 and machine 2 disagree since step 1
             worker 3 and worker 2 disagree at step 1: since step 1
             abandon training step 1: Doubted
             owners 2: - - - - - -, as the step begins anew
             open training step 1: 4 shards
             send worker 1 #4 epoch 1: shards 0..2
             send worker 2 #5 epoch 1: shard 2
             send worker 3 #6 epoch 1: shard 3
             > 150 audited 2 2 says 3
             ignore sum audited: it is about opening 2, this is opening 3
             > 160 done 1 #4 25 v2
             > 160 done 2 #5 25 v2
             > 160 done 3 #6 25 v2
             > 170 reduced 1
             record step 1 committed: 0..2 by 1, 2..3 by 2, 3..4 by 3
             commit step 1
             open training step 2: 4 shards
             send worker 1 #7: shards 0..2
             send worker 2 #8: shard 2
             send worker 3 #9: shard 3",
        ),
    );
}

/// Worker 1 was never audited since the first step.
#[test]
fn what_both_had_a_part_in_is_rolled_back() {
    check(
        Run::new(plan()),
        &three(
            "> 150 audited 1 2 says 3
             record machine 3 and machine 1 disagree since step 0
             worker 3 and worker 1 disagree at step 1: since step 0
             abandon training step 1: Doubted
             record finished: worker 1 is not believed; what follows the parameters of step 0 is computed again
             finish: worker 1 is not believed; what follows the parameters of step 0 is computed again",
        ),
    );
}

/// The third machine makes it out.
#[test]
fn who_disagrees_with_most_others_is_evicted() {
    check(
        Run::new(plan()),
        &three(
            "> 150 misserved 2 3
             record machine 2 and machine 3 disagree since step 1
             worker 2 and worker 3 disagree at step 1: since step 1
             > 151 misserved 2 3
             > 152 audited 3 2 says 1
             record worker 3 (machine 3) evicted since step 1
             evict worker 3 (machine 3) at step 1, disagrees with machine 1 and machine 2: since step 1
             disconnect worker 3: Evicted
             record worker 3 gone: Evicted
             abandon training step 1: Doubted
             owners 2: - - - - - -, as the step begins anew
             open training step 1: 4 shards
             send worker 1 #4 epoch 1: shards 0..2
             send worker 2 #5 epoch 1: shard 2
             send worker 2 #6 epoch 1: shard 3",
        ),
    );
}

/// What it was brought it has brought itself.
#[test]
fn an_owner_whose_holder_is_its_own_machine_is_evicted() {
    check(
        Run::new(plan()),
        &three(
            "> 150 audited 2 2 says 2
             record worker 2 (machine 2) evicted since step 1
             evict worker 2 (machine 2) at step 1, its sum is wrong: since step 1
             disconnect worker 2: Evicted
             record worker 2 gone: Evicted
             abandon training step 1: Doubted
             owners 2: - - - - - -, as the step begins anew
             open training step 1: 4 shards
             send worker 1 #4 epoch 1: shards 0..2
             send worker 3 #5 epoch 1: shard 2
             send worker 3 #6 epoch 1: shard 3",
        ),
    );
}

/// Nothing was computed with them, so nothing is rolled back. Worker 9 was never there.
#[test]
fn who_hands_out_wrong_parameters_disagrees_with_whom_it_hands_them() {
    check(
        Run::new(plan()),
        &three(
            "> 150 audited 1 2 equal
             > 150 audited 2 2 equal
             > 150 audited 3 2 equal
             > 150 reduced 1
             record step 1 committed: 0..2 by 1, 2..3 by 2, 3..4 by 3; sums of 1 audited; sums of 2 audited; sums of 3 audited
             commit step 1
             open training step 2: 4 shards
             send worker 1 #4: shards 0..2
             send worker 2 #5: shard 2
             send worker 3 #6: shard 3
             > 151 misserved 2 9
             ignore wrong parameters: the worker is no member
             > 151 misserved 9 1
             ignore wrong parameters: the worker is no member
             > 151 misserved 2 2
             > 152 misserved 3 1
             record machine 3 and machine 1 disagree since step 2
             worker 3 and worker 1 disagree at step 2: since step 2
             > 153 misserved 3 1
             > 160 done 1 #4 25 v1
             > 160 done 2 #5 25 v1
             > 160 done 3 #6 25 v1
             > 160 audited 1 3 equal
             > 160 reduced 2
             record step 2 committed: 0..2 by 1, 2..3 by 2, 3..4 by 3; sums of 1 audited
             commit step 2
             owners 2: - - - - - -, as a step begins
             open training step 3: 4 shards
             send worker 1 #7: shards 0..2
             send worker 2 #8: shard 2
             send worker 3 #9: shard 3
             > 170 misserved 2 1
             record machine 2 and machine 1 disagree since step 3
             worker 2 and worker 1 disagree at step 3: since step 3
             record worker 1 (machine 1) evicted since step 0
             evict worker 1 (machine 1) at step 3, disagrees with machine 2 and machine 3: since step 0
             disconnect worker 1: Evicted
             record worker 1 gone: Evicted
             revoke worker 2 #8: StepAbandoned
             revoke worker 3 #9: StepAbandoned
             abandon training step 3: Doubted
             record finished: worker 1 is not believed; what follows the parameters of step 0 is computed again
             finish: worker 1 is not believed; what follows the parameters of step 0 is computed again
             > 171 misserved 3 1
             ignore wrong parameters: the run is over",
        ),
    );
}

#[test]
fn who_does_not_answer_sits_out_and_owns_nothing_for_a_while() {
    check(
        Run::new(plan()),
        &three(
            "> 150 silent 3 1
             ignore unanswered: it is about opening 1, this is opening 2
             > 150 silent 9 2
             ignore unanswered: the worker is no member
             > 150 silent 3 2
             > 150 reduced 1
             record step 1 committed: 0..2 by 1, 2..3 by 2, 3..4 by 3
             commit step 1
             owners 2: 1 2 1 1 2 2, as a step begins
             open training step 2: 4 shards
             send worker 1 #4: shards 0..2
             send worker 2 #5: shards 2..4
             > 160 ready 1 2
             > 160 ready 2 2
             > 160 ready 3 2
             > 160 done 1 #4 25 v2
             > 160 done 2 #5 25 v2
             > 170 reduced 2
             record step 2 committed: 0..2 by 1, 2..4 by 2
             commit step 2
             owners 3: 1 3 3 1 2 2, as a step begins
             open training step 3: 4 shards
             send worker 1 #6: shards 0..2
             send worker 2 #7: shard 2
             send worker 3 #8: shard 3
             > 170 ready 3 3",
        ),
    );
}

/// Of shard 1, which worker 2 has brought, workers 1 and 3 get what all owners say but worker 4.
#[test]
fn where_one_owner_says_that_a_node_is_wrong_it_disagrees_with_who_brought_it() {
    check(
        Run::new(plan_of_four()),
        &four(
            "> 120 done 2 #2 25 =1:5,2:5,3:5,4:9,-:5 v1
             send worker 1 #5 epoch 1: shard 1, audit
             > 130 done 1 #5 25 =1:5,2:5,3:5,4:5,-:5 v1
             dispute step 1, shard 1: 2, 1
             send worker 3 #6 epoch 2: shard 1, audit
             > 140 done 3 #6 25 =1:5,2:5,3:5,4:5,-:5 v1
             record machine 2 and machine 4 disagree since step 1
             worker 2 and worker 4 disagree at step 1: since step 1
             revoke worker 1 #1: StepAbandoned
             revoke worker 3 #3: StepAbandoned
             revoke worker 4 #4: StepAbandoned
             abandon training step 1: Doubted
             owners 2: - - - -, as the step begins anew
             open training step 1: 4 shards
             send worker 1 #7 epoch 1: shard 0, with its digest
             send worker 2 #8 epoch 3: shard 1, with its digest
             send worker 3 #9 epoch 1: shard 2, with its digest
             send worker 4 #10 epoch 1: shard 3, with its digest",
        ),
    );
}

#[test]
fn where_two_owners_of_four_say_that_a_node_is_wrong_who_brought_it_is_evicted() {
    check(
        Run::new(plan_of_four()),
        &four(
            "> 120 done 2 #2 25 =1:9,2:5,3:5,4:9,-:5 v1
             send worker 1 #5 epoch 1: shard 1, audit
             > 130 done 1 #5 25 =1:5,2:5,3:5,4:5,-:5 v1
             dispute step 1, shard 1: 2, 1
             send worker 3 #6 epoch 2: shard 1, audit
             > 140 done 3 #6 25 =1:5,2:5,3:5,4:5,-:5 v1
             record worker 2 (machine 2) evicted since step 1
             evict worker 2 (machine 2) at step 1, disagrees with machine 1 and machine 4: since step 1
             disconnect worker 2: Evicted
             record worker 2 gone: Evicted
             revoke worker 1 #1: StepAbandoned
             revoke worker 3 #3: StepAbandoned
             revoke worker 4 #4: StepAbandoned
             abandon training step 1: Doubted
             owners 2: - - - -, as the step begins anew
             open training step 1: 4 shards
             send worker 1 #7 epoch 1: shard 0, with its digest
             send worker 1 #8 epoch 3: shard 1
             send worker 3 #9 epoch 1: shard 2, with its digest
             send worker 4 #10 epoch 1: shard 3, with its digest",
        ),
    );
}

#[test]
fn who_says_itself_that_its_node_is_wrong_is_evicted() {
    check(
        Run::new(plan_of_four()),
        &four(
            "> 120 done 2 #2 25 =1:5,2:9,3:5,4:5,-:5 v1
             send worker 1 #5 epoch 1: shard 1, audit
             > 130 done 1 #5 25 =1:5,2:5,3:5,4:5,-:5 v1
             dispute step 1, shard 1: 2, 1
             send worker 3 #6 epoch 2: shard 1, audit
             > 140 done 3 #6 25 =1:5,2:5,3:5,4:5,-:5 v1
             record worker 2 (machine 2) evicted since step 1
             evict worker 2 (machine 2) at step 1, shard 1, say worker 1 and worker 3: since step 1
             disconnect worker 2: Evicted
             record worker 2 gone: Evicted
             revoke worker 1 #1: StepAbandoned
             revoke worker 3 #3: StepAbandoned
             revoke worker 4 #4: StepAbandoned
             abandon training step 1: Doubted
             owners 2: - - - -, as the step begins anew
             open training step 1: 4 shards
             send worker 1 #7 epoch 1: shard 0, with its digest
             send worker 1 #8 epoch 3: shard 1
             send worker 3 #9 epoch 1: shard 2, with its digest
             send worker 4 #10 epoch 1: shard 3, with its digest",
        ),
    );
}

#[test]
fn who_brings_the_coordinator_something_wrong_is_evicted() {
    check(
        Run::new(plan_of_four()),
        &four(
            "> 120 done 2 #2 25 =1:5,2:5,3:5,4:5,-:9 v1
             send worker 1 #5 epoch 1: shard 1, audit
             > 130 done 1 #5 25 =1:5,2:5,3:5,4:5,-:5 v1
             dispute step 1, shard 1: 2, 1
             send worker 3 #6 epoch 2: shard 1, audit
             > 140 done 3 #6 25 =1:5,2:5,3:5,4:5,-:5 v1
             record worker 2 (machine 2) evicted since step 1
             evict worker 2 (machine 2) at step 1, shard 1, say worker 1 and worker 3: since step 1
             disconnect worker 2: Evicted
             record worker 2 gone: Evicted
             revoke worker 1 #1: StepAbandoned
             revoke worker 3 #3: StepAbandoned
             revoke worker 4 #4: StepAbandoned
             abandon training step 1: Doubted
             owners 2: - - - -, as the step begins anew
             open training step 1: 4 shards
             send worker 1 #7 epoch 1: shard 0, with its digest
             send worker 1 #8 epoch 3: shard 1
             send worker 3 #9 epoch 1: shard 2, with its digest
             send worker 4 #10 epoch 1: shard 3, with its digest",
        ),
    );
}

/// Worker 1 has audited the first gradient of worker 5, in the third step. It can tell that, and is clean up to the
/// second.
#[test]
fn an_audit_says_nothing_of_its_auditor() {
    check(
        Run::new(plan_of_four()),
        &four(
            "> 120 done 1 #1 25 =1:1 v1
             send worker 2 #5 epoch 1: shard 0, audit
             > 120 done 2 #2 25 =1:2 v1
             send worker 1 #6 epoch 1: shard 1, audit
             > 120 done 3 #3 25 =1:3 v1
             send worker 1 #7 epoch 1: shard 2, audit
             > 120 done 4 #4 25 =1:4 v1
             send worker 3 #8 epoch 1: shard 3, audit
             > 130 done 1 #6 25 =1:2 v1
             > 130 done 2 #5 25 =1:1 v1
             > 130 done 3 #8 25 =1:4 v1
             > 130 done 1 #7 25 =1:3 v1
             > 131 audited 1 2 equal
             > 132 join 5 x1
             record worker 5 joined x1
             > 132 ready 5 1
             > 132 reaches 5 1 2 3 4
             > 132 reaches 1 2 3 4 5
             > 132 reaches 2 1 3 4 5
             > 132 reaches 3 1 2 4 5
             > 132 reaches 4 1 2 3 5
             > 140 reduced 1
             record step 1 committed: 0..1 by 1 and 2, 1..2 by 2 and 1, 2..3 by 3 and 1, 3..4 by 4 and 3; sums of 1 audited
             commit step 1
             open training step 2: 4 shards
             send worker 1 #9: shard 0
             send worker 2 #10: shard 1
             send worker 3 #11: shard 2
             send worker 4 #12: shard 3
             > 150 ready 1 2
             > 150 ready 5 2
             > 155 left 4
             record worker 4 gone: Closed
             owners 2: 1 2 3 1, as worker 4 is gone
             send worker 5 #13 epoch 1: shard 3, with its digest
             > 160 done 1 #9 25 v2
             > 161 done 5 #13 25 =1:5 v2
             send worker 1 #14 epoch 2: shard 3, audit
             > 162 done 1 #14 25 =1:5 v2
             > 163 audited 1 3 equal
             > 164 audited 1 3 wrong
             record worker 1 (machine 1) evicted since step 1
             evict worker 1 (machine 1) at step 2, its sum is wrong: since step 1
             disconnect worker 1: Evicted
             record worker 1 gone: Evicted
             revoke worker 2 #10: StepAbandoned
             revoke worker 3 #11: StepAbandoned
             abandon training step 2: Doubted
             record finished: worker 1 is not believed; what follows the parameters of step 1 is computed again
             finish: worker 1 is not believed; what follows the parameters of step 1 is computed again",
        ),
    );
}

/// Of what worker 2 has brought, worker 3 says something else, and gets just that when it is asked as a judge.
#[test]
fn an_owner_does_not_second_what_it_says_itself() {
    check(
        Run::new(plan_of_four()),
        &four(
            "> 120 done 2 #2 25 =1:5,2:5,3:9,4:5,-:5 v1
             send worker 1 #5 epoch 1: shard 1, audit
             > 130 done 1 #5 25 =1:5,2:5,3:5,4:5,-:5 v1
             dispute step 1, shard 1: 2, 1
             send worker 3 #6 epoch 2: shard 1, audit
             > 140 done 3 #6 25 =1:5,2:5,3:9,4:5,-:5 v1
             record machine 1 and machine 3 disagree since step 0
             worker 1 and worker 3 disagree at step 1: since step 0
             revoke worker 1 #1: StepAbandoned
             revoke worker 3 #3: StepAbandoned
             revoke worker 4 #4: StepAbandoned
             abandon training step 1: Doubted
             record finished: worker 3 is not believed; what follows the parameters of step 0 is computed again
             finish: worker 3 is not believed; what follows the parameters of step 0 is computed again",
        ),
    );
}

#[test]
fn who_gets_something_else_than_an_owner_and_a_judge_is_evicted() {
    check(
        Run::new(plan_of_four()),
        &four(
            "> 120 done 2 #2 25 =1:5,2:5,3:5,4:5,-:5 v1
             send worker 1 #5 epoch 1: shard 1, audit
             > 130 done 1 #5 25 =1:5,2:5,3:5,4:9,-:5 v1
             dispute step 1, shard 1: 2, 1
             send worker 3 #6 epoch 2: shard 1, audit
             > 140 done 3 #6 25 =1:5,2:5,3:5,4:5,-:5 v1
             record worker 1 (machine 1) evicted since step 0
             evict worker 1 (machine 1) at step 1, shard 1, say worker 2 and worker 3: since step 0
             disconnect worker 1: Evicted
             record worker 1 gone: Evicted
             revoke worker 3 #3: StepAbandoned
             revoke worker 4 #4: StepAbandoned
             abandon training step 1: Doubted
             record finished: worker 1 is not believed; what follows the parameters of step 0 is computed again
             finish: worker 1 is not believed; what follows the parameters of step 0 is computed again",
        ),
    );
}

/// The numbers of workers are given anew; the machines are what they were.
#[test]
fn after_a_restart_a_disagreement_holds_until_one_of_the_two_is_evicted() {
    let started = |generation| Record::Started { generation: RunGeneration(generation), first_step: StepId(0) };
    let machines = ["machine 1", "machine 2"].map(str::to_owned);
    let disagreed = Record::Disagreed { machines, since: StepId(0) };
    let name = "machine 2".to_owned();
    let evicted = Record::Evicted { worker: WorkerId(7), machine: name.clone(), name, since: StepId(0) };
    for (journal, owners) in [
        (vec![started(1), disagreed.clone()], "owners 1: 3 4 3 4 3 4, as a step begins"),
        (vec![started(1), disagreed, evicted], "owners 1: 1 3 4 1 3 4, as a step begins"),
    ] {
        let mut run = Run::resume(RunPlan { generation: RunGeneration(2), ..plan() }, journal).expect("it is whole");
        let mut effects = Vec::new();
        for worker in 1..=4 {
            let (name, worker) = (format!("machine {worker}"), WorkerId(worker));
            let joined = Event::WorkerJoined { worker, machine: name.clone(), name, threads: 1 };
            run.handle(RunTime(0), joined, &mut effects);
            run.handle(RunTime(0), Event::WorkerReady { worker, step: StepId(0) }, &mut effects);
        }
        for worker in (1..=4).map(WorkerId) {
            let reached = (1..=4).map(WorkerId).collect();
            run.handle(RunTime(0), Event::PeersReached { worker, reached }, &mut effects);
        }
        let lease = effects.iter().find_map(|effect| match effect {
            Effect::Send { lease, .. } => Some(lease.at),
            _ => None,
        });
        let (worker, at) = (WorkerId(1), lease.expect("the first gets all of the first step"));
        let (version, result) = (OwnersVersion(0), NodeResult::Good);
        let done = Event::NodeDone { worker, at, shard_micros: 25_000, version, result, digest: None };
        run.handle(RunTime(0), done, &mut effects);
        effects.clear();
        run.handle(RunTime(0), Event::StepReduced { step: StepId(0), digest: digest(0) }, &mut effects);
        let shown = effects.iter().map(show).find(|line| line.starts_with("owners"));
        assert_eq!(shown.as_deref(), Some(owners));
    }
}

/// A coordinator may end between what the last of too many said and the eviction.
#[test]
fn who_was_outvoted_before_a_restart_is_evicted_with_the_next_disagreement() {
    let disagreed = |other: u32| {
        let machines = [format!("machine {other}"), "machine 3".to_owned()];
        Record::Disagreed { machines, since: StepId(0) }
    };
    let started = Record::Started { generation: RunGeneration(1), first_step: StepId(0) };
    let journal = vec![started, disagreed(6), disagreed(7), disagreed(8), disagreed(5)];
    let mut run = Run::resume(RunPlan { generation: RunGeneration(2), ..plan() }, journal).expect("it is whole");
    let script = three("> 160 audited 1 2 says 2");
    let said = play(&mut run, &script.lines().map(str::trim).collect::<Vec<_>>());
    let records: Vec<&str> = said.iter().filter_map(|line| line.strip_prefix("record ")).collect();
    let disagree = "machine 2 and machine 1 disagree since step 0";
    let evicted = "worker 3 (machine 3) evicted since step 0";
    assert!(records.windows(2).any(|pair| pair == [disagree, evicted]), "{records:?}");
}

/// A run that goes on from step 2, of two workers that owned the chunks of both steps before and whose gradients were
/// all audited; with the owners of whom a sum of the second step was.
fn with_audited_sums(audited: &[u32], auditor: bool) -> Run {
    let joined = |worker: u32| Record::WorkerJoined {
        worker: WorkerId(worker),
        machine: format!("machine {worker}"),
        name: format!("machine {worker}"),
        threads: 1,
    };
    let entry = |first, worker: u32| LedgerEntry {
        node: Node { first, last: first + 2 },
        worker: WorkerId(worker),
        auditor: (worker == 1 || auditor).then_some(WorkerId(3 - worker)),
    };
    let committed = |step, audited: &[u32]| Record::StepCommitted {
        step: StepId(step),
        digest: digest(step),
        ledger: vec![entry(0, 1), entry(2, 2)],
        owners: [1, 2].map(WorkerId).to_vec(),
        audited_owners: audited.iter().copied().map(WorkerId).collect(),
    };
    let started = Record::Started { generation: RunGeneration(1), first_step: StepId(0) };
    let journal = [started, joined(1), joined(2), committed(0, &[1, 2]), committed(1, audited)];
    let plan = RunPlan { generation: RunGeneration(2), first_step: StepId(2), audit_every: 8, ..plan() };
    let mut run = Run::resume(plan, journal).expect("it is whole");
    for worker in [1, 2].map(WorkerId) {
        let name = format!("machine {}", worker.0);
        let joined = Event::WorkerJoined { worker, machine: name.clone(), name, threads: 1 };
        run.handle(RunTime(0), joined, &mut Vec::new());
    }
    run
}

#[test]
fn no_checkpoint_is_trusted_that_an_audit_of_a_sum_can_still_find_wrong() {
    assert_eq!(with_audited_sums(&[1, 2], true).trusted(), StepId(1));
    assert_eq!(with_audited_sums(&[1], true).trusted(), StepId(0), "of worker 2 none since the first step");
}

/// Where workers own chunks, who is asked for a digest alone knows that it is compared.
#[test]
fn who_audits_in_a_sliced_exchange_is_not_clean_for_that() {
    assert_eq!(with_audited_sums(&[1, 2], false).trusted(), StepId(0), "no gradient of worker 2 was audited");
}
