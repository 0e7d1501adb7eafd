//! The parameters that one machine alone would compute, step by step. Parameters are a number here, and so is a shard's
//! gradient.

use convoy_scheduler::{Node, RunPlan, ShardId, StepId, Work, tree};

/// Mixes two numbers so that neither order nor grouping can be changed unnoticed (the finalizer of splitmix64).
pub fn mix(a: u64, b: u64) -> u64 {
    let mut z = a.rotate_left(17).wrapping_add(b).wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The initialisation.
pub const FIRST_PARAMETERS: u64 = 42;

/// The value that a worker gets for `node` with `parameters`: shards' values, mixed over the reduce tree.
pub fn node_value(parameters: u64, work: Work, node: Node) -> u64 {
    match node.children() {
        Some((left, right)) => mix(node_value(parameters, work, left), node_value(parameters, work, right)),
        None => {
            let ShardId(shard) = node.leaves().next().expect("a leaf has a shard");
            mix(parameters, mix(u64::from(shard), work as u64))
        }
    }
}

/// The parameters that follow from a step's sum.
pub fn next_parameters(parameters: u64, sum: u64) -> u64 {
    mix(parameters, !sum)
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
pub fn history(plan: &RunPlan) -> Vec<u64> {
    let mut history = vec![FIRST_PARAMETERS];
    for step in 0..plan.last_parameters().0 {
        let parameters = history[step as usize];
        if plan.evaluate_shards > 0 && plan.ends_epoch(StepId(step)) && stop_early(parameters) {
            break;
        }
        let sum = node_value(parameters, Work::Train, tree::root(plan.shards(StepId(step))));
        history.push(next_parameters(parameters, sum));
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
        let node = |first, last| node_value(7, Work::Train, Node { first, last });
        assert_eq!(node(0, 3), mix(mix(node(0, 1), node(1, 2)), node(2, 3)));
        assert_ne!(node(0, 1), node_value(7, Work::Evaluate, Node { first: 0, last: 1 }));
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
        let stop = (2..80).step_by(2).find(|step| stop_early(whole[*step])).expect("one in eight parameters stops");
        assert_eq!(evaluated, whole[..=stop]);
    }
}
