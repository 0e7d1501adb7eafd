//! Two-dimensional convolution, as `torch.nn.functional.conv2d`, of any geometry.
//!
//! # Examples
//!
//! A 3x3 image of one channel, a 2x2 kernel, and the gradients of the sum of all outputs:
//!
//! ```
//! use convoy_kernels::conv::{self, ConvShape};
//!
//! let (stride, padding, dilation) = ([1, 1], [0, 0], [1, 1]);
//! let shape = ConvShape { n: 1, h: 3, w: 3, ci: 1, co: 1, kh: 2, kw: 2, stride, padding, dilation, groups: 1 };
//! let shape = shape.checked()?;
//! let x_nhwc: [f32; 9] = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0];
//! let (w_oihw, bias) = ([1.0, 0.0, 0.0, 1.0], [10.0]);
//!
//! let mut y = [0.0; 4];
//! conv::forward(shape, &x_nhwc, &w_oihw, Some(&bias), &mut y);
//! assert_eq!(y, [16.0, 18.0, 22.0, 24.0]);
//!
//! let (dy, mut dx, mut dw) = ([1.0; 4], [0.0; 9], [0.0; 4]);
//! conv::backward_data(shape, &dy, &w_oihw, &mut dx);
//! conv::backward_weight(shape, &x_nhwc, &dy, &mut dw);
//! assert_eq!(dx, [1.0, 1.0, 0.0, 1.0, 2.0, 1.0, 0.0, 1.0, 1.0]);
//! assert_eq!(dw, [12.0, 16.0, 24.0, 28.0]);
//! # Ok::<(), convoy_kernels::ShapeError>(())
//! ```

mod band;
mod correlate;
mod depthwise;
pub(crate) mod geometry;
pub(crate) mod matmul;
mod pack;
mod shape;
#[cfg(test)]
mod tests;
mod tile;
mod weight;
pub mod winograd;

pub use band::Input;
pub use shape::ConvShape;
pub use weight::{WeightGradient, channel_ranges};

use correlate::correlate;
use pack::WeightLayout;

use crate::norm::column_sums;
use crate::shape::expect_len;

/// `y = conv(x, w) + bias`. Each output starts from its bias (or 0) and takes the products in the order kernel row,
/// kernel column, input channel.
///
/// # Panics
/// If the shape makes no sense or a slice does not fit it.
pub fn forward<'a>(shape: ConvShape, x: impl Into<Input<'a>>, w_oihw: &[f32], bias: Option<&[f32]>, y: &mut [f32]) {
    shape.expect_checked();
    let x = x.into();
    expect_len("x", x.len(), shape.x_len());
    expect_len("w_oihw", w_oihw.len(), shape.w_len());
    expect_len("y", y.len(), shape.y_len());
    if let Some(bias) = bias {
        expect_len("bias", bias.len(), shape.co);
    }
    let of = geometry::forward(&shape);
    match of.is_depthwise() {
        true => depthwise::correlate(&[of], x, w_oihw, bias, y),
        false => correlate(&of, WeightLayout::forward(&shape), x, w_oihw, bias, y),
    }
}

/// `dx`, the gradient of the input. Each sum takes the kernel's taps from the last row and column to the first, and for
/// each tap the output channels in order.
///
/// # Panics
/// If the shape makes no sense or a slice does not fit it.
pub fn backward_data(shape: ConvShape, dy: &[f32], w_oihw: &[f32], dx: &mut [f32]) {
    shape.expect_checked();
    expect_len("dy", dy.len(), shape.y_len());
    expect_len("w_oihw", w_oihw.len(), shape.w_len());
    expect_len("dx", dx.len(), shape.x_len());
    let all = geometry::backward(&shape);
    if all[0].is_depthwise() {
        return depthwise::correlate(&all, dy.into(), w_oihw, None, dx);
    }
    for of in &all {
        correlate(of, WeightLayout::backward(&shape), dy.into(), w_oihw, None, dx);
    }
}

/// `dw`, the gradient of the weight, summed over the images. The pixels of y are cut into bands: as many whole images
/// as fit 256 pixels, or if one doesn't, as many of its rows. Sums take a band's pixels in order, and then the bands.
///
/// # Panics
/// If the shape makes no sense or a slice does not fit it.
pub fn backward_weight<'a>(shape: ConvShape, x: impl Into<Input<'a>>, dy: &[f32], dw_oihw: &mut [f32]) {
    let mut sums = WeightGradient::new(shape);
    sums.add(shape.n, x.into(), dy);
    sums.finish(dw_oihw);
}

/// `db`, the gradient of the bias: the sum over all pixels of all images, in order, in f64.
///
/// # Panics
/// If the shape makes no sense or a slice does not fit it.
pub fn backward_bias(shape: ConvShape, dy: &[f32], db: &mut [f32]) {
    shape.expect_checked();
    expect_len("dy", dy.len(), shape.y_len());
    expect_len("db", db.len(), shape.co);
    column_sums(dy, db);
}
