//! What an owner of chunks does with them, step after step.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use convoy_common::Digest;
use convoy_common::counted_sum::{Contradiction, CountedSum};
use convoy_model::digest_elements;
use convoy_scheduler::{Node, WorkerId};

use crate::{ChunkBuffer, ChunkState, MadeChunk, Scales, StepRules};

/// The chunks that one owner adds, and whose next parameters it makes. Each chunk is added over the reduce tree for
/// itself, always `left + right`, and its next parameters are those that [`StepSums`](crate::StepSums) would make: bits
/// do not depend on who owns what.
///
/// It holds the state of its chunks, which moves on with each commit. Of a chunk that it gets it has none: somebody who
/// has must say what it is ([`OwnedChunks::set_state`]).
#[derive(Debug)]
pub struct OwnedChunks {
    rules: Arc<StepRules>,
    /// Each with the step that it is the state before.
    states: BTreeMap<usize, (u64, ChunkState)>,
    open: Option<OpenStep>,
}

/// A step in work.
#[derive(Debug)]
struct OpenStep {
    step: u64,
    shards: u32,
    scales: Option<Scales>,
    chunks: BTreeMap<usize, OwnedChunk>,
}

/// A chunk of a step in work.
#[derive(Debug)]
struct OwnedChunk {
    counted: CountedSum<ChunkBuffer>,
    /// Digests of the first copy of each node.
    brought: BTreeMap<Node, Digest>,
    /// The sum of all shards, once it is there.
    sum: Option<Arc<ChunkBuffer>>,
    made: Option<ChunkState>,
}

impl OwnedChunk {
    fn over(shards: u32) -> Self {
        OwnedChunk { counted: CountedSum::over(shards), brought: BTreeMap::new(), sum: None, made: None }
    }
}

/// A chunk of a node, and its digest.
#[derive(Debug, PartialEq)]
pub struct DigestedChunk {
    values: ChunkBuffer,
    digest: Digest,
}

impl DigestedChunk {
    /// These elements. Takes a while: owners do it where chunks come in, and not where they are added.
    pub fn of(values: ChunkBuffer) -> Self {
        DigestedChunk { digest: digest_elements(&values), values }
    }
}

/// What became of a chunk.
#[derive(Debug, Clone, PartialEq)]
pub enum Owned {
    /// Its sum is there, and it is not known yet what scales it: this is the sum of its squares.
    Summed {
        /// Which chunk.
        index: usize,
        /// [`StepRules::squares`] of its sum.
        squares: f64,
    },
    /// Its next parameters are made.
    Made {
        /// Which chunk.
        index: usize,
        /// The sum of all shards, which the coordinator wants.
        sum: Arc<ChunkBuffer>,
        /// The next parameters.
        values: Arc<ChunkBuffer>,
        /// [What was added](MadeChunk::change) for them, where that is rounded.
        change: Option<Bytes>,
    },
}

/// Why a chunk of a node is not added.
#[derive(Debug, Clone, PartialEq)]
pub enum NotAdded {
    /// It is another owner's, or no step is in work.
    NotOwned,
    /// It has another length than its chunk.
    Length {
        /// Elements that came.
        found: usize,
        /// Elements of the chunk.
        expected: usize,
    },
    /// A copy of it was counted that is not equal.
    Differs(Contradiction),
}

impl OwnedChunks {
    /// Owns nothing, and no step is in work.
    pub fn new(rules: Arc<StepRules>) -> Self {
        OwnedChunks { rules, states: BTreeMap::new(), open: None }
    }

    /// Begins step `step` of `shards` shards, for the first time or once more, with these chunks as its own. All that
    /// was added before is forgotten. Chunks that the step leaves as they are have nothing to add.
    pub fn open(&mut self, step: u64, shards: u32, own: impl IntoIterator<Item = usize>) {
        let scales = self.rules.early_scales(step);
        self.open = Some(OpenStep { step, shards, scales, chunks: BTreeMap::new() });
        self.own(own);
    }

    /// Owns these chunks from now on, and no others. What was added of those that stay is kept.
    pub fn own(&mut self, own: impl IntoIterator<Item = usize>) {
        let Some(OpenStep { step, shards, chunks, .. }) = &mut self.open else { return };
        let own: BTreeSet<usize> = own.into_iter().filter(|index| !self.rules.frozen.contain(*step, *index)).collect();
        chunks.retain(|index, _| own.contains(index));
        self.states.retain(|index, _| own.contains(index) || self.rules.frozen.contain(*step, *index));
        for index in own {
            chunks.entry(index).or_insert_with(|| OwnedChunk::over(*shards));
        }
    }

    /// Its chunks whose state before the step in work it does not have.
    pub fn lacking(&self) -> Vec<usize> {
        let Some(OpenStep { step, chunks, .. }) = &self.open else { return Vec::new() };
        let has = |index: &usize| self.states.get(index).is_some_and(|(before, _)| before == step);
        chunks.keys().copied().filter(|index| !has(index)).collect()
    }

    /// The state of a chunk before `step`. What follows from it is added to `owned`. It is not wanted where the step is
    /// not in work or the chunk is another owner's.
    pub fn set_state(&mut self, step: u64, index: usize, state: ChunkState, owned: &mut Vec<Owned>) {
        let wanted = self.open.as_ref().is_some_and(|open| open.step == step && open.chunks.contains_key(&index));
        if wanted {
            self.states.insert(index, (step, state));
            owned.extend(self.make(index));
        }
    }

