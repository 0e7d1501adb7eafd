//! Operations with one input whose units, such as images, are computed apart from each other, on as many threads as are
//! idle.

use std::ops::Range;

use super::operation::Ports;
use crate::pass_buffers::PassBuffers;
use crate::thread_team::{cut, ranges};
use crate::values::Values;

/// Units that are computed apart from each other, and how many numbers of x and of y each of them has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Units {
    pub count: usize,
    pub x: usize,
    pub y: usize,
}

impl Units {
    /// Numbers, each of which depends on one.
    pub fn elements(count: usize) -> Self {
        Units { count, x: 1, y: 1 }
    }
}

/// The forward pass: `fill` writes all of y from x, for some of the units.
pub(super) fn compute(
    buffers: &mut PassBuffers,
    ports: &Ports,
    units: Units,
    fill: impl Fn(Range<usize>, &[f32], &mut [f32]) + Sync,
) {
    let mut y = buffers.pool.take(units.count * units.y);
    let x = buffers.values.output(ports.inputs[0]);
    let threads = buffers.team.threads(x.len().max(y.len()), units.count);
    threads.each(cut(&mut y, units.y, ranges(units.count, threads.count())), |(range, y)| {
        let x = &x[range.start * units.x..range.end * units.x];
        fill(range, x, y);
    });
    drop(threads);
    buffers.values.set_output(ports.output, y);
}

/// The backward pass of an operation without parameters: `fill` writes all of dx from dy, for some of the units.
pub(super) fn propagate(
    buffers: &mut PassBuffers,
    ports: &Ports,
    units: Units,
    fill: impl Fn(&Values, Range<usize>, &[f32], &mut [f32]) + Sync,
) {
    let dy = buffers.take_gradient(ports.output);
    let mut dx = buffers.pool.take(units.count * units.x);
    let threads = buffers.team.threads(dx.len().max(dy.len()), units.count);
    threads.each(cut(&mut dx, units.x, ranges(units.count, threads.count())), |(range, dx)| {
        let dy = &dy[range.start * units.y..range.end * units.y];
        fill(&buffers.values, range, dy, dx);
    });
    drop(threads);
    buffers.add_gradient(ports.inputs[0], dx);
    buffers.pool.give(dy);
}
