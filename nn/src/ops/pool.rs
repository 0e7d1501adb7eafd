//! Pooling, as `torch.nn.functional.max_pool2d`, `avg_pool2d` and `adaptive_avg_pool2d(x, 1)`.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use convoy_kernels::pool::{
    PoolShape, avg_backward, avg_forward, global_avg_backward, global_avg_forward, max_backward, max_forward,
};

use super::{gradient, output, values, with_values};

/// Maximum over windows: `(n, h, w, c)` to `(n, oh, ow, c)`.
pub struct MaxPool(
    /// Its geometry; must make sense ([`PoolShape::checked`]).
    pub PoolShape,
);

impl CustomOp1 for MaxPool {
    fn name(&self) -> &'static str {
        "max pool"
    }

    fn cpu_fwd(&self, x: &CpuStorage, lx: &Layout) -> Result<(CpuStorage, Shape)> {
        let (s, x) = (self.0, values(x, lx)?);
        Ok(output(s.y_len(), (s.n, s.oh(), s.ow(), s.c), |y| max_forward(s, x, y)))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        gradient(x, |dx| with_values([x, dy], |[x, dy]| max_backward(self.0, x, dy, dx)))
    }
}

/// Mean over windows, padding counted: `(n, h, w, c)` to `(n, oh, ow, c)`.
pub struct AvgPool(
    /// Its geometry; must make sense ([`PoolShape::checked`]).
    pub PoolShape,
);

impl CustomOp1 for AvgPool {
    fn name(&self) -> &'static str {
        "average pool"
    }

    fn cpu_fwd(&self, x: &CpuStorage, lx: &Layout) -> Result<(CpuStorage, Shape)> {
        let (s, x) = (self.0, values(x, lx)?);
        Ok(output(s.y_len(), (s.n, s.oh(), s.ow(), s.c), |y| avg_forward(s, x, y)))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        gradient(x, |dx| with_values([dy], |[dy]| avg_backward(self.0, dy, dx)))
    }
}

/// Mean over all pixels: `(n, h, w, c)` to `(n, 1, 1, c)`.
pub struct GlobalAvgPool {
    /// Images.
    pub n: usize,
    /// Height times width.
    pub pixels: usize,
    /// Channels.
    pub c: usize,
}

impl CustomOp1 for GlobalAvgPool {
    fn name(&self) -> &'static str {
        "global average pool"
    }

    fn cpu_fwd(&self, x: &CpuStorage, lx: &Layout) -> Result<(CpuStorage, Shape)> {
        let (&GlobalAvgPool { n, pixels, c }, x) = (self, values(x, lx)?);
        Ok(output(n * c, (n, 1, 1, c), |y| global_avg_forward(n, pixels, c, x, y)))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        gradient(x, |dx| with_values([dy], |[dy]| global_avg_backward(self.n, self.pixels, self.c, dy, dx)))
    }
}
