//! Pooling of NHWC images.

mod avg;
mod global;
mod max;
#[cfg(test)]
mod tests;

pub use avg::{avg_backward, avg_forward};
pub use global::{global_avg_backward, global_avg_forward};
pub use max::{max_backward, max_forward};

use crate::shape::{ShapeError, SlidingWindow, countable, expect_len, positive};
use crate::simd_lanes::{Lanes, for_lanes};

/// Shape of a pooling: x is `[n, h, w, c]`, y `[n, oh, ow, c]`. Output sizes are rounded down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolShape {
    /// Images.
    pub n: usize,
    /// Height of the input.
    pub h: usize,
    /// Width of the input.
    pub w: usize,
    /// Channels.
    pub c: usize,
    /// Height and width of the window.
    pub kernel: [usize; 2],
    /// Steps of the window, down and right.
    pub stride: [usize; 2],
    /// Padding above and below, left and right; at most half the window.
    pub padding: [usize; 2],
}

impl PoolShape {
    /// The same shape, if it makes sense: sizes of at least one, padding of at most half the window, a window that fits
    /// the padded input, tensors of at most 2^32 - 1 elements.
    ///
    /// # Errors
    /// The first of these that does not hold.
    pub fn checked(self) -> Result<Self, ShapeError> {
        let PoolShape { n, h, w, c, kernel, stride, padding } = self;
        positive([
            ("batch", n),
            ("height", h),
            ("width", w),
            ("channels", c),
            ("kernel height", kernel[0]),
            ("kernel width", kernel[1]),
            ("vertical stride", stride[0]),
            ("horizontal stride", stride[1]),
        ])?;
        for (i, axis) in ["height", "width"].into_iter().enumerate() {
            let (padding, kernel) = (padding[i], kernel[i]);
            if padding > kernel / 2 {
                return Err(ShapeError::PoolPadding { axis, padding, kernel });
            }
            SlidingWindow { axis, input: [h, w][i], kernel, stride: stride[i], padding, dilation: 1 }.positions()?;
        }
        countable("padded input", &[n, h + 2 * padding[0], w + 2 * padding[1], c])?;
        countable("window", &kernel)?;
        Ok(self)
    }

    /// Height of the output, in pixels: the positions that the window takes from top to bottom, rounded down.
    ///
    /// # Panics
    /// May panic if the shape makes no sense ([`PoolShape::checked`] is an error).
    pub fn oh(&self) -> usize {
        (self.h + 2 * self.padding[0] - self.kernel[0]) / self.stride[0] + 1
    }

    /// Width of the output, in pixels; see [`PoolShape::oh`].
    ///
    /// # Panics
    /// As [`PoolShape::oh`].
    pub fn ow(&self) -> usize {
        (self.w + 2 * self.padding[1] - self.kernel[1]) / self.stride[1] + 1
    }

    /// Elements of the input, `[n, h, w, c]`.
    pub fn x_len(&self) -> usize {
        self.n * self.h * self.w * self.c
    }

    /// Elements of the output, `[n, oh, ow, c]`.
    ///
    /// # Panics
    /// As [`PoolShape::oh`].
    pub fn y_len(&self) -> usize {
        self.n * self.oh() * self.ow() * self.c
    }

    fn check(&self, x: &[f32], y: &[f32]) {
        if let Err(error) = self.checked() {
            panic!("{self:?}: {error}");
        }
        expect_len("the input or its gradient", x.len(), self.x_len());
        expect_len("the output or its gradient", y.len(), self.y_len());
    }

    /// Does the work for the window of each output pixel, in the order of the pixels.
    #[inline(always)]
    fn for_windows<const PANEL: usize>(&self, work: &mut impl Pooling) {
        let mut output = 0;
        for n in 0..self.n {
            for oy in 0..self.oh() {
                let y = inside(oy * self.stride[0], self.kernel[0], self.padding[0], self.h);
                for ox in 0..self.ow() {
                    let x = inside(ox * self.stride[1], self.kernel[1], self.padding[1], self.w);
                    let first = (n * self.h + y.start) * self.w + x.start;
                    work.enter(PoolWindow { output, first: first * self.c, rows: y.len(), cols: x.len() });
                    for_lanes::<PANEL>(self.c, work);
                    output += self.c;
                }
            }
        }
    }
}

/// Work on the channels of one window after the other. (A trait, for the body of a closure is not certain to be
/// compiled for the kernel's level.)
trait Pooling: Lanes {
    /// The window that the next blocks of channels belong to.
    fn enter(&mut self, window: PoolWindow);
}

/// The part of an output pixel's window that lies in the input.
#[derive(Clone, Copy, Debug, Default)]
struct PoolWindow {
    /// Index of the output pixel's first channel.
    output: usize,
    /// Index of the first input pixel's first channel.
    first: usize,
    rows: usize,
    cols: usize,
}

impl PoolWindow {
    /// Index of the first channel of each input pixel, in order.
    #[inline(always)]
    fn pixels(self, shape: &PoolShape) -> impl Iterator<Item = usize> {
        let (row, pixel) = (shape.w * shape.c, shape.c);
        (0..self.rows).flat_map(move |y| (0..self.cols).map(move |x| self.first + y * row + x * pixel))
    }
}

/// Never empty, since padding is at most half the window.
#[inline(always)]
fn inside(start: usize, kernel: usize, padding: usize, size: usize) -> std::ops::Range<usize> {
    start.saturating_sub(padding)..(start + kernel - padding).min(size)
}
