//! How much memory a run takes, before it starts.

use std::fmt;

use convoy_common::Plan;
use convoy_common::spec::{CPU_BF16_V1, OptimizerKind};
use serde::Serialize;

use crate::describe::bytes;
use crate::{Network, Op, Shape};

/// Gradients of outputs that are there at a time: of the one that a layer reads, of the one that it makes, and of one
/// that waits for a residual block's other way.
const GRADIENTS_UNDER_WAY: u64 = 3;

/// Bytes that a run is expected to take. Images, code and the allocator's own needs come on top.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MemoryEstimate {
    /// At the coordinator: parameters and buffers, in two generations, and once more what travels as bf16.
    pub parameters: u64,
    /// At the coordinator: optimizer state, in two generations.
    pub optimizer: u64,
    /// At the coordinator: gradient sums on their way up the reduce tree, one for each level of it but the root, whose
    /// memory the next generation takes (as nodes mostly come in order; more when they do not).
    pub reduction: u64,
    /// At each worker: parameters and buffers as they come, and again as the kernels want them.
    pub worker_parameters: u64,
    /// At each worker: gradients, one for each thread and one to add them to.
    pub worker_gradients: u64,
    /// At each worker, for each thread: outputs of all layers for a shard, and the gradients that are under way. A bit
    /// more than that is measured, since operations that are carried together keep one output.
    pub worker_activations: u64,
    /// At each worker that adds gradients for others, on top of that: two nodes that it keeps until their step is
    /// committed; and of half of all chunks, as with one other worker, sums, parameters and optimizer state before and
    /// after the step. With more workers it is less, and more where a worker computes more nodes.
    pub worker_exchange: u64,
    /// Of that, what is not nodes: all that a worker takes that computes nothing and only adds for others.
    pub worker_adding: u64,
    /// Threads of a worker that this is for.
    pub threads: u32,
}

impl MemoryEstimate {
    /// Bytes at the coordinator, all together.
    pub fn coordinator(&self) -> u64 {
        self.parameters + self.optimizer + self.reduction
    }

    /// Bytes at one worker, all together.
    pub fn worker(&self) -> u64 {
        (self.worker_parameters + self.worker_gradients).saturating_add(self.worker_activations)
    }
}

/// What a run of `plan` with `network` takes, where each worker has `threads` threads.
pub fn memory_estimate(plan: &Plan, network: &Network, threads: u32) -> MemoryEstimate {
    let optimizer = &plan.spec.optimizer;
    let states = match optimizer.kind {
        OptimizerKind::Sgd => u64::from(optimizer.momentum.unwrap_or(0.0) > 0.0),
        OptimizerKind::Adam | OptimizerKind::Adamw => 2,
    };
    let parameters = 4 * network.parameters as u64;
    let all = 4 * network.len() as u64;
    let halves = plan.spec.numerics == CPU_BF16_V1;
    let images = match u64::from(plan.spec.train.shard) {
        shard if !halves => shard,
        // Groups of 32, or one of as many as the next power of two.
        shard if shard < 32 => shard.next_power_of_two(),
        shard => shard.next_multiple_of(32),
    };
    let len = |shape: Shape| if halves { in_blocks(shape) } else { shape.len() as u64 };
    let outputs = network.nodes.iter().filter(|node| keeps_output(&node.op)).map(|node| len(node.output));
    let (all_outputs, largest) = (outputs.clone().sum::<u64>(), outputs.max().unwrap_or(0));
    let activations = all_outputs.saturating_add(largest.saturating_mul(GRADIENTS_UNDER_WAY));
    let shards = plan.spec.train.batch.div_ceil(plan.spec.train.shard.max(1)).max(1);
    let levels = u64::from(shards.next_power_of_two().ilog2());
    // What a step adds to parameters lies there as it travels, in two bytes.
    let changes = if plan.spec.train.compression.is_none() || halves { 0 } else { all / 2 };
    let adding = (all + changes + 2 * (all + states * parameters)) / 2;
    MemoryEstimate {
        // In bf16 they lie there a second time, as they travel.
        parameters: 2 * changes + if halves { 3 * all } else { 2 * all },
        optimizer: 2 * states * parameters,
        reduction: levels * parameters,
        // In bf16 the kernels want weights twice: for the forward pass, and for the gradient of the input.
        worker_parameters: all + if halves { 2 * parameters } else { parameters },
        // A vector for each thread; sums that wait for their siblings, one for each two threads; and the node before
        // that is on its way.
        worker_gradients: (u64::from(threads) + u64::from(threads).div_ceil(2) + 1) * parameters,
        // A spec may ask for more than there are bytes; the sums are then the most there is.
        worker_activations: activations
            .saturating_mul(if halves { 2 } else { 4 } * images)
            .saturating_mul(threads.into()),
        worker_exchange: 2 * all + adding,
        worker_adding: adding,
        threads,
    }
}

/// Numbers of a sample in blocks of 32 channels.
fn in_blocks(shape: Shape) -> u64 {
    let channels = u64::from(shape.channels());
    shape.len() as u64 / channels * channels.next_multiple_of(32)
}

/// Flatten shows its input in another order and keeps nothing.
fn keeps_output(op: &Op) -> bool {
    !matches!(op, Op::Flatten)
}

impl fmt::Display for MemoryEstimate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "coordinator about {}: parameters {} (two generations), optimizer {}, reduction {}",
            bytes(self.coordinator()),
            bytes(self.parameters),
            bytes(self.optimizer),
            bytes(self.reduction)
        )?;
        write!(
            f,
            "each worker about {} with {} thread{}: parameters {}, gradients {}, activations {}; {} more where workers \
             add for each other (--peer-listen)",
            bytes(self.worker()),
            self.threads,
            if self.threads == 1 { "" } else { "s" },
            bytes(self.worker_parameters),
            bytes(self.worker_gradients),
            bytes(self.worker_activations),
            bytes(self.worker_exchange)
        )
    }
}
