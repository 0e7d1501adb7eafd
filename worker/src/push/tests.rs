use std::time::Duration;

use convoy_proto::chunk_range;
use convoy_reduce::ChunkBuffer;
use convoy_scheduler::Work;
use convoy_testing::{Answers, Calls, PushCall, Scripted, connect};
use tonic::Streaming;

use super::*;
use crate::fixtures::{ASSIGNMENT, lease};
use crate::node_parts::Times;

const ELEMENTS: usize = 70_000;

/// What a node ends with.
fn computed(not_finite: Option<u32>) -> ComputedNode {
    let ms = Duration::from_millis;
    let times = Times { computing: ms(12), data: ms(2), parameters: ms(1) };
    ComputedNode { sums: vec![8.0, 1.5, 8.0, 3.0], not_finite, absurd: false, digests: Vec::new(), times }
}

fn gradient() -> Vec<f32> {
    (0..ELEMENTS).map(|index| index as f32).collect()
}

fn send_chunk(sender: &NodeSender, index: usize) {
    sender.chunk(index, ChunkBuffer::of(&gradient()[chunk_range(ELEMENTS, index)]));
}

/// Pushes to a coordinator that a test plays.
struct Pushing {
    pushes: NodePushes,
    calls: Calls,
    inbox: mpsc::Receiver<v1::WorkerMessage>,
    failures: mpsc::UnboundedReceiver<LeaseFailure>,
}

impl Pushing {
    async fn new() -> Self {
        let (scripted, calls) = Scripted::with_plan(Ok(v1::PlanChunk::default()));
        let (outbox, inbox) = Outbox::new(16);
        let (failed, failures) = mpsc::unbounded_channel();
        let pushes = NodePushes::new(connect(scripted).await, ASSIGNMENT, outbox, failed);
        Pushing { pushes, calls, inbox, failures }
    }

    /// Begins a node of step 4.
    fn begin(&self, shards: u32) -> NodeSender {
        self.pushes.begin(lease(Work::Train, 4, 9, 0..shards), OwnersVersion(3))
    }

