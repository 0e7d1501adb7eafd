//! Fully connected layers: 1x1 convolutions of images of one pixel, whose output is f32.
//!
//! x and gradients lie in [`Blocks`](super::Blocks) of `n` samples, `h` and `w` 1, and the features as channels; a map
//! of a multiple of 32 channels lies there as its pixels' channels side by side.

use super::{Bf16, PackedWeight};
use crate::conv::ConvShape;
use crate::linear::LinearShape;
use crate::shape::expect_len;

/// The convolution that a linear layer is: its weights are packed for this one.
pub fn as_conv(shape: LinearShape) -> ConvShape {
    ConvShape {
        n: shape.samples,
        h: 1,
        w: 1,
        ci: shape.inputs,
        co: shape.outputs,
        kh: 1,
        kw: 1,
        stride: [1, 1],
        padding: [0, 0],
        dilation: [1, 1],
        groups: 1,
    }
}

/// `y = x wᵀ + bias`, y as f32 `[samples, outputs]`: the inputs in blocks of 32, as [`super::forward`] says.
///
/// # Panics
/// If the shape makes no sense, a slice does not fit it, or the weights are not those of its forward pass.
pub fn forward(shape: LinearShape, x: &[Bf16], w: &PackedWeight, bias: Option<&[f32]>, y: &mut [f32]) {
    let conv = as_conv(shape);
    w.expect(conv, super::PackedFor::Forward);
    let source = conv.x_blocks();
    expect_len("x", x.len(), source.len());
    expect_len("y", y.len(), shape.samples * shape.outputs);
    if let Some(bias) = bias {
        expect_len("bias", bias.len(), shape.outputs);
    }
    super::sums(w, x.into(), source, 0..source.groups(), 1, &mut |sums, place| {
        let first = place.images * source.lanes();
        let rows = y[first * shape.outputs..].chunks_exact_mut(shape.outputs).zip(sums);
        for (y, sums) in rows.take(source.images(place.images)) {
            let y = &mut y[place.channel..][..place.width];
            for (c, (y, sum)) in y.iter_mut().zip(sums).enumerate() {
                *y = sum + bias.map_or(0.0, |bias| bias[place.channel + c]);
            }
        }
    });
}

/// `dx = dy w`: the outputs in blocks of 32.
///
/// # Panics
/// If the shape makes no sense, a slice does not fit it, or the weights are not those of its input gradient.
pub fn backward_data(shape: LinearShape, dy: &[Bf16], w: &PackedWeight, dx: &mut [Bf16]) {
    super::backward_data(as_conv(shape), dy, w, dx);
}

/// `dw = dyᵀ x` as `[outputs, inputs]`: the samples in blocks of 32.
///
/// # Panics
/// If the shape makes no sense or a slice does not fit it.
pub fn backward_weight(shape: LinearShape, x: &[Bf16], dy: &[Bf16], dw: &mut [f32]) {
    super::backward_weight(as_conv(shape), x, dy, dw);
}

/// `db`, the sum over the samples, in order, in f64.
///
/// # Panics
/// If the shape makes no sense or a slice does not fit it.
pub fn backward_bias(shape: LinearShape, dy: &[Bf16], db: &mut [f32]) {
    super::backward_bias(as_conv(shape), dy, db);
}
