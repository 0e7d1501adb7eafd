//! Convolutions.

use std::fmt;

use convoy_kernels::bf16::{self, Bf16, Images, elementwise};
use convoy_kernels::conv::ConvShape;
use convoy_model::Op;

use super::buffers::HalfBuffers;
use super::norm::{self, HalfNorm};
use super::rows::{HalfLayer, fill_and_sum, fill_rows};
use crate::ComputeError;
use crate::fusion::Group;
use crate::lowering::{conv_shape, input_is_nhwc};
use crate::mode::Mode;
use crate::ops::{Keeps, Operation, Ports, Wanted};
use crate::thread_team::{Team, cut, ranges};
use crate::values::Values;

/// A convolution, with the indices of its weight and bias in the network.
pub(super) struct HalfConv {
    shape: ConvShape,
    weight: usize,
    bias: Option<usize>,
    /// Whether a norm that reads its output wants to know the statistics of it.
    measured: bool,
    /// Whether passes are for training all of the network.
    training: bool,
    /// Whether it reads the network's input as it came.
    nhwc: bool,
    /// The norm whose output nobody else reads, so that its gradient is summed as it is written.
    norm: Option<HalfNorm>,
}

impl HalfConv {
    /// For the layer's input.
    ///
    /// # Errors
    /// When the geometry makes no sense.
    pub fn resolve(layer: &HalfLayer<'_>, weight: usize, bias: Option<usize>) -> Result<Self, ComputeError> {
        let is_norm = |group: &Group| matches!(layer.network.nodes[group.node].op, Op::BatchNorm { .. });
        let measured = layer.kind.mode.measures_shard() && layer.readers(layer.group.output).any(is_norm);
        let input = layer.node().inputs[0];
        let norm = layer.groups.iter().find(|group| group.output == input && group.residual.is_none());
        let alone = layer.readers(input).count() == 1;
        let norm = norm.filter(|group| alone && layer.kind.mode != Mode::Evaluate && is_norm(group));
        let norm = norm.map(|group| HalfNorm::resolve(&HalfLayer { group, ..*layer })).transpose()?;
        let shape = conv_shape(layer.network, layer.node(), layer.kind.images)?;
        let nhwc = input == 0 && input_is_nhwc(layer.network, layer.kind.images);
        let training = layer.kind.mode == Mode::Train;
        Ok(HalfConv { shape, weight, bias, measured, training, nhwc, norm })
    }

    /// What it reads.
    fn x<'a>(&self, values: &'a Values<Bf16>, input: usize) -> Images<'a> {
        let x = values.output(input);
        if self.nhwc { Images::Nhwc(x) } else { Images::Blocks(x) }
    }

    /// Writes y, and measures it meanwhile where no other thread helps: the sums of its rows.
    fn write_output(&self, buffers: &HalfBuffers, input: usize, y: &mut [Bf16]) -> Option<Vec<f64>> {
        let (shape, blocks, values) = (self.shape, self.shape.y_blocks(), &buffers.values);
        let w = buffers.packed.forward(self.weight, shape, self.training);
        let (x, bias) = (self.x(values, input), self.bias.map(|bias| values.weight(bias)));
        let fill = |rows, y: &mut [Bf16]| bf16::forward_rows(shape, x, w, bias, rows, y);
        let threads = buffers.team.threads(blocks.len(), blocks.rows());
        if !self.measured || threads.count() > 1 {
            threads.each(cut(y, blocks.row_len(), ranges(blocks.rows(), threads.count())), |(rows, y)| fill(rows, y));
            return None;
        }
        let mut sums = vec![0.0; blocks.rows() * blocks.row_sums_len()];
        fill_and_sum(blocks, 0..blocks.rows(), y, &mut sums, fill, |rows, y, sums| {
            elementwise::statistics_rows(blocks, y, rows, sums);
        });
        Some(sums)
    }

    /// Writes dx, and what a norm wants to know of it meanwhile: the sums of its rows.
    fn write_input_gradient(&self, buffers: &HalfBuffers, dy: &[Bf16], dx: &mut [Bf16]) -> Option<Vec<f64>> {
        let (shape, blocks, values) = (self.shape, self.shape.x_blocks(), &buffers.values);
        let w = buffers.packed.input_gradient(self.weight, shape);
        let fill = |rows, dx: &mut [Bf16]| bf16::backward_data_rows(shape, dy, w, rows, dx);
        let Some(norm) = &self.norm else {
            fill_rows(&buffers.team, blocks, dx, fill);
            return None;
        };
        let group = norm.group(values);
        let (len, sums_len) = (blocks.row_len(), blocks.row_sums_len());
        let mut sums = vec![0.0; blocks.rows() * sums_len];
        let threads = buffers.team.threads(blocks.len(), blocks.rows());
        let parts = || ranges(blocks.rows(), threads.count());
        let cuts = cut(dx, len, parts()).zip(cut(&mut sums, sums_len, parts()));
        threads.each(cuts, |((all, dx), (_, sums))| {
            fill_and_sum(blocks, all.clone(), dx, sums, fill, |rows, dx, sums| {
                let dx = &dx[(rows.start - all.start) * len..];
                norm.sum_part(&group, values, rows, dx, sums);
            });
        });
        Some(sums)
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
        let blocks = self.shape.y_blocks();
        let mut y = buffers.pool.take(blocks.len());
        if let Some(sums) = self.write_output(buffers, ports.inputs[0], &mut y) {
            buffers.values.set_statistics(ports.output, norm::statistics(blocks, &y, &sums));
        }
        buffers.values.set_output(ports.output, y);
    }

    fn backward(&self, buffers: &mut HalfBuffers, ports: &Ports, wanted: Wanted) {
        let shape = self.shape;
        let dy = buffers.gradients.take(ports.output);
        if wanted.parameters {
            let HalfBuffers { values, shard_gradient, team, .. } = buffers;
            let x = self.x(values, ports.inputs[0]);
            shard_gradient.write(self.weight, |dw| write_weight_gradient(team, shape, x, &dy, dw));
            if let Some(bias) = self.bias {
                buffers.shard_gradient.write(bias, |db| bf16::backward_bias(shape, &dy, db));
            }
        }
        if wanted.inputs[0] {
            let mut dx = buffers.pool.take(shape.x_blocks().len());
            if let Some(sums) = self.write_input_gradient(buffers, &dy, &mut dx) {
                buffers.norm_sums[ports.inputs[0]] = Some(sums);
            }
            buffers.gradients.add(ports.inputs[0], dx, &mut buffers.pool);
        }
        buffers.pool.give(dy);
    }
}

/// Writes the gradient of a weight, some output channels on each thread.
pub(super) fn write_weight_gradient(team: &Team, shape: ConvShape, x: Images<'_>, dy: &[Bf16], dw: &mut [f32]) {
    let threads = team.threads(shape.x_blocks().len().max(dy.len()), shape.co);
    let channels = bf16::channel_ranges(shape, threads.count());
    threads.each(cut(dw, shape.w_len() / shape.co, channels.into_iter()), |(channels, dw)| {
        bf16::backward_weight_channels(shape, x, dy, channels, dw);
    });
}
