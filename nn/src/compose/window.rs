//! Windows that slide over images.

use candle_core::{Result, Tensor};

/// A window of convolution or pooling; pairs are (vertical, horizontal).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    /// Its size.
    pub kernel: [usize; 2],
    /// Its step.
    pub stride: [usize; 2],
    /// Border on each side.
    pub padding: [usize; 2],
    /// Distance between its taps.
    pub dilation: [usize; 2],
    /// How many places it has.
    pub places: [usize; 2],
}

impl Window {
    /// What each tap of the window sees, row after row: of x `(n, h, w, c)`, with `border` around it, one
    /// `(n, places, places, c)` for each.
    pub fn taps(&self, x: &Tensor, border: f32) -> Result<Vec<Tensor>> {
        let x = self.pad(&self.pad(x, 0, border)?, 1, border)?;
        let mut taps = Vec::with_capacity(self.kernel[0] * self.kernel[1]);
        for row in 0..self.kernel[0] {
            let rows = self.tap(&x, 0, row)?;
            for column in 0..self.kernel[1] {
                taps.push(self.tap(&rows, 1, column)?);
            }
        }
        Ok(taps)
    }

    /// As much border along `axis` as the last tap wants, which takes whole steps.
    fn pad(&self, x: &Tensor, axis: usize, border: f32) -> Result<Tensor> {
        let dim = axis + 1;
        let wanted = (self.kernel[axis] - 1) * self.dilation[axis] + self.places[axis] * self.stride[axis];
        let before = self.padding[axis];
        let after = wanted.saturating_sub(before + x.dim(dim)?);
        let edge = |width: usize| {
            let mut dims = x.dims().to_vec();
            dims[dim] = width;
            Tensor::full(border, dims, x.device())
        };
        let mut parts = vec![x.clone()];
        if before > 0 {
            parts.insert(0, edge(before)?);
        }
        if after > 0 {
            parts.push(edge(after)?);
        }
        Tensor::cat(&parts, dim)
    }

    /// What tap `index` sees along `axis`.
    fn tap(&self, x: &Tensor, axis: usize, index: usize) -> Result<Tensor> {
        let dim = axis + 1;
        let (places, stride) = (self.places[axis], self.stride[axis]);
        let seen = x.narrow(dim, index * self.dilation[axis], places * stride)?;
        if stride == 1 {
            return Ok(seen);
        }
        let mut steps = seen.dims().to_vec();
        steps.splice(dim..=dim, [places, stride]);
        seen.reshape(steps)?.narrow(dim + 1, 0, 1)?.squeeze(dim + 1)
    }
}
