//! Fully connected layers.

use std::fmt;

use convoy_kernels::bf16::{Bf16, linear};
use convoy_kernels::linear::LinearShape;

use super::buffers::HalfBuffers;
use super::conv::write_weight_gradient;
use super::rows::HalfLayer;
use crate::ComputeError;
use crate::lowering::linear_shape;
use crate::mode::Mode;
use crate::ops::{Keeps, Operation, Ports, Wanted};

/// A linear layer, with the indices of its weight and bias in the network.
pub(super) struct HalfLinear {
    shape: LinearShape,
    weight: usize,
    bias: Option<usize>,
    /// Whether passes are for training all of the network.
    training: bool,
    /// Whether the network ends with it.
    last: bool,
}

impl HalfLinear {
    /// For the layer's input.
    ///
    /// # Errors
    /// When the shape makes no sense.
    pub fn resolve(layer: &HalfLayer<'_>, weight: usize, bias: Option<usize>) -> Result<Self, ComputeError> {
        let shape = linear_shape(layer.network, layer.node(), layer.kind.images)?;
        let training = layer.kind.mode == Mode::Train;
        let last = layer.group.output + 1 == layer.network.nodes.len();
        Ok(HalfLinear { shape, weight, bias, training, last })
    }
}

impl fmt::Display for HalfLinear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "linear {}->{}", self.shape.inputs, self.shape.outputs)?;
        f.write_str(if self.last { "; puts out f32" } else { "" })
    }
}

impl Operation<HalfBuffers> for HalfLinear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn keeps(&self) -> Keeps {
        Keeps { input: true, output: false }
    }

    fn forward(&self, buffers: &mut HalfBuffers, ports: &Ports) {
        let (shape, values) = (self.shape, &buffers.values);
        let w = buffers.packed.forward(self.weight, linear::as_conv(shape), self.training);
        let bias = self.bias.map(|bias| values.weight(bias));
        let mut sums = vec![0.0; shape.samples * shape.outputs];
        linear::forward(shape, values.output(ports.inputs[0]), w, bias, &mut sums);
        if self.last {
            buffers.logits = Some(sums);
            return;
        }
        let blocks = linear::as_conv(shape).y_blocks();
        let mut y: Vec<Bf16> = buffers.pool.take(blocks.len());
        blocks.from_nhwc(&sums, &mut y);
        buffers.values.set_output(ports.output, y);
    }

    fn backward(&self, buffers: &mut HalfBuffers, ports: &Ports, wanted: Wanted) {
        let shape = self.shape;
        let conv = linear::as_conv(shape);
        let dy = buffers.gradients.take(ports.output);
        if wanted.parameters {
            let HalfBuffers { values, shard_gradient, team, .. } = buffers;
            let x = values.output(ports.inputs[0]);
            shard_gradient.write(self.weight, |dw| write_weight_gradient(team, conv, x.into(), &dy, dw));
            if let Some(bias) = self.bias {
                buffers.shard_gradient.write(bias, |db| linear::backward_bias(shape, &dy, db));
            }
        }
        if wanted.inputs[0] {
            let mut dx = buffers.pool.take(conv.x_blocks().len());
            let w = buffers.packed.input_gradient(self.weight, conv);
            linear::backward_data(shape, &dy, w, &mut dx);
            buffers.gradients.add(ports.inputs[0], dx, &mut buffers.pool);
        }
        buffers.pool.give(dy);
    }
}
