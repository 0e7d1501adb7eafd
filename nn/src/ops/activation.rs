//! Activations, as the modules of the same names in `torch.nn`.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use convoy_kernels::activation::Activation;

use super::{gradient, output, values, with_values};

/// An activation function, element by element, for any shape.
pub struct Activate(
    /// Which function.
    pub Activation,
);

impl CustomOp1 for Activate {
    fn name(&self) -> &'static str {
        "activation"
    }

    fn cpu_fwd(&self, x: &CpuStorage, lx: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = values(x, lx)?;
        Ok(output(x.len(), lx.shape().clone(), |y| self.0.forward(x, y)))
    }

    fn bwd(&self, x: &Tensor, y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        gradient(x, |dx| with_values([x, y, dy], |[x, y, dy]| self.0.backward(x, y, dy, dx)))
    }
}
