//! A step on its way: sums over the reduce tree, chunk by chunk, and the optimizer as soon as a chunk's root is there.

use std::sync::Arc;
use std::time::{Duration, Instant};

use convoy_common::counted_sum::{Contradiction, CountedSum};
use convoy_common::{Digest, Plan};
use convoy_kernels::finite_check::all_finite;
use convoy_kernels::optimizer::{NORM_BLOCK, norm_sq_block};
use convoy_model::Network;
use convoy_proto::{CHUNK_ELEMENTS, TRAIN_SUMS, chunk_count};
use convoy_scheduler::{Node, WorkerId};

use crate::{
    ChunkBuffer, DigestByTensor, Elements, FrozenChunks, ParameterBoard, ParameterState, PublishedParameters, Scales,
    Update,
};

/// Elements that the optimizer makes at a time, so that what follows finds them in the fastest cache.
const BLOCK: usize = 4096;

/// What all steps of a run have in common.
#[derive(Debug)]
pub struct StepRules {
    /// The plan.
    pub plan: Arc<Plan>,
    /// Its network.
    pub network: Arc<Network>,
    /// Chunks that steps leave as they are.
    pub frozen: FrozenChunks,
    update: Update,
}

impl StepRules {
    /// Those of a plan and its network.
    pub fn new(plan: Arc<Plan>, network: Arc<Network>) -> Self {
        let (frozen, update) = (FrozenChunks::of(&plan, &network), Update::new(&plan, &network));
        StepRules { plan, network, frozen, update }
    }

    /// Chunks that the step after `before` leaves as they are.
    fn kept<'a>(&'a self, before: &'a ParameterState) -> impl Iterator<Item = (usize, Arc<ChunkBuffer>)> + 'a {
        self.frozen.at(before.step).map(|index| (index, before.flat.chunks()[index].clone()))
    }

    /// The scales of step `step`, where they follow from the plan alone: without class weights and clipping.
    fn early_scales(&self, step: u64) -> Option<Scales> {
        if !self.plan.class_weights.is_empty() || self.plan.spec.optimizer.clip_norm.is_some() {
            return None;
        }
        let cut = self.plan.train_cut();
        let count = cut.step(step % cut.steps()).len() as f32;
        Some(Scales { gradient: 1.0 / count, statistics: 1.0 / count })
    }
}

/// A training step whose nodes come in chunks, in any order and more than once.
///
/// Each chunk is added over the reduce tree for itself, always `left + right`. Where its root is there and it is known
/// what scales it, the optimizer makes the next parameters of it in its memory, and they are published. So the bits
/// depend on nothing but the nodes.
#[derive(Debug)]
pub struct StepSums {
    rules: Arc<StepRules>,
    before: Arc<ParameterState>,
    chunks: Vec<ChunkSum>,
    made: MadeSoFar,
    sums: CountedSum<Vec<f64>>,
    /// What scales roots, as soon as it is known.
    scales: Option<Scales>,
    norm: Option<f64>,
    published: Arc<PublishedParameters>,
    /// The root of a block while its memory begins to hold what is made of it.
    block: Vec<f32>,
    times: StepTimes,
}

/// What is known of the next parameters.
#[derive(Debug)]
struct MadeSoFar {
    chunks: usize,
    digest: DigestByTensor,
    finite: bool,
    told: bool,
}

/// Where the time of a step went. By the clock: other work on the core is in it.
#[derive(Debug, Clone, Copy, Default)]
pub struct StepTimes {
    /// Sums over the reduce tree.
    pub tree: Duration,
    /// The optimizer, with the copy of the old state that it begins with, and looking for NaN and infinity.
    pub optimizer: Duration,
    /// The digest of the next parameters.
    pub digest: Duration,
}

/// A step all of whose parameters are made.
#[derive(Debug, Clone, PartialEq)]
pub struct MadeStep {
    /// Samples, loss, loss weights, correct; see [`TRAIN_SUMS`].
    pub sums: Vec<f64>,
    /// Global norm of the gradient, where clipping needed it.
    pub norm: Option<f64>,
    /// Digest of the parameters. `None` where they or the optimizer's state hold a NaN or an infinity.
    pub digest: Option<Digest>,
}

