//! Machines that compute wrongly are found by audits, named and evicted.

use convoy_scheduler::*;

use crate::script::{audited_plan, check};

#[test]
fn two_that_agree_evict_a_third_before_anything_of_it_is_committed() {
    check(
        Run::new(audited_plan()),
        "> 0 join 1 x1
        record generation 1 started at step 0
        open training step 0: 4 shards
        record worker 1 joined x1
        send worker 1 #0: shards 0..4
        > 0 ready 1 @0
        > 0 join 2 x1 bad
        record worker 2 joined x1
        > 0 ready 2 @0
        > 0 join 3 x1
        record worker 3 joined x1
        > 0 ready 3 @0
        > 1 done 1 #0
        > 1 reduced 0
        record step 0 committed: 0..4 by 1
        commit step 0
        open training step 1: 4 shards
        send worker 1 #1: shard 1, with its digest
        send worker 1 #2: shard 0
        send worker 2 #3: shard 2, with its digest
        send worker 3 #4: shard 3, with its digest
        > 2 done 2 #3 100 =9
        send worker 3 #5 epoch 1: shard 2, audit
        > 2 done 1 #2 100
        > 3 done 3 #5 100 =4
        dispute step 1, shard 2: 2, 3
        send worker 1 #6 epoch 2: shard 2, audit
        > 4 done 1 #6 100 =4
        record worker 2 (bad) evicted since step 1
        evict worker 2 (bad) at step 1, shard 2, say worker 3 and worker 1: since step 1
        disconnect worker 2: Evicted
        record worker 2 gone: Evicted
        revoke worker 1 #1: StepAbandoned
        revoke worker 3 #4: StepAbandoned
        abandon training step 1: Doubted
        open training step 1: 4 shards
        send worker 1 #7 epoch 1: shard 0, with its digest
        send worker 1 #8 epoch 3: shard 2
        send worker 3 #9 epoch 1: shard 1, with its digest
        send worker 3 #10 epoch 1: shard 3
        > 5 join 4 x1 bad
        disconnect worker 4: Evicted",
    );
}

#[test]
fn steps_since_the_last_clean_audit_of_an_evicted_worker_are_taken_back() {
    check(
        Run::new(audited_plan()),
        "> 0 join 1 x1
        record generation 1 started at step 0
        open training step 0: 4 shards
        record worker 1 joined x1
        send worker 1 #0: shards 0..4
        > 0 ready 1 @0
        > 1 done 1 #0
        > 1 reduced 0
        record step 0 committed: 0..4 by 1
        commit step 0
        open training step 1: 4 shards
        send worker 1 #1: shards 0..4
        > 1 ready 1 @1
        > 1 done 1 #1
        > 1 reduced 1
        record step 1 committed: 0..4 by 1
        commit step 1
        open training step 2: 4 shards
        send worker 1 #2: shards 0..4
        > 1 ready 1 @2
        > 1 done 1 #2 100
        > 1 reduced 2
        record step 2 committed: 0..4 by 1
        commit step 2
        checkpoint step 3: EpochEnd
        open training step 3: 4 shards
        send worker 1 #3: shards 0..4
        > 2 join 2 x1
        record worker 2 joined x1
        > 2 ready 2 @3
        > 2 ready 1 @3
        > 2 join 3 x1
        record worker 3 joined x1
        > 2 ready 3 @3
        > 3 done 1 #3 100
        > 3 reduced 3
        record step 3 committed: 0..4 by 1
        commit step 3
        open training step 4: 4 shards
        send worker 1 #4: shard 1, with its digest
        send worker 1 #5: shard 0
        send worker 2 #6: shard 2, with its digest
        send worker 3 #7: shard 3, with its digest
        > 4 done 1 #4 100 =9
        send worker 2 #8 epoch 1: shard 1, audit
        > 4 done 2 #6 100 =5
        send worker 1 #9 epoch 1: shard 2, audit
        > 5 done 2 #8 100 =4
        dispute step 4, shard 1: 1, 2
        send worker 3 #10 epoch 2: shard 1, audit
        > 6 done 3 #10 100 =4
        record worker 1 (machine 1) evicted since step 0
        evict worker 1 (machine 1) at step 4, shard 1, say worker 2 and worker 3: since step 0
        disconnect worker 1: Evicted
        record worker 1 gone: Evicted
        revoke worker 3 #7: StepAbandoned
        abandon training step 4: Doubted
        record finished: worker 1 is not believed; what follows the parameters of step 0 is computed again
        finish: worker 1 is not believed; what follows the parameters of step 0 is computed again",
    );
}

#[test]
fn a_worker_that_finds_a_nan_where_two_others_find_none_is_evicted() {
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
        > 1 done 1 #0 100 nan
        doubt worker 1 #0: shards 0..4
        abandon training step 0: Doubted
        open training step 0: 4 shards
        send worker 2 #1 epoch 1: shards 0..4, with its digest
        > 2 done 2 #1 100 =5
        send worker 3 #2 epoch 2: shards 0..4, audit
        > 3 done 3 #2 100 =5
        record worker 1 (machine 1) evicted since step 0
        evict worker 1 (machine 1) at step 0, shards 0..4, say worker 2 and worker 3: since step 0
        disconnect worker 1: Evicted
        record worker 1 gone: Evicted
        abandon training step 0: Doubted
        open training step 0: 4 shards
        send worker 2 #3 epoch 3: shards 0..2
        send worker 3 #4 epoch 3: shard 3, with its digest
        send worker 3 #5 epoch 3: shard 2
        > 4 join 4 x1
        record worker 4 joined x1",
    );
}
