//! What stands between the convolutions of the class `cpu-bf16-v1`, on tensors in [`Blocks`].
//!
//! A function reads values and writes values: what it computes is f32, and rounded once as it is written. A batch norm
//! with what follows it is one function, a group: u, the activation's output and the values that a pooling compares are
//! never rounded. Lanes without an image and channels beyond the last stay +0.0. Functions take some
//! [rows](Blocks::rows) of what they write or sum, so that threads may share them; the bits do not depend on how.

mod curve;
mod norm;
mod norm_gradient;
mod pool;
mod row_sums;
#[cfg(test)]
mod tests;
mod tiles;

pub use norm::{NormGroup, statistics, statistics_rows};
pub use norm_gradient::{GradientOf, GroupGradient, pooled_rows_of_x};
pub use pool::{PoolKind, global_average, global_average_gradient_rows, pool_gradient_rows, pool_rows};

use std::ops::Range;

use curve::{BlockCurve, Values};
use norm_gradient::SlopeRows;
use tiles::{block_at, write_block};

use super::Bf16;
use super::blocks::{BLOCK, Blocks};
use super::rounding::{self, Rounding, RoundingKernel};
use crate::activation::Activation;
use crate::norm_block::curves::by_curve;
use crate::shape::expect_len;
use crate::simd_lanes::chunk;

/// `y = f(x)` of some rows.
///
/// # Panics
/// If a slice does not fit, or there are no such rows.
pub fn activation_rows(activation: Activation, shape: Blocks, rows: Range<usize>, x: &[Bf16], y: &mut [Bf16]) {
    shape.expect_rows(&rows, &[("x", x.len()), ("y", y.len())]);
    by_curve!(Some(activation), |curve| rounding::dispatch(ValueRows { curve, shape, rows, x, y }), |curve| {
        rounding::dispatch(ValueRows { curve, shape, rows, x, y })
    });
}

/// `dx = dy f'(x)`, where f(x) that the slope is computed from is not rounded.
///
/// # Panics
/// If the lengths differ or are not whole blocks.
pub fn activation_gradient(activation: Activation, x: &[Bf16], dy: &[Bf16], dx: &mut [Bf16]) {
    expect_len("dy", dy.len(), x.len());
    expect_len("dx", dx.len(), x.len());
    by_curve!(
        Some(activation),
        |curve| rounding::dispatch(SlopeRows { curve, x, dy, dx }),
        |curve| rounding::dispatch(SlopeRows { curve, x, dy, dx })
    );
}

struct ValueRows<'a, C> {
    curve: C,
    shape: Blocks,
    rows: Range<usize>,
    x: &'a [Bf16],
    y: &'a mut [Bf16],
}

impl<C: BlockCurve> RoundingKernel for ValueRows<'_, C> {
    #[inline(always)]
    fn run<R: Rounding>(self, rounding: R) {
        for tile in self.shape.tiles(self.rows) {
            for at in tile.images() {
                write_block(rounding, &self.curve.values(&block_at(self.x, at)), tile.width, self.y, at);
            }
            self.y[tile.padding(self.shape.lanes())].fill(Bf16::ZERO);
        }
    }
}

/// `y = a + b`, value by value.
///
/// # Panics
/// If the lengths differ or are not whole blocks.
pub fn add(a: &[Bf16], b: &[Bf16], y: &mut [Bf16]) {
    expect_len("b", b.len(), a.len());
    expect_len("y", y.len(), a.len());
    rounding::dispatch(AddBoth { a, b, y });
}

struct AddBoth<'a> {
    a: &'a [Bf16],
    b: &'a [Bf16],
    y: &'a mut [Bf16],
}

impl RoundingKernel for AddBoth<'_> {
    #[inline(always)]
    fn run<R: Rounding>(self, rounding: R) {
        for at in (0..self.y.len()).step_by(BLOCK) {
            let sum = sum(&block_at(self.a, at), &block_at(self.b, at));
            write_block(rounding, &sum, BLOCK, self.y, at);
        }
    }
}

