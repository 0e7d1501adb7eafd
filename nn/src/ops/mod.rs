//! Our kernels as operations of a pass, one topic a file.
//!
//! Images are NHWC, features `(N, F)`. An operation knows its shapes when it is made, and computes on the calling thread.

mod activation;
mod add;
mod conv;
mod dropout;
mod flatten;
mod linear;
mod norm;
mod pool;
mod softmax;
#[cfg(test)]
mod tests;

pub(crate) use activation::Activate;
pub(crate) use add::Add;
pub(crate) use conv::{Behind, Conv};
pub(crate) use dropout::Dropout;
pub(crate) use flatten::Flatten;
pub(crate) use linear::Linear;
pub(crate) use norm::{BatchNorm, Normal, Output, Statistics};
pub(crate) use pool::{AvgPool, GlobalAvgPool, MaxPool};
pub(crate) use softmax::Softmax;

use crate::flow::Flow;

/// Which nodes an operation joins, by their index in the network.
#[derive(Debug, Clone)]
pub(crate) struct Ports {
    /// One, or two for a sum or a residual.
    pub inputs: Vec<usize>,
    /// What it computes.
    pub output: usize,
}

/// Which gradients the tape asks for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    /// Of the inputs; the second is false if there is none.
    pub inputs: [bool; 2],
    /// Of the parameters.
    pub parameters: bool,
}

/// What a backward pass reads of what the forward pass computed.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Keeps {
    /// The first input.
    pub input: bool,
    /// The output.
    pub output: bool,
}

/// An operation on the numbers of a pass.
pub(crate) trait Operation: Send + Sync {
    /// What it is, in error messages of candle.
    fn name(&self) -> &'static str;

    /// What its backward pass will read.
    fn keeps(&self) -> Keeps {
        Keeps::default()
    }

    /// Computes the output's value from those of the inputs.
    fn forward(&self, flow: &mut Flow, at: &Ports);

    /// Takes the output's gradient, contributes to those of the inputs that are wanted, and writes the sums of the
    /// parameters if they are.
    fn backward(&self, flow: &mut Flow, at: &Ports, wanted: Wanted);
}

/// The forward pass of an operation with one input: `fill` writes all `len` numbers of the output.
fn compute(flow: &mut Flow, at: &Ports, len: usize, fill: impl FnOnce(&[f32], &mut [f32])) {
    let mut y = flow.memory.take(len);
    fill(flow.numbers.value(at.inputs[0]), &mut y);
    flow.set_value(at.output, y);
}

/// The backward pass of an operation with one input of `len` numbers and no parameters: `fill` writes all of dx from dy.
fn propagate(flow: &mut Flow, at: &Ports, len: usize, fill: impl FnOnce(&Flow, &[f32], &mut [f32])) {
    let dy = flow.take_gradient(at.output);
    let mut dx = flow.memory.take(len);
    fill(flow, &dy, &mut dx);
    flow.add_gradient(at.inputs[0], dx);
    flow.memory.give(dy);
}
