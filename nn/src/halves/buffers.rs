//! What one pass works on.

use std::borrow::Cow;
use std::sync::Arc;

use convoy_kernels::bf16::{self, Bf16, Blocks};
use convoy_model::Network;

use super::weights::PackedWeights;
use crate::buffer_pool::BufferPool;
use crate::gradients::Gradients;
use crate::lowering::{blocks, input_is_nhwc};
use crate::mode::ShardAddress;
use crate::pass_state::{PassState, ShardInput};
use crate::shard_gradient::ShardGradient;
use crate::thread_team::Team;
use crate::values::Values;

/// Everything that the operations of a pass read and write. All tensors are in [`Blocks`], but for a network's input
/// where that [is left](input_is_nhwc) as it came.
pub(crate) struct HalfBuffers {
    /// What the forward pass leaves.
    pub values: Values<Bf16>,
    /// The weights of convolutions and linear layers as they are multiplied.
    pub packed: Arc<PackedWeights>,
    /// On their way back.
    pub gradients: Gradients<Bf16>,
    /// By the node of a norm's output: sums of the rows of its gradient, if they were taken as that was written.
    pub norm_sums: Vec<Option<Vec<f64>>>,
    /// What a linear layer that ends the network puts out, row after row.
    pub logits: Option<Vec<f32>>,
    /// By the node of a dropout: which numbers stay.
    pub masks: Vec<Option<Vec<bool>>>,
    /// Where masks are drawn; of no samples if none are.
    pub address: ShardAddress,
    /// What a training shard gives.
    pub shard_gradient: ShardGradient,
    /// Where buffers come from and go.
    pub pool: BufferPool<Bf16>,
    /// Who may help.
    pub team: Arc<Team>,
    /// The last node, and what it puts out.
    last: (usize, Blocks),
}

impl HalfBuffers {
    /// Contributes to the gradient of what `node` put out, if it is wanted.
    pub fn pass_on(&mut self, node: usize, gradient: Vec<Bf16>, wanted: bool) {
        match wanted {
            true => self.gradients.add(node, gradient, &mut self.pool),
            false => self.pool.give(gradient),
        }
    }
}

impl PassState for HalfBuffers {
    type Weights = Arc<PackedWeights>;
    type Pool = BufferPool<Bf16>;

    fn begin(shard: ShardInput<'_>, packed: Arc<PackedWeights>, mut pool: BufferPool<Bf16>, team: Arc<Team>) -> Self {
        let ShardInput { network, x_nhwc, images, address, gradient } = shard;
        let Network { nodes, .. } = &*network;
        let (last, input) = (nodes.len() - 1, blocks(nodes[0].output, images));
        let nhwc = input_is_nhwc(&network, images);
        let mut x = pool.take(if nhwc { x_nhwc.len() } else { input.len() });
        if nhwc {
            bf16::round(x_nhwc, &mut x);
        } else {
            input.from_nhwc(x_nhwc, &mut x);
        }
        let (outputs, count) = (blocks(nodes[last].output, images), nodes.len());
        let mut values = Values::new(network, packed.flat().clone());
        values.set_output(0, x);
        HalfBuffers {
            values,
            packed,
            gradients: Gradients::new(count),
            norm_sums: vec![None; count],
            logits: None,
            masks: vec![None; count],
            address,
            shard_gradient: gradient,
            pool,
            team,
            last: (last, outputs),
        }
    }

    fn outputs(&self) -> Cow<'_, [f32]> {
        if let Some(logits) = &self.logits {
            return Cow::Borrowed(logits);
        }
        let (last, shape) = self.last;
        let mut outputs = vec![0.0; shape.n * shape.c];
        shape.to_nhwc(self.values.output(last), &mut outputs);
        Cow::Owned(outputs)
    }

    fn add_loss_gradient(&mut self, doutputs: &[f32]) {
        let (last, shape) = self.last;
        let mut rounded = self.pool.take(shape.len());
        shape.from_nhwc(doutputs, &mut rounded);
        self.gradients.add(last, rounded, &mut self.pool);
    }

    fn drop_output(&mut self, node: usize) {
        if let Some(output) = self.values.take_output(node) {
            self.pool.give(output);
        }
    }

    fn shard_gradient(&mut self) -> &mut ShardGradient {
        &mut self.shard_gradient
    }

    fn end(self) -> (Vec<f32>, BufferPool<Bf16>) {
        let mut pool = self.pool;
        self.values.into_buffers().chain(self.gradients.into_buffers()).for_each(|buffer| pool.give(buffer));
        (self.shard_gradient.into_flat(), pool)
    }
}
