//! Our kernels as operations of a pass, one topic a file.
//!
//! Images are NHWC, features `(N, F)`. An operation knows its shapes when it is made, and computes on the calling thread, with
//! the help of idle ones.

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

use std::ops::Range;

use crate::flow::{Flow, Numbers};
use crate::team::{cut, ranges};

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

/// Units that an operation with one input computes apart from each other, such as images, and how many numbers of x and of
/// y each of them has.
#[derive(Debug, Clone, Copy)]
struct Units {
    count: usize,
    x: usize,
    y: usize,
}

/// The forward pass of an operation with one input: `fill` writes all of y from x, for some of the units.
fn compute(flow: &mut Flow, at: &Ports, units: Units, fill: impl Fn(Range<usize>, &[f32], &mut [f32]) + Sync) {
    let mut y = flow.memory.take(units.count * units.y);
    let x = flow.numbers.value(at.inputs[0]);
    let lanes = flow.team.lanes(x.len().max(y.len()), units.count);
    lanes.each(cut(&mut y, units.y, ranges(units.count, lanes.count())), |(range, y)| {
        let x = &x[range.start * units.x..range.end * units.x];
        fill(range, x, y);
    });
    drop(lanes);
    flow.set_value(at.output, y);
}

/// The backward pass of an operation with one input and no parameters: `fill` writes all of dx from dy, for some of the units.
fn propagate(
    flow: &mut Flow,
    at: &Ports,
    units: Units,
    fill: impl Fn(&Numbers, Range<usize>, &[f32], &mut [f32]) + Sync,
) {
    let dy = flow.take_gradient(at.output);
    let mut dx = flow.memory.take(units.count * units.x);
    let lanes = flow.team.lanes(dx.len().max(dy.len()), units.count);
    lanes.each(cut(&mut dx, units.x, ranges(units.count, lanes.count())), |(range, dx)| {
        let dy = &dy[range.start * units.y..range.end * units.y];
        fill(&flow.numbers, range, dy, dx);
    });
    drop(lanes);
    flow.add_gradient(at.inputs[0], dx);
    flow.memory.give(dy);
}