    /// Sends a node that is computed, the last chunk first.
    fn send(&self, shards: u32, not_finite: Option<u32>) {
        let sender = self.begin(shards);
        (0..2).rev().for_each(|index| send_chunk(&sender, index));
        sender.finish(computed(not_finite));
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
    pushing.send(4, None);
    let call = pushing.call().await;
    let Assignment { worker, job, .. } = ASSIGNMENT;
    let at = v1::LeaseRef { generation: 2, step: 4, lease: 9, epoch: 0 };
    let header = v1::NodeHeader {
        worker,
        job,
        at: Some(at),
        work: v1::Work::Train.into(),
        node: Some(v1::Node { first: 0, last: 4 }),
        computing: false,
        version: 3,
    };
    let summary = v1::NodeSummary {
        sums: vec![8.0, 1.5, 8.0, 3.0],
        not_finite: None,
        shard_micros: 3000,
        data_wait_micros: 2000,
        parameters_wait_micros: 1000,
        absurd: false,
        digests: Vec::new().into(),
    };
    assert_eq!((call.header, call.summary), (header, summary));
    assert_eq!(call.gradient, gradient());
    let computed = v1::Computed { job, at: Some(at) };
    let said = pushing.inbox.recv().await.and_then(|message| message.message);
    assert_eq!(said, Some(v1::worker_message::Message::Computed(computed)));
    call.reply.send(Ok(v1::PushNodeReply::default())).unwrap();
    pushing.settle().await;
}

#[tokio::test(start_paused = true)]
async fn of_a_node_that_is_not_finite_only_the_summary_is_sent() {
    let mut pushing = Pushing::new().await;
    pushing.send(4, Some(2));
    let call = pushing.call().await;
    assert_eq!((call.gradient.len(), call.summary.not_finite), (0, Some(2)));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_does_not_get_through_fails_its_lease() {
    let mut pushing = Pushing::new().await;
    pushing.send(4, None);
    pushing.call().await.reply.send(Err(Status::unavailable("the connection was lost"))).unwrap();
    pushing.settle().await;
    let (at, reason) = (lease(Work::Train, 4, 9, 0..4).at, "the connection was lost".to_owned());
    assert_eq!(pushing.failures.try_recv(), Ok(LeaseFailure { at, failure: Failure::Internal, reason }));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_ignored_is_no_failure() {
    let mut pushing = Pushing::new().await;
    pushing.send(4, None);
    let ignored = "the lease is stale".to_owned();
    pushing.call().await.reply.send(Ok(v1::PushNodeReply { ignored })).unwrap();
    pushing.settle().await;
    assert!(pushing.failures.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn eight_nodes_are_on_their_way_at_a_time() {
    let mut pushing = Pushing::new().await;
    (0..10).for_each(|_| pushing.send(1, Some(0)));
    let mut calls = Vec::new();
    for _ in 0..8 {
        calls.push(pushing.call().await);
    }
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert!(pushing.calls.pushes.try_recv().is_err(), "the ninth waits");
    calls.pop().expect("eight").reply.send(Ok(v1::PushNodeReply::default())).unwrap();
    pushing.call().await;
}

/// A coordinator that hands nodes to a test as they come, and never answers.
struct Handed(mpsc::UnboundedSender<Streaming<v1::NodeMessage>>);

#[tonic::async_trait]
impl Answers for Handed {
    async fn push_node(&self, messages: Streaming<v1::NodeMessage>) -> Result<v1::PushNodeReply, Status> {
        _ = self.0.send(messages);
        std::future::pending().await
    }
}

async fn next(stream: &mut Streaming<v1::NodeMessage>) -> Message {
    stream.message().await.expect("the worker lives").and_then(|message| message.message).expect("a message")
}

#[tokio::test(start_paused = true)]
async fn chunks_are_sent_while_the_node_is_computed() {
    let (handed, mut streams) = mpsc::unbounded_channel();
    let (outbox, mut inbox) = Outbox::new(16);
    let (failed, _failures) = mpsc::unbounded_channel();
    let pushes = NodePushes::new(connect(Handed(handed)).await, ASSIGNMENT, outbox, failed);
    let sender = pushes.begin(lease(Work::Train, 4, 9, 0..2), OwnersVersion(3));
    send_chunk(&sender, 1);
    let mut stream = streams.recv().await.expect("the push has begun");
    assert!(matches!(next(&mut stream).await, Message::Header(header) if header.computing));
    assert!(matches!(next(&mut stream).await, Message::Chunk(chunk) if chunk.offset == CHUNK_ELEMENTS as u64));
    assert!(inbox.try_recv().is_err(), "nothing is said before all of it is computed");
    send_chunk(&sender, 0);
    sender.finish(computed(None));
    assert!(matches!(next(&mut stream).await, Message::Chunk(chunk) if chunk.offset == 0));
    assert!(matches!(next(&mut stream).await, Message::Summary(_)));
}

#[tokio::test(start_paused = true)]
async fn nodes_that_are_computed_are_not_held_up_by_those_that_are_not() {
    let mut pushing = Pushing::new().await;
    let nodes: Vec<_> = (0..2 * PUSHES).map(|_| pushing.begin(1)).collect();
    nodes.iter().for_each(|sender| send_chunk(sender, 0));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(pushing.pushes.turns.available_permits(), PUSHES - EARLY, "not all of them are being sent");
    pushing.send(4, None);
    let call = pushing.call().await;
    assert_eq!(call.gradient, gradient());
    call.reply.send(Ok(v1::PushNodeReply::default())).unwrap();
    drop(nodes);
    pushing.settle().await;
    assert_eq!(pushing.pushes.early.available_permits(), EARLY);
    assert!(pushing.failures.try_recv().is_err(), "a node that is given up is no failure");
}

#[tokio::test(start_paused = true)]
async fn that_a_node_is_computed_is_said_though_it_waits_for_its_turn() {
    let mut pushing = Pushing::new().await;
    (0..PUSHES).for_each(|_| pushing.send(1, None));
    for _ in 0..PUSHES {
        assert!(pushing.inbox.recv().await.is_some());
    }
    pushing.pushes.begin(lease(Work::Train, 4, 77, 0..1), OwnersVersion(3)).finish(computed(None));
    let Some(v1::worker_message::Message::Computed(said)) = pushing.inbox.recv().await.and_then(|said| said.message)
    else {
        panic!("it is computed")
    };
    assert_eq!(said.at.map(|at| at.lease), Some(77));
}

#[tokio::test(start_paused = true)]
async fn of_a_node_whose_chunks_owners_have_digests_are_sent() {
    let mut pushing = Pushing::new().await;
    let sender = pushing.pushes.begin_digests(lease(Work::Train, 4, 9, 0..4), OwnersVersion(3));
    (0..2).rev().for_each(|index| send_chunk(&sender, index));
    sender.finish(computed(None));
    let call = pushing.call().await;
    assert_eq!((call.gradient.len(), call.header.version, call.summary.not_finite), (0, 3, None));
    let digest = |index| digest_elements(&gradient()[chunk_range(ELEMENTS, index)]).0;
    assert_eq!(call.summary.digests[..], [digest(0), digest(1)].concat());
    let sender = pushing.pushes.begin_digests(lease(Work::Train, 4, 10, 2..4), OwnersVersion(3));
    sender.chunk(0, ChunkBuffer::of(&[f32::NAN]));
    sender.finish(computed(None));
    assert_eq!(pushing.call().await.summary.not_finite, Some(2), "finite shards may have a sum that is not");
}
