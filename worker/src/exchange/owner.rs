//! What this worker does with the chunks that it owns, on a thread of its own: it adds what workers send, makes the
//! next parameters, hands them to whoever wants them, and the sums to the coordinator.

use std::sync::Arc;
use std::thread::JoinHandle;

use convoy_common::Digest;
use convoy_common::counted_sum::Contradiction;
use convoy_proto::v1;
use convoy_reduce::{
    ChunkState, DigestedChunk, NotAdded, Owned, OwnedChunks, ParameterBoard, PublishedParameters, Scales, StepRules,
};
use convoy_scheduler::{LeaseId, Node, Opening, Owner, WorkerId};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::told::ToldStep;

/// Chunks that may wait for the thread, 256 KiB each.
const WAITING: usize = 32;

/// What the thread is told, in order.
#[derive(Debug)]
pub(crate) enum OwnerCommand {
    /// A step is open, or chunks of it have other owners.
    Open(ToldStep),
    /// A chunk of a node came.
    Chunk(BroughtChunk),
    /// The state of a chunk before a step came.
    State {
        step: u64,
        index: usize,
        state: ChunkState,
    },
    /// What scales the sums of an opening.
    Scales {
        opening: Opening,
        scales: Scales,
    },
    /// A step is committed.
    Commit {
        step: u64,
    },
    /// The open step is given up.
    Abandon,
    /// The states of chunks are not to be trusted.
    Forget,
    /// It is asked what was brought for an opening.
    Brought {
        opening: Opening,
        wish: BroughtWish,
        reply: oneshot::Sender<Vec<(Node, usize, Digest)>>,
    },
    End,
}

/// Of what was brought digests are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BroughtWish {
    /// All chunks of this node.
    Node(Node),
    /// This chunk of all nodes.
    Chunk(usize),
}

/// A chunk of a node, and to whom it is said that it was added.
#[derive(Debug)]
pub(crate) struct BroughtChunk {
    pub(crate) opening: Opening,
    pub(crate) lease: LeaseId,
    pub(crate) node: Node,
    pub(crate) from: WorkerId,
    pub(crate) index: usize,
    pub(crate) chunk: DigestedChunk,
    pub(crate) taken: Taken,
    /// Room in the queue.
    pub(crate) permit: Option<OwnedSemaphorePermit>,
}

/// Called when a chunk of the node of a lease was added.
#[derive(Clone)]
pub(crate) struct Taken(pub(crate) Arc<dyn Fn(LeaseId, usize) + Send + Sync>);

impl std::fmt::Debug for Taken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Taken")
    }
}

/// What the thread tells.
#[derive(Debug)]
pub(crate) enum OwnerNews {
    /// A step is open: nothing of an earlier one is to be sent any more.
    Opened(Opening),
    /// No step is open.
    Closed,
    /// It lacks the state of chunks before a step.
    Lacks { step: u64, chunks: Vec<usize> },
    /// Something for the coordinator about the sums of the open step.
    Root(v1::root_message::Message),
    /// Copies of a node differ.
    Contradicted(Opening, Contradiction),
}

/// The way to the thread. The thread ends when it is dropped.
#[derive(Debug)]
pub(crate) struct OwnerThread {
    commands: mpsc::UnboundedSender<OwnerCommand>,
    room: Arc<Semaphore>,
    thread: Option<JoinHandle<()>>,
}

impl OwnerThread {
    /// Starts the thread. What it makes is published on `board`, by opening; it tells what happens in `news`.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub(crate) fn start(
        rules: Arc<StepRules>,
        me: WorkerId,
        board: Arc<ParameterBoard>,
        news: mpsc::UnboundedSender<OwnerNews>,
    ) -> std::io::Result<Self> {
        let (commands, queued) = mpsc::unbounded_channel();
        let elements = rules.network.len();
        let desk = OwnerDesk { owned: OwnedChunks::new(rules), elements, me, board, news, open: None };
        let thread = std::thread::Builder::new().name("owner".to_owned()).spawn(move || desk.run(queued))?;
        Ok(OwnerThread { commands, room: Arc::new(Semaphore::new(WAITING)), thread: Some(thread) })
    }

    /// Waits for room for a chunk that another worker sends.
    pub(crate) async fn room(&self) -> Option<OwnedSemaphorePermit> {
        self.room.clone().acquire_owned().await.ok()
    }

    /// Queues a command.
    pub(crate) fn send(&self, command: OwnerCommand) {
        // The thread lives as long as this.
        _ = self.commands.send(command);
    }
}

impl Drop for OwnerThread {
    fn drop(&mut self) {
        self.send(OwnerCommand::End);
        // It may be the thread itself that lets go last.
        if let Some(thread) = self.thread.take_if(|thread| thread.thread().id() != std::thread::current().id()) {
            _ = thread.join();
        }
    }
}

/// The thread's own.
struct OwnerDesk {
    owned: OwnedChunks,
    elements: usize,
    me: WorkerId,
    board: Arc<ParameterBoard>,
    news: mpsc::UnboundedSender<OwnerNews>,
    open: Option<OpenStep>,
}

