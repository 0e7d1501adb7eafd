//! Convolutions.

use std::fmt;

use convoy_kernels::bf16;
use convoy_kernels::conv::ConvShape;

use super::buffers::HalfBuffers;
use super::rows::{HalfLayer, tensor_of_rows};
use crate::ComputeError;
use crate::lowering::conv_shape;
use crate::ops::{Keeps, Operation, Ports, Wanted};
use crate::thread_team::cut;

/// A convolution, with the indices of its weight and bias in the network.
pub(super) struct HalfConv {
    shape: ConvShape,
    weight: usize,
    bias: Option<usize>,
}

impl HalfConv {
    /// For the layer's input.
    ///
    /// # Errors
    /// When the geometry makes no sense.
    pub fn resolve(layer: &HalfLayer<'_>, weight: usize, bias: Option<usize>) -> Result<Self, ComputeError> {
        Ok(HalfConv { shape: conv_shape(layer.network, layer.node(), layer.kind.images)?, weight, bias })
    }
}

impl fmt::Display for HalfConv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ConvShape { ci, co, kh, kw, stride, groups, .. } = self.shape;
        write!(f, "conv {kh}x{kw} {ci}->{co}")?;
        if stride != [1, 1] {
            write!(f, ", stride {}x{}", stride[0], stride[1])?;
        }
        if groups > 1 {
            write!(f, ", {groups} groups")?;
        }
        Ok(())
    }
}

impl Operation<HalfBuffers> for HalfConv {
    fn name(&self) -> &'static str {
        "conv"
    }

    fn keeps(&self) -> Keeps {
        Keeps { input: true, output: false }
    }

    fn forward(&self, buffers: &mut HalfBuffers, ports: &Ports) {
        let shape = self.shape;
        let y = tensor_of_rows(buffers, shape.y_blocks(), |buffers, rows, y| {
            let values = &buffers.values;
            let w = buffers.packed.forward(self.weight, shape, values.weight(self.weight));
            let bias = self.bias.map(|bias| values.weight(bias));
            bf16::forward_rows(shape, values.output(ports.inputs[0]), w, bias, rows, y);
        });
        buffers.values.set_output(ports.output, y);
    }

    fn backward(&self, buffers: &mut HalfBuffers, ports: &Ports, wanted: Wanted) {
        let shape = self.shape;
        let dy = buffers.gradients.take(ports.output);
        if wanted.parameters {
            write_weight_gradient(buffers, shape, self.weight, ports.inputs[0], &dy);
            if let Some(bias) = self.bias {
                buffers.shard_gradient.write(bias, |db| bf16::backward_bias(shape, &dy, db));
            }
        }
        if wanted.inputs[0] {
            let dx = tensor_of_rows(buffers, shape.x_blocks(), |buffers, rows, dx| {
                let w = buffers.packed.input_gradient(self.weight, shape, buffers.values.weight(self.weight));
                bf16::backward_data_rows(shape, &dy, w, rows, dx);
            });
            buffers.gradients.add(ports.inputs[0], dx, &mut buffers.pool);
        }
        buffers.pool.give(dy);
    }
}

/// Writes the gradient of a weight, some output channels on each thread.
pub(super) fn write_weight_gradient(
    buffers: &mut HalfBuffers,
    shape: ConvShape,
    weight: usize,
    input: usize,
    dy: &[bf16::Bf16],
) {
    let HalfBuffers { values, shard_gradient, team, .. } = buffers;
    let x = values.output(input);
    let threads = team.threads(x.len().max(dy.len()), shape.co);
    let channels = bf16::channel_ranges(shape, threads.count());
    shard_gradient.write(weight, |dw| {
        threads.each(cut(dw, shape.w_len() / shape.co, channels.into_iter()), |(channels, dw)| {
            bf16::backward_weight_channels(shape, x, dy, channels, dw);
        });
    });
}
