//! The class `cpu-bf16-v1`: outputs of nodes and their gradients are bf16 in blocks
//! ([`convoy_kernels::bf16`]), parameters, their gradients and the network's outputs f32.
//!
//! A node's output is rounded once, by the operation that computes it; so is each gradient that an operation sends to
//! an input, and each sum of two such gradients. What is computed together is a [group](crate::fusion), which is part
//! of the bits: nothing inside of one is rounded. A linear layer that ends the network puts out f32.
//!
//! A convolution does for the norms beside it what is cheap while a row is in the cache: it measures its output for a
//! norm that reads it, and sums the gradient of its input for the norm that put it out. Where it does not, the norm
//! does it itself, with the same bits.

mod buffers;
mod conv;
#[cfg(test)]
mod definition;
mod linear;
mod norm;
mod pointwise;
mod pool;
mod reorder;
mod rows;
#[cfg(test)]
mod tests;
mod weights;

pub(crate) use buffers::HalfBuffers;
pub(crate) use weights::SharedWeights;

use convoy_model::{Network, Op};

use crate::ComputeError;
use crate::fusion::groups;
use crate::lowering::blocks_of;
use crate::ops::Operation;
use crate::pass_plan::{PassKind, PassPlan};
use rows::HalfLayer;

/// The plan for passes of one kind.
///
/// # Errors
/// When a layer does not fit its input, or a batch norm would normalise by a single value.
pub(crate) fn resolve(network: &Network, kind: PassKind) -> Result<PassPlan<HalfBuffers>, ComputeError> {
    for node in &network.nodes {
        blocks_of(node, kind.images)?;
    }
    let groups = groups(network);
    PassPlan::by(
        network,
        kind.mode,
        &groups,
        |input| input,
        |group| operation(&HalfLayer { network, kind, groups: &groups, group }),
    )
}

/// The operation that computes a group.
fn operation(layer: &HalfLayer<'_>) -> Result<Box<dyn Operation<HalfBuffers>>, ComputeError> {
    Ok(match layer.node().op {
        Op::Input => unreachable!("only the first node is the input"),
        Op::Conv { weight, bias, .. } => Box::new(conv::HalfConv::resolve(layer, weight, bias)?),
        Op::Linear { weight, bias, .. } => Box::new(linear::HalfLinear::resolve(layer, weight, bias)?),
        Op::MaxPool { .. } | Op::AvgPool { .. } => Box::new(pool::HalfPool::resolve(layer)?),
        Op::GlobalAvgPool => Box::new(pool::HalfGlobalPool::resolve(layer)?),
        Op::Flatten => Box::new(reorder::HalfFlatten::resolve(layer)?),
        Op::BatchNorm { .. } => Box::new(norm::HalfNorm::resolve(layer)?),
        Op::Activation(activation) => Box::new(pointwise::HalfActivation::resolve(layer, activation)?),
        Op::Softmax => Box::new(reorder::HalfSoftmax::resolve(layer)?),
        Op::Dropout { p, stream } => Box::new(pointwise::HalfDropout::resolve(layer, p, stream)?),
        Op::Add => Box::new(pointwise::HalfSum::resolve(layer)?),
    })
}