/// One chunk: what was counted of it, and how far it is.
#[derive(Debug)]
struct ChunkSum {
    counted: CountedSum<ChunkBuffer>,
    root: Root,
}

/// The sum of all shards, of one chunk.
#[derive(Debug)]
enum Root {
    Missing,
    /// What scales it is not known yet.
    There(ChunkBuffer),
    /// The next parameters were made of it, and the optimizer's next state with them.
    Made(MadeChunk),
}

#[derive(Debug)]
struct MadeChunk {
    values: Arc<ChunkBuffer>,
    moments: Vec<Arc<ChunkBuffer>>,
}

impl ChunkSum {
    fn made(&self) -> Option<&MadeChunk> {
        match &self.root {
            Root::Made(made) => Some(made),
            Root::Missing | Root::There(_) => None,
        }
    }
}

/// Adds the time since `begun` to `stage`, and gives the time it is now.
fn lap(stage: &mut Duration, begun: Instant) -> Instant {
    let now = Instant::now();
    *stage += now - begun;
    now
}

impl StepSums {
    /// The step after `before`, with `shards` shards, of which nothing has come. What it makes is published on `board`.
    pub fn open(rules: Arc<StepRules>, before: Arc<ParameterState>, shards: u32, board: &ParameterBoard) -> Self {
        let published = board.open(before.step + 1, rules.network.len(), rules.kept(&before));
        let chunk = |_| ChunkSum { counted: CountedSum::over(shards), root: Root::Missing };
        let mut step = StepSums {
            chunks: (0..chunk_count(rules.network.len())).map(chunk).collect(),
            made: MadeSoFar { chunks: 0, digest: DigestByTensor::new(&rules.network), finite: true, told: false },
            sums: CountedSum::over(shards),
            scales: rules.early_scales(before.step),
            norm: None,
            published,
            block: vec![0.0; BLOCK],
            times: StepTimes::default(),
            rules,
            before,
        };
        step.keep_frozen();
        step
    }

    /// Chunks all of whose layers are frozen are those of the step before, and so is their optimizer state.
    fn keep_frozen(&mut self) {
        let (rules, before) = (self.rules.clone(), self.before.clone());
        for (index, values) in rules.kept(&before) {
            let moments = before.moments.iter().filter_map(|moment| moment.chunks().get(index)).cloned().collect();
            self.chunks[index].root = Root::Made(MadeChunk { values, moments });
            self.count_made(index);
        }
    }

    fn count_made(&mut self, index: usize) {
        self.made.chunks += 1;
        let chunks = &self.chunks;
        self.made.digest.advance(index, |index| Some(&chunks[index].made()?.values[..]));
    }

    /// The step that is made: how many were made before it.
    pub fn step(&self) -> u64 {
        self.before.step
    }

    /// Where its time went.
    pub fn times(&self) -> StepTimes {
        self.times
    }

    /// Counts chunk `index` of `node`, which `from` has brought, and makes its next parameters where it was the last
    /// one that they needed.
    ///
    /// # Errors
    /// When a copy of it was counted that is not equal.
    ///
    /// # Panics
    /// When the network has no such chunk, or the step leaves it as it is.
    pub fn add_chunk(
        &mut self,
        node: Node,
        from: WorkerId,
        index: usize,
        values: ChunkBuffer,
    ) -> Result<(), Contradiction> {
        assert!(!self.rules.frozen.contain(self.before.step, index), "a frozen chunk is not brought");
        let begun = Instant::now();
        let counted = self.chunks[index].counted.insert(node, from, values);
        lap(&mut self.times.tree, begun);
        counted?;
        if let Some(root) = self.chunks[index].counted.take() {
            self.chunks[index].root = Root::There(root);
            match self.scales {
                Some(scales) => self.make(index, scales),
                None => self.scale_late(),
            }
        }
        Ok(())
    }

    /// Counts the sums of `node`, which `from` has brought. Others than [`TRAIN_SUMS`] of them do not count.
    ///
    /// # Errors
    /// When a copy of them was counted that is not equal.
    pub fn add_sums(&mut self, node: Node, from: WorkerId, sums: Vec<f64>) -> Result<(), Contradiction> {
        if sums.len() == TRAIN_SUMS {
            self.sums.insert(node, from, sums)?;
            self.scale_late();
        }
        Ok(())
    }

