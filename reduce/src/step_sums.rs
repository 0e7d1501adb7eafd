//! A step on its way: sums over the reduce tree, chunk by chunk, and the optimizer as soon as a chunk's root is there.

use std::sync::Arc;
use std::time::{Duration, Instant};

use convoy_common::Digest;
use convoy_common::counted_sum::{Contradiction, CountedSum, Fingerprint, Summand};
use convoy_proto::{TRAIN_SUMS, chunk_count};
use convoy_scheduler::{Node, WorkerId, tree};

use crate::{
    ChunkBuffer, ChunkState, DigestByTensor, ParameterBoard, ParameterState, PublishedParameters, Scales, StepRules,
};

/// A training step whose nodes come in chunks, in any order and more than once.
///
/// Each chunk is added over the reduce tree for itself, always `left + right`. Where its root is there and it is known
/// what scales it, the optimizer makes the next parameters of it in its memory, and they are published. So the bits
/// depend on nothing but the nodes.
///
/// Chunks may have owners elsewhere, who bring their sums ([`StepSums::take_sum`]); the optimizer's step of them is
/// made here as well.
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
    shards: u32,
    times: StepTimes,
}

/// What is known of the next parameters.
#[derive(Debug)]
struct MadeSoFar {
    chunks: usize,
    /// Chunks that have moved since they were made, and whose new owners have not brought their sums.
    unsettled: usize,
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
    /// The sum that an owner has brought, and who that was.
    brought: Option<(Fingerprint, WorkerId)>,
    /// Its owner has lost the chunk after it had brought its sum.
    unsettled: bool,
    /// The squares of its sum, as its owner says.
    squares: Option<f64>,
}

/// The sum of all shards, of one chunk.
#[derive(Debug)]
enum Root {
    Missing,
    /// What scales it is not known yet.
    There(ChunkBuffer),
    /// The next parameters were made of it, and the optimizer's next state with them.
    Made(ChunkState),
}

impl ChunkSum {
    fn over(shards: u32) -> Self {
        ChunkSum {
            counted: CountedSum::over(shards),
            root: Root::Missing,
            brought: None,
            unsettled: false,
            squares: None,
        }
    }

