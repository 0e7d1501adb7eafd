use super::{PoolShape, PoolWindow, Pooling};
use crate::cpu::simd;
use crate::simd_lanes::{Lanes, chunk, chunk_mut};

/// Max pooling as `torch.nn.functional.max_pool2d`: padding is never the largest, a NaN always is.
///
/// # Panics
/// If the shape makes no sense or a slice does not fit it.
pub fn max_forward(shape: PoolShape, x: &[f32], y: &mut [f32]) {
    shape.check(x, y);
    forward(&shape, x, y);
}

simd! {
    fn forward(shape: &PoolShape, x: &[f32], y: &mut [f32]) {
        shape.for_windows::<PANEL>(&mut MaxForward { shape, window: PoolWindow::default(), x, y });
    }
}

struct MaxForward<'a> {
    shape: &'a PoolShape,
    window: PoolWindow,
    x: &'a [f32],
    y: &'a mut [f32],
}

impl Pooling for MaxForward<'_> {
    #[inline(always)]
    fn enter(&mut self, window: PoolWindow) {
        self.window = window;
    }
}

impl Lanes for MaxForward<'_> {
    #[inline(always)]
    fn block<const W: usize>(&mut self, first: usize) {
        *chunk_mut(self.y, self.window.output + first) = largest::<W>(self.shape, self.window, self.x, first);
    }
}

/// The largest values of a window, for `W` channels from `first` on.
#[inline(always)]
fn largest<const W: usize>(shape: &PoolShape, window: PoolWindow, x: &[f32], first: usize) -> [f32; W] {
    let mut best = [f32::NEG_INFINITY; W];
    for pixel in window.pixels(shape) {
        let x: &[f32; W] = chunk(x, pixel + first);
        for lane in 0..W {
            best[lane] = if (x[lane] > best[lane]) | x[lane].is_nan() { x[lane] } else { best[lane] };
        }
    }
    best
}

/// Gradient of [`max_forward`], from its input `x`: each dy goes to the largest value of its window, to the first in
/// window order if several are equal (to the first NaN if there is one). Added in the order of the outputs.
///
/// # Panics
/// If the shape makes no sense or a slice does not fit it.
pub fn max_backward(shape: PoolShape, x: &[f32], dy: &[f32], dx: &mut [f32]) {
    shape.check(x, dy);
    shape.check(dx, dy);
    dx.fill(0.0);
    backward(&shape, x, dy, dx);
}

simd! {
    fn backward(shape: &PoolShape, x: &[f32], dy: &[f32], dx: &mut [f32]) {
        shape.for_windows::<PANEL>(&mut MaxBackward { shape, window: PoolWindow::default(), x, dy, dx });
    }
}

struct MaxBackward<'a> {
    shape: &'a PoolShape,
    window: PoolWindow,
    x: &'a [f32],
    dy: &'a [f32],
    dx: &'a mut [f32],
}

impl Pooling for MaxBackward<'_> {
    #[inline(always)]
    fn enter(&mut self, window: PoolWindow) {
        self.window = window;
    }
}

impl Lanes for MaxBackward<'_> {
    #[inline(always)]
    fn block<const W: usize>(&mut self, first: usize) {
        let best = largest::<W>(self.shape, self.window, self.x, first);
        // what has not found its place yet
        let mut left: [f32; W] = *chunk(self.dy, self.window.output + first);
        for pixel in self.window.pixels(self.shape) {
            let x: &[f32; W] = chunk(self.x, pixel + first);
            let mut dx: [f32; W] = *chunk(self.dx, pixel + first);
            for lane in 0..W {
                // All ones where the place is found. Branches would become masked stores, which are slow.
                let found = 0u32.wrapping_sub(u32::from((x[lane] == best[lane]) | x[lane].is_nan()));
                dx[lane] += f32::from_bits(left[lane].to_bits() & found);
                left[lane] = f32::from_bits(left[lane].to_bits() & !found);
            }
            *chunk_mut(self.dx, pixel + first) = dx;
        }
    }
}
