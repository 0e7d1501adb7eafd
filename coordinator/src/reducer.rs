//! The arithmetic of the coordinator, on a thread of its own: sums over the reduce tree, chunk by chunk, and the
//! optimizer as soon as a chunk's root is there.

use std::sync::Arc;

use bytes::Bytes;
use convoy_common::tree_sum::{TreeSum, add_f64};
use convoy_common::{Digest, Plan};
use convoy_kernels::finite::all_finite;
use convoy_kernels::optimizer::{NORM_BLOCK, norm_sq_block};
use convoy_kernels::tree::add_into;
use convoy_model::Network;
use convoy_proto::{TRAIN_SUMS, chunk_count, chunk_range, from_le_bytes};
use convoy_scheduler::{Event, Node, StepId, Work};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use crate::leases::Opening;
use crate::published::{Board, Published};
use crate::update::{Generation, Scales, Update};

/// What the reducer is told, in order.
#[derive(Debug)]
pub enum Command {
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
        /// Index of the chunk.
        index: usize,
        /// Little-endian f32.
        data: Bytes,
        /// Room in the queue, given back when the chunk is added.
        permit: OwnedSemaphorePermit,
    },
    /// All of a node is there. `done` is passed on once it is counted.
    Summary {
        /// What it belongs to.
        opening: Opening,
        /// The node.
        node: Node,
        /// Its sums; see [`convoy_proto::TRAIN_SUMS`].
        sums: Vec<f64>,
        /// The first shard in which the worker found a NaN or an infinity.
        not_finite: Option<u32>,
        /// The event that tells the run.
        done: Event,
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
        reply: std::sync::mpsc::SyncSender<Arc<Generation>>,
    },
}

