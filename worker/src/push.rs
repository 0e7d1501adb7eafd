//! Sending nodes: header, chunks, summary.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use convoy_model::digest_elements;
use convoy_proto::v1::coordinator_client::CoordinatorClient;
use convoy_proto::v1::node_message::Message;
use convoy_proto::{CHUNK_ELEMENTS, Chunk, v1};
use convoy_reduce::{ChunkBuffer, Magnitude};
use convoy_scheduler::{Failure, Lease, LeaseRef, OwnersVersion};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic::transport::Channel;

use crate::assignment::Assignment;
use crate::lease_work::LeaseFailure;
use crate::node_parts::{ComputedNode, NodePart, NodeParts, NodeSender, node_parts};
use crate::outbox::Outbox;
use crate::stages;

/// Nodes on their way at a time; a coordinator takes twice as many, those of a connection that was lost included.
const PUSHES: usize = 8;
/// Of these, nodes that are still computed, so that those that are computed need not wait for them.
const EARLY: usize = 4;
/// Chunks that wait for the socket.
const AHEAD: usize = 4;

/// Sends a worker's nodes, several at a time.
#[derive(Debug, Clone)]
pub(crate) struct NodePushes {
    client: CoordinatorClient<Channel>,
    assignment: Assignment,
    outbox: Outbox,
    failures: UnboundedSender<LeaseFailure>,
    turns: Arc<Semaphore>,
    early: Arc<Semaphore>,
}

impl NodePushes {
    /// Nothing is on its way. Leases whose nodes do not get through go to `failures`.
    pub(crate) fn new(
        client: CoordinatorClient<Channel>,
        assignment: Assignment,
        outbox: Outbox,
        failures: UnboundedSender<LeaseFailure>,
    ) -> Self {
        let [turns, early] = [PUSHES, EARLY].map(|turns| Arc::new(Semaphore::new(turns)));
        NodePushes { client, assignment, outbox, failures, turns, early }
    }

    /// Where the node of `lease` goes as it is computed. Its first chunk is sent as soon as it is there and it is the
    /// node's turn. If the node does not get through, the lease fails, unless the node is given up. By `version` of the
    /// owners all of its chunks are the coordinator's.
    pub(crate) fn begin(&self, lease: Lease, version: OwnersVersion) -> NodeSender {
        let (sender, parts, computed) = node_parts();
        tokio::spawn(tell_computed(self.outbox.clone(), self.assignment.job, lease.at, computed));
        tokio::spawn(self.clone().carry(lease, version, parts));
        sender
    }

    /// Where the node of `lease` goes, of which the coordinator wants digests: owners have its chunks already.
    pub(crate) fn begin_digests(&self, lease: Lease, version: OwnersVersion) -> NodeSender {
        let (sender, parts, computed) = node_parts();
        tokio::spawn(tell_computed(self.outbox.clone(), self.assignment.job, lease.at, computed));
        let (digested, whole, _) = node_parts();
        tokio::spawn(digest_chunks(lease, parts, digested));
        tokio::spawn(self.clone().carry(lease, version, whole));
        sender
    }

    /// Tells the coordinator of a node whose owners have it, and sends what is the coordinator's of it. False where it
    /// was not taken.
    pub(crate) async fn delivered(
        self,
        (lease, version): (Lease, OwnersVersion),
        computed: ComputedNode,
        chunks: Vec<(usize, Arc<ChunkBuffer>)>,
    ) -> bool {
        let (sender, parts, _) = node_parts();
        for (index, values) in chunks {
            sender.chunk(index, ChunkBuffer::copy_of(&values));
        }
        sender.finish(computed);
        self.carry(lease, version, parts).await
    }

