use std::time::Duration;

use convoy_scheduler::Work;
use convoy_testing::{Calls, PushCall, Scripted, connect};

use super::*;
use crate::fixtures::{ASSIGNMENT, lease};
use crate::lease_work::Times;

const ELEMENTS: usize = 70_000;

fn node(shards: u32, not_finite: Option<u32>) -> ComputedNode {
    let ms = Duration::from_millis;
    ComputedNode {
        lease: lease(Work::Train, 4, 9, 0..shards),
        gradient: (0..ELEMENTS).map(|index| index as f32).collect(),
        sums: vec![8.0, 1.5, 8.0, 3.0],
        not_finite,
        times: Times { computing: ms(12), data: ms(2), parameters: ms(1) },
    }
}

/// Pushes to a coordinator that a test plays.
struct Pushing {
    pushes: NodePushes,
    calls: Calls,
    buffers: Arc<SpareBuffers>,
    inbox: mpsc::Receiver<v1::WorkerMessage>,
}

impl Pushing {
    async fn new() -> Self {
        Pushing::with(FrozenChunks::default()).await
    }

    /// Where these chunks are frozen.
    async fn with(frozen: FrozenChunks) -> Self {
        let (scripted, calls) = Scripted::with_plan(Ok(v1::PlanChunk::default()));
        let buffers = Arc::new(SpareBuffers::new(ELEMENTS));
        let (outbox, inbox) = Outbox::new(16);
        let pushes = NodePushes::new(connect(scripted).await, ASSIGNMENT, outbox, buffers.clone(), Arc::new(frozen));
        Pushing { pushes, calls, buffers, inbox }
    }

    /// What the worker says next on its control stream.
    fn said(&mut self) -> Option<v1::worker_message::Message> {
        self.inbox.try_recv().ok().and_then(|message| message.message)
    }

    async fn call(&mut self) -> PushCall {
        self.calls.pushes.recv().await.expect("the worker lives")
    }

    /// Waits until all pushes are over.
    async fn settle(&self) {
        drop(self.pushes.turns.acquire_many(PUSHES as u32).await);
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_arrives_with_its_header_and_summary() {
    let mut pushing = Pushing::new().await;
    pushing.pushes.send(node(4, None));
    let call = pushing.call().await;
    let Assignment { worker, job, .. } = ASSIGNMENT;
    let at = v1::LeaseRef { generation: 2, step: 4, lease: 9, epoch: 0 };
    let header = v1::NodeHeader {
        worker,
        job,
        at: Some(at),
        work: v1::Work::Train.into(),
        node: Some(v1::Node { first: 0, last: 4 }),
    };
    let summary = v1::NodeSummary {
        sums: vec![8.0, 1.5, 8.0, 3.0],
        not_finite: None,
        shard_micros: 3000,
        data_wait_micros: 2000,
        parameters_wait_micros: 1000,
    };
    assert_eq!((call.header, call.summary), (header, summary));
    assert_eq!(call.gradient, node(4, None).gradient);
    let computed = v1::Computed { job, at: Some(at) };
    assert_eq!(pushing.said(), Some(v1::worker_message::Message::Computed(computed)));
    call.reply.send(Ok(v1::PushNodeReply::default())).unwrap();
    pushing.settle().await;
    assert_eq!(pushing.buffers.count(), 1, "the gradient's memory is free again");
}

#[tokio::test(start_paused = true)]
async fn of_a_node_that_is_not_finite_only_the_summary_is_sent() {
    let mut pushing = Pushing::new().await;
    pushing.pushes.send(node(4, Some(2)));
    let call = pushing.call().await;
    assert_eq!((call.gradient.len(), call.summary.not_finite), (0, Some(2)));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_does_not_get_through_fails_its_lease() {
    let mut pushing = Pushing::new().await;
    pushing.pushes.send(node(4, None));
    pushing.call().await.reply.send(Err(Status::unavailable("the connection was lost"))).unwrap();
    pushing.settle().await;
    pushing.said();
    let said = pushing.said();
    let Some(v1::worker_message::Message::LeaseFailed(failed)) = said else { panic!("{said:?}") };
    assert_eq!((failed.job, failed.at.map(|at| at.lease), failed.failure()), (7, Some(9), v1::Failure::Internal));
    assert_eq!(failed.reason, "the connection was lost");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_ignored_is_no_failure() {
    let mut pushing = Pushing::new().await;
    pushing.pushes.send(node(4, None));
    let ignored = "the lease is stale".to_owned();
    pushing.call().await.reply.send(Ok(v1::PushNodeReply { ignored })).unwrap();
    pushing.settle().await;
    pushing.said();
    assert_eq!(pushing.said(), None);
    assert_eq!(pushing.buffers.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn eight_nodes_are_on_their_way_at_a_time() {
    let mut pushing = Pushing::new().await;
    (0..10).for_each(|_| pushing.pushes.send(node(1, Some(0))));
    let mut calls = Vec::new();
    for _ in 0..8 {
        calls.push(pushing.call().await);
    }
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert!(pushing.calls.pushes.try_recv().is_err(), "the ninth waits");
    calls.pop().expect("eight").reply.send(Ok(v1::PushNodeReply::default())).unwrap();
    pushing.call().await;
}

#[tokio::test(start_paused = true)]
async fn frozen_chunks_are_not_sent_while_they_are_frozen() {
    // The first of two chunks, in the first five steps; the node is of step 4.
    for (steps, sent) in [(5, 1), (4, 2)] {
        let mut pushing = Pushing::with(FrozenChunks::new(vec![true, false], steps)).await;
        pushing.pushes.send(node(4, None));
        let call = pushing.call().await;
        let gradient = node(4, None).gradient;
        assert_eq!(call.gradient, gradient[chunk_range(ELEMENTS, 2 - sent).start..], "{sent} chunks");
        call.reply.send(Ok(v1::PushNodeReply::default())).unwrap();
        pushing.settle().await;
    }
}
