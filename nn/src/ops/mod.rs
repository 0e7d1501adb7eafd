//! Our kernels as operations of a pass, one topic a file.
//!
//! Images are NHWC, features `(N, F)`. An operation knows its shapes when it is made, and computes on the calling
//! thread, with the help of idle ones.
//!
//! [`resolve`] is the one place that tells layers apart. A new layer is a file here with a type that implements
//! [`Operation`], and a line there.

mod activation;
mod add;
mod conv;
mod dropout;
mod flatten;
mod linear;
mod norm;
mod norm_sums;
mod operation;
mod pool;
mod softmax;
#[cfg(test)]
mod tests;
mod units;

pub(crate) use conv::computed_in_bands;
pub(crate) use dropout::DropoutMask;
pub(crate) use norm::{Follows, write_running};
pub(crate) use operation::{Keeps, Layer, Operation, Ports, Wanted};
pub(crate) use pool::window;

use convoy_model::Op;

use crate::ComputeError;

/// The operation that computes a layer.
///
/// # Errors
/// When the layer does not fit its input, or normalises by a single value.
pub(crate) fn resolve(layer: &Layer<'_>) -> Result<Box<dyn Operation>, ComputeError> {
    Ok(match layer.node().op {
        Op::Input => unreachable!("only the first node is the input"),
        Op::Conv { weight, bias, .. } => Box::new(conv::Conv::resolve(layer, weight, bias)?),
        Op::Linear { weight, bias, .. } => Box::new(linear::Linear::resolve(layer, weight, bias)?),
        Op::MaxPool { .. } => Box::new(pool::MaxPool::resolve(layer)?),
        Op::AvgPool { .. } => Box::new(pool::AvgPool::resolve(layer)?),
        Op::GlobalAvgPool => Box::new(pool::GlobalAvgPool::resolve(layer)),
        Op::Flatten => Box::new(flatten::Flatten::resolve(layer)),
        Op::BatchNorm { .. } => Box::new(norm::BatchNorm::resolve(layer)?),
        Op::Activation(activation) => Box::new(activation::Activate(activation)),
        Op::Softmax => Box::new(softmax::Softmax::resolve(layer)),
        Op::Dropout { p, stream } => Box::new(dropout::Dropout::resolve(layer, p, stream)),
        Op::Add => Box::new(add::Add),
    })
}
