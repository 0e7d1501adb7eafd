//! What one pass of the kernels for f32 works on: outputs of nodes, gradients on their way back, and the gradient that
//! a shard gives.

use std::borrow::Cow;
use std::sync::Arc;

use convoy_kernels::norm_block::BackwardSums;
use convoy_model::Network;

use crate::buffer_pool::BufferPool;
use crate::gradients::Gradients;
use crate::mode::ShardAddress;
use crate::pass_state::{PassState, ShardInput};
use crate::shard_gradient::ShardGradient;
use crate::thread_team::Team;
use crate::values::Values;

/// Everything that the operations of a pass read and write. Vectors have an element for each node of the network.
pub(crate) struct PassBuffers {
    /// What the forward pass leaves.
    pub values: Values,
    /// The node that puts out the network's outputs.
    last: usize,
    /// The gradient of each node's output, as long as that, from its first contribution until the node's backward pass.
    ///
    /// Of a node whose batch norm's backward pass a convolution finishes: the gradient of the norm's output in its
    /// place, from the norm's backward pass until the convolution's ([`handover`](crate::handover)).
    gradients: Gradients,
    /// By the node of a batch norm's output: both sums of its backward pass ([`handover`](crate::handover)).
    norm_sums: Vec<Option<BackwardSums>>,
    /// By the node of a dropout: which numbers stay.
    masks: Vec<Option<Vec<bool>>>,
    /// Where masks are drawn; of no samples if none are.
    pub address: ShardAddress,
    /// What a training shard gives.
    pub shard_gradient: ShardGradient,
    /// Where buffers come from and go.
    pub pool: BufferPool,
    /// Who may help.
    pub team: Arc<Team>,
}

impl PassBuffers {
    /// Buffers for a pass of `network` with these weights, flat.
    pub fn new(
        network: Arc<Network>,
        weights: Arc<Vec<f32>>,
        address: ShardAddress,
        shard_gradient: ShardGradient,
        pool: BufferPool,
        team: Arc<Team>,
    ) -> Self {
        let nodes = network.nodes.len();
        PassBuffers {
            last: nodes - 1,
            values: Values::new(network, weights),
            gradients: Gradients::new(nodes),
            norm_sums: vec![None; nodes],
            masks: vec![None; nodes],
            address,
            shard_gradient,
            pool,
            team,
        }
    }

    /// The gradient of what `node` put out. Nobody adds to it any more.
    ///
    /// # Panics
    /// If nothing contributed to it; the tape asks nodes only once something did.
    pub fn take_gradient(&mut self, node: usize) -> Vec<f32> {
        self.gradients.take(node)
    }

    /// Contributes to the gradient of what `node` put out: the first contribution as it is, the others are added to it
    /// as they come.
    pub fn add_gradient(&mut self, node: usize, gradient: Vec<f32>) {
        self.gradients.add(node, gradient, &mut self.pool);
    }

    /// [`PassBuffers::add_gradient`] of a copy.
    pub fn copy_gradient(&mut self, node: usize, gradient: &[f32]) {
        self.gradients.add_copy(node, gradient, &mut self.pool);
    }

    /// Leaves the sums of the batch norm that puts out `norm`.
    pub fn leave_norm_sums(&mut self, norm: usize, sums: BackwardSums) {
        self.norm_sums[norm] = Some(sums);
    }

    /// The sums of the batch norm that puts out `norm`, if somebody left them.
    pub fn take_norm_sums(&mut self, norm: usize) -> Option<BackwardSums> {
        self.norm_sums[norm].take()
    }

    /// Keeps the mask of a dropout.
    pub fn set_mask(&mut self, node: usize, mask: Vec<bool>) {
        self.masks[node] = Some(mask);
    }

    /// The mask of a dropout, which nobody needs any more.
    ///
    /// # Panics
    /// If none was drawn; the forward pass comes first.
    pub fn take_mask(&mut self, node: usize) -> Vec<bool> {
        self.masks[node].take().expect("the forward pass draws the mask")
    }
}

impl PassState for PassBuffers {
    type Weights = Arc<Vec<f32>>;
    type Pool = BufferPool;

    fn begin(shard: ShardInput<'_>, weights: Arc<Vec<f32>>, mut pool: BufferPool, team: Arc<Team>) -> Self {
        let x = pool.take_copy(shard.x_nhwc);
        let mut buffers = PassBuffers::new(shard.network, weights, shard.address, shard.gradient, pool, team);
        buffers.values.set_output(0, x);
        buffers
    }

    fn outputs(&self) -> Cow<'_, [f32]> {
        Cow::Borrowed(self.values.output(self.last))
    }

    fn add_loss_gradient(&mut self, doutputs: &[f32]) {
        self.copy_gradient(self.last, doutputs);
    }

    fn drop_output(&mut self, node: usize) {
        if let Some(output) = self.values.take_output(node) {
            self.pool.give(output);
        }
    }

    fn shard_gradient(&mut self) -> &mut ShardGradient {
        &mut self.shard_gradient
    }

    fn end(self) -> (Vec<f32>, BufferPool) {
        let mut pool = self.pool;
        self.values.into_buffers().chain(self.gradients.into_buffers()).for_each(|buffer| pool.give(buffer));
        (self.shard_gradient.into_flat(), pool)
    }
}
