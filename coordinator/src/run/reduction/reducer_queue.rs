//! The way to the reducer's thread and back: what it is told, and what it tells.

use std::collections::BTreeMap;
use std::sync::Arc;

use convoy_common::Digest;
use convoy_reduce::{ChunkBuffer, ParameterState, Scales};
use convoy_scheduler::{Event, Node, Opening, Owner, OwnersVersion, StepId, SumFinding, Work, WorkerId};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

/// Chunks that may wait for the reducer, 256 KiB each: few enough to be in the caches still when it comes to them.
const CHUNKS_WAITING: usize = 32;
/// Nodes whose summaries may wait for the reducer, or of which the run's loop has not heard yet.
const NODES_WAITING: usize = 256;

/// Queues commands for the reducer.
///
/// What workers send needs room first, which is given back when it is counted; that of a summary when the run's loop
/// has heard of its node. Beside these the queue holds what the loop asks for: a few commands for each of its events.
#[derive(Debug, Clone)]
pub(crate) struct ReducerQueue {
    commands: mpsc::UnboundedSender<Command>,
    chunks: Arc<Semaphore>,
    nodes: Arc<Semaphore>,
}

impl ReducerQueue {
    /// A queue, and the end that the reducer reads.
    pub(crate) fn new() -> (Self, mpsc::UnboundedReceiver<Command>) {
        let (commands, queued) = mpsc::unbounded_channel();
        let (chunks, nodes) = (Semaphore::new(CHUNKS_WAITING), Semaphore::new(NODES_WAITING));
        (ReducerQueue { commands, chunks: Arc::new(chunks), nodes: Arc::new(nodes) }, queued)
    }

    /// Waits for room for a chunk.
    pub(crate) async fn chunk_room(&self) -> OwnedSemaphorePermit {
        self.chunks.clone().acquire_owned().await.expect("this semaphore is never closed")
    }

    /// Waits for room for a node's summary.
    pub(crate) async fn node_room(&self) -> OwnedSemaphorePermit {
        self.nodes.clone().acquire_owned().await.expect("this semaphore is never closed")
    }

    /// Queues a command; `false` when the reducer has ended.
    pub(crate) fn send(&self, command: Command) -> bool {
        self.commands.send(command).is_ok()
    }
}

/// What the reducer is told, in order.
#[derive(Debug)]
pub(crate) enum Command {
    /// A fresh tree; chunks and sums of other openings are dropped from now on.
    Open {
        /// Its number.
        opening: Opening,
        /// The parameters to compute with.
        step: StepId,
        /// What for.
        work: Work,
        /// Shards of the tree.
        shards: u32,
    },
    /// Part of a training node.
    Chunk {
        /// What it belongs to.
        opening: Opening,
        /// The node.
        node: Node,
        /// Who brings it.
        from: WorkerId,
        /// Index of the chunk.
        index: usize,
        /// Its elements.
        values: ChunkBuffer,
        /// Room in the queue, given back when the chunk is added.
        permit: OwnedSemaphorePermit,
    },
    /// All of a node is there. `event_after` is passed on once the node is counted, so that the run never hears of a
    /// node before its sums are in the tree.
    Summary {
        /// What it belongs to.
        opening: Opening,
        /// The node.
        node: Node,
        /// Who brings it.
        from: WorkerId,
        /// Its sums; see [`convoy_proto::TRAIN_SUMS`].
        sums: Vec<f64>,
        /// The first shard in which the worker found a NaN or an infinity.
        not_finite: Option<u32>,
        /// The event that tells the run.
        event_after: Event,
        /// Room for the node, which goes on to the news of it.
        permit: OwnedSemaphorePermit,
    },
    /// Chunks have other owners from now on.
    Owners {
        /// Counts the changes.
        version: OwnersVersion,
        /// The owner of each chunk.
        of: Arc<[Owner]>,
    },
    /// The sum over all shards, of a chunk.
    Root {
        /// What it belongs to.
        opening: Opening,
        /// Who brings it; it counts if that is the owner.
        from: WorkerId,
        /// Index of the chunk.
        index: usize,
        /// Its elements.
        values: ChunkBuffer,
        /// Room in the queue, given back when the sum is taken.
        permit: OwnedSemaphorePermit,
    },
    /// The squares of such a sum, which comes later.
    Squares {
        /// What they belong to.
        opening: Opening,
        /// Who tells; it counts if that is the owner.
        from: WorkerId,
        /// Index of the chunk.
        index: usize,
        /// The sum of squares.
        squares: f64,
        /// Room in the queue, as for a chunk.
        permit: OwnedSemaphorePermit,
    },
    /// Something for the audits of sums.
    Audit {
        /// The opening that it is about.
        opening: Opening,
        /// What it is.
        answer: AuditAnswer,
    },
    /// A worker is not a member any more.
    Gone {
        /// Which one.
        worker: WorkerId,
    },
    /// The next parameters become the committed ones.
    Commit,
    /// Forget the open tree.
    Abandon,
    /// The run is over.
    End,
    /// Hand out the committed parameters.
    Snapshot {
        /// To whom.
        reply: std::sync::mpsc::SyncSender<Arc<ParameterState>>,
    },
    /// Hand them out to somebody who must not wait for them on a thread.
    State {
        /// To whom.
        reply: oneshot::Sender<Arc<ParameterState>>,
    },
}

