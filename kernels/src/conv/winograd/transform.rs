//! The transforms of F(4x4, 3x3): Lavin & Gray 2015, "Fast Algorithms for Convolutional Neural Networks", section 4.1,
//! in f32 and on one axis. [`both_sides`] applies them to both axes of a tile, lane by lane.

use std::array::from_fn;

use crate::simd_lanes::{chunk, chunk_mut};

/// Side of an output tile.
pub(super) const OUT: usize = 4;
/// Side of an input tile.
pub(super) const IN: usize = OUT + 2;
/// Products per tile and pair of channels.
pub(super) const PLANES: usize = IN * IN;

/// Channels that a transform takes at once, at every level: one vector of AVX-512, two of AVX2.
pub(super) const LANES: usize = 16;

/// A matrix of few distinct numbers, times a column.
pub(super) trait Transform<const FROM: usize, const TO: usize> {
    /// The product; each function's code is the order of its additions.
    fn apply(column: [f32; FROM]) -> [f32; TO];
}

/// B^T, `[6, 6]`: from an input tile to products.
pub(super) struct InputTransform;
/// A^T, `[4, 6]`: from products to an output tile.
pub(super) struct OutputTransform;
/// G, `[6, 3]`: from a weight to products.
pub(super) struct WeightTransform;
/// A, `[6, 4]`: from the gradient of an output tile to products.
pub(super) struct OutputGradientTransform;
/// G^T, `[3, 6]`: from products to the gradient of a weight.
pub(super) struct WeightGradientTransform;

impl Transform<IN, IN> for InputTransform {
    #[inline(always)]
    fn apply([a, b, c, d, e, f]: [f32; IN]) -> [f32; IN] {
        let (even, odd) = (c.mul_add(-4.0, e), b.mul_add(-4.0, d));
        let (even_2, odd_2) = (e - c, d - b);
        [
            a.mul_add(4.0, c.mul_add(-5.0, e)),
            even + odd,
            even - odd,
            odd_2.mul_add(2.0, even_2),
            odd_2.mul_add(-2.0, even_2),
            b.mul_add(4.0, d.mul_add(-5.0, f)),
        ]
    }
}

impl Transform<IN, OUT> for OutputTransform {
    #[inline(always)]
    fn apply([a, b, c, d, e, f]: [f32; IN]) -> [f32; OUT] {
        let (sum, difference) = (b + c, b - c);
        let (sum_2, difference_2) = (d + e, d - e);
        [
            (a + sum) + sum_2,
            difference_2.mul_add(2.0, difference),
            sum_2.mul_add(4.0, sum),
            difference_2.mul_add(8.0, difference) + f,
        ]
    }
}

impl Transform<3, IN> for WeightTransform {
    #[inline(always)]
    fn apply([a, b, c]: [f32; 3]) -> [f32; IN] {
        let ends = a + c;
        let even = a.mul_add(1.0 / 24.0, c * (1.0 / 6.0));
        [
            a * 0.25,
            (ends + b) * (-1.0 / 6.0),
            (ends - b) * (-1.0 / 6.0),
            b.mul_add(1.0 / 12.0, even),
            b.mul_add(-1.0 / 12.0, even),
            c,
        ]
    }
}

impl Transform<OUT, IN> for OutputGradientTransform {
    #[inline(always)]
    fn apply([a, b, c, d]: [f32; OUT]) -> [f32; IN] {
        let (even, odd) = (a + c, b + d);
        let (even_2, odd_2) = (c.mul_add(4.0, a), d.mul_add(4.0, b));
        [a, even + odd, even - odd, odd_2.mul_add(2.0, even_2), odd_2.mul_add(-2.0, even_2), d]
    }
}

impl Transform<IN, 3> for WeightGradientTransform {
    #[inline(always)]
    fn apply([a, b, c, d, e, f]: [f32; IN]) -> [f32; 3] {
        let (sum, difference) = (b + c, c - b);
        let (sum_2, difference_2) = (d + e, d - e);
        [
            sum_2.mul_add(1.0 / 24.0, sum.mul_add(-1.0 / 6.0, a * 0.25)),
            difference_2.mul_add(1.0 / 12.0, difference * (1.0 / 6.0)),
            (sum_2 - sum).mul_add(1.0 / 6.0, f),
        ]
    }
}

/// Room for a half-transformed tile: at most 6 by 6 values of [`LANES`] channels.
pub(super) type Half = [f32; PLANES * LANES];

/// `T X T^T` for `W` channels: first each column of X, from left to right, then each row of the result.
#[inline(always)]
pub(super) fn both_sides<'a, T: Transform<FROM, TO>, const FROM: usize, const TO: usize, const W: usize>(
    half: &mut Half,
    read: impl Fn(usize, usize) -> &'a [f32; W],
    mut write: impl FnMut(usize, usize, [f32; W]),
) {
    for column in 0..FROM {
        let done = lanes::<T, FROM, TO, W>(from_fn(|row| *read(row, column)));
        for (row, done) in done.into_iter().enumerate() {
            *chunk_mut(half, (row * FROM + column) * W) = done;
        }
    }
    for row in 0..TO {
        let done = lanes::<T, FROM, TO, W>(from_fn(|column| *chunk(half, (row * FROM + column) * W)));
        for (column, done) in done.into_iter().enumerate() {
            write(row, column, done);
        }
    }
}

/// One axis, lane by lane.
#[inline(always)]
fn lanes<T: Transform<FROM, TO>, const FROM: usize, const TO: usize, const W: usize>(
    from: [[f32; W]; FROM],
) -> [[f32; W]; TO] {
    let mut to = [[0.0; W]; TO];
    for lane in 0..W {
        let done = T::apply(from_fn(|i| from[i][lane]));
        for i in 0..TO {
            to[i][lane] = done[i];
        }
    }
    to
}
