//! From images to features, as `torch.flatten(x, 1)` of NCHW images.

use std::fmt;

use super::operation::{Layer, Operation, Ports, Wanted};
use super::units::{Units, compute, propagate};
use crate::lowering::pixels_and_channels;
use crate::pass_buffers::PassBuffers;

/// `(n, pixels, c)` in any arrangement of the pixels to `(n, c * pixels)`: the features stand in PyTorch's order
/// (channel, row, column), so that the weight of the next fully connected layer is PyTorch's.
pub(super) struct Flatten {
    /// Images.
    pub n: usize,
    /// Height times width.
    pub pixels: usize,
    /// Channels.
    pub c: usize,
}

impl Flatten {
    /// For the layer's input.
    pub fn resolve(layer: &Layer<'_>) -> Self {
        let (pixels, c) = pixels_and_channels(layer.input());
        Flatten { n: layer.images, pixels, c }
    }

    fn images(&self) -> Units {
        let len = self.pixels * self.c;
        Units { count: self.n, x: len, y: len }
    }
}

impl fmt::Display for Flatten {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "flatten {}x{}", self.pixels, self.c)
    }
}

impl Operation for Flatten {
    fn name(&self) -> &'static str {
        "flatten"
    }

    fn forward(&self, buffers: &mut PassBuffers, ports: &Ports) {
        compute(buffers, ports, self.images(), |_, x, y| transpose_each(x, self.pixels, self.c, y));
    }

    fn backward(&self, buffers: &mut PassBuffers, ports: &Ports, _wanted: Wanted) {
        propagate(buffers, ports, self.images(), |_, _, dy, dx| transpose_each(dy, self.c, self.pixels, dx));
    }
}

/// Turns each `rows` x `columns` matrix into its transpose.
fn transpose_each(x: &[f32], rows: usize, columns: usize, y: &mut [f32]) {
    for (x, y) in x.chunks_exact(rows * columns).zip(y.chunks_exact_mut(rows * columns)) {
        for (column, y) in y.chunks_exact_mut(rows).enumerate() {
            for (y, row) in y.iter_mut().zip(x.chunks_exact(columns)) {
                *y = row[column];
            }
        }
    }
}
