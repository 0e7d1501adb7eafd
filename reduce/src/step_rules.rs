//! What all steps of a run have in common, and what one does to one chunk.

use std::sync::Arc;

use bytes::Bytes;
use convoy_common::Plan;
use convoy_common::spec::{CPU_BF16_V1, Compression};
use convoy_kernels::compression::round_change;
use convoy_kernels::finite_check::all_finite;
use convoy_kernels::optimizer::{NORM_BLOCK, norm_sq_block};
use convoy_model::Network;
use convoy_proto::{CHUNK_ELEMENTS, chunk_count, chunk_range};

use crate::{ChunkBuffer, Elements, FrozenChunks, ParameterState, Scales, Update, moment_names};

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
    /// Whether what a step changes is rounded to bf16, and travels as that.
    pub rounds_changes: bool,
    update: Update,
}

/// What a step has made of a chunk.
#[derive(Debug, Clone, PartialEq)]
pub struct MadeChunk {
    /// Its state after the step.
    pub state: ChunkState,
    /// What was added to its values, where that is rounded: bf16, the lower byte of each first.
    pub change: Option<Bytes>,
    /// Whether all of the state is free of NaN and infinity.
    pub finite: bool,
}

/// Parameters (or buffers) and optimizer state of one chunk, after some number of steps.
#[derive(Debug, Clone, PartialEq)]
pub struct ChunkState {
    /// Parameters, then buffers.
    pub values: Arc<ChunkBuffer>,
    /// The optimizer's state of those of them that are parameters, which come first: a part for each of its
    /// [names](crate::moment_names), empty where the chunk has only buffers, none where all later chunks have none.
    pub moments: Vec<Arc<ChunkBuffer>>,
}

impl ChunkState {
    /// Chunk `index` of `state`.
    ///
    /// # Panics
    /// When there is no such chunk.
    pub fn of(state: &ParameterState, index: usize) -> ChunkState {
        let moments = state.moments.iter().filter_map(|moment| moment.chunks().get(index)).cloned().collect();
        ChunkState { values: state.flat.chunks()[index].clone(), moments }
    }

    /// Whether it has the lengths of chunk `index` under `rules`.
    pub fn fits(&self, rules: &StepRules, index: usize) -> bool {
        let StepRules { plan, network, .. } = rules;
        let elements = |len| chunk_range(len, index).len();
        let moments = match index < chunk_count(network.parameters) {
            true => moment_names(&plan.spec.optimizer).len(),
            false => 0,
        };
        self.values.len() == elements(network.len())
            && self.moments.len() == moments
            && self.moments.iter().all(|moment| moment.len() == elements(network.parameters))
    }
}

impl StepRules {
    /// Those of a plan and its network.
    pub fn new(plan: Arc<Plan>, network: Arc<Network>) -> Self {
        let (frozen, update) = (FrozenChunks::of(&plan, &network), Update::new(&plan, &network));
        // Weights that travel as bf16 have no more exact copies to which a change could be added.
        let rounds_changes = plan.spec.train.compression == Compression::Bf16 && plan.spec.numerics != CPU_BF16_V1;
        StepRules { plan, network, frozen, rounds_changes, update }
    }

    /// How exact nodes and sums are, and what travels.
    pub fn compression(&self) -> Compression {
        self.plan.spec.train.compression
    }

    /// The scales of step `step`, where they follow from the plan alone: without class weights and clipping.
    pub fn early_scales(&self, step: u64) -> Option<Scales> {
        if !self.plan.class_weights.is_empty() || self.plan.spec.optimizer.clip_norm.is_some() {
            return None;
        }
        let cut = self.plan.train_cut();
        let count = cut.step(step % cut.steps()).len() as f32;
        Some(Scales { gradient: 1.0 / count, statistics: 1.0 / count })
    }

    /// The sum of squares of what is parameters in `root`, the sum of all shards of chunk `index`: in f64 over fixed
    /// blocks, in order.
    pub fn squares(&self, index: usize, root: &[f32]) -> f64 {
        let parameters = self.network.parameters.saturating_sub(index * CHUNK_ELEMENTS);
        let part = &root[..root.len().min(parameters)];
        part.chunks(NORM_BLOCK).map(norm_sq_block).fold(0.0, |sum, block| sum + block)
    }

