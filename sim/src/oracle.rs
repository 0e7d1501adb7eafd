//! The parameters that one machine alone would compute, step by step. Each chunk of parameters, of the optimizer's
//! state and of a shard's gradient is a number here.

use convoy_scheduler::{Node, RunPlan, ShardId, StepId, Work, tree};

/// Mixes two numbers so that neither order nor grouping can be changed unnoticed (the finalizer of splitmix64).
pub fn mix(a: u64, b: u64) -> u64 {
    let mut z = a.rotate_left(17).wrapping_add(b).wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Parameters and the optimizer's state, both by chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    /// The parameters, which workers compute with.
    pub values: Vec<u64>,
    /// The optimizer's state.
    pub state: Vec<u64>,
}

impl Model {
    /// The initialisation, in so many chunks.
    pub fn first(chunks: u32) -> Model {
        let numbers = |from: u64| (0..u64::from(chunks)).map(|chunk| mix(from, chunk)).collect();
        Model { values: numbers(42), state: numbers(43) }
    }

    /// The parameters that follow from a step's sums.
    pub fn next(&self, sums: &[u64]) -> Model {
        let chunks = self.values.iter().zip(&self.state).zip(sums);
        let (values, state) = chunks.map(|((value, state), sum)| next_chunk(*value, *state, *sum)).unzip();
        Model { values, state }
    }

    /// One number for the parameters.
    pub fn whole(&self) -> u64 {
        whole(&self.values)
    }

    /// One number for all of it.
    pub fn number(&self) -> u64 {
        mix(self.whole(), whole(&self.state))
    }
}

/// One number for those of all chunks.
pub fn whole(chunks: &[u64]) -> u64 {
    chunks.iter().fold(chunks.len() as u64, |whole, chunk| mix(whole, *chunk))
}

/// The parameters and the optimizer's state of a chunk that follow from a step's sum of it.
pub fn next_chunk(value: u64, state: u64, sum: u64) -> (u64, u64) {
    let state = mix(state, sum);
    (mix(value, !state), state)
}

/// The value that a worker gets for a chunk of `node` with `parameters`: shards' values, mixed over the reduce tree.
pub fn node_value(parameters: u64, work: Work, node: Node, chunk: usize) -> u64 {
    match node.children() {
        Some((left, right)) => {
            mix(node_value(parameters, work, left, chunk), node_value(parameters, work, right, chunk))
        }
        None => {
            let ShardId(shard) = node.leaves().next().expect("a leaf has a shard");
            mix(parameters, mix(u64::from(shard), mix(work as u64, chunk as u64)))
        }
    }
}

/// All chunks of `node`.
pub fn node_values(parameters: u64, work: Work, node: Node, chunks: usize) -> Vec<u64> {
    (0..chunks).map(|chunk| node_value(parameters, work, node, chunk)).collect()
}

/// Whether these parameters are good enough to stop.
pub fn stop_early(parameters: u64) -> bool {
    parameters.is_multiple_of(8)
}

/// A digest of parameters.
pub fn digest(parameters: u64) -> [u8; 32] {
    let mut digest = [0; 32];
    digest[..8].copy_from_slice(&parameters.to_le_bytes());
    digest
}

/// All parameters of a run, from the initialisation to its end: entry `t` are those after `t` steps.
pub fn history(plan: &RunPlan) -> Vec<Model> {
    let mut history = vec![Model::first(plan.chunks)];
    for step in 0..plan.last_parameters().0 {
        let model = &history[step as usize];
        let parameters = model.whole();
        if plan.evaluate_shards > 0 && plan.ends_epoch(StepId(step)) && stop_early(parameters) {
            break;
        }
        let root = tree::root(plan.shards(StepId(step)));
        let sums = node_values(parameters, Work::Train, root, plan.chunks as usize);
        history.push(model.next(&sums));
    }
    history
}

/// Samples in a shard. The world's shards are all full.
const SHARD_SAMPLES: u64 = 2;

/// Samples of an epoch.
pub fn samples_per_epoch(plan: &RunPlan) -> u64 {
    let full = (plan.steps_per_epoch - 1) * u64::from(plan.shards_full_step);
    (full + u64::from(plan.shards_last_step)) * SHARD_SAMPLES
}

/// The samples of a training shard: a function of the plan, the step and the shard alone. Each epoch has an order of
/// its own.
pub fn samples(plan: &RunPlan, step: StepId, shard: ShardId) -> impl Iterator<Item = u64> {
    let (epoch, within) = (step.0 / plan.steps_per_epoch, step.0 % plan.steps_per_epoch);
    let first = (within * u64::from(plan.shards_full_step) + u64::from(shard.0)) * SHARD_SAMPLES;
    let count = samples_per_epoch(plan);
    let offset = mix(epoch, 1) % count;
    let stride = (0..).map(|i| mix(epoch, 2 + i) % count).find(|stride| gcd(*stride, count) == 1).unwrap_or(1);
    (first..first + SHARD_SAMPLES).map(move |at| (offset + at * stride) % count)
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_grouping_show() {
        let (a, b, c) = (1, 2, 3);
        assert_ne!(mix(a, b), mix(b, a));
        assert_ne!(mix(mix(a, b), c), mix(a, mix(b, c)));
        let node = |first, last| node_value(7, Work::Train, Node { first, last }, 0);
        assert_eq!(node(0, 3), mix(mix(node(0, 1), node(1, 2)), node(2, 3)));
        assert_ne!(node(0, 1), node_value(7, Work::Evaluate, Node { first: 0, last: 1 }, 0));
        assert_ne!(node(0, 1), node_value(7, Work::Train, Node { first: 0, last: 1 }, 1));
    }

    #[test]
    fn an_epoch_takes_each_sample_once_in_an_order_of_its_own() {
        let plan = RunPlan::new(2, 3, 4, 2);
        let epoch = |steps: std::ops::Range<u64>| -> Vec<u64> {
            let shards = steps.flat_map(|step| (0..plan.shards(StepId(step))).map(move |shard| (StepId(step), shard)));
            shards.flat_map(|(step, shard)| samples(&plan, step, ShardId(shard))).collect()
        };
        let (mut first, mut second) = (epoch(0..3), epoch(3..6));
        assert_ne!(first, second);
        first.sort_unstable();
        second.sort_unstable();
        assert!(first == second && first.into_iter().eq(0..samples_per_epoch(&plan)));
    }

    #[test]
    fn a_history_ends_where_the_run_would() {
        let plan = RunPlan::new(40, 2, 4, 4);
        let whole = history(&plan);
        assert_eq!(whole.len(), 81);
        let evaluated = history(&RunPlan { evaluate_shards: 1, ..plan });
        let stop =
            (2..80).step_by(2).find(|step| stop_early(whole[*step].whole())).expect("one in eight parameters stops");
        assert_eq!(evaluated, whole[..=stop]);
    }
}