/// What came of what audits of sums ask for.
#[derive(Debug)]
pub(crate) enum AuditAnswer {
    /// These workers are asked for a chunk of what they keep.
    Asked {
        /// Index of the chunk.
        index: usize,
        /// Whom.
        workers: Vec<WorkerId>,
    },
    /// A worker sends a chunk of a node that it keeps.
    Kept {
        /// Who sends.
        from: WorkerId,
        /// Index of the chunk.
        index: usize,
        /// The node.
        node: Node,
        /// Its elements.
        values: ChunkBuffer,
        /// Room in the queue, as for any chunk.
        permit: OwnedSemaphorePermit,
    },
    /// A worker whose node is audited has said what it was brought of it by itself, of the chunks that it owns.
    Said {
        /// The worker.
        from: WorkerId,
        /// The node.
        node: Node,
        /// Chunks and their digests.
        digests: Vec<(usize, Digest)>,
    },
    /// A worker has sent all that it keeps of a chunk.
    Sent {
        /// Who has.
        from: WorkerId,
        /// Index of the chunk.
        index: usize,
    },
    /// An owner was asked what it was brought of a chunk, and has answered or not.
    Brought {
        /// Index of the chunk.
        index: usize,
        /// The digest of what it counted of each node.
        brought: Option<BTreeMap<Node, Digest>>,
    },
    /// What they wait for does not come.
    GiveUp,
}

/// What the reducer tells.
#[derive(Debug)]
pub(crate) enum News {
    /// A node is there, and all that came before it is counted.
    Node {
        /// The event that tells the run.
        event_after: Event,
        /// The first shard in which the worker found a NaN or an infinity.
        not_finite: Option<u32>,
        /// Room for the node, given back when the run's loop has come to it.
        permit: OwnedSemaphorePermit,
    },
    /// Copies of a node differ. The tree is forgotten: something in it is wrong.
    Contradicted {
        /// What was open.
        opening: Opening,
        /// The event that tells the run.
        event: Event,
    },
    /// All sums of an owner are there.
    OwnerReduced {
        /// What they are for.
        opening: Opening,
        /// The owners that are in force.
        version: OwnersVersion,
        /// The owner.
        worker: WorkerId,
    },
    /// An owner has told the squares of all its chunks, and has nothing to bring before it knows what scales sums.
    OwnerSquared {
        /// What they are for.
        opening: Opening,
        /// The owner.
        worker: WorkerId,
    },
    /// A chunk of what workers keep is wanted.
    AskKept {
        /// What they keep it for.
        opening: Opening,
        /// Index of the chunk.
        index: usize,
        /// Whose, if not that of all.
        of: Option<WorkerId>,
    },
    /// It is wanted what an owner was brought of a chunk.
    AskBrought {
        /// What it was brought for.
        opening: Opening,
        /// Index of the chunk.
        index: usize,
        /// The owner.
        owner: WorkerId,
    },
    /// A sum was added anew.
    SumAudited {
        /// What it is for.
        opening: Opening,
        /// Its owner.
        owner: WorkerId,
        /// What came of it.
        finding: SumFinding,
    },
    /// A worker has not answered what an audit asked of it.
    Unanswered {
        /// What it was asked about.
        opening: Opening,
        /// Which worker.
        worker: WorkerId,
    },
    /// Nothing is waited for but audits of sums.
    AuditsLeft {
        /// What is open.
        opening: Opening,
    },
    /// It is known what scales sums, where that follows from all of them.
    Scaled {
        /// What was open.
        opening: Opening,
        /// What scales them.
        scales: Scales,
    },
    /// The next parameters have a NaN or an infinity in them although no shard had.
    NotFinite {
        /// What was open.
        opening: Opening,
        /// The step.
        step: StepId,
    },
    /// The next parameters are ready for their commit.
    Reduced {
        /// What was open.
        opening: Opening,
        /// The step.
        step: StepId,
        /// Digest of the parameters it made.
        digest: Digest,
        /// Samples, loss, loss weights, correct.
        sums: Vec<f64>,
        /// Global norm of the gradient, where clipping needed it.
        norm: Option<f64>,
    },
    /// The metric sums of an evaluation.
    Evaluated {
        /// What was open.
        opening: Opening,
        /// The parameters.
        step: StepId,
        /// As the task lays them out.
        sums: Vec<f64>,
    },
}
