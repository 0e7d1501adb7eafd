//! What owners of chunks get from the coordinator, and what they bring.

use std::sync::Arc;

use convoy_common::Digest;
use convoy_proto::v1::root_message::Message;
use convoy_proto::{WireError, chunk_count, v1};
use convoy_reduce::{ChunkBuffer, ChunkState, ParameterState};
use convoy_scheduler::{Node, Opening, WorkerId};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::run::brought_questions::BroughtDigest;
use crate::run::handle::{RunHandle, RunOver};
use crate::run::reduction::reducer_queue::{AuditAnswer, Command};
use crate::run::worker_contact::{WorkerContact, excused};

/// What an owner begins a step with: the committed parameters of chunks, and the optimizer's state of them.
///
/// # Errors
/// When there are no such chunks, or another step is in work.
pub(super) async fn state(
    run: &RunHandle,
    request: v1::StateRequest,
    contact: Arc<WorkerContact>,
) -> Result<ReceiverStream<Result<v1::ChunkState, Status>>, Status> {
    let chunks = chunk_count(run.vector.elements);
    if let Some(chunk) = request.chunks.iter().find(|chunk| **chunk as usize >= chunks) {
        return Err(Status::invalid_argument(format!("there is no chunk {chunk}, there are {chunks}")));
    }
    let (reply, state) = oneshot::channel();
    if !run.reducer.send(Command::State { reply }) {
        return Err(RunOver.into());
    }
    let state = state.await.map_err(|_| Status::from(RunOver))?;
    if state.step != request.step {
        return Err(Status::aborted(format!("the parameters of step {} are not the committed ones", request.step)));
    }
    let (sender, replies) = mpsc::channel(1);
    tokio::spawn(async move {
        for chunk in request.chunks {
            if sender.send(Ok(chunk_state(&state, chunk))).await.is_err() {
                return;
            }
            contact.fetched();
        }
    });
    Ok(ReceiverStream::new(replies))
}

fn chunk_state(state: &ParameterState, chunk: u32) -> v1::ChunkState {
    let ChunkState { values, moments } = ChunkState::of(state, chunk as usize);
    let bytes = |values: &ChunkBuffer| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>().into();
    v1::ChunkState { chunk, values: bytes(&values), moments: moments.iter().map(|moment| bytes(moment)).collect() }
}

/// Sums that an owner brings.
pub(super) struct RootPush {
    run: Arc<RunHandle>,
    contact: Arc<WorkerContact>,
    from: WorkerId,
    opening: Opening,
}

impl RootPush {
    /// Those that `header` announces.
    pub(super) fn new(run: Arc<RunHandle>, contact: Arc<WorkerContact>, header: &v1::RootsHeader) -> Self {
        RootPush { run, contact, from: WorkerId(header.worker), opening: Opening(header.opening) }
    }

    /// Takes the next message.
    ///
    /// # Errors
    /// When no worker of this version sends that, or the run is over.
    pub(super) async fn take(&self, message: Message) -> Result<(), Status> {
        self.contact.pushed();
        let (opening, from, elements) = (self.opening, self.from, self.run.vector.elements);
        let command = match message {
            Message::Header(_) => return Err(Status::invalid_argument("sums have one header")),
            Message::Sum(chunk) => {
                let (index, values) = ChunkBuffer::received(&chunk, elements, self.run.vector.compression)?;
                let permit = excused(self.run.reducer.chunk_room(), || self.contact.pushed()).await;
                Command::Root { opening, from, index, values, permit }
            }
            Message::Squares(v1::ChunkSquares { chunk, squares }) => {
                let index = chunk as usize;
                if index >= chunk_count(elements) || !squares.is_finite() {
                    return Err(Status::invalid_argument(format!("{squares} are no squares of chunk {chunk}")));
                }
                let permit = excused(self.run.reducer.chunk_room(), || self.contact.pushed()).await;
                Command::Squares { opening, from, index, squares, permit }
            }
        };
        if self.run.reducer.send(command) { Ok(()) } else { Err(RunOver.into()) }
    }
}

/// A chunk of what a worker keeps, on its way in: an audit adds it anew.
pub(super) struct KeptPush {
    run: Arc<RunHandle>,
    contact: Arc<WorkerContact>,
    from: WorkerId,
    opening: Opening,
    index: usize,
}

impl KeptPush {
    /// That which `header` announces.
    pub(super) fn new(run: Arc<RunHandle>, contact: Arc<WorkerContact>, header: &v1::KeptHeader) -> Self {
        let (from, opening, index) = (WorkerId(header.worker), Opening(header.opening), header.chunk as usize);
        KeptPush { run, contact, from, opening, index }
    }

    /// Takes the chunk of a node.
    ///
    /// # Errors
    /// When it is another chunk, or the run is over.
    pub(super) async fn take(&self, kept: v1::KeptChunk) -> Result<(), Status> {
        self.contact.pushed();
        let node: Node = kept.node.ok_or(WireError::Missing { field: "node" })?.try_into()?;
        let chunk = kept.chunk.ok_or(WireError::Missing { field: "chunk" })?;
        let (index, values) = ChunkBuffer::received(&chunk, self.run.vector.elements, self.run.vector.compression)?;
        if index != self.index {
            return Err(Status::invalid_argument(format!("chunk {index} came, {} was asked for", self.index)));
        }
        if !self.run.leases.was_lent(self.from, node) {
            return Err(Status::invalid_argument(format!("{node} was not lent to {}", self.from)));
        }
        let permit = excused(self.run.reducer.chunk_room(), || self.contact.pushed()).await;
        let from = self.from;
        self.command(AuditAnswer::Kept { from, index, node, values, permit })
    }

    /// All has come.
    ///
    /// # Errors
    /// When the run is over.
    pub(super) fn end(&self) -> Result<(), Status> {
        self.contact.pushed();
        self.command(AuditAnswer::Sent { from: self.from, index: self.index })
    }

    fn command(&self, answer: AuditAnswer) -> Result<(), Status> {
        let opening = self.opening;
        if self.run.reducer.send(Command::Audit { opening, answer }) { Ok(()) } else { Err(RunOver.into()) }
    }
}

/// Takes in what an owner says to have been brought.
///
/// # Errors
/// When it makes no sense.
pub(super) fn brought(run: &RunHandle, said: v1::BroughtDigests) -> Result<(), Status> {
    let one = |one: v1::BroughtDigest| {
        let node = one.node.ok_or(WireError::Missing { field: "node" })?.try_into()?;
        let digest = (&*one.digest).try_into().map(Digest);
        let digest = digest.map_err(|_| WireError::Invalid { field: "digest", value: one.digest.len().to_string() })?;
        Ok(BroughtDigest { node, index: one.chunk as usize, digest })
    };
    let digests = said.brought.into_iter().map(one).collect::<Result<Vec<_>, WireError>>()?;
    // Nobody may wait for it any more.
    run.questions.answer(said.question, WorkerId(said.worker), digests);
    Ok(())
}

#[cfg(test)]
mod tests;