/// What the reducer tells.
#[derive(Debug)]
pub enum News {
    /// A node is there, and all that came before it is counted.
    Node {
        /// The event that tells the run.
        done: Event,
        /// The first shard in which the worker found a NaN or an infinity.
        not_finite: Option<u32>,
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

/// Sums and optimizer of one run.
pub struct Reducer {
    plan: Arc<Plan>,
    network: Arc<Network>,
    update: Update,
    board: Arc<Board>,
    committed: Arc<Generation>,
    /// Memory of an older generation, to be written over.
    spare: Option<Generation>,
    opening: Opening,
    open: Option<Open>,
    news: mpsc::UnboundedSender<News>,
}

enum Open {
    Train(Box<OpenTrain>),
    Evaluate { step: StepId, sums: TreeSum<Vec<f64>> },
}

struct OpenTrain {
    step: StepId,
    chunks: Vec<TreeSum<Vec<f32>>>,
    /// Chunks whose root is there; `Some` while it waits for what must be known of the whole step.
    roots: Vec<Option<Vec<f32>>>,
    finished: usize,
    sums: TreeSum<Vec<f64>>,
    /// What scales roots, as soon as it is known.
    scales: Option<Scales>,
    norm: Option<f64>,
    next: Generation,
    published: Arc<Published>,
    finite: bool,
    told: bool,
}

impl Reducer {
    /// A reducer that goes on from `committed`.
    pub fn new(
        plan: Arc<Plan>,
        network: Arc<Network>,
        board: Arc<Board>,
        committed: Generation,
        news: mpsc::UnboundedSender<News>,
    ) -> Self {
        let update = Update::new(&plan, &network);
        let (committed, opening) = (Arc::new(committed), Opening::default());
        Reducer { plan, network, update, board, committed, spare: None, opening, open: None, news }
    }

    /// Does what it is told until nobody can tell it anything.
    pub fn run(mut self, mut commands: mpsc::UnboundedReceiver<Command>) {
        while let Some(command) = commands.blocking_recv() {
            if matches!(command, Command::End) {
                return self.abandon();
            }
            self.handle(command);
        }
    }

    fn handle(&mut self, command: Command) {
        match command {
            Command::Open { opening, step, work, shards } => {
                self.open(step, work, shards);
                self.opening = opening;
            }
            Command::Chunk { opening, node, index, data, permit } => {
                if opening == self.opening {
                    self.chunk(node, index, &data);
                }
                drop(permit);
            }
            Command::Summary { opening, node, sums, not_finite, done } => {
                // A node that is not finite may be computed again.
                if opening == self.opening && not_finite.is_none() {
                    self.summary(node, sums);
                }
                self.tell(News::Node { done, not_finite });
                self.finish_step();
            }
            Command::Commit => self.commit(),
            Command::Abandon | Command::End => self.abandon(),
            Command::Snapshot { reply } => _ = reply.send(self.committed.clone()),
        }
    }

    fn open(&mut self, step: StepId, work: Work, shards: u32) {
        self.abandon();
        self.open = Some(match work {
            Work::Evaluate => Open::Evaluate { step, sums: TreeSum::over(shards) },
            Work::Train => {
                let len = self.network.len();
                let chunks = chunk_count(len);
                Open::Train(Box::new(OpenTrain {
                    step,
                    chunks: (0..chunks).map(|_| TreeSum::over(shards)).collect(),
                    roots: vec![None; chunks],
                    finished: 0,
                    sums: TreeSum::over(shards),
                    scales: self.early_scales(step),
                    norm: None,
                    next: self.spare.take().unwrap_or_else(|| Generation::clone(&self.committed)),
                    published: self.board.open(step.next().0, len),
                    finite: true,
                    told: false,
                }))
            }
        });
    }

    /// The scales, where they follow from the plan alone: without class weights and clipping.
    fn early_scales(&self, step: StepId) -> Option<Scales> {
        if !self.plan.class_weights.is_empty() || self.plan.spec.optimizer.clip_norm.is_some() {
            return None;
        }
        let cut = self.plan.train_cut();
        let count = cut.step(step.0 % cut.steps()).len() as f32;
        Some(Scales { gradient: 1.0 / count, statistics: 1.0 / count })
    }

    fn chunk(&mut self, node: Node, index: usize, data: &[u8]) {
        let range = chunk_range(self.network.len(), index);
        let Some(Open::Train(open)) = &mut self.open else { return };
        if open.roots[index].is_some() {
            return;
        }
        let mut values = vec![0.0; range.len()];
        if !from_le_bytes(data, &mut values) {
            return;
        }
        open.chunks[index].insert(node, values, |left, right| add_into(left, right));
        if let Some(root) = open.chunks[index].take() {
            open.roots[index] = Some(root);
            if open.scales.is_some() {
                self.finish_chunk(index);
            }
            self.finish_step();
        }
    }

    fn finish_chunk(&mut self, index: usize) {
        let range = chunk_range(self.network.len(), index);
        let Some(Open::Train(open)) = &mut self.open else { return };
        let (Some(scales), Some(root)) = (open.scales, &mut open.roots[index]) else { return };
        self.update.apply(&self.committed, &mut open.next, range.clone(), root, scales);
        let moments = range.start..range.end.min(self.network.parameters);
        let moments = open.next.moments.iter().filter_map(|values| values.get(moments.clone()));
        open.finite &= all_finite(&open.next.flat[range.clone()]) && moments.into_iter().all(all_finite);
        open.published.finish(index, &open.next.flat[range]);
        // Emptied but kept: a chunk that comes again must find that its root was there.
        *root = Vec::new();
        open.finished += 1;
    }

    fn summary(&mut self, node: Node, sums: Vec<f64>) {
        match &mut self.open {
            Some(Open::Train(open)) if sums.len() == TRAIN_SUMS => {
                open.sums.insert(node, sums, add_f64);
            }
            Some(Open::Evaluate { sums: tree, .. }) if sums.len() == self.plan.metric_layout().len() => {
                tree.insert(node, sums, add_f64);
            }
            _ => {}
        }
    }

    /// Does what has become possible, and tells when all of the tree is there.
    fn finish_step(&mut self) {
        match &mut self.open {
            Some(Open::Evaluate { step, sums }) => {
                if let Some(sums) = sums.take() {
                    let step = *step;
                    self.open = None;
                    self.tell(News::Evaluated { opening: self.opening, step, sums });
                }
            }
            Some(Open::Train(open)) => {
                if open.scales.is_none() && open.sums.total().is_some() && open.roots.iter().all(Option::is_some) {
                    self.late_scales();
                }
                self.tell_reduced();
            }
            None => {}
        }
    }

    /// The scales that need the whole gradient: weighted losses, and clipping as `torch.nn.utils.clip_grad_norm_`.
    /// The norm is summed in f64 over fixed blocks of all parameters, in order.
    fn late_scales(&mut self) {
        let parameters = self.network.parameters;
        let Some(Open::Train(open)) = &mut self.open else { return };
        let Some(sums) = open.sums.total() else { return };
        let (count, weight) = (sums[0], sums[2]);
        let mut scales = Scales { gradient: (1.0 / weight) as f32, statistics: (1.0 / count) as f32 };
        if let Some(limit) = self.plan.spec.optimizer.clip_norm {
            let mut squares = 0.0;
            let mut left = parameters;
            for root in open.roots.iter().flatten() {
                let part = &root[..root.len().min(left)];
                squares += part.chunks(NORM_BLOCK).map(norm_sq_block).fold(0.0, |sum, block| sum + block);
                left -= part.len();
            }
            let norm = squares.sqrt() / weight;
            open.norm = Some(norm);
            let factor = limit / (norm + 1e-6);
            if factor < 1.0 {
                scales.gradient = (factor / weight) as f32;
            }
        }
        open.scales = Some(scales);
        (0..open.roots.len()).for_each(|index| self.finish_chunk(index));
    }

    fn tell_reduced(&mut self) {
        let Some(Open::Train(open)) = &mut self.open else { return };
        let Some(sums) = open.sums.total() else { return };
        if open.finished < open.roots.len() || open.told {
            return;
        }
        open.told = true;
        open.next.step = open.step.0 + 1;
        let (step, sums, norm) = (open.step, sums.clone(), open.norm);
        let news = match open.finite {
            true => {
                let digest = self.network.digest(&open.next.flat);
                News::Reduced { opening: self.opening, step, digest, sums, norm }
            }
            false => News::NotFinite { opening: self.opening, step },
        };
        self.tell(news);
    }

    fn commit(&mut self) {
        if let Some(Open::Train(open)) = self.open.take() {
            self.board.commit(open.next.step);
            let old = std::mem::replace(&mut self.committed, Arc::new(open.next));
            self.spare = Arc::into_inner(old);
        }
    }

    fn abandon(&mut self) {
        if let Some(Open::Train(open)) = self.open.take() {
            self.board.abandon(open.step.0 + 1);
            self.spare = Some(open.next);
        }
    }

    fn tell(&self, news: News) {
        // Nobody listens any more only when the run is over.
        _ = self.news.send(news);
    }
}