struct OpenStep {
    opening: Opening,
    step: u64,
    published: Arc<PublishedParameters>,
}

impl OwnerDesk {
    fn run(mut self, mut commands: mpsc::UnboundedReceiver<OwnerCommand>) {
        while let Some(command) = commands.blocking_recv() {
            match command {
                OwnerCommand::Open(told) => self.open(&told),
                OwnerCommand::Chunk(chunk) => self.chunk(chunk),
                OwnerCommand::State { step, index, state } => {
                    let mut owned = Vec::new();
                    self.owned.set_state(step, index, state, &mut owned);
                    self.hand_out(owned);
                }
                OwnerCommand::Scales { opening, scales } => {
                    if self.open.as_ref().is_some_and(|open| open.opening == opening) {
                        let mut owned = Vec::new();
                        self.owned.set_scales(scales, &mut owned);
                        self.hand_out(owned);
                    }
                }
                OwnerCommand::Commit { step } => {
                    if self.open.take_if(|open| open.step == step).is_some() {
                        self.owned.commit();
                        self.tell(OwnerNews::Closed);
                    }
                }
                OwnerCommand::Forget => {
                    self.owned.forget_states();
                    self.fetch_what_lacks();
                }
                OwnerCommand::Brought { opening, wish, reply } => {
                    if self.open.as_ref().is_some_and(|open| open.opening == opening) {
                        // Whoever asked may be gone.
                        _ = reply.send(self.brought(wish));
                    }
                }
                OwnerCommand::Abandon => self.abandon(),
                OwnerCommand::End => break,
            }
        }
        self.abandon();
    }

    fn open(&mut self, told: &ToldStep) {
        let opening = told.fence.opening;
        let own: Vec<usize> = told.chunks_of(Owner::Worker(self.me)).collect();
        if self.open.as_ref().is_some_and(|open| open.opening == opening) {
            self.owned.own(own);
        } else {
            self.abandon();
            self.owned.open(told.step, told.shards, own);
            let published = self.board.open(opening.0, self.elements, []);
            // Who still reads what was made before keeps it.
            self.board.commit(opening.0);
            self.open = Some(OpenStep { opening, step: told.step, published });
            self.tell(OwnerNews::Opened(opening));
        }
        self.fetch_what_lacks();
    }

    fn fetch_what_lacks(&self) {
        let (chunks, open) = (self.owned.lacking(), self.open.as_ref());
        if let Some(open) = open.filter(|_| !chunks.is_empty()) {
            self.tell(OwnerNews::Lacks { step: open.step, chunks });
        }
    }

    fn chunk(&mut self, brought: BroughtChunk) {
        let BroughtChunk { opening, lease, node, from, index, chunk, taken, permit } = brought;
        if self.open.as_ref().is_none_or(|open| open.opening != opening) {
            return;
        }
        let mut owned = Vec::new();
        match self.owned.add(node, from, index, chunk, &mut owned) {
            Ok(()) => (taken.0)(lease, index),
            // Its sender will hear whose it is.
            Err(NotAdded::NotOwned) => {}
            Err(NotAdded::Length { found, expected }) => {
                tracing::warn!(%from, %node, index, found, expected, "a chunk has another length");
            }
            Err(NotAdded::Differs(contradiction)) => self.tell(OwnerNews::Contradicted(opening, contradiction)),
        }
        drop(permit);
        self.hand_out(owned);
    }

    fn brought(&self, wish: BroughtWish) -> Vec<(Node, usize, Digest)> {
        match wish {
            BroughtWish::Node(node) => {
                let chunks = self.owned.brought_of_node(node).into_iter();
                chunks.map(|(index, digest)| (node, index, digest)).collect()
            }
            BroughtWish::Chunk(index) => {
                let nodes = self.owned.brought_of_chunk(index).into_iter();
                nodes.map(|(node, digest)| (node, index, digest)).collect()
            }
        }
    }

    /// Parameters go to whoever wants them, before sums go to the coordinator.
    fn hand_out(&self, owned: Vec<Owned>) {
        let Some(open) = &self.open else { return };
        for owned in owned {
            match owned {
                Owned::Summed { index, squares } => {
                    let squares = v1::ChunkSquares { chunk: index as u32, squares };
                    self.tell(OwnerNews::Root(v1::root_message::Message::Squares(squares)));
                }
                Owned::Made { index, sum, values, change } => {
                    open.published.finish(index, values, change);
                    let offset = (index * convoy_proto::CHUNK_ELEMENTS) as u64;
                    let sum = convoy_proto::Chunk { offset, data: sum.on_the_wire() };
                    self.tell(OwnerNews::Root(v1::root_message::Message::Sum(sum)));
                }
            }
        }
    }

    /// What was made of the open step is worth nothing.
    fn abandon(&mut self) {
        if let Some(open) = self.open.take() {
            self.board.abandon(open.opening.0);
            self.tell(OwnerNews::Closed);
        }
    }

    fn tell(&self, news: OwnerNews) {
        // Nobody listens any more only when the membership is over.
        _ = self.news.send(news);
    }
}
