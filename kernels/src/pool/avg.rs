use super::{PoolShape, PoolWindow, Pooling};
use crate::cpu::simd;
use crate::simd_lanes::{Lanes, chunk, chunk_mut};

/// Average pooling as `torch.nn.functional.avg_pool2d`: padding counts as zeros, so every window is divided by its
/// full size. Each sum takes its window in order.
///
/// # Panics
/// If the shape makes no sense or a slice does not fit it.
pub fn avg_forward(shape: PoolShape, x: &[f32], y: &mut [f32]) {
    shape.check(x, y);
    forward(&shape, x, y);
}

simd! {
    fn forward(shape: &PoolShape, x: &[f32], y: &mut [f32]) {
        shape.for_windows::<PANEL>(&mut AvgForward { shape, window: PoolWindow::default(), x, y });
    }
}

struct AvgForward<'a> {
    shape: &'a PoolShape,
    window: PoolWindow,
    x: &'a [f32],
    y: &'a mut [f32],
}

impl Pooling for AvgForward<'_> {
    #[inline(always)]
    fn enter(&mut self, window: PoolWindow) {
        self.window = window;
    }
}

impl Lanes for AvgForward<'_> {
    #[inline(always)]
    fn block<const W: usize>(&mut self, first: usize) {
        let mut sums = [0.0; W];
        for pixel in self.window.pixels(self.shape) {
            let x: &[f32; W] = chunk(self.x, pixel + first);
            for lane in 0..W {
                sums[lane] += x[lane];
            }
        }
        let size = (self.shape.kernel[0] * self.shape.kernel[1]) as f32;
        *chunk_mut(self.y, self.window.output + first) = sums.map(|sum| sum / size);
    }
}

/// Gradient of [`avg_forward`]: each window's dy / size, added to its pixels in the order of the outputs.
///
/// # Panics
/// If the shape makes no sense or a slice does not fit it.
pub fn avg_backward(shape: PoolShape, dy: &[f32], dx: &mut [f32]) {
    shape.check(dx, dy);
    dx.fill(0.0);
    backward(&shape, dy, dx);
}

simd! {
    fn backward(shape: &PoolShape, dy: &[f32], dx: &mut [f32]) {
        shape.for_windows::<PANEL>(&mut AvgBackward { shape, window: PoolWindow::default(), dy, dx });
    }
}

struct AvgBackward<'a> {
    shape: &'a PoolShape,
    window: PoolWindow,
    dy: &'a [f32],
    dx: &'a mut [f32],
}

impl Pooling for AvgBackward<'_> {
    #[inline(always)]
    fn enter(&mut self, window: PoolWindow) {
        self.window = window;
    }
}

impl Lanes for AvgBackward<'_> {
    #[inline(always)]
    fn block<const W: usize>(&mut self, first: usize) {
        let size = (self.shape.kernel[0] * self.shape.kernel[1]) as f32;
        let share = chunk::<f32, W>(self.dy, self.window.output + first).map(|dy| dy / size);
        for pixel in self.window.pixels(self.shape) {
            let dx: &mut [f32; W] = chunk_mut(self.dx, pixel + first);
            for lane in 0..W {
                dx[lane] += share[lane];
            }
        }
    }
}
