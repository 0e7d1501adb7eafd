//! Fully connected layers, as `torch.nn.functional.linear`: y = x wᵀ + b.
//!
//! A linear layer is a 1x1 convolution that takes each sample for a pixel, and has its sums and orders.

use crate::conv::{self, ConvShape};
use crate::shape::{ShapeError, countable, positive};

/// Shape of a linear layer: x is `[samples, inputs]`, w `[outputs, inputs]`, y `[samples, outputs]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinearShape {
    /// Rows of x and y.
    pub samples: usize,
    /// Features of x.
    pub inputs: usize,
    /// Features of y.
    pub outputs: usize,
}

impl LinearShape {
    /// The same shape, if it makes sense.
    pub fn checked(self) -> Result<Self, ShapeError> {
        positive([("samples", self.samples), ("inputs", self.inputs), ("outputs", self.outputs)])?;
        countable("input", &[self.samples, self.inputs])?;
        countable("output", &[self.samples, self.outputs])?;
        countable("weight", &[self.outputs, self.inputs])?;
        Ok(self)
    }

    fn as_conv(self) -> ConvShape {
        ConvShape {
            n: 1,
            h: 1,
            w: self.samples,
            ci: self.inputs,
            co: self.outputs,
            kh: 1,
            kw: 1,
            stride: [1, 1],
            padding: [0, 0],
            dilation: [1, 1],
            groups: 1,
        }
    }
}

/// `y = x wᵀ + bias`. Each output starts from its bias (or 0) and takes the inputs in order.
///
/// # Panics
/// If the shape makes no sense or a slice does not fit it.
pub fn forward(shape: LinearShape, x: &[f32], w: &[f32], bias: Option<&[f32]>, y: &mut [f32]) {
    conv::forward(shape.as_conv(), x, w, bias, y);
}

/// `dx = dy w`. Each sum takes the outputs in order.
///
/// # Panics
/// If the shape makes no sense or a slice does not fit it.
pub fn backward_data(shape: LinearShape, dy: &[f32], w: &[f32], dx: &mut [f32]) {
    conv::backward_data(shape.as_conv(), dy, w, dx);
}

/// `dw = dyᵀ x`, a sum over the samples in the order that [`conv::backward_weight`] states.
///
/// # Panics
/// If the shape makes no sense or a slice does not fit it.
pub fn backward_weight(shape: LinearShape, x: &[f32], dy: &[f32], dw: &mut [f32]) {
    conv::backward_weight(shape.as_conv(), x, dy, dw);
}

/// `db` = sum of the rows of `dy`, in order, in f64.
///
/// # Panics
/// If the shape makes no sense or a slice does not fit it.
pub fn backward_bias(shape: LinearShape, dy: &[f32], db: &mut [f32]) {
    conv::backward_bias(shape.as_conv(), dy, db);
}
