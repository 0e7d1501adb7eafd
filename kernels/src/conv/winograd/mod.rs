//! Convolution with 3x3 kernels by Winograd's minimal filtering F(4x4, 3x3): 36 products where the definition has 144,
//! for each tile of 4x4 outputs and each pair of channels. Lavin & Gray 2015, "Fast Algorithms for Convolutional Neural
//! Networks", section 4.
//!
//! Layouts are those of [`super`]: activations NHWC, weights OIHW. The image is cut into tiles from its upper left
//! corner on; outside of the padded input there are zeros. Bits depend on the shape and the values only, for one image
//! alone as in any batch, but they are others than those of the direct functions. Errors are larger: on random values
//! up to 5e-6 of the sum of the terms' magnitudes (tests ask for 1e-5), and they spread over a tile, so that small
//! outputs beside large ones lose digits, and a value that is not finite may make all outputs of its tiles not finite.

use std::ops::Range;

mod correlate;
mod gradient;
mod images;
#[cfg(test)]
mod tests;
mod tiles;
mod transform;
mod weights;

use super::ConvShape;
use crate::shape::expect_len;
use correlate::correlate;
use gradient::weight_gradient;
use tiles::Tiling;
use transform::{OUT, PLANES};
use weights::WinogradLayout;

/// Whether this module can compute a convolution of this shape: 3x3 kernel, stride 1, dilation 1, one group, padding of
/// at most 2.
pub fn fits(shape: ConvShape) -> bool {
    let ConvShape { kh, kw, stride, padding, dilation, groups, .. } = shape;
    [kh, kw] == [3, 3] && stride == [1, 1] && dilation == [1, 1] && groups == 1 && padding.iter().all(|&p| p <= 2)
}

/// Whether this module is faster than the direct functions, as measured: at least 16 channels on both sides, and tiles
/// that are not mostly outside of the image, in either direction. It does not depend on the number of images, so that
/// an image has the same bits in every batch, nor on the machine.
pub fn pays(shape: ConvShape) -> bool {
    // The direct functions' products for each of Winograd's, of which some are computed beyond the image's end.
    let saves = |[height, width]: [usize; 2]| {
        let tiles = height.div_ceil(OUT) * width.div_ceil(OUT);
        9 * height * width >= 2 * PLANES * tiles
    };
    fits(shape) && shape.ci.min(shape.co) >= 16 && saves([shape.oh(), shape.ow()]) && saves([shape.h, shape.w])
}

fn check_fits(shape: &ConvShape) {
    shape.expect_checked();
    assert!(fits(*shape), "{shape:?}: Winograd convolution needs a 3x3 kernel, stride 1, dilation 1, one group");
}

/// `y = conv(x, w) + bias`, as [`super::forward`].
///
/// For each tile, `A^T [sum over input channels of (G w G^T) * (B^T x B)] A + bias`. Each of the 36 sums starts from 0
/// and takes the input channels in order, by fused multiply-add. Transforms take columns first, then rows. The bias is
/// added last.
///
/// # Panics
/// If the shape makes no sense or does not fit, or a slice does not fit the shape.
pub fn forward(shape: ConvShape, x: &[f32], w_oihw: &[f32], bias: Option<&[f32]>, y: &mut [f32]) {
    check_fits(&shape);
    expect_len("x", x.len(), shape.x_len());
    expect_len("w_oihw", w_oihw.len(), shape.w_len());
    expect_len("y", y.len(), shape.y_len());
    if let Some(bias) = bias {
        expect_len("bias", bias.len(), shape.co);
    }
    correlate(&Tiling::forward(&shape), WinogradLayout::forward(&shape), x, w_oihw, bias, y);
}

/// `dx`, the gradient of the input, as [`super::backward_data`]: [`forward`] from dy to dx, with padding `2 - padding`
/// and kernels turned by half a circle. Each of the 36 sums starts from 0 and takes the output channels in order. The
/// tiles begin at the upper left corner of dx.
///
/// # Panics
/// If the shape makes no sense or does not fit, or a slice does not fit the shape.
pub fn backward_data(shape: ConvShape, dy: &[f32], w_oihw: &[f32], dx: &mut [f32]) {
    check_fits(&shape);
    expect_len("dy", dy.len(), shape.y_len());
    expect_len("w_oihw", w_oihw.len(), shape.w_len());
    expect_len("dx", dx.len(), shape.x_len());
    correlate(&Tiling::backward(&shape), WinogradLayout::backward(&shape), dy, w_oihw, None, dx);
}

/// `dw`, the gradient of the weight, summed over the images, as [`super::backward_weight`].
///
/// `G^T [sum over tiles of (B^T x B) * (A dy A^T)] G`. The tiles, image by image and row by row, are cut into groups of
/// 64. Each of the 36 sums of a group starts from 0 and takes its tiles in order, by fused multiply-add; then the
/// groups are added in order. Transforms take columns first, then rows.
///
/// # Panics
/// If the shape makes no sense or does not fit, or a slice does not fit the shape.
pub fn backward_weight(shape: ConvShape, x: &[f32], dy: &[f32], dw_oihw: &mut [f32]) {
    backward_weight_of(shape, 0..shape.co, x, dy, dw_oihw);
}

/// [`backward_weight`] for the weights of some output channels.
///
/// # Panics
/// If the shape makes no sense or does not fit, a slice does not fit the shape, or there are no such channels.
pub fn backward_weight_of(shape: ConvShape, channels: Range<usize>, x: &[f32], dy: &[f32], dw_oihw: &mut [f32]) {
    check_fits(&shape);
    assert!(channels.end <= shape.co, "channels {channels:?} of {}", shape.co);
    expect_len("x", x.len(), shape.x_len());
    expect_len("dy", dy.len(), shape.y_len());
    expect_len("dw_oihw", dw_oihw.len(), shape.w_len() / shape.co * channels.len());
    weight_gradient(&Tiling::forward(&shape), WinogradLayout::forward(&shape), channels, x, dy, dw_oihw);
}
