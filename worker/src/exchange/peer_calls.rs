//! What other workers ask of this one as an owner of chunks.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use std::time::Duration;

use convoy_proto::v1::push_message::Message;
use convoy_proto::{CHUNK_ELEMENTS, Chunk, v1};
use convoy_reduce::{ChunkBuffer, DigestedChunk, Magnitude, ParameterBoard};
use convoy_scheduler::{LeaseId, Node, Opening, OwnersVersion, WorkerId};
use convoy_security::Fingerprint;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::exchange_state::ExchangeState;
use super::owner::{BroughtChunk, OwnerCommand, Taken};
use super::told::Fence;

/// So long it may take until this worker is told of what another one knows.
const PATIENCE: Duration = Duration::from_secs(5);
/// Chunks that wait for a reader.
const AHEAD: usize = 2;

/// How the exchange that a call is for is found: it may be over at any time.
pub(crate) type FindExchange = Arc<dyn Fn(u64, u64) -> Option<Arc<ExchangeState>> + Send + Sync>;

/// Chunks that another worker sends.
pub(crate) struct IncomingChunks {
    caller: Fingerprint,
    find: FindExchange,
    taken: Taken,
    from: Option<Sender>,
}

/// Who sends, and what for.
struct Sender {
    worker: u32,
    state: Weak<ExchangeState>,
    /// `None` where it is stale: what comes is not wanted.
    opening: Option<Opening>,
}

impl IncomingChunks {
    /// Nothing came yet. What was added is said to `taken`.
    pub(crate) fn new(
        caller: Fingerprint,
        find: FindExchange,
        taken: mpsc::UnboundedSender<Result<v1::ChunkTaken, Status>>,
    ) -> Self {
        let taken = Taken(Arc::new(move |lease: LeaseId, index| {
            // Its sender may have gone.
            _ = taken.send(Ok(v1::ChunkTaken { lease: lease.0, chunk: index as u32 }));
        }));
        IncomingChunks { caller, find, taken, from: None }
    }

    /// Takes in what comes until the call ends.
    ///
    /// # Errors
    /// Why nothing more is taken.
    pub(crate) async fn take_all(mut self, mut messages: Streaming<v1::PushMessage>) -> Result<(), Status> {
        while let Some(message) = messages.message().await? {
            match message.message {
                Some(Message::Header(header)) => self.from = Some(self.header(header).await?),
                Some(Message::Chunk(chunk)) => self.chunk(chunk).await?,
                None => return Err(Status::invalid_argument("an empty message")),
            }
        }
        Ok(())
    }

    async fn header(&self, header: v1::PushHeader) -> Result<Sender, Status> {
        let state = (self.find)(header.job, header.generation).ok_or_else(not_there)?;
        is_told(&state, header.worker, self.caller)?;
        let fence = Fence { opening: Opening(header.opening), version: OwnersVersion(header.version) };
        let mut told = state.told.subscribe();
        let known = timeout(PATIENCE, told.wait_for(|told| told.as_ref().is_some_and(|told| told.fence >= fence)));
        let known = match known.await {
            Ok(Ok(told)) => told.as_ref().map(|told| told.fence.opening),
            _ => return Err(Status::aborted("this worker was not told of that opening")),
        };
        let opening = known.filter(|known| *known == fence.opening);
        drop(told);
        Ok(Sender { worker: header.worker, state: Arc::downgrade(&state), opening })
    }

    async fn chunk(&self, chunk: v1::PushedChunk) -> Result<(), Status> {
        let Sender { worker, state, opening } =
            self.from.as_ref().ok_or_else(|| Status::invalid_argument("chunks begin with a header"))?;
        let state = state.upgrade().ok_or_else(not_there)?;
        is_told(&state, *worker, self.caller)?;
        let Some(opening) = *opening else { return Ok(()) };
        let missing = || Status::invalid_argument("a chunk without node or numbers");
        let node: Node = chunk.node.ok_or_else(missing)?.try_into()?;
        let (index, values) =
            ChunkBuffer::received(&chunk.chunk.ok_or_else(missing)?, state.elements(), state.compression())?;
        if Magnitude::of(&values) != Magnitude::Good {
            tracing::warn!(from = worker, %node, index, "a chunk holds a NaN, an infinity or absurdly large numbers");
            return Err(Status::invalid_argument("numbers that are in doubt go to the coordinator"));
        }
        let chunk_of_node = DigestedChunk::of(values);
        let (lease, from, taken, permit) =
            (LeaseId(chunk.lease), WorkerId(*worker), self.taken.clone(), state.owner.room().await);
        let brought = BroughtChunk { opening, lease, node, from, index, chunk: chunk_of_node, taken, permit };
        state.owner.send(OwnerCommand::Chunk(brought));
        Ok(())
    }
}

fn not_there() -> Status {
    Status::aborted("this worker is not at that job")
}

/// Looks whether the caller is the worker that it says.
fn is_told(state: &ExchangeState, worker: u32, caller: Fingerprint) -> Result<(), Status> {
    match state.known().is(worker, caller) {
        true => Ok(()),
        false => Err(Status::permission_denied("this worker was not told of you")),
    }
}

/// The next parameters of chunks that this worker owns, as it makes them.
///
/// # Errors
/// When the caller is not told of, or the opening is over.
pub(crate) async fn slices(
    caller: Fingerprint,
    find: &FindExchange,
    request: v1::SlicesRequest,
) -> Result<ReceiverStream<Result<Chunk, Status>>, Status> {
    let state = find(request.job, request.generation).ok_or_else(not_there)?;
    is_told(&state, request.worker, caller)?;
    let opened = timeout(PATIENCE, state.opened(Opening(request.opening))).await;
    opened.ok().flatten().ok_or_else(|| Status::aborted("this worker was not told of that opening"))?;
    let wanted: BTreeSet<u64> = request.chunks.iter().map(|chunk| u64::from(*chunk) * CHUNK_ELEMENTS as u64).collect();
    let (sender, replies) = mpsc::channel(AHEAD);
    let gone = sender.clone();
    let serving = serve(state.board.clone(), request.opening, (wanted, request.changes), sender);
    tokio::spawn(async move {
        tokio::select! {
            () = serving => {}
            // Some chunks may never be made here.
            () = gone.closed() => {}
        }
    });
    Ok(ReceiverStream::new(replies))
}

/// Sends the chunks `wanted` of an opening, in the order in which they are made; of each what is `changed`, if that
/// will do.
async fn serve(
    board: Arc<ParameterBoard>,
    opening: u64,
    (wanted, changed): (BTreeSet<u64>, bool),
    sender: mpsc::Sender<Result<Chunk, Status>>,
) {
    let Some(published) = board.get(opening).await else {
        _ = sender.send(Err(Status::aborted("that opening is over"))).await;
        return;
    };
    for position in 0.. {
        let item = match published.chunk(position, changed).await {
            Ok(Some(chunk)) if !wanted.contains(&chunk.offset) => continue,
            Ok(Some(chunk)) => Ok(chunk),
            Ok(None) => return,
            Err(_) => Err(Status::aborted("the step was given up")),
        };
        let last = item.is_err();
        if sender.send(item).await.is_err() || last {
            return;
        }
    }
}
