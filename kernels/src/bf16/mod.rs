//! Arithmetic of the class `cpu-bf16-v1`: convolutions and linear layers of [`Bf16`] values with f32 sums.
//!
//! Operands are rounded, products are exact, sums are f32 in an order that the matrix instructions of AMX have, and
//! that every CPU can compute. A result is rounded once, as it is written; gradients of weights and the output of a
//! linear layer are f32. Tensors lie in [`Blocks`], and weights are packed from f32 once a step ([`PackedWeight`]).
//!
//! # The order of the sums
//!
//! A sum is made of *steps*. A step takes 32 terms: those of even index make a chain of fused multiply-adds that starts
//! from +0.0, those of odd index another, and the sum of the two chains is added to the sum so far, which starts from
//! +0.0. Terms that are missing to 32 are +0.0 times +0.0. Since no operand is below 2^-56 in magnitude, no chain or
//! sum is ever denormal or -0.0, so that what a CPU does with these does not matter.
//!
//! - [`forward`]: the taps of the kernel inside of the image, raster; for each tap the input channels, in blocks of 32.
//! - [`backward_data`]: the same over the pixels of dy that meet the pixel, raster, and output channels.
//! - Of fewer than 32 channels a group and more than one tap, the blocks are of the terms of all taps, raster, and for
//!   each tap the channels; taps outside are +0.0 and multiplied. In the input gradient these are the taps that meet
//!   pixels of the same residue modulo the stride.
//! - [`backward_weight`]: groups of 32 images; in a group output rows; in a row the positions, in blocks of 32 terms:
//!   as many positions as there are images in 32 [`Blocks::lanes`], the images of the first, of the next.. A block of
//!   which all positions have their tap outside is left out; in others these are +0.0, and positions beyond the row
//!   have a dy of +0.0. With taps flattened as above, none is outside.
//! - Several groups of fewer than 16 input or output channels, depthwise convolutions among them: no steps, but one
//!   chain of fused multiply-adds from +0.0 over the same terms, taps outside left out. The weight gradient has a chain
//!   for each row of a group of images, by positions and then images; the rows' sums are added in order.
//! - The bias is added to the whole sum.
//!
//! # Examples
//!
//! ```
//! use convoy_kernels::bf16::{self, Bf16, PackedWeight};
//! use convoy_kernels::conv::ConvShape;
//!
//! let (stride, padding, dilation) = ([1, 1], [0, 0], [1, 1]);
//! let shape = ConvShape { n: 1, h: 3, w: 3, ci: 1, co: 1, kh: 2, kw: 2, stride, padding, dilation, groups: 1 };
//! let (x_blocks, y_blocks) = (shape.x_blocks().checked()?, shape.y_blocks().checked()?);
//! let mut x = vec![Bf16::ZERO; x_blocks.len()];
//! x_blocks.from_nhwc(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0], &mut x);
//!
//! let w_oihw = [1.0, 0.0, 0.0, 1.0];
//! let mut y = vec![Bf16::ZERO; y_blocks.len()];
//! bf16::forward(shape, &x, &PackedWeight::forward(shape, &w_oihw), Some(&[10.0]), &mut y);
//! let mut y_nhwc = [0.0; 4];
//! y_blocks.to_nhwc(&y, &mut y_nhwc);
//! assert_eq!(y_nhwc, [16.0, 18.0, 22.0, 24.0]);
//! # Ok::<(), convoy_kernels::ShapeError>(())
//! ```

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod amx;
mod block_memory;
mod blocks;
mod chain;
mod correlate;
#[cfg(test)]
mod definition;
#[cfg(target_arch = "x86_64")]
mod dot;
mod element;
pub mod elementwise;
#[cfg(all(test, target_arch = "x86_64", target_os = "linux"))]
mod emulated_amx;
mod flat_operand;
mod images;
pub mod linear;
mod operand;
mod rounding;
mod self_check;
mod step;
#[cfg(test)]
mod tests;
mod value;
mod weight_gradient;
mod weight_steps;
mod weights;
mod write;

use std::ops::Range;

