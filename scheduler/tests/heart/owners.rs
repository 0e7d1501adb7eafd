//! Chunks are owned by workers that all others reach, and move where one of these is lost.

use convoy_scheduler::{Micros, Run, RunPlan, Timeouts};

use crate::script::{audited_plan, check, plan_of};

/// Four chunks, one epoch of two steps of four shards.
fn plan() -> RunPlan {
    RunPlan { chunks: 4, ..plan_of(1, 2, 4, 4) }
}

/// Two workers that reach each other and have done the first step with the coordinator as the only owner: nobody had
/// held parameters when it began. They own the second step, of which each has a half.
fn two(rest: &str) -> String {
    two_of("1 2 1 2", rest)
}

fn two_of(owners: &str, rest: &str) -> String {
    format!(
        "> 0 join 1 x1
         record generation 1 started at step 0
         open training step 0: 4 shards
         record worker 1 joined x1
         send worker 1 #0: shards 0..4
         > 0 join 2 x1
         record worker 2 joined x1
         > 0 ready 1 0
         > 0 ready 2 0
         > 0 reaches 1 2
         > 0 reaches 2 1
         > 100 done 1 #0 25
         > 100 reduced 0
         record step 0 committed: 0..4 by 1
         commit step 0
         owners 1: {owners}, as a step begins
         open training step 1: 4 shards
         send worker 1 #1: shards 0..2
         send worker 2 #2: shards 2..4
         > 100 ready 1 1
         > 100 ready 2 1
         {rest}"
    )
}

/// A third worker has joined, and all reach each other: they own six chunks of the third step, of which the first has a
/// half.
fn three(rest: &str) -> String {
    two_of(
        "1 2 1 2 1 2",
        &format!(
            "> 101 join 3 x1
             record worker 3 joined x1
             > 101 ready 3 1
             > 101 reaches 1 2 3
             > 101 reaches 2 1 3
             > 101 reaches 3 1 2
             > 150 done 1 #1 25 v1
             > 150 done 2 #2 25 v1
             > 150 reduced 1
             record step 1 committed: 0..2 by 1, 2..4 by 2
             commit step 1
             owners 2: 1 3 3 2 1 2, as a step begins
             open training step 2: 4 shards
             send worker 1 #3: shards 0..2
             send worker 2 #4: shard 2
             send worker 3 #5: shard 3
             {rest}"
        ),
    )
}

