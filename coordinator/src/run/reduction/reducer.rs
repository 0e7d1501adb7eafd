//! The arithmetic of the coordinator, on a thread of its own: sums over the reduce tree, chunk by chunk, and the
//! optimizer as soon as a chunk's root is there.

use std::sync::Arc;
use std::time::Instant;

use convoy_common::Plan;
use convoy_common::counted_sum::{Contradiction, CountedSum};
use convoy_kernels::finite_check::all_finite;
use convoy_kernels::optimizer::{NORM_BLOCK, norm_sq_block};
use convoy_model::{DigestInOrder, Network};
use convoy_proto::{TRAIN_SUMS, chunk_count, chunk_range};
use convoy_scheduler::{Event, Node, StepId, Work, WorkerId};
use tokio::sync::mpsc;

use super::chunk_buffer::ChunkBuffer;
use super::opening::Opening;
use super::parameter_board::{ParameterBoard, PublishedParameters};
use super::parameter_state::ParameterState;
use super::reducer_queue::{Command, News};
use super::stages::{Stages, lap};
use super::update::{Elements, Scales, Update};

/// Elements that the optimizer makes at a time, so that what follows finds them in the fastest cache.
const BLOCK: usize = 4096;

/// Sums and optimizer of one run.
pub(crate) struct Reducer {
    plan: Arc<Plan>,
    network: Arc<Network>,
    update: Update,
    board: Arc<ParameterBoard>,
    committed: Arc<ParameterState>,
    /// The state before it, while a checkpoint is made of it.
    previous: Option<Arc<ParameterState>>,
    /// Optimizer state that is of no more use, to be written over.
    spare: Option<Vec<Vec<f32>>>,
    /// The root of a block while its memory begins to hold what is made of it.
    block: Vec<f32>,
    opening: Opening,
    open: Option<OpenTree>,
    stages: Stages,
    news: mpsc::UnboundedSender<News>,
}

enum OpenTree {
    Train(Box<TrainTree>),
    Evaluate { step: StepId, sums: CountedSum<Vec<f64>> },
}

struct TrainTree {
    step: StepId,
    chunks: Vec<CountedSum<ChunkBuffer>>,
    roots: Vec<Root>,
    finished: usize,
    digest: DigestSoFar,
    sums: CountedSum<Vec<f64>>,
    /// What scales roots, as soon as it is known.
    scales: Option<Scales>,
    norm: Option<f64>,
    /// The optimizer's next state. Begins with the first chunk that is finished.
    moments: Option<Vec<Vec<f32>>>,
    published: Arc<PublishedParameters>,
    finite: bool,
    told: bool,
}

/// The sum of all shards, of one chunk.
enum Root {
    Missing,
    /// What scales it is not known yet.
    There(ChunkBuffer),
    /// The next parameters were made of it.
    Made(Arc<ChunkBuffer>),
}

impl Root {
    fn made(&self) -> Option<&Arc<ChunkBuffer>> {
        match self {
            Root::Made(values) => Some(values),
            Root::Missing | Root::There(_) => None,
        }
    }
}

/// The digest of the next parameters, as far as their chunks are finished without a gap.
struct DigestSoFar {
    digest: DigestInOrder,
    chunks: usize,
}

impl DigestSoFar {
    /// Adds the chunks that have been made since, up to the first gap.
    fn advance(&mut self, network: &Network, roots: &[Root]) {
        while let Some(values) = roots.get(self.chunks).and_then(Root::made) {
            self.digest.add(network, values);
            self.chunks += 1;
        }
    }
}

impl Reducer {
    /// A reducer that goes on from `committed`.
    pub(crate) fn new(
        plan: Arc<Plan>,
        network: Arc<Network>,
        board: Arc<ParameterBoard>,
        committed: Arc<ParameterState>,
        news: mpsc::UnboundedSender<News>,
    ) -> Self {
        let update = Update::new(&plan, &network);
        Reducer {
            plan,
            network,
            update,
            board,
            committed,
            previous: None,
            spare: None,
            block: vec![0.0; BLOCK],
            opening: Opening::default(),
            open: None,
            stages: Stages::default(),
            news,
        }
    }