pub use blocks::Blocks;
#[cfg(target_arch = "x86_64")]
use dot::PairedHalf;
pub use images::{Images, reads_nhwc};
pub use self_check::gives_the_bits;
pub use value::{Bf16, from_le_bytes, round, to_le_bytes, widen};
pub use weights::PackedWeight;

use blocks::BLOCK;
use correlate::Place;
use step::Sums;
use weight_steps::{PackedFor, is_chain};
use weights::PackedValues;
use write::Rows;

use crate::conv::ConvShape;
use crate::cpu::{self, Level};
use crate::shape::expect_len;

/// `y = conv(x, w) + bias`; x and y in [`ConvShape::x_blocks`] and [`ConvShape::y_blocks`], or x as [`Images`] say.
///
/// # Panics
/// If the shape makes no sense, a slice does not fit it, or the weights are not those of its forward pass.
pub fn forward<'a>(shape: ConvShape, x: impl Into<Images<'a>>, w: &PackedWeight, bias: Option<&[f32]>, y: &mut [Bf16]) {
    forward_rows(shape, x, w, bias, 0..shape.y_blocks().rows(), y);
}

/// Some of [`Blocks::rows`] of y. The bits do not depend on how rows are divided.
///
/// # Panics
/// As [`forward`], and if there are no such rows.
pub fn forward_rows<'a>(
    shape: ConvShape,
    x: impl Into<Images<'a>>,
    w: &PackedWeight,
    bias: Option<&[f32]>,
    rows: Range<usize>,
    y_rows: &mut [Bf16],
) {
    w.expect(shape, PackedFor::Forward);
    if let Some(bias) = bias {
        expect_len("bias", bias.len(), shape.co);
    }
    let (source, target, x) = (shape.x_blocks(), shape.y_blocks(), x.into());
    x.expect_x(shape);
    write_rows(source, target, x, w, bias, rows, y_rows);
}

/// `dx`, the gradient of the input.
///
/// # Panics
/// If the shape makes no sense, a slice does not fit it, or the weights are not those of its input gradient.
pub fn backward_data(shape: ConvShape, dy: &[Bf16], w: &PackedWeight, dx: &mut [Bf16]) {
    backward_data_rows(shape, dy, w, 0..shape.x_blocks().rows(), dx);
}

/// Some of [`Blocks::rows`] of dx. The bits do not depend on how rows are divided.
///
/// # Panics
/// As [`backward_data`], and if there are no such rows.
pub fn backward_data_rows(shape: ConvShape, dy: &[Bf16], w: &PackedWeight, rows: Range<usize>, dx_rows: &mut [Bf16]) {
    w.expect(shape, PackedFor::InputGradient);
    let (source, target) = (shape.y_blocks(), shape.x_blocks());
    expect_len("dy", dy.len(), source.len());
    write_rows(source, target, dy.into(), w, None, rows, dx_rows);
}

fn write_rows(
    source: Blocks,
    target: Blocks,
    values: Images<'_>,
    w: &PackedWeight,
    bias: Option<&[f32]>,
    rows: Range<usize>,
    to: &mut [Bf16],
) {
    assert!(rows.start <= rows.end && rows.end <= target.rows(), "rows {rows:?} of {}", target.rows());
    expect_len("rows", to.len(), rows.len() * target.row_len());
    let mut to = Rows { shape: target, first: rows.start, values: to };
    if let PackedValues::Chains(packed) = &w.values {
        return chain::correlate(&w.of, packed, values.blocks(), source, bias, rows, &mut to);
    }
    sums(w, values, source, rows, target.h, &mut |sums, place| to.write(sums, place, bias));
}

