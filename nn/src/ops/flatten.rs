//! From images to features, as `torch.flatten(x, 1)` of NCHW images.

use super::{Operation, Ports, Units, Wanted, compute, propagate};
use crate::flow::Flow;

/// `(n, pixels, c)` in any arrangement of the pixels to `(n, c * pixels)`: the features stand in PyTorch's order
/// (channel, row, column), so that the weight of the next fully connected layer is PyTorch's.
pub(crate) struct Flatten {
    /// Images.
    pub n: usize,
    /// Height times width.
    pub pixels: usize,
    /// Channels.
    pub c: usize,
}

impl Operation for Flatten {
    fn name(&self) -> &'static str {
        "flatten"
    }

    fn forward(&self, flow: &mut Flow, at: &Ports) {
        compute(flow, at, self.images(), |_, x, y| transpose_each(x, self.pixels, self.c, y));
    }

    fn backward(&self, flow: &mut Flow, at: &Ports, _wanted: Wanted) {
        propagate(flow, at, self.images(), |_, _, dy, dx| transpose_each(dy, self.c, self.pixels, dx));
    }
}

impl Flatten {
    fn images(&self) -> Units {
        let len = self.pixels * self.c;
        Units { count: self.n, x: len, y: len }
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
