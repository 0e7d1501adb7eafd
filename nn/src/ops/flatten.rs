//! From images to features, as `torch.flatten(x, 1)` of NCHW images.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

use super::{gradient, output, values, with_values};

/// `(n, pixels, c)` in any arrangement of the pixels to `(n, c * pixels)`: the features stand in PyTorch's order
/// (channel, row, column), so that the weight of the next fully connected layer is PyTorch's.
pub struct Flatten {
    /// Images.
    pub n: usize,
    /// Height times width.
    pub pixels: usize,
    /// Channels.
    pub c: usize,
}

impl CustomOp1 for Flatten {
    fn name(&self) -> &'static str {
        "flatten"
    }

    fn cpu_fwd(&self, x: &CpuStorage, lx: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = values(x, lx)?;
        let features = self.pixels * self.c;
        Ok(output(x.len(), (self.n, features), |y| transpose_each(x, self.pixels, self.c, y)))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        gradient(x, |dx| with_values([dy], |[dy]| transpose_each(dy, self.c, self.pixels, dx)))
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
