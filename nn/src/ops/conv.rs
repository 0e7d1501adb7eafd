//! Convolution, as `torch.nn.functional.conv2d`.

use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor};
use convoy_kernels::conv::{self, ConvShape, winograd};

use super::{gradient, output, values, with_values};

/// x `(n, h, w, ci)`, weight `(co, ci / groups, kh, kw)` and, as a ternary operation, bias `(co)`,
/// to `(n, oh, ow, co)`.
pub struct Conv {
    /// Its geometry; must make sense ([`ConvShape::checked`]).
    pub shape: ConvShape,
    /// By Winograd's algorithm, for which the geometry must fit ([`winograd::fits`]).
    pub winograd: bool,
}

impl Conv {
    fn forward(&self, x: &[f32], w: &[f32], bias: Option<&[f32]>) -> (CpuStorage, Shape) {
        let s = self.shape;
        let forward = if self.winograd { winograd::forward } else { conv::forward };
        output(s.y_len(), (s.n, s.oh(), s.ow(), s.co), |y| forward(s, x, w, bias, y))
    }

    fn backward_x(&self, x: &Tensor, w: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let backward = if self.winograd { winograd::backward_data } else { conv::backward_data };
        gradient(x, |dx| with_values([w, dy], |[w, dy]| backward(self.shape, dy, w, dx)))
    }

    fn backward_w(&self, x: &Tensor, w: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let backward = if self.winograd { winograd::backward_weight } else { conv::backward_weight };
        gradient(w, |dw| with_values([x, dy], |[x, dy]| backward(self.shape, x, dy, dw)))
    }
}

impl CustomOp2 for Conv {
    fn name(&self) -> &'static str {
        "conv"
    }

    fn cpu_fwd(&self, x: &CpuStorage, lx: &Layout, w: &CpuStorage, lw: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok(self.forward(values(x, lx)?, values(w, lw)?, None))
    }

    fn bwd(&self, x: &Tensor, w: &Tensor, _y: &Tensor, dy: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        Ok((self.backward_x(x, w, dy)?, self.backward_w(x, w, dy)?))
    }
}

impl CustomOp3 for Conv {
    fn name(&self) -> &'static str {
        "conv with bias"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        w: &CpuStorage,
        lw: &Layout,
        bias: &CpuStorage,
        lb: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        Ok(self.forward(values(x, lx)?, values(w, lw)?, Some(values(bias, lb)?)))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        bias: &Tensor,
        _y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let db = gradient(bias, |db| with_values([dy], |[dy]| conv::backward_bias(self.shape, dy, db)))?;
        Ok((self.backward_x(x, w, dy)?, self.backward_w(x, w, dy)?, db))
    }
}
