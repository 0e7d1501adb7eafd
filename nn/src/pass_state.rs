//! What the tape and the engine need to know of what a pass works on.

use std::borrow::Cow;
use std::sync::Arc;

use convoy_model::Network;

use crate::mode::ShardAddress;
use crate::shard_gradient::ShardGradient;
use crate::thread_team::Team;

/// What the operations of a pass read and write, in the numbers and the layout of a numerics class.
pub(crate) trait PassState: Sized + Send + 'static {
    /// Parameters and buffers of the network, as operations read them.
    type Weights: Clone + Send + Sync;
    /// Where buffers come from and go.
    type Pool: Default + Send;

    /// For a pass of so many `images`, NHWC.
    fn begin(shard: ShardInput<'_>, weights: Self::Weights, pool: Self::Pool, team: Arc<Team>) -> Self;

    /// What the last node puts out, row after row.
    fn outputs(&self) -> Cow<'_, [f32]>;

    /// Contributes the gradient of the last node's output, as a loss gives it.
    fn add_loss_gradient(&mut self, doutputs: &[f32]);

    /// Lets go what `node` put out.
    fn drop_output(&mut self, node: usize);

    /// What a training shard gives.
    fn shard_gradient(&mut self) -> &mut ShardGradient;

    /// The shard's gradient, flat, and all other buffers.
    fn end(self) -> (Vec<f32>, Self::Pool);
}

/// What a pass begins with.
pub(crate) struct ShardInput<'a> {
    /// The graph.
    pub network: Arc<Network>,
    /// The samples, NHWC, one after the other.
    pub x_nhwc: &'a [f32],
    /// How many.
    pub images: usize,
    /// Where masks are drawn; of no samples if none are.
    pub address: ShardAddress,
    /// What a training shard gives.
    pub gradient: ShardGradient,
}