    /// The optimizer's step of one chunk, in the root's memory: it then is part of the next parameters, and whoever
    /// wants them reads it there.
    fn make(&mut self, index: usize, scales: Scales) {
        let mut root = match std::mem::replace(&mut self.chunks[index].root, Root::Missing) {
            Root::There(root) => root,
            other => return self.chunks[index].root = other,
        };
        let mut begun = Instant::now();
        let first = index * CHUNK_ELEMENTS;
        let ParameterState { step, flat, moments } = &*self.before;
        let old: Vec<&Arc<ChunkBuffer>> = moments.iter().filter_map(|moment| moment.chunks().get(index)).collect();
        let mut moments: Vec<ChunkBuffer> = old.iter().map(|old| ChunkBuffer::new(old.len())).collect();
        let blocks = root.chunks_mut(BLOCK).zip(flat.chunks()[index].chunks(BLOCK));
        for (start, (values, before)) in (0..).step_by(BLOCK).zip(blocks) {
            let sum = &mut self.block[..values.len()];
            sum.copy_from_slice(values);
            values.copy_from_slice(before);
            let carried = moments.iter_mut().zip(&old).map(|(moment, old)| {
                let part = start.min(old.len())..(start + values.len()).min(old.len());
                moment[part.clone()].copy_from_slice(&old[part.clone()]);
                &mut moment[part]
            });
            let mut carried: Vec<&mut [f32]> = carried.collect();
            let elements = Elements { first: first + start, values, moments: &mut carried, sum };
            self.rules.update.apply(*step, scales, elements);
            self.made.finite &= all_finite(values) && carried.iter().all(|moment| all_finite(moment));
        }
        begun = lap(&mut self.times.optimizer, begun);
        let (values, moments) = (Arc::new(root), moments.into_iter().map(Arc::new).collect());
        self.published.finish(index, values.clone());
        self.chunks[index].root = Root::Made(MadeChunk { values, moments });
        self.count_made(index);
        lap(&mut self.times.digest, begun);
    }

    /// Makes all parameters where their scales needed the whole gradient, and all of it is there: weighted losses, and
    /// clipping. The norm is summed in f64 over fixed blocks of all parameters, in order.
    fn scale_late(&mut self) {
        let Some(sums) = self.sums.total().filter(|_| self.scales.is_none()) else { return };
        if self.chunks.iter().any(|chunk| matches!(chunk.root, Root::Missing)) {
            return;
        }
        let (count, weight) = (sums[0], sums[2]);
        let parameters = self.rules.network.parameters;
        let squares = || {
            let of = |(index, chunk): (usize, &ChunkSum)| {
                let Root::There(root) = &chunk.root else { return 0.0 };
                let part = &root[..root.len().min(parameters.saturating_sub(index * CHUNK_ELEMENTS))];
                part.chunks(NORM_BLOCK).map(norm_sq_block).fold(0.0, |sum, block| sum + block)
            };
            self.chunks.iter().enumerate().map(of).fold(0.0, |squares, chunk| squares + chunk)
        };
        let clip_norm = self.rules.plan.spec.optimizer.clip_norm;
        let (scales, norm) = Scales::new(count, weight, clip_norm, squares);
        (self.norm, self.scales) = (norm, Some(scales));
        (0..self.chunks.len()).for_each(|index| self.make(index, scales));
    }

    /// What was made, once all of it is; the first time that it is asked for then.
    pub fn made(&mut self) -> Option<MadeStep> {
        let sums = self.sums.total().filter(|_| self.made.chunks == self.chunks.len() && !self.made.told)?.clone();
        self.made.told = true;
        let digest = self.made.digest.finish(&self.rules.network).filter(|_| self.made.finite);
        Some(MadeStep { sums, norm: self.norm, digest })
    }

    /// The state after the step. `None` where not all of it is made.
    pub fn into_state(self) -> Option<ParameterState> {
        let made: Option<Vec<&MadeChunk>> = self.chunks.iter().map(ChunkSum::made).collect();
        let made = made?;
        let moment = |kept| made.iter().filter_map(|chunk| chunk.moments.get(kept)).cloned().collect();
        Some(ParameterState {
            step: self.before.step + 1,
            flat: made.iter().map(|chunk| chunk.values.clone()).collect(),
            moments: (0..self.before.moments.len()).map(moment).collect(),
        })
    }
}