/// The sums of some rows of the target.
fn sums(
    w: &PackedWeight,
    values: Images<'_>,
    source: Blocks,
    rows: Range<usize>,
    target_height: usize,
    emit: &mut dyn FnMut(&Sums, &Place<'_>),
) {
    match &w.values {
        PackedValues::Blocks(packed) => {
            correlate::correlate::<f32>(w, packed, values, source, rows, target_height, emit);
        }
        #[cfg(target_arch = "x86_64")]
        PackedValues::Pairs(packed) => {
            correlate::correlate::<PairedHalf>(w, packed, values, source, rows, target_height, emit);
        }
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        PackedValues::Tiles(packed) => {
            correlate::correlate::<Bf16>(w, packed, values, source, rows, target_height, emit);
        }
        PackedValues::Chains(_) => unreachable!("linear layers have one group"),
    }
}

/// `dw`, the gradient of the weight, summed over the images, as OIHW.
///
/// # Panics
/// If the shape makes no sense or a slice does not fit it.
pub fn backward_weight<'a>(shape: ConvShape, x: impl Into<Images<'a>>, dy: &[Bf16], dw_oihw: &mut [f32]) {
    backward_weight_channels(shape, x, dy, 0..shape.co, dw_oihw);
}

/// The gradient of the weights of some output channels: several neighbours of [`channel_ranges`].
///
/// # Panics
/// As [`backward_weight`], and if there are no such channels.
pub fn backward_weight_channels<'a>(
    shape: ConvShape,
    x: impl Into<Images<'a>>,
    dy: &[Bf16],
    channels: Range<usize>,
    dw_oihw: &mut [f32],
) {
    shape.expect_checked();
    let x = x.into();
    x.expect_x(shape);
    expect_len("dy", dy.len(), shape.y_blocks().len());
    assert!(channels.start <= channels.end && channels.end <= shape.co, "channels {channels:?} of {}", shape.co);
    expect_len("dw_oihw", dw_oihw.len(), shape.w_len() / shape.co * channels.len());
    if is_chain(&shape) {
        return chain::weight_gradient(shape, x.blocks(), dy, channels, dw_oihw);
    }
    match cpu::level() {
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        Level::Amx => weight_gradient::weight_gradient::<Bf16>(shape, x, dy, channels, dw_oihw),
        #[cfg(target_arch = "x86_64")]
        Level::Avx512Bf16 => weight_gradient::weight_gradient::<PairedHalf>(shape, x, dy, channels, dw_oihw),
        _ => weight_gradient::weight_gradient::<f32>(shape, x, dy, channels, dw_oihw),
    }
}

/// Multiplies what lies in tiles of AMX for a while: the floating-point operations that were done. `None` at levels
/// without it.
pub(crate) fn multiply_registers() -> Option<f64> {
    match cpu::level() {
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        Level::Amx => Some(amx::multiply_registers()),
        _ => None,
    }
}

/// Cuts the output channels into at most `parts` ranges, whose weights' gradients can be computed apart from each
/// other.
///
/// # Panics
/// If `parts` is 0.
pub fn channel_ranges(shape: ConvShape, parts: usize) -> Vec<Range<usize>> {
    let width = if is_chain(&shape) { shape.co } else { shape.co / shape.groups };
    let firsts: Vec<usize> =
        (0..shape.co).step_by(width).flat_map(|group| (group..group + width).step_by(BLOCK)).collect();
    let share = firsts.len().div_ceil(parts);
    let ends = firsts.iter().copied().step_by(share).skip(1).chain([shape.co]);
    firsts.iter().copied().step_by(share).zip(ends).map(|(first, end)| first..end).collect()
}

/// `db`, the gradient of the bias: the sum over groups of images, rows, columns and images, in f64.
///
/// # Panics
/// If the shape makes no sense or a slice does not fit it.
pub fn backward_bias(shape: ConvShape, dy: &[Bf16], db: &mut [f32]) {
    let blocks = shape.y_blocks();
    expect_len("dy", dy.len(), blocks.len());
    expect_len("db", db.len(), shape.co);
    let (lanes, pixel) = (blocks.lanes(), blocks.pixel_len());
    for (block, db) in db.chunks_mut(BLOCK).enumerate() {
        let mut sums = [0.0f64; BLOCK];
        for pixel in dy.chunks_exact(pixel) {
            for values in pixel[block * lanes * BLOCK..].as_chunks::<BLOCK>().0[..lanes].iter() {
                for (sum, value) in sums.iter_mut().zip(values) {
                    *sum += f64::from(value.to_f32());
                }
            }
        }
        db.iter_mut().zip(&sums).for_each(|(db, sum)| *db = *sum as f32);
    }
}