#[inline(always)]
fn sum(a: &Values, b: &Values) -> Values {
    let mut sum = [0.0; BLOCK];
    for c in 0..BLOCK {
        sum[c] = a[c] + b[c];
    }
    sum
}

/// `left = left + right`, value by value.
///
/// # Panics
/// If the lengths differ or are not whole blocks.
pub fn add_into(left: &mut [Bf16], right: &[Bf16]) {
    expect_len("right", right.len(), left.len());
    rounding::dispatch(AddInto { left, right });
}

struct AddInto<'a> {
    left: &'a mut [Bf16],
    right: &'a [Bf16],
}

impl RoundingKernel for AddInto<'_> {
    #[inline(always)]
    fn run<R: Rounding>(self, rounding: R) {
        for at in (0..self.left.len()).step_by(BLOCK) {
            let sum = sum(&block_at(self.left, at), &block_at(self.right, at));
            write_block(rounding, &sum, BLOCK, self.left, at);
        }
    }
}

/// `y = x * scale` where `keep`, else 0: dropout, and its gradient. Padding is 0 either way.
///
/// # Panics
/// If the lengths differ or are not whole blocks.
pub fn dropout(x: &[Bf16], keep: &[bool], scale: f32, y: &mut [Bf16]) {
    expect_len("keep", keep.len(), x.len());
    expect_len("y", y.len(), x.len());
    rounding::dispatch(DropOut { x, keep, scale, y });
}

struct DropOut<'a> {
    x: &'a [Bf16],
    keep: &'a [bool],
    scale: f32,
    y: &'a mut [Bf16],
}

impl RoundingKernel for DropOut<'_> {
    #[inline(always)]
    fn run<R: Rounding>(self, rounding: R) {
        for at in (0..self.y.len()).step_by(BLOCK) {
            let (mut kept, keep): (Values, &[bool; BLOCK]) = (block_at(self.x, at), chunk(self.keep, at));
            for c in 0..BLOCK {
                kept[c] = if keep[c] { kept[c] * self.scale } else { 0.0 };
            }
            write_block(rounding, &kept, BLOCK, self.y, at);
        }
    }
}

/// Images to features in the order of PyTorch: channel, row, column. y is `Blocks { n, h: 1, w: 1, c: c h w }`.
///
/// # Panics
/// If a slice does not fit.
pub fn flatten(shape: Blocks, x: &[Bf16], y: &mut [Bf16]) {
    let flat = flat(shape);
    expect_len("x", x.len(), shape.len());
    expect_len("y", y.len(), flat.len());
    y.fill(Bf16::ZERO);
    for_features(shape, flat, |from, to| y[to] = x[from]);
}

/// The gradient of [`flatten`]: features to images.
///
/// # Panics
/// If a slice does not fit.
pub fn unflatten(shape: Blocks, dy: &[Bf16], dx: &mut [Bf16]) {
    let flat = flat(shape);
    expect_len("dy", dy.len(), flat.len());
    expect_len("dx", dx.len(), shape.len());
    dx.fill(Bf16::ZERO);
    for_features(shape, flat, |to, from| dx[to] = dy[from]);
}

fn flat(shape: Blocks) -> Blocks {
    Blocks { n: shape.n, h: 1, w: 1, c: shape.h * shape.w * shape.c }
}

/// Where each value lies among images, and where among features.
fn for_features(shape: Blocks, flat: Blocks, mut each: impl FnMut(usize, usize)) {
    let Blocks { h, w, c, .. } = shape;
    for group in 0..shape.groups() {
        let image = group * shape.lanes();
        for (row, column, channel) in (0..h).flat_map(|y| (0..w).flat_map(move |x| (0..c).map(move |c| (y, x, c)))) {
            let from = shape.at(image, row, column, channel);
            let to = flat.at(image, 0, 0, (channel * h + row) * w + column);
            (0..shape.images(group)).for_each(|lane| each(from + lane * BLOCK, to + lane * BLOCK));
        }
    }
}