    /// Does what it is told until nobody can tell it anything.
    pub(crate) fn run(self, mut commands: mpsc::UnboundedReceiver<Command>) {
        // Dropped before the commands: whoever loses an answer to one finds that the news have ended.
        let mut reducer = self;
        while let Some(command) = commands.blocking_recv() {
            if matches!(command, Command::End) {
                return reducer.abandon();
            }
            reducer.handle(command);
        }
    }

    fn handle(&mut self, command: Command) {
        match command {
            Command::Open { opening, step, work, shards } => {
                self.open(step, work, shards);
                self.opening = opening;
            }
            Command::Chunk { opening, node, from, index, values, permit } => {
                if opening == self.opening {
                    self.chunk(node, from, index, values);
                }
                drop(permit);
            }
            Command::Summary { opening, node, from, sums, not_finite, event_after, permit } => {
                // A node that is not finite may be computed again.
                if opening == self.opening && not_finite.is_none() {
                    self.summary(node, from, sums);
                }
                self.tell(News::Node { event_after, not_finite, permit });
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
            Work::Evaluate => OpenTree::Evaluate { step, sums: CountedSum::over(shards) },
            Work::Train => {
                let len = self.network.len();
                let chunks = chunk_count(len);
                OpenTree::Train(Box::new(TrainTree {
                    step,
                    chunks: (0..chunks).map(|_| CountedSum::over(shards)).collect(),
                    roots: (0..chunks).map(|_| Root::Missing).collect(),
                    finished: 0,
                    digest: DigestSoFar { digest: DigestInOrder::new(&self.network), chunks: 0 },
                    sums: CountedSum::over(shards),
                    scales: self.early_scales(step),
                    norm: None,
                    moments: None,
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

    fn chunk(&mut self, node: Node, from: WorkerId, index: usize, values: ChunkBuffer) {
        self.reclaim();
        let Some(OpenTree::Train(open)) = &mut self.open else { return };
        let begun = Instant::now();
        let counted = open.chunks[index].insert(node, from, values);
        lap(&mut self.stages.tree, begun);
        if let Err(contradiction) = counted {
            let step = open.step;
            return self.contradicted(step, Work::Train, contradiction);
        }
        if let Some(root) = open.chunks[index].take() {
            open.roots[index] = Root::There(root);
            if open.scales.is_some() {
                self.finish_chunk(index);
            }
            self.finish_step();
        }
    }

    /// The optimizer's step of one chunk, in the root's memory: it then is part of the next parameters, and workers
    /// read it there.
    fn finish_chunk(&mut self, index: usize) {
        let range = chunk_range(self.network.len(), index);
        let Some(OpenTree::Train(open)) = &mut self.open else { return };
        let Some(scales) = open.scales else { return };
        let mut root = match std::mem::replace(&mut open.roots[index], Root::Missing) {
            Root::There(root) => root,
            other => return open.roots[index] = other,
        };
        let ParameterState { step, flat, moments: now } = &*self.committed;
        let moments = open.moments.get_or_insert_with(|| self.spare.take().unwrap_or_else(|| now.clone()));
        let mut begun = Instant::now();
        let blocks = root.chunks_mut(BLOCK).zip(flat.chunks()[index].chunks(BLOCK));
        for (first, (values, before)) in range.step_by(BLOCK).zip(blocks) {
            let sum = &mut self.block[..values.len()];
            sum.copy_from_slice(values);
            values.copy_from_slice(before);
            let block = first..first + values.len();
            self.update.carry(&block, now, moments);
            self.update.apply(*step, scales, Elements { first, values, moments, sum });
            let parameters = block.start..block.end.min(self.network.parameters);
            let mut state = moments.iter().filter_map(|moment| moment.get(parameters.clone()));
            open.finite &= all_finite(values) && state.all(all_finite);
        }
        begun = lap(&mut self.stages.optimizer, begun);
        let made = Arc::new(root);
        open.published.finish(index, made.clone());
        open.roots[index] = Root::Made(made);
        open.finished += 1;
        open.digest.advance(&self.network, &open.roots);
        lap(&mut self.stages.digest, begun);
    }

    fn summary(&mut self, node: Node, from: WorkerId, sums: Vec<f64>) {
        let (step, work, counted) = match &mut self.open {
            Some(OpenTree::Train(open)) if sums.len() == TRAIN_SUMS => {
                (open.step, Work::Train, open.sums.insert(node, from, sums))
            }
            Some(OpenTree::Evaluate { step, sums: tree }) if sums.len() == self.plan.metric_layout().len() => {
                (*step, Work::Evaluate, tree.insert(node, from, sums))
            }
            _ => return,
        };
        if let Err(contradiction) = counted {
            self.contradicted(step, work, contradiction);
        }
    }

    /// Forgets the tree, which holds something wrong, and tells.
    fn contradicted(&mut self, step: StepId, work: Work, contradiction: Contradiction) {
        let Contradiction { node, workers } = contradiction;
        self.abandon();
        let event = Event::NodeContradicted { step, work, node, workers };
        self.tell(News::Contradicted { opening: self.opening, event });
    }

    /// Does what has become possible, and tells when all of the tree is there.
    fn finish_step(&mut self) {
        match &mut self.open {
            Some(OpenTree::Evaluate { step, sums }) => {
                if let Some(sums) = sums.take() {
                    let step = *step;
                    self.open = None;
                    self.tell(News::Evaluated { opening: self.opening, step, sums });
                }
            }
            Some(OpenTree::Train(open)) => {
                if open.scales.is_none()
                    && open.sums.total().is_some()
                    && !open.roots.iter().any(|root| matches!(root, Root::Missing))
                {
                    self.late_scales();
                }
                self.tell_reduced();
            }
            None => {}
        }
    }

    /// The scales that need the whole gradient: weighted losses, and clipping. The norm is summed in f64 over fixed
    /// blocks of all parameters, in order.
    fn late_scales(&mut self) {
        let parameters = self.network.parameters;
        let Some(OpenTree::Train(open)) = &mut self.open else { return };
        let Some(sums) = open.sums.total() else { return };
        let (count, weight) = (sums[0], sums[2]);
        let squares = || {
            let mut left = parameters;
            let there = open.roots.iter().filter_map(|root| match root {
                Root::There(root) => Some(root),
                _ => None,
            });
            there.fold(0.0, |squares, root| {
                let part = &root[..root.len().min(left)];
                left -= part.len();
                squares + part.chunks(NORM_BLOCK).map(norm_sq_block).fold(0.0, |sum, block| sum + block)
            })
        };
        let (scales, norm) = Scales::new(count, weight, self.plan.spec.optimizer.clip_norm, squares);
        open.norm = norm;
        open.scales = Some(scales);
        (0..open.roots.len()).for_each(|index| self.finish_chunk(index));
    }

    fn tell_reduced(&mut self) {
        let Some(OpenTree::Train(open)) = &mut self.open else { return };
        let Some(sums) = open.sums.total() else { return };
        if open.finished < open.roots.len() || open.told {
            return;
        }
        open.told = true;
        let (step, sums, norm) = (open.step, sums.clone(), open.norm);
        let news = match open.finite {
            true => {
                let digest = open.digest.digest.finish(&self.network);
                News::Reduced { opening: self.opening, step, digest, sums, norm }
            }
            false => News::NotFinite { opening: self.opening, step },
        };
        self.tell(news);
    }

    fn commit(&mut self) {
        let Some(OpenTree::Train(open)) = self.open.take() else { return };
        let Some(moments) = open.moments else { return };
        let flat = open.roots.iter().filter_map(Root::made).cloned().collect();
        let next = Arc::new(ParameterState { step: open.step.0 + 1, flat, moments });
        self.board.commit(next.step);
        self.previous = Some(std::mem::replace(&mut self.committed, next));
        self.reclaim();
        self.stages.committed(open.step.0);
    }

    /// Takes apart the state before the committed one as soon as nobody else has it: its chunks have room for nodes.
    fn reclaim(&mut self) {
        match self.previous.take().map(Arc::try_unwrap) {
            Some(Ok(previous)) => self.spare = Some(previous.moments),
            Some(Err(previous)) => self.previous = Some(previous),
            None => {}
        }
    }

    fn abandon(&mut self) {
        if let Some(OpenTree::Train(open)) = self.open.take() {
            self.board.abandon(open.step.0 + 1);
            self.spare = open.moments.or(self.spare.take());
        }
    }

    fn tell(&self, news: News) {
        // Nobody listens any more only when the run is over.
        _ = self.news.send(news);
    }
}

#[cfg(test)]
mod tests;
