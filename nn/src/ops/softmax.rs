//! Softmax, as `torch.softmax(x, -1)`.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use convoy_kernels::softmax;

use super::{gradient, output, values, with_values};

/// Softmax over the last axis, which has `classes` values.
pub struct Softmax {
    /// Length of the last axis.
    pub classes: usize,
}

impl CustomOp1 for Softmax {
    fn name(&self) -> &'static str {
        "softmax"
    }

    fn cpu_fwd(&self, x: &CpuStorage, lx: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = values(x, lx)?;
        Ok(output(x.len(), lx.shape().clone(), |y| softmax::forward(x, self.classes, y)))
    }

    fn bwd(&self, x: &Tensor, y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        gradient(x, |dx| with_values([y, dy], |[y, dy]| softmax::backward(y, dy, self.classes, dx)))
    }
}
