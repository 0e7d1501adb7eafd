//! Convolution, as `torch.nn.functional.conv2d`.

mod bands;
mod layer;
mod tiles;

pub(super) use layer::ConvLayer;

use std::fmt;

use convoy_kernels::conv::{self, ConvShape, winograd};
use convoy_model::{Network, Op};

use super::operation::{Keeps, Layer, Operation, Ports, Wanted};
use crate::ComputeError;
use crate::handover::NormsBeside;
use crate::lowering::conv_shape;
use crate::pass_buffers::PassBuffers;
use layer::Backward;

/// A convolution, and how it is computed.
pub(super) struct Conv {
    /// Its geometry and weights.
    pub layer: ConvLayer,
    /// What computes it.
    pub algorithm: Algorithm,
}

/// How a convolution is computed, which is part of its bits.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Algorithm {
    /// By Winograd's, for which the geometry must fit ([`winograd::fits`]).
    Winograd,
    /// By its definition, band by band, with what it does for the norms beside it.
    Bands(NormsBeside),
}

/// Whether `node` is a convolution that is computed in bands for so many `images`, if `winograd` says that others are
/// computed by Winograd's algorithm where it pays.
///
/// # Errors
/// When it is a convolution whose geometry makes no sense.
pub(crate) fn computed_in_bands(
    network: &Network,
    node: usize,
    images: usize,
    winograd: bool,
) -> Result<bool, ComputeError> {
    let node = &network.nodes[node];
    let Op::Conv { .. } = node.op else { return Ok(false) };
    Ok(!(winograd && winograd::pays(conv_shape(network, node, images)?)))
}

impl Conv {
    /// For the layer's input, with its weight and bias.
    ///
    /// # Errors
    /// When the geometry makes no sense.
    pub fn resolve(layer: &Layer<'_>, weight: usize, bias: Option<usize>) -> Result<Self, ComputeError> {
        let (node, output) = (layer.node(), layer.group.output);
        let algorithm = match layer.in_bands[output] {
            true => Algorithm::Bands(layer.norms.beside(node.inputs[0], output)),
            false => Algorithm::Winograd,
        };
        let shape = conv_shape(layer.network, node, layer.images)?;
        Ok(Conv { layer: ConvLayer { shape, weight, bias }, algorithm })
    }
}

impl fmt::Display for Conv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ConvShape { ci, co, kh, kw, stride, groups, .. } = self.layer.shape;
        write!(f, "conv {kh}x{kw} {ci}->{co}")?;
        if stride != [1, 1] {
            write!(f, ", stride {}x{}", stride[0], stride[1])?;
        }
        if groups > 1 {
            write!(f, ", {groups} groups")?;
        }
        let Algorithm::Bands(NormsBeside { before, measures, after }) = &self.algorithm else {
            return f.write_str("; by Winograd's algorithm");
        };
        f.write_str("; in bands")?;
        if let Some(before) = before {
            write!(f, "; computes norm {} as it reads", before.output)?;
        }
        if *measures {
            f.write_str("; measures")?;
        }
        if let Some(after) = after {
            write!(f, "; finishes norm {}", after.output)?;
        }
        Ok(())
    }
}

impl Operation for Conv {
    fn name(&self) -> &'static str {
        "conv"
    }

    fn keeps(&self) -> Keeps {
        Keeps { input: true, output: false }
    }

    fn forward(&self, buffers: &mut PassBuffers, ports: &Ports) {
        match &self.algorithm {
            Algorithm::Winograd => tiles::forward(&self.layer, buffers, ports),
            Algorithm::Bands(norms) => bands::forward(&self.layer, norms, buffers, ports),
        }
    }

    fn backward(&self, buffers: &mut PassBuffers, ports: &Ports, wanted: Wanted) {
        let mut dy = buffers.take_gradient(ports.output);
        let mut dx = wanted.inputs[0].then(|| buffers.pool.take(self.layer.shape.x_len()));
        let backward = Backward { ports, wanted, dy: &mut dy, dx: dx.as_deref_mut() };
        match &self.algorithm {
            Algorithm::Winograd => tiles::backward(&self.layer, buffers, backward),
            Algorithm::Bands(norms) => bands::backward(&self.layer, norms, buffers, backward),
        }
        if let Some(bias) = self.layer.bias.filter(|_| wanted.parameters) {
            buffers.shard_gradient.write(bias, |db| conv::backward_bias(self.layer.shape, &dy, db));
        }
        if let Some(dx) = dx {
            buffers.add_gradient(ports.inputs[0], dx);
        }
        buffers.pool.give(dy);
    }
}
