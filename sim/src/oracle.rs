//! What one machine alone would compute, in order: parameters are a number, and so is a shard's gradient.

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

/// What a worker computes for `node` with `parameters`.
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

/// All parameters of a run, from the initialisation to its end.
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

/// Samples that an epoch has.
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
