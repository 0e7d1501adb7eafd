//! Activations, sums and dropout: value by value.

use std::fmt;

use convoy_kernels::activation::Activation;
use convoy_kernels::bf16::Blocks;
use convoy_kernels::bf16::elementwise;

use super::buffers::HalfBuffers;
use super::rows::{HalfLayer, part, tensor_of_rows};
use crate::ComputeError;
use crate::ops::{DropoutMask, Keeps, Operation, Ports, Wanted};

/// An activation function that follows no batch norm.
pub(super) struct HalfActivation {
    function: Activation,
    shape: Blocks,
}

impl HalfActivation {
    /// For the layer's input.
    ///
    /// # Errors
    /// When it is too large.
    pub fn resolve(layer: &HalfLayer<'_>, function: Activation) -> Result<Self, ComputeError> {
        Ok(HalfActivation { function, shape: layer.input()? })
    }
}

impl fmt::Display for HalfActivation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.function)
    }
}

impl Operation<HalfBuffers> for HalfActivation {
    fn name(&self) -> &'static str {
        "activation"
    }

    fn keeps(&self) -> Keeps {
        Keeps { input: true, output: false }
    }

    fn forward(&self, buffers: &mut HalfBuffers, ports: &Ports) {
        let y = tensor_of_rows(buffers, self.shape, |buffers, rows, y| {
            let x = part(buffers.values.output(ports.inputs[0]), &self.shape, &rows);
            elementwise::activation_rows(self.function, self.shape, rows, x, y);
        });
        buffers.values.set_output(ports.output, y);
    }

    fn backward(&self, buffers: &mut HalfBuffers, ports: &Ports, _wanted: Wanted) {
        let dy = buffers.gradients.take(ports.output);
        let dx = tensor_of_rows(buffers, self.shape, |buffers, rows, dx| {
            let [x, dy] = [buffers.values.output(ports.inputs[0]), &dy].map(|tensor| part(tensor, &self.shape, &rows));
            elementwise::activation_gradient(self.function, x, dy, dx);
        });
        buffers.gradients.add(ports.inputs[0], dx, &mut buffers.pool);
        buffers.pool.give(dy);
    }
}

/// `y = first + second`.
pub(super) struct HalfSum {
    shape: Blocks,
}

impl HalfSum {
    /// For the layer's inputs.
    ///
    /// # Errors
    /// When they are too large.
    pub fn resolve(layer: &HalfLayer<'_>) -> Result<Self, ComputeError> {
        Ok(HalfSum { shape: layer.input()? })
    }
}

impl fmt::Display for HalfSum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sum")
    }
}

impl Operation<HalfBuffers> for HalfSum {
    fn name(&self) -> &'static str {
        "add"
    }

    fn forward(&self, buffers: &mut HalfBuffers, ports: &Ports) {
        let y = tensor_of_rows(buffers, self.shape, |buffers, rows, y| {
            let inputs = [ports.inputs[0], ports.inputs[1]].map(|input| buffers.values.output(input));
            let [first, second] = inputs.map(|input| part(input, &self.shape, &rows));
            elementwise::add(first, second, y);
        });
        buffers.values.set_output(ports.output, y);
    }

    fn backward(&self, buffers: &mut HalfBuffers, ports: &Ports, wanted: Wanted) {
        let d = buffers.gradients.take(ports.output);
        if wanted.inputs[1] {
            buffers.gradients.add_copy(ports.inputs[1], &d, &mut buffers.pool);
        }
        buffers.pass_on(ports.inputs[0], d, wanted.inputs[0]);
    }
}

/// Random zeros, in training; what stays is divided by 1 - p. The mask of a sample is that of the f32 class.
pub(super) struct HalfDropout {
    p: f32,
    stream: u32,
    shape: Blocks,
    /// Whether masks are drawn: in training.
    draws: bool,
}

impl HalfDropout {
    /// For the layer's input.
    ///
    /// # Errors
    /// When it is too large.
    pub fn resolve(layer: &HalfLayer<'_>, p: f32, stream: u32) -> Result<Self, ComputeError> {
        Ok(HalfDropout { p, stream, shape: layer.input()?, draws: layer.kind.mode.draws_masks() })
    }

    /// Which values stay, as they lie in blocks.
    fn blocked(&self, keep: &[bool]) -> Vec<bool> {
        let Blocks { n, h, w, c } = self.shape;
        let mut blocked = vec![false; self.shape.len()];
        for (pixel, keep) in keep.chunks_exact(c).enumerate().take(n * h * w) {
            let (image, row, column) = (pixel / (h * w), pixel / w % h, pixel % w);
            for (channel, keep) in keep.iter().enumerate() {
                blocked[self.shape.at(image, row, column, channel)] = *keep;
            }
        }
        blocked
    }
}

impl fmt::Display for HalfDropout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.draws {
            true => write!(f, "dropout {}, stream {}", self.p, self.stream),
            false => f.write_str("dropout in use: a copy"),
        }
    }
}

impl Operation<HalfBuffers> for HalfDropout {
    fn name(&self) -> &'static str {
        "dropout"
    }

    fn forward(&self, buffers: &mut HalfBuffers, ports: &Ports) {
        let x = buffers.values.output(ports.inputs[0]);
        let mut y = buffers.pool.take(x.len());
        if self.draws {
            let Blocks { h, w, c, .. } = self.shape;
            let mask = DropoutMask::draw(self.p, &buffers.address, self.stream, h * w * c);
            let keep = self.blocked(&mask.keep);
            elementwise::dropout(x, &keep, mask.scale, &mut y);
            buffers.masks[ports.output] = Some(keep);
        } else {
            y.copy_from_slice(x);
        }
        buffers.values.set_output(ports.output, y);
    }

    fn backward(&self, buffers: &mut HalfBuffers, ports: &Ports, _wanted: Wanted) {
        let keep = buffers.masks[ports.output].take().expect("the forward pass draws the mask");
        let dy = buffers.gradients.take(ports.output);
        let mut dx = buffers.pool.take(dy.len());
        elementwise::dropout(&dy, &keep, 1.0 / (1.0 - self.p), &mut dx);
        buffers.gradients.add(ports.inputs[0], dx, &mut buffers.pool);
        buffers.pool.give(dy);
    }
}
