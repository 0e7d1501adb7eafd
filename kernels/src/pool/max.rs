use super::{PoolShape, Window};
use crate::cpu::simd;
use crate::lanes::{Lanes, chunk, chunk_mut, for_lanes};

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
        shape.for_windows(|window| for_lanes::<PANEL>(shape.c, &mut Forward { shape, window, x, y }));
    }
}

struct Forward<'a> {
    shape: &'a PoolShape,
    window: Window,
    x: &'a [f32],
    y: &'a mut [f32],
}

impl Lanes for Forward<'_> {
    #[inline(always)]
    fn block<const W: usize>(&mut self, first: usize) {
        let mut best = [f32::NEG_INFINITY; W];
        for pixel in self.window.pixels(self.shape) {
            let x: &[f32; W] = chunk(self.x, pixel + first);
            for lane in 0..W {
                best[lane] = if replaces(x[lane], best[lane]) { x[lane] } else { best[lane] };
            }
        }
        *chunk_mut(self.y, self.window.output + first) = best;
    }
}

#[inline(always)]
fn replaces(x: f32, best: f32) -> bool {
    (x > best) | x.is_nan()
}

/// Gradient of [`max_forward`], from its input `x`: each dy goes to the largest value of its window, to the first in
/// window order if several are equal (to the last NaN if there is one). Added in the order of the outputs.
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
        shape.for_windows(|window| for_lanes::<PANEL>(shape.c, &mut Backward { shape, window, x, dy, dx }));
    }
}

struct Backward<'a> {
    shape: &'a PoolShape,
    window: Window,
    x: &'a [f32],
    dy: &'a [f32],
    dx: &'a mut [f32],
}

impl Lanes for Backward<'_> {
    #[inline(always)]
    fn block<const W: usize>(&mut self, first: usize) {
        let mut best = [f32::NEG_INFINITY; W];
        let mut at = [0u32; W];
        for (tap, pixel) in (0u32..).zip(self.window.pixels(self.shape)) {
            let x: &[f32; W] = chunk(self.x, pixel + first);
            for lane in 0..W {
                let better = replaces(x[lane], best[lane]);
                best[lane] = if better { x[lane] } else { best[lane] };
                at[lane] = if better { tap } else { at[lane] };
            }
        }
        let dy: &[f32; W] = chunk(self.dy, self.window.output + first);
        for (tap, pixel) in (0u32..).zip(self.window.pixels(self.shape)) {
            let dx: &mut [f32; W] = chunk_mut(self.dx, pixel + first);
            for lane in 0..W {
                dx[lane] += if at[lane] == tap { dy[lane] } else { 0.0 };
            }
        }
    }
}