#[test]
fn workers_that_reach_each_other_own_chunks_from_the_next_step_on() {
    check(
        Run::new(plan()),
        &two("> 150 done 1 #1 25 v1
              > 150 done 2 #2 25 v1
              ? waiting
              worker 1 to send its sums of step 1, since 0.0 s
              > 160 sums 1 2 v1
              ? waiting
              worker 2 to send its sums of step 1, since 0.0 s
              > 170 sums 2 2 v1
              ? waiting
              the reducer to finish step 1, since 0.0 s
              > 170 reduced 1
              record step 1 committed: 0..2 by 1, 2..4 by 2
              commit step 1
              checkpoint step 2: Finish"),
    );
}

#[test]
fn an_answer_under_older_owners_is_told_again() {
    check(
        Run::new(plan()),
        &two("> 150 done 1 #1 25
              ignore node done: it is about version 0 of the owners, this is version 1
              > 150 done 1 #1 25 v1
              > 151 done 1 #1 25 v1
              ignore node done: lease 1 has ended before"),
    );
}

/// Its chunks go to the other one, which sends its node again; what the lost one computed is computed anew.
#[test]
fn where_an_owner_is_lost_only_its_chunks_move_and_all_nodes_are_sent_there() {
    check(
        Run::new(plan()),
        &two("> 150 done 1 #1 25 v1
              > 150 done 2 #2 25 v1
              > 160 left 2
              record worker 2 gone: Closed
              owners 2: 1 1 1 1, as worker 2 is gone
              send worker 1 #3 epoch 1: shards 2..4
              > 161 done 1 #1 25 v1
              ignore node done: it is about version 1 of the owners, this is version 2
              > 170 done 1 #1 25 v2
              > 190 done 1 #3 25 v2
              ? waiting
              worker 1 to send its sums of step 1, since 0.0 s
              > 190 sums 1 2 v2
              > 190 reduced 1
              record step 1 committed: 0..2 by 1, 2..4 by 1
              commit step 1
              checkpoint step 2: Finish"),
    );
}

#[test]
fn an_owner_whose_sums_are_there_may_go() {
    check(
        Run::new(plan()),
        &two("> 150 done 1 #1 25 v1
              > 150 done 2 #2 25 v1
              > 160 sums 2 2 v1
              > 161 left 2
              record worker 2 gone: Closed
              > 170 sums 1 2 v1
              > 170 reduced 1
              record step 1 committed: 0..2 by 1, 2..4 by 2
              commit step 1
              checkpoint step 2: Finish"),
    );
}

/// It was with all owners when its worker left. One of these is lost later, and nobody has its part of the node.
#[test]
fn a_node_of_a_worker_that_is_gone_is_homeless_when_chunks_move() {
    check(
        Run::new(RunPlan { chunks: 4, ..plan_of(1, 3, 4, 4) }),
        &two("> 101 join 3 x1
              record worker 3 joined x1
              > 101 ready 3 1
              > 101 reaches 3 1 2
              > 150 done 1 #1 25 v1
              > 150 done 2 #2 25 v1
              > 150 reduced 1
              record step 1 committed: 0..2 by 1, 2..4 by 2
              commit step 1
              open training step 2: 4 shards
              send worker 1 #3: shards 0..2
              send worker 2 #4: shard 2
              send worker 3 #5: shard 3
              > 160 done 3 #5 25 v1
              > 161 left 3
              record worker 3 gone: Closed
              > 170 left 2
              record worker 2 gone: Closed
              owners 2: 1 1 1 1, as worker 2 is gone
              send worker 1 #6 epoch 1: shard 2
              > 180 done 1 #6 25 v2
              send worker 1 #7 epoch 1: shard 3"),
    );
}

#[test]
fn an_owner_that_another_cannot_send_to_owns_nothing_until_that_is_reached_again() {
    check(
        Run::new(RunPlan { chunks: 4, ..plan_of(1, 5, 4, 4) }),
        &two("> 150 done 2 #2 25 v1
              > 150 unreached 2 1 v0
              ignore peer lost: it is about version 0 of the owners, this is version 1
              > 150 unreached 2 2 v1
              ignore peer lost: the worker has no node to send
              > 150 unreached 2 3 v1
              ignore peer lost: the worker is no member
              > 150 unreached 2 1 v1
              owners 2: 1 1 1 1, as worker 1 does not reach worker 2
              > 160 done 1 #1 25 v2
              > 160 done 2 #2 25 v2
              > 160 sums 1 2 v2
              > 160 reduced 1
              record step 1 committed: 0..2 by 1, 2..4 by 2
              commit step 1
              owners 3: - - - -, as a step begins
              open training step 2: 4 shards
              send worker 1 #3: shards 0..2
              send worker 2 #4: shards 2..4
              > 160 ready 1 2
              > 160 ready 2 2
              > 170 done 1 #3 25 v3
              > 170 done 2 #4 25 v3
              > 170 reduced 2
              record step 2 committed: 0..2 by 1, 2..4 by 2
              commit step 2
              open training step 3: 4 shards
              send worker 1 #5: shards 0..2
              send worker 2 #6: shards 2..4
              > 170 ready 1 3
              > 170 ready 2 3
              > 180 done 1 #5 25 v3
              > 180 done 2 #6 25 v3
              > 180 reaches 1 2
              > 180 reduced 3
              record step 3 committed: 0..2 by 1, 2..4 by 2
              commit step 3
              owners 4: 1 2 1 2, as a step begins
              open training step 4: 4 shards
              send worker 1 #7: shards 0..2
              send worker 2 #8: shards 2..4"),
    );
}

/// Three workers own chunks. One whose sums do not come owns nothing in the next step.
#[test]
fn who_is_late_with_its_sums_owns_nothing_for_a_while() {
    check(
        Run::new(RunPlan { chunks: 6, ..plan_of(1, 9, 4, 4) }),
        &three(
            "> 160 done 1 #3 25 v2
              > 160 done 2 #4 25 v2
              > 160 done 3 #5 25 v2
              > 160 sums 1 3 v2
              > 160 sums 2 3 v2
              > 2160 beat 1
              > 2160 beat 2
              > 2160 beat 3
              > 2160 deadline
              owners 3: 1 1 2 2 1 2, as the sums of worker 3 do not come
              > 2170 done 1 #3 25 v3
              > 2170 done 2 #4 25 v3
              > 2170 done 3 #5 25 v3
              ? waiting
              worker 1 to send its sums of step 2, since 0.0 s
              > 2175 reduced 2
              record step 2 committed: 0..2 by 1, 2..3 by 2, 3..4 by 3
              commit step 2
              open training step 3: 4 shards
              send worker 1 #6: shards 0..2
              send worker 2 #7: shard 2
              send worker 3 #8: shard 3
              > 2180 done 1 #6 25 v3
              > 2180 done 2 #7 25 v3
              > 2180 done 3 #8 25 v3
              > 2180 reduced 3
              record step 3 committed: 0..2 by 1, 2..3 by 2, 3..4 by 3
              commit step 3
              owners 4: 1 3 3 2 1 2, as a step begins
              open training step 4: 4 shards
              send worker 1 #9: shards 0..2
              send worker 2 #10: shard 2
              send worker 3 #11: shard 3",
        ),
    );
}

/// What is in doubt is looked at in one place; the next step has owners as before.
#[test]
fn the_coordinator_owns_all_of_a_step_that_begins_anew() {
    check(
        Run::new(RunPlan { chunks: 6, ..plan_of(1, 9, 4, 4) }),
        &two_of(
            "1 2 1 2 1 2",
            "> 150 done 1 #1 25 v1
              > 150 done 2 #2 25 v1
              > 150 sums 1 2 v1
              > 150 sums 2 2 v1
              > 155 contradicted 1 0 2 9
              contradict step 1, shards 0..2: 9
              abandon training step 1: Doubted
              owners 2: - - - - - -, as the step begins anew
              open training step 1: 4 shards
              send worker 1 #3 epoch 1: shards 0..2
              send worker 1 #4 epoch 1: shard 2
              send worker 2 #5 epoch 1: shard 3
              > 160 ready 1 1
              > 160 done 1 #3 25 v2
              > 160 done 1 #4 25 v2
              > 160 done 2 #5 25 v2
              > 165 reduced 1
              record step 1 committed: 0..2 by 1, 2..3 by 1, 3..4 by 2
              commit step 1
              owners 3: 1 2 1 2 1 2, as a step begins
              open training step 2: 4 shards
              send worker 1 #6: shards 0..2
              send worker 2 #7: shards 2..4",
        ),
    );
}

#[test]
fn owners_that_are_lost_at_once_move_their_chunks_once() {
    check(
        Run::new(RunPlan { chunks: 6, ..plan_of(1, 9, 4, 4) }),
        &three(
            "> 2900 beat 3
              > 2900 deadline
              disconnect worker 1: silent for 2.7 s
              record worker 1 gone: Silent
              disconnect worker 2: silent for 2.7 s
              record worker 2 gone: Silent
              owners 3: 3 3 3 3 3 3, as worker 1 is gone
              send worker 3 #6 epoch 1: shards 0..2",
        ),
    );
}

/// All have computed, and neither of the owners takes it: who holds what is not to blame.
#[test]
fn where_several_cannot_send_to_the_owners_nobody_sits_out() {
    let timeouts = Timeouts { send_floor: Micros::seconds(2), ..plan().timeouts };
    check(
        Run::new(RunPlan { chunks: 4, timeouts, ..plan_of(1, 5, 4, 4) }),
        &two("> 150 computed 1 #1
              > 150 computed 2 #2
              > 1900 pushed 1
              > 1900 pushed 2
              > 2150 deadline
              overdue worker 1 #1: shards 0..2 for 2.0 s
              overdue worker 2 #2: shards 2..4 for 2.0 s
              send worker 2 #3 epoch 1: shards 0..2
              send worker 1 #4 epoch 1: shards 2..4
              > 2200 unreached 2 1 v1
              owners 2: 1 1 1 1, as worker 1 does not reach worker 2
              > 2210 done 1 #1 25 v2
              revoke worker 2 #3: AnotherWasFirst
              > 2220 done 2 #2 25 v2
              revoke worker 1 #4: AnotherWasFirst
              > 2230 reduced 1
              record step 1 committed: 0..2 by 1, 2..4 by 2
              commit step 1
              owners 3: - - - -, as a step begins
              open training step 2: 4 shards
              send worker 1 #5: shards 0..2
              send worker 2 #6: shards 2..4"),
    );
}

/// Nobody stays, but all that the step waits for is there.
#[test]
fn owners_that_all_want_to_leave_finish_the_step() {
    check(
        Run::new(plan()),
        &two("> 150 done 1 #1 25 v1
              > 150 done 2 #2 25 v1
              > 155 drain 1
              > 155 drain 2
              > 155 stop
              > 160 reduced 1
              record step 1 committed: 0..2 by 1, 2..4 by 2
              commit step 1
              checkpoint step 2: Stop
              disconnect worker 1: Drained
              record worker 1 gone: Drained
              disconnect worker 2: Drained
              record worker 2 gone: Drained"),
    );
}

/// Who finds again soon that it cannot send may be what is broken: it sits out, too.
#[test]
fn who_cannot_send_again_and_again_sits_out() {
    check(
        Run::new(RunPlan { chunks: 6, ..plan_of(1, 5, 4, 4) }),
        &three(
            "> 160 unreached 2 1 v2
              owners 3: 1 3 3 1 1 3, as worker 1 does not reach worker 2
              > 161 unreached 3 1 v3
              owners 4: - - - - - -, as worker 1 does not reach worker 3
              > 170 done 1 #3 25 v4
              > 170 done 2 #4 25 v4
              > 170 done 3 #5 25 v4
              > 170 reduced 2
              record step 2 committed: 0..2 by 1, 2..3 by 2, 3..4 by 3
              commit step 2
              open training step 3: 4 shards
              send worker 2 #6: shards 0..2
              send worker 3 #7: shards 2..4",
        ),
    );
}

#[test]
fn an_owner_whose_sums_do_not_come_loses_its_chunks() {
    check(
        Run::new(plan()),
        &two("> 150 done 1 #1 25 v1
              > 150 done 2 #2 25 v1
              > 160 sums 1 2 v1
              ? deadline
              at 2150 ms
              > 2000 beat 1
              > 2000 beat 2
              ? deadline
              at 2150 ms
              > 2150 deadline
              owners 2: 1 1 1 1, as the sums of worker 2 do not come"),
    );
}

#[test]
fn sums_whose_bytes_come_are_not_late_for_a_while() {
    check(
        Run::new(plan()),
        &two("> 150 done 1 #1 25 v1
              > 150 done 2 #2 25 v1
              > 160 sums 1 2 v1
              > 2000 beat 1
              > 2000 pushed 2
              ? deadline
              at 4000 ms
              > 9000 beat 1
              > 9000 pushed 2
              ? deadline
              at 10150 ms
              > 10150 deadline
              owners 2: 1 1 1 1, as the sums of worker 2 do not come"),
    );
}

#[test]
fn a_worker_that_wants_to_leave_and_owns_chunks_stays_for_the_step() {
    check(
        Run::new(RunPlan { chunks: 4, ..plan_of(1, 5, 4, 4) }),
        &two("> 150 done 2 #2 25 v1
              > 150 drain 2
              > 160 done 1 #1 25 v1
              > 160 sums 1 2 v1
              > 160 sums 2 2 v1
              > 160 reduced 1
              record step 1 committed: 0..2 by 1, 2..4 by 2
              commit step 1
              owners 2: 1 1 1 1, as a step begins
              open training step 2: 4 shards
              disconnect worker 2: Drained
              record worker 2 gone: Drained
              send worker 1 #3: shards 0..4"),
    );
}

/// A joiner computes where it can send to; who has not said is waited for.
#[test]
fn who_does_not_reach_the_owners_gets_no_leases_while_others_do() {
    check(
        Run::new(RunPlan { chunks: 4, ..plan_of(1, 5, 4, 4) }),
        &two("> 110 join 3 x1
              record worker 3 joined x1
              > 110 ready 3 1
              > 120 left 1
              record worker 1 gone: Closed
              owners 2: 2 2 2 2, as worker 1 is gone
              send worker 2 #3 epoch 1: shards 0..2
              > 150 done 2 #2 25 v2
              > 160 reaches 3
              > 170 done 2 #3 25 v2
              > 170 sums 2 2 v2
              > 170 reduced 1
              record step 1 committed: 0..2 by 2, 2..4 by 2
              commit step 1
              owners 3: - - - -, as a step begins
              open training step 2: 4 shards
              send worker 2 #4: shards 0..2
              send worker 3 #5: shards 2..4"),
    );
}

/// The audit of worker 2 is open when the owner 1 is lost, and the one after it is disputed when worker 2 is.
#[test]
fn an_audit_begins_anew_where_its_node_is_sent_again() {
    check(
        Run::new(RunPlan { chunks: 4, ..audited_plan() }),
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
         owners 1: 1 2 3 1, as a step begins
         open training step 1: 4 shards
         send worker 1 #1: shard 1, with its digest
         send worker 1 #2: shard 0
         send worker 2 #3: shard 2, with its digest
         send worker 3 #4: shard 3, with its digest
         > 110 ready 1 1
         > 110 ready 2 1
         > 110 ready 3 1
         > 120 done 2 #3 25 =1 v1
         send worker 3 #5 epoch 1: shard 2, audit
         > 125 left 1
         record worker 1 gone: Closed
         owners 2: 2 2 3 3, as worker 1 is gone
         revoke worker 3 #5: AuditDropped
         send worker 2 #6 epoch 1: shard 0
         send worker 3 #7 epoch 1: shard 1, with its digest
         > 130 done 2 #3 25 =1 v2
         > 135 done 3 #4 25 =2 v2
         send worker 3 #8 epoch 2: shard 2, audit
         send worker 2 #9 epoch 1: shard 3, audit
         > 150 done 3 #8 25 =5 v2
         dispute step 1, shard 2: 2, 3
         > 170 left 2
         record worker 2 gone: Closed
         contradict step 1, shard 2: 2, 3
         revoke worker 3 #7: StepAbandoned
         abandon training step 1: Doubted
         owners 3: - - - -, as the step begins anew
         open training step 1: 4 shards
         send worker 3 #10 epoch 3: shard 2, with its digest
         send worker 3 #11 epoch 2: shard 0, with its digest",
    );
}
