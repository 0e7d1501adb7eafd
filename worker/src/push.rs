//! Sending nodes: header, chunks, summary.

use std::sync::Arc;
use std::time::Instant;

use convoy_proto::v1::coordinator_client::CoordinatorClient;
use convoy_proto::v1::node_message::Message;
use convoy_proto::{CHUNK_ELEMENTS, Chunk, Values, chunk_count, chunk_range, v1};
use convoy_reduce::FrozenChunks;
use convoy_scheduler::{Failure, LeaseRef};
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic::transport::Channel;

use crate::assignment::Assignment;
use crate::lease_work::{ComputedNode, LeaseFailure};
use crate::outbox::Outbox;
use crate::spare_buffers::SpareBuffers;
use crate::stages;

/// Nodes on their way at a time; a coordinator takes twice as many, those of a connection that was lost included.
const PUSHES: usize = 8;
/// Chunks that wait for the socket.
const AHEAD: usize = 4;

/// Sends a worker's nodes, several at a time.
#[derive(Debug, Clone)]
pub(crate) struct NodePushes {
    client: CoordinatorClient<Channel>,
    assignment: Assignment,
    outbox: Outbox,
    /// Takes the gradients' memory when they are sent.
    buffers: Arc<SpareBuffers>,
    /// Chunks that are not sent.
    frozen: Arc<FrozenChunks>,
    turns: Arc<Semaphore>,
}

impl NodePushes {
    /// Nothing is on its way.
    pub(crate) fn new(
        client: CoordinatorClient<Channel>,
        assignment: Assignment,
        outbox: Outbox,
        buffers: Arc<SpareBuffers>,
        frozen: Arc<FrozenChunks>,
    ) -> Self {
        NodePushes { client, assignment, outbox, buffers, frozen, turns: Arc::new(Semaphore::new(PUSHES)) }
    }

    /// Sends `node` as soon as it is its turn. If it does not get through, its lease fails.
    pub(crate) fn send(&self, node: ComputedNode) {
        let (pushes, at) = (self.clone(), node.lease.at);
        tokio::spawn(async move {
            let computed = v1::Computed { job: pushes.assignment.job, at: Some(at.into()) };
            // The node does not wait for that: its header says it, too.
            pushes.outbox.say_if_there_is_room(v1::worker_message::Message::Computed(computed));
            // Never closed.
            let _turn = pushes.turns.clone().acquire_owned().await;
            let begun = Instant::now();
            let (reply, gradient) = push(pushes.client, pushes.assignment, node, &pushes.frozen).await;
            stages::over("upload", at.step, begun);
            gradient.into_iter().for_each(|gradient| pushes.buffers.give(gradient));
            match reply {
                Ok(ignored) if ignored.is_empty() => {}
                Ok(ignored) => tracing::debug!(%at, ignored, "node ignored"),
                Err(status) => {
                    tracing::warn!(%at, %status, "a node did not get through");
                    let reason = status.message().to_owned();
                    let failed = LeaseFailure { at, failure: Failure::Internal, reason };
                    pushes.outbox.say(failure_message(pushes.assignment, failed)).await;
                }
            }
        });
    }
}

/// Tells the coordinator that a lease could not be done.
pub(crate) fn failure_message(assignment: Assignment, failed: LeaseFailure) -> v1::worker_message::Message {
    let LeaseFailure { at, failure, reason } = failed;
    let failure = v1::Failure::from(failure).into();
    v1::worker_message::Message::LeaseFailed(v1::LeaseFailed {
        job: assignment.job,
        at: Some(LeaseRef::into(at)),
        failure,
        reason,
    })
}

/// Sends `node` and returns why it was ignored (empty when it was not), with the gradient's memory where nothing holds
/// it any more.
async fn push(
    mut client: CoordinatorClient<Channel>,
    assignment: Assignment,
    node: ComputedNode,
    frozen: &FrozenChunks,
) -> (Result<String, Status>, Option<Vec<f32>>) {
    let (sender, messages) = mpsc::channel(AHEAD);
    let header = v1::NodeHeader {
        worker: assignment.worker,
        job: assignment.job,
        at: Some(node.lease.at.into()),
        work: v1::Work::from(node.lease.work).into(),
        node: Some(node.lease.node.into()),
    };
    let shards = node.lease.node.size();
    let summary = v1::NodeSummary {
        sums: node.sums,
        not_finite: node.not_finite,
        shard_micros: node.times.computing.as_micros() as u64 / u64::from(shards),
        data_wait_micros: node.times.data.as_micros() as u64,
        parameters_wait_micros: node.times.parameters.as_micros() as u64,
    };
    let gradient = Arc::new(node.gradient);
    let feed = async {
        let message = |message| v1::NodeMessage { message: Some(message) };
        let mut open = sender.send(message(Message::Header(header))).await.is_ok();
        // Nobody wants the numbers of a node that is not finite.
        let len = if summary.not_finite.is_some() { 0 } else { gradient.len() };
        let step = node.lease.at.step.0;
        for index in (0..chunk_count(len)).filter(|index| !frozen.contain(step, *index)) {
            let data = Values::shared(gradient.clone(), chunk_range(len, index));
            let chunk = Chunk { offset: (index * CHUNK_ELEMENTS) as u64, data };
            // Closed when the coordinator has answered already: the node is ignored.
            open = open && sender.send(message(Message::Chunk(chunk))).await.is_ok();
        }
        if open {
            _ = sender.send(message(Message::Summary(summary))).await;
        }
        drop(sender);
    };
    let (reply, ()) = tokio::join!(client.push_node(ReceiverStream::new(messages)), feed);
    (reply.map(|reply| reply.into_inner().ignored), Arc::into_inner(gradient))
}

#[cfg(test)]
mod tests;