    /// Its states are not to be trusted, and neither is what it made of them in the step in work: they must be set
    /// anew.
    pub fn forget_states(&mut self) {
        self.states.clear();
        self.open.iter_mut().flat_map(|open| open.chunks.values_mut()).for_each(|chunk| chunk.made = None);
    }

    /// Adds chunk `index` of `node`, which `from` has brought. What follows from it is added to `owned`.
    ///
    /// # Errors
    /// Why it is not added.
    pub fn add(
        &mut self,
        node: Node,
        from: WorkerId,
        index: usize,
        DigestedChunk { values, digest }: DigestedChunk,
        owned: &mut Vec<Owned>,
    ) -> Result<(), NotAdded> {
        let rules = self.rules.clone();
        let Some(OpenStep { scales, chunks, .. }) = &mut self.open else { return Err(NotAdded::NotOwned) };
        let chunk = chunks.get_mut(&index).ok_or(NotAdded::NotOwned)?;
        let (found, expected) = (values.len(), convoy_proto::chunk_range(rules.network.len(), index).len());
        if found != expected {
            return Err(NotAdded::Length { found, expected });
        }
        let mut parts = chunk.counted.in_parts(node);
        if !parts.is_empty() {
            // Nobody here knows whose lease it is: one of them sends what it was not asked for.
            parts.push(from);
            return Err(NotAdded::Differs(Contradiction { node, workers: parts }));
        }
        chunk.counted.insert(node, from, values).map_err(NotAdded::Differs)?;
        #[cfg(feature = "faults")]
        let digest = crate::faults::said(from, digest);
        chunk.brought.entry(node).or_insert(digest);
        if let Some(sum) = chunk.counted.take() {
            #[cfg(feature = "faults")]
            let sum = faulty(sum);
            if scales.is_none() {
                owned.push(Owned::Summed { index, squares: rules.squares(index, &sum) });
            }
            chunk.sum = Some(Arc::new(sum));
            owned.extend(self.make(index));
        }
        Ok(())
    }

    /// Digests of all that it was brought first of `node`, by chunk.
    pub fn brought_of_node(&self, node: Node) -> Vec<(usize, Digest)> {
        let chunks = self.open.iter().flat_map(|open| &open.chunks);
        chunks.filter_map(|(index, chunk)| Some((*index, *chunk.brought.get(&node)?))).collect()
    }

    /// Digests of all that it was brought first of chunk `index`, by node.
    pub fn brought_of_chunk(&self, index: usize) -> Vec<(Node, Digest)> {
        let chunk = self.open.iter().filter_map(|open| open.chunks.get(&index));
        chunk.flat_map(|chunk| &chunk.brought).map(|(node, digest)| (*node, *digest)).collect()
    }

    /// What scales the sums of the step in work, where that follows from all of them. What follows from it is added to
    /// `owned`.
    pub fn set_scales(&mut self, scales: Scales, owned: &mut Vec<Owned>) {
        let Some(open) = &mut self.open else { return };
        open.scales = Some(scales);
        let indices: Vec<usize> = open.chunks.keys().copied().collect();
        owned.extend(indices.into_iter().filter_map(|index| self.make(index)));
    }

    /// Makes the next parameters of a chunk, if all is there that they need and they are not made.
    fn make(&mut self, index: usize) -> Option<Owned> {
        let OpenStep { step, scales, chunks, .. } = self.open.as_mut()?;
        let chunk = chunks.get_mut(&index).filter(|chunk| chunk.made.is_none())?;
        let (sum, scales) = (chunk.sum.clone()?, (*scales)?);
        let (_, before) = self.states.get(&index).filter(|(before, _)| before == step)?;
        let MadeChunk { state: made, change, .. } =
            self.rules.make_chunk(*step, index, scales, ChunkBuffer::of(&sum), before);
        let values = made.values.clone();
        #[cfg(feature = "faults")]
        let values = handed_out(&values);
        chunk.made = Some(made);
        Some(Owned::Made { index, sum, values, change })
    }

    /// What it has made so far, for those who ask later.
    pub fn made(&self) -> impl Iterator<Item = (usize, Arc<ChunkBuffer>)> {
        let chunks = self.open.iter().flat_map(|open| &open.chunks);
        chunks.filter_map(|(index, chunk)| Some((*index, chunk.made.as_ref()?.values.clone())))
    }

    /// The step in work is committed. Chunks of which it has made nothing have no state any more, but for those that
    /// the step left as they were.
    pub fn commit(&mut self) {
        let Some(OpenStep { step, chunks, .. }) = self.open.take() else { return };
        let frozen = |index: &usize| self.rules.frozen.contain(step, *index);
        let mut states = std::mem::take(&mut self.states);
        states.retain(|index, (before, _)| *before == step && frozen(index));
        states.values_mut().for_each(|(before, _)| *before = step + 1);
        let made = chunks.into_iter().filter_map(|(index, chunk)| Some((index, (step + 1, chunk.made?))));
        states.extend(made);
        self.states = states;
    }
}

/// A sum, as a machine adds that is wrong.
#[cfg(feature = "faults")]
fn faulty(mut sum: ChunkBuffer) -> ChunkBuffer {
    use crate::faults::{Wrong, spoil};
    spoil(Wrong::Sum, &mut sum);
    spoil(Wrong::Brought, &mut sum);
    sum
}

/// Parameters, as a machine hands them out that is wrong.
#[cfg(feature = "faults")]
fn handed_out(values: &ChunkBuffer) -> Arc<ChunkBuffer> {
    let mut values = ChunkBuffer::of(values);
    crate::faults::spoil(crate::faults::Wrong::Parameters, &mut values);
    Arc::new(values)
}

#[cfg(test)]
mod tests;