    fn made(&self) -> Option<&ChunkState> {
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
        let frozen = |index: usize| (index, before.flat.chunks()[index].clone());
        let published = board.open(before.step + 1, rules.network.len(), rules.frozen.at(before.step).map(frozen));
        let digest = DigestByTensor::new(&rules.network);
        let mut step = StepSums {
            chunks: (0..chunk_count(rules.network.len())).map(|_| ChunkSum::over(shards)).collect(),
            made: MadeSoFar { chunks: 0, unsettled: 0, digest, finite: true, told: false },
            sums: CountedSum::over(shards),
            scales: rules.early_scales(before.step),
            norm: None,
            published,
            shards,
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
        for index in rules.frozen.at(before.step) {
            self.chunks[index].root = Root::Made(ChunkState::of(&before, index));
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

    /// How many shards it has.
    pub fn shards(&self) -> u32 {
        self.shards
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
        match self.chunks[index].counted.take() {
            Some(root) => self.rooted(index, root),
            None => Ok(()),
        }
    }

    /// Takes the sum of all shards of chunk `index`, which its owner `from` has brought. A second one does not count.
    ///
    /// # Errors
    /// When the chunk was another owner's before, and it is not the sum that that one has brought; or its squares are
    /// not those that were told.
    ///
    /// # Panics
    /// When the network has no such chunk, it has another length, or the step leaves it as it is.
    pub fn take_sum(&mut self, index: usize, from: WorkerId, root: ChunkBuffer) -> Result<(), Contradiction> {
        assert!(!self.rules.frozen.contain(self.before.step, index), "a frozen chunk is not brought");
        assert_eq!(root.len(), self.before.flat.chunks()[index].len(), "a sum has all elements of its chunk");
        let squares = self.chunks[index].squares;
        if squares.is_some_and(|told| told.to_bits() != self.rules.squares(index, &root).to_bits()) {
            // All others have scaled by what it told.
            return Err(Contradiction { node: tree::root(self.shards), workers: vec![from] });
        }
        let chunk = &mut self.chunks[index];
        if chunk.brought.is_none() {
            chunk.brought = Some((root.fingerprint(), from));
            return self.rooted(index, root);
        }
        if chunk.unsettled { self.settle(index, from, root.fingerprint()) } else { Ok(()) }
    }

    /// Takes the [squares](StepRules::squares) of the sum of chunk `index`, of which its owner tells before it brings
    /// the sum: owners need to know what scales it. The parameters that are made here do not depend on it.
    ///
    /// # Panics
    /// When the network has no such chunk.
    pub fn take_squares(&mut self, index: usize, squares: f64) {
        self.chunks[index].squares.get_or_insert(squares);
    }

    /// What scales the sums, where that follows from all of them, as soon as it follows from what owners have told.
    pub fn told_scales(&self) -> Option<Scales> {
        let sums = self.sums.total().filter(|_| self.rules.early_scales(self.before.step).is_none())?;
        if self.scales.is_some() {
            return self.scales;
        }
        let of = |(index, chunk): (usize, &ChunkSum)| match &chunk.root {
            Root::There(root) => Some(self.rules.squares(index, root)),
            Root::Missing => chunk.squares,
            // The step leaves it as it is.
            Root::Made(_) => Some(0.0),
        };
        let squares: Vec<f64> = self.chunks.iter().enumerate().map(of).collect::<Option<_>>()?;
        let squares = || squares.iter().fold(0.0, |sum, chunk| sum + chunk);
        Some(Scales::new(sums[0], sums[2], self.rules.plan.spec.optimizer.clip_norm, squares).0)
    }

    /// Chunks have other owners. Of each of `moved` all that was added here is forgotten; where its owner had brought
    /// its sum, that must be the sum that the next one brings: those who could compare with it what workers bring are
    /// gone.
    ///
    /// # Panics
    /// When the network has no such chunk.
    pub fn move_chunks(&mut self, moved: impl IntoIterator<Item = usize>) {
        for index in moved {
            let chunk = &mut self.chunks[index];
            (chunk.counted, chunk.squares) = (CountedSum::over(self.shards), None);
            if chunk.brought.is_some() && !std::mem::replace(&mut chunk.unsettled, true) {
                self.made.unsettled += 1;
            }
        }
    }

    /// The sum of a chunk is there, for the first time or once more.
    fn rooted(&mut self, index: usize, root: ChunkBuffer) -> Result<(), Contradiction> {
        let chunk = &mut self.chunks[index];
        match chunk.root {
            Root::Missing => {
                chunk.root = Root::There(root);
                match self.scales {
                    Some(scales) => self.make(index, scales),
                    None => self.scale_late(),
                }
                Ok(())
            }
            // The coordinator adds it itself now.
            Root::There(_) | Root::Made(_) if chunk.unsettled => {
                let from = chunk.brought.map_or(WorkerId(0), |(_, from)| from);
                self.settle(index, from, root.fingerprint())
            }
            Root::There(_) | Root::Made(_) => Ok(()),
        }
    }

    /// Compares the sum that the present owner of a chunk has with the one that was used.
    fn settle(&mut self, index: usize, from: WorkerId, sum: Fingerprint) -> Result<(), Contradiction> {
        let chunk = &mut self.chunks[index];
        let Some((used, before)) = chunk.brought else { return Ok(()) };
        if used != sum {
            return Err(Contradiction { node: tree::root(self.shards), workers: vec![before, from] });
        }
        chunk.unsettled = false;
        self.made.unsettled -= 1;
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
        let root = match std::mem::replace(&mut self.chunks[index].root, Root::Missing) {
            Root::There(root) => root,
            other => return self.chunks[index].root = other,
        };
        let mut begun = Instant::now();
        let before = ChunkState::of(&self.before, index);
        let made = self.rules.make_chunk(self.before.step, index, scales, root, &before);
        self.made.finite &= made.finite;
        begun = lap(&mut self.times.optimizer, begun);
        self.published.finish(index, made.state.values.clone(), made.change);
        self.chunks[index].root = Root::Made(made.state);
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
        let squares = || {
            let of = |(index, chunk): (usize, &ChunkSum)| match &chunk.root {
                Root::There(root) => self.rules.squares(index, root),
                Root::Missing | Root::Made(_) => 0.0,
            };
            self.chunks.iter().enumerate().map(of).fold(0.0, |squares, chunk| squares + chunk)
        };
        let clip_norm = self.rules.plan.spec.optimizer.clip_norm;
        let (scales, norm) = Scales::new(count, weight, clip_norm, squares);
        (self.norm, self.scales) = (norm, Some(scales));
        (0..self.chunks.len()).for_each(|index| self.make(index, scales));
    }

    /// The sum of chunk `index` that an owner has brought.
    ///
    /// # Panics
    /// When the network has no such chunk.
    pub fn brought_sum(&self, index: usize) -> Option<Fingerprint> {
        self.chunks[index].brought.map(|(sum, _)| sum)
    }

    /// Whether all of the next parameters are made.
    pub fn is_made(&self) -> bool {
        self.made.chunks == self.chunks.len() && self.made.unsettled == 0 && self.sums.total().is_some()
    }

    /// What was made, once all of it is; the first time that it is asked for then.
    pub fn made(&mut self) -> Option<MadeStep> {
        let sums = self.sums.total().filter(|_| self.is_made() && !self.made.told)?.clone();
        self.made.told = true;
        let digest = self.made.digest.finish(&self.rules.network).filter(|_| self.made.finite);
        Some(MadeStep { sums, norm: self.norm, digest })
    }

    /// The state after the step. `None` where not all of it is made.
    pub fn into_state(self) -> Option<ParameterState> {
        let made: Option<Vec<&ChunkState>> = self.chunks.iter().map(ChunkSum::made).collect();
        let made = made?;
        let moment = |kept| made.iter().filter_map(|chunk| chunk.moments.get(kept)).cloned().collect();
        Some(ParameterState {
            step: self.before.step + 1,
            flat: made.iter().map(|chunk| chunk.values.clone()).collect(),
            moments: (0..self.before.moments.len()).map(moment).collect(),
        })
    }
}

#[cfg(test)]
mod tests;