    /// False where the coordinator has answered that it does not want the node.
    async fn carry(self, lease: Lease, version: OwnersVersion, mut parts: NodeParts) -> bool {
        if !parts.begun().await {
            return true;
        }
        let at = lease.at;
        // Neither is ever closed.
        let _early = tokio::select! {
            () = parts.ended() => None,
            turn = self.early.acquire_owned() => turn.ok(),
        };
        let _turn = self.turns.acquire_owned().await;
        if !parts.begun().await {
            return true;
        }
        let begun = Instant::now();
        let (reply, given_up) = push(self.client, self.assignment, (lease, version), parts).await;
        stages::over("upload", at.step, begun);
        match reply {
            _ if given_up => tracing::debug!(%at, "node given up"),
            Ok(ignored) if ignored.is_empty() => {}
            Ok(ignored) => {
                tracing::debug!(%at, ignored, "node ignored");
                return false;
            }
            Err(status) => {
                tracing::warn!(%at, %status, "a node did not get through");
                let reason = status.message().to_owned();
                // Nobody wants it any more when the membership is over.
                _ = self.failures.send(LeaseFailure { at, failure: Failure::Internal, reason });
            }
        }
        true
    }
}

/// Makes digests of a node's chunks as they come, and hands on its end with them.
async fn digest_chunks(lease: Lease, mut parts: NodeParts, to: NodeSender) {
    let (mut digests, mut worst) = (BTreeMap::new(), Magnitude::Good);
    while let Some(part) = parts.next().await {
        match part {
            NodePart::Chunk(index, values) => {
                worst = worst.max(Magnitude::of(&values));
                digests.insert(index, digest_elements(&values).0);
            }
            NodePart::Computed(mut node) => {
                node.absurd = worst == Magnitude::Absurd;
                if worst == Magnitude::NotFinite {
                    node.not_finite.get_or_insert(lease.node.first);
                }
                node.digests = digests.into_values().flatten().collect();
                return to.finish(node);
            }
        }
    }
}

/// Tells the coordinator that a lease is computed, once it is `computed`.
pub(crate) async fn tell_computed(outbox: Outbox, job: u64, at: LeaseRef, computed: oneshot::Receiver<()>) {
    if computed.await.is_ok() {
        let computed = v1::Computed { job, at: Some(at.into()) };
        outbox.say(v1::worker_message::Message::Computed(computed)).await;
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

/// Sends the node of `lease` as its parts come. Why it was ignored (empty when it was not), and whether it was given up
/// on the way.
async fn push(
    mut client: CoordinatorClient<Channel>,
    assignment: Assignment,
    (lease, version): (Lease, OwnersVersion),
    mut parts: NodeParts,
) -> (Result<String, Status>, bool) {
    let (sender, messages) = mpsc::channel(AHEAD);
    let header = v1::NodeHeader {
        worker: assignment.worker,
        job: assignment.job,
        at: Some(lease.at.into()),
        work: v1::Work::from(lease.work).into(),
        node: Some(lease.node.into()),
        computing: !parts.is_computed(),
        version: version.0,
    };
    let feed = async move {
        let mut message = Message::Header(header);
        loop {
            // Closed when the coordinator has answered already: the node is ignored, or there is no connection.
            if sender.send(v1::NodeMessage { message: Some(message) }).await.is_err() {
                return false;
            }
            message = match parts.next().await {
                Some(NodePart::Chunk(index, values)) => {
                    let data = Arc::new(values).on_the_wire();
                    Message::Chunk(Chunk { offset: (index * CHUNK_ELEMENTS) as u64, data })
                }
                Some(NodePart::Computed(node)) => {
                    let summary = Message::Summary(summary(lease, node));
                    _ = sender.send(v1::NodeMessage { message: Some(summary) }).await;
                    return false;
                }
                None => return true,
            };
        }
    };
    let call = async { client.push_node(ReceiverStream::new(messages)).await.map(|reply| reply.into_inner().ignored) };
    tokio::pin!(call, feed);
    let given_up = tokio::select! {
        biased;
        given_up = &mut feed => given_up,
        reply = &mut call => return (reply, false),
    };
    (call.await, given_up)
}

fn summary(lease: Lease, node: ComputedNode) -> v1::NodeSummary {
    v1::NodeSummary {
        sums: node.sums,
        not_finite: node.not_finite,
        absurd: node.absurd,
        digests: node.digests.into(),
        shard_micros: node.times.computing.as_micros() as u64 / u64::from(lease.node.size()),
        data_wait_micros: node.times.data.as_micros() as u64,
        parameters_wait_micros: node.times.parameters.as_micros() as u64,
    }
}

#[cfg(test)]
mod tests;
