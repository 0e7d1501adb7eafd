//! What must come out, computed alone and in order: parameters are a number, and so is a shard's gradient.

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
