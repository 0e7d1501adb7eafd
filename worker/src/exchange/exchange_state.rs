//! What the parts of an exchange share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use convoy_common::spec::Compression;
use convoy_proto::v1;
use convoy_proto::v1::peer_client::PeerClient;
use convoy_reduce::{ChunkBuffer, DigestedChunk, ParameterBoard, StepRules};
use convoy_scheduler::{LeaseId, Opening, WorkerId};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;
use tonic::transport::Channel;

use super::kept::{KeptNodes, OutgoingChunk};
use super::owner::{BroughtChunk, OwnerCommand, OwnerThread, Taken};
use super::told::ToldStep;
use crate::assignment::Assignment;
use crate::known_workers::KnownWorkers;

/// Answers to audits on their way at a time: the coordinator takes four times as many.
const ANSWERS: usize = 4;

/// A worker's part in the exchange of one run.
pub(crate) struct ExchangeState {
    pub(super) assignment: Assignment,
    known: Arc<KnownWorkers>,
    pub(super) owner: Arc<OwnerThread>,
    /// What this worker makes as an owner, by opening.
    pub(super) board: Arc<ParameterBoard>,
    kept: Mutex<KeptNodes>,
    changed: watch::Sender<u64>,
    pub(super) told: watch::Sender<Option<ToldStep>>,
    elements: usize,
    compression: Compression,
    flows: Flows,
    /// Turns of answers to audits.
    pub(super) answers: Semaphore,
}

/// Whether bytes have flown between this worker and others since it was asked last.
#[derive(Debug, Default)]
struct Flows {
    nodes: AtomicBool,
    parameters: AtomicBool,
}

impl ExchangeState {
    pub(super) fn new(
        assignment: Assignment,
        known: Arc<KnownWorkers>,
        owner: Arc<OwnerThread>,
        board: Arc<ParameterBoard>,
        kept: KeptNodes,
        rules: &StepRules,
    ) -> Self {
        let (elements, compression) = (rules.network.len(), rules.compression());
        let (changed, told) = (watch::Sender::new(0), watch::Sender::new(None));
        let (kept, flows) = (Mutex::new(kept), Flows::default());
        let answers = Semaphore::new(ANSWERS);
        ExchangeState { assignment, known, owner, board, kept, changed, told, elements, compression, flows, answers }
    }

    /// Elements of the run's vectors.
    pub(super) fn elements(&self) -> usize {
        self.elements
    }

    /// How exact nodes and sums are.
    pub(super) fn compression(&self) -> Compression {
        self.compression
    }

    /// Whether it is that of this start of a job's run.
    pub(crate) fn is_of(&self, job: u64, generation: u64) -> bool {
        (self.assignment.job, self.assignment.generation) == (job, generation)
    }

    /// This worker's number.
    pub(super) fn me(&self) -> WorkerId {
        WorkerId(self.assignment.worker)
    }

    pub(super) fn assignment(&self) -> Assignment {
        self.assignment
    }

    pub(super) fn known(&self) -> &KnownWorkers {
        &self.known
    }

    /// A connection to another worker.
    pub(super) async fn client(&self, worker: WorkerId) -> Result<PeerClient<Channel>, String> {
        self.known.client(worker.0).await
    }

    /// Looks at what is kept, or changes it.
    pub(super) fn with_kept<T>(&self, change: impl FnOnce(&mut KeptNodes) -> T) -> T {
        change(&mut self.kept.lock())
    }

    /// Hears of each change of what is kept.
    pub(super) fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// What is kept has changed.
    pub(super) fn note_change(&self) {
        self.changed.send_modify(|changes| *changes += 1);
    }

    /// An owner has added a chunk.
    pub(super) fn taken(&self, owner: WorkerId, lease: LeaseId, index: usize) {
        self.with_kept(|kept| kept.taken(owner, lease, index, Instant::now()));
        self.flows.nodes.store(true, Ordering::Relaxed);
        self.note_change();
    }

    /// Chunks of parameters came.
    pub(super) fn fetched(&self) {
        self.flows.parameters.store(true, Ordering::Relaxed);
    }

    /// What is said of bytes that have flown since the last time; `None` where there were none.
    pub(super) fn flown(&self) -> Option<v1::PeersTake> {
        let [nodes, parameters] =
            [&self.flows.nodes, &self.flows.parameters].map(|flow| flow.swap(false, Ordering::Relaxed));
        (nodes || parameters).then_some(v1::PeersTake { job: self.assignment.job, nodes, parameters })
    }

    /// Waits until it is known what is open in `opening`, or later. `None` where that is not known.
    pub(super) async fn opened(&self, opening: Opening) -> Option<ToldStep> {
        let mut told = self.told.subscribe();
        let known = |told: &Option<ToldStep>| told.as_ref().is_some_and(|told| told.fence.opening >= opening);
        told.wait_for(known).await.ok()?.clone()
    }
}

/// Has this worker's own chunks added here.
pub(super) async fn add_own(state: Arc<ExchangeState>) {
    let (mut changed, me) = (state.changed(), state.me());
    let weak = Arc::downgrade(&state);
    let taken = Taken(Arc::new(move |lease, index| {
        if let Some(state) = weak.upgrade() {
            state.taken(me, lease, index);
        }
    }));
    loop {
        while let Some(chunk) = state.with_kept(|kept| kept.next(me)) {
            let OutgoingChunk { fence, lease, node, index, values } = chunk;
            let (opening, chunk) = (fence.opening, DigestedChunk::of(ChunkBuffer::copy_of(&values)));
            let taken = taken.clone();
            let brought = BroughtChunk { opening, lease, node, from: me, index, chunk, taken, permit: None };
            state.owner.send(OwnerCommand::Chunk(brought));
        }
        if changed.changed().await.is_err() {
            return;
        }
    }
}
