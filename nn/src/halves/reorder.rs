//! What goes over the values of a sample in an order of its own: flatten and softmax.

use std::fmt;

use convoy_kernels::bf16::{Bf16, Blocks, elementwise};
use convoy_kernels::softmax;

use super::buffers::HalfBuffers;
use super::rows::HalfLayer;
use crate::ComputeError;
use crate::ops::{Keeps, Operation, Ports, Wanted};

/// From images to features in PyTorch's order (channel, row, column).
pub(super) struct HalfFlatten {
    /// Of x.
    shape: Blocks,
}

impl HalfFlatten {
    /// For the layer's input.
    ///
    /// # Errors
    /// When it is too large.
    pub fn resolve(layer: &HalfLayer<'_>) -> Result<Self, ComputeError> {
        Ok(HalfFlatten { shape: layer.input()? })
    }
}

impl fmt::Display for HalfFlatten {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "flatten {}x{}", self.shape.h * self.shape.w, self.shape.c)
    }
}

impl Operation<HalfBuffers> for HalfFlatten {
    fn name(&self) -> &'static str {
        "flatten"
    }

    fn forward(&self, buffers: &mut HalfBuffers, ports: &Ports) {
        let Blocks { n, h, w, c } = self.shape;
        let mut y = buffers.pool.take(Blocks { n, h: 1, w: 1, c: h * w * c }.len());
        elementwise::flatten(self.shape, buffers.values.output(ports.inputs[0]), &mut y);
        buffers.values.set_output(ports.output, y);
    }

    fn backward(&self, buffers: &mut HalfBuffers, ports: &Ports, _wanted: Wanted) {
        let dy = buffers.gradients.take(ports.output);
        let mut dx = buffers.pool.take(self.shape.len());
        elementwise::unflatten(self.shape, &dy, &mut dx);
        buffers.gradients.add(ports.inputs[0], dx, &mut buffers.pool);
        buffers.pool.give(dy);
    }
}

/// Softmax over the last axis, by the f32 kernels.
pub(super) struct HalfSoftmax {
    shape: Blocks,
}

impl HalfSoftmax {
    /// For the layer's input.
    ///
    /// # Errors
    /// When it is too large.
    pub fn resolve(layer: &HalfLayer<'_>) -> Result<Self, ComputeError> {
        Ok(HalfSoftmax { shape: layer.input()? })
    }

    fn wide(&self, values: &[Bf16]) -> Vec<f32> {
        let Blocks { n, h, w, c } = self.shape;
        let mut wide = vec![0.0; n * h * w * c];
        self.shape.to_nhwc(values, &mut wide);
        wide
    }
}

impl fmt::Display for HalfSoftmax {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "softmax of {}", self.shape.c)
    }
}

impl Operation<HalfBuffers> for HalfSoftmax {
    fn name(&self) -> &'static str {
        "softmax"
    }

    fn keeps(&self) -> Keeps {
        Keeps { input: false, output: true }
    }

    fn forward(&self, buffers: &mut HalfBuffers, ports: &Ports) {
        let x = self.wide(buffers.values.output(ports.inputs[0]));
        let mut wide = vec![0.0; x.len()];
        softmax::forward(&x, self.shape.c, &mut wide);
        let mut y = buffers.pool.take(self.shape.len());
        self.shape.from_nhwc(&wide, &mut y);
        buffers.values.set_output(ports.output, y);
    }

    fn backward(&self, buffers: &mut HalfBuffers, ports: &Ports, _wanted: Wanted) {
        let mut d = buffers.gradients.take(ports.output);
        let (y, dy) = (self.wide(buffers.values.output(ports.output)), self.wide(&d));
        let mut dx = vec![0.0; dy.len()];
        softmax::backward(&y, &dy, self.shape.c, &mut dx);
        self.shape.from_nhwc(&dx, &mut d);
        buffers.gradients.add(ports.inputs[0], d, &mut buffers.pool);
    }
}