    /// Step `step` of chunk `index`, whose sum over all shards is `root`: in the root's memory it makes the parameters
    /// that follow from `before`.
    pub fn make_chunk(
        &self,
        step: u64,
        index: usize,
        scales: Scales,
        root: ChunkBuffer,
        before: &ChunkState,
    ) -> MadeChunk {
        let mut root = root.made_whole();
        let mut change = vec![[0; 2]; if self.rounds_changes { root.len() } else { 0 }];
        let first = index * CHUNK_ELEMENTS;
        let old = &before.moments;
        let mut moments: Vec<ChunkBuffer> = old.iter().map(|old| ChunkBuffer::new(old.len())).collect();
        // The root of a block while its memory begins to hold what is made of it.
        let mut block = [0.0; BLOCK];
        let mut finite = true;
        let blocks = root.chunks_mut(BLOCK).zip(before.values.chunks(BLOCK));
        for (start, (values, before)) in (0..).step_by(BLOCK).zip(blocks) {
            let sum = &mut block[..values.len()];
            sum.copy_from_slice(values);
            values.copy_from_slice(before);
            let carried = moments.iter_mut().zip(old).map(|(moment, old)| {
                let part = start.min(old.len())..(start + values.len()).min(old.len());
                moment[part.clone()].copy_from_slice(&old[part.clone()]);
                &mut moment[part]
            });
            let mut carried: Vec<&mut [f32]> = carried.collect();
            let elements = Elements { first: first + start, values, moments: &mut carried, sum };
            self.update.apply(step, scales, elements);
            if self.rounds_changes {
                let here = start..start + values.len();
                round_change(before, values, &mut change[here]);
            }
            finite &= all_finite(values) && carried.iter().all(|moment| all_finite(moment));
        }
        let state = ChunkState { values: Arc::new(root), moments: moments.into_iter().map(Arc::new).collect() };
        let change = self.rounds_changes.then(|| Bytes::from(change.into_flattened()));
        MadeChunk { state, change, finite }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Flat;

    const CHUNKS: usize = 3;

    /// Rules whose network has a chunk of parameters, one that begins with parameters, and one of buffers alone.
    fn rules(optimizer: &str) -> StepRules {
        let spec = format!("[train]\nbatch = 24\nshard = 8\n[network]\nname = \"lenet5\"\n[optimizer]\n{optimizer}");
        let plan = convoy_testing::plan(&spec, [28, 28, 1], 2);
        let network = Network::of(&plan).expect("a network of a test is right");
        let rules = StepRules::new(Arc::new(plan), Arc::new(network.clone()));
        let (parameters, buffers) = (CHUNK_ELEMENTS + 5, CHUNK_ELEMENTS);
        StepRules { network: Arc::new(Network { parameters, buffers, ..network }), ..rules }
    }

    #[test]
    fn a_state_fits_where_all_of_it_has_the_lengths_of_its_chunk() {
        for (optimizer, kept) in [
            ("kind = \"sgd\"\nlr = 0.1\nmomentum = 0.0", 0),
            ("kind = \"sgd\"\nlr = 0.1\nmomentum = 0.9", 1),
            ("kind = \"adamw\"\nlr = 0.1", 2),
        ] {
            let rules = rules(optimizer);
            let (flat, parameters) = (Flat::zeros(rules.network.len()), rules.network.parameters);
            let state = ParameterState::first(flat, parameters, &rules.plan.spec.optimizer);
            for index in 0..CHUNKS {
                let chunk = ChunkState::of(&state, index);
                assert_eq!(chunk.moments.len(), if index < 2 { kept } else { 0 }, "{optimizer}");
                let fits: Vec<usize> = (0..CHUNKS).filter(|other| chunk.fits(&rules, *other)).collect();
                let alike = if kept == 0 && index < 2 { vec![0, 1] } else { vec![index] };
                assert_eq!(fits, alike, "{optimizer}");
            }
        }
    }

    #[test]
    fn a_state_that_lacks_something_or_has_too_much_does_not_fit() {
        let rules = rules("kind = \"adamw\"\nlr = 0.1");
        let part = |len: usize| Arc::new(ChunkBuffer::zeros(len));
        let fits = |index: usize, values: usize, moments: &[usize]| {
            let moments = moments.iter().map(|len| part(*len)).collect();
            ChunkState { values: part(values), moments }.fits(&rules, index)
        };
        assert!(fits(1, CHUNK_ELEMENTS, &[5, 5]) && fits(2, 5, &[]));
        assert!(!fits(1, CHUNK_ELEMENTS, &[5]) && !fits(1, CHUNK_ELEMENTS, &[5, 5, 5]), "two moments");
        assert!(!fits(1, CHUNK_ELEMENTS, &[5, 4]) && !fits(1, CHUNK_ELEMENTS, &[6, 5]), "of five parameters");
        assert!(!fits(1, CHUNK_ELEMENTS - 1, &[5, 5]) && !fits(2, 6, &[]), "and all values");
        assert!(!fits(2, 5, &[0, 0]), "buffers have no moments");
    }
}
