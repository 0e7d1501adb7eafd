//! Layers of a network in the terms of the kernels: shapes for so many images.

use convoy_common::spec::Pair;
use convoy_kernels::ShapeError;
use convoy_kernels::bf16::{self, Blocks};
use convoy_kernels::conv::ConvShape;
use convoy_kernels::linear::LinearShape;
use convoy_kernels::pool::PoolShape;
use convoy_model::{Network, Node, Op, Shape};

use crate::ComputeError;

/// What the first input of `node` is.
pub(crate) fn input_of(network: &Network, node: &Node) -> Shape {
    network.nodes[node.inputs[0]].output
}

/// The geometry of a convolution of `images`.
///
/// # Errors
/// When it makes no sense.
///
/// # Panics
/// If `node` is none.
pub(crate) fn conv_shape(network: &Network, node: &Node, images: usize) -> Result<ConvShape, ComputeError> {
    let Op::Conv { kernel, stride, padding, dilation, groups, .. } = node.op else {
        unreachable!("called for convolutions only")
    };
    let (h, w, ci) = map(input_of(network, node));
    let shape = ConvShape {
        n: images,
        h,
        w,
        ci,
        co: node.output.channels() as usize,
        kh: kernel.height as usize,
        kw: kernel.width as usize,
        stride: both(stride),
        padding: both(padding),
        dilation: both(dilation),
        groups: groups as usize,
    };
    shape.checked().map_err(|problem| refused(node, problem))
}

/// Whether the network's input need not be put in blocks, as nobody reads it but convolutions that read images as they
/// come.
pub(crate) fn input_is_nhwc(network: &Network, images: usize) -> bool {
    let mut readers = network.nodes.iter().filter(|node| node.inputs.contains(&0));
    readers.all(|node| {
        let shape = matches!(node.op, Op::Conv { .. }).then(|| conv_shape(network, node, images));
        matches!(shape, Some(Ok(shape)) if bf16::reads_nhwc(shape))
    })
}

/// The geometry of a max or average pooling of `images`.
///
/// # Errors
/// When it makes no sense.
///
/// # Panics
/// If `node` is none.
pub(crate) fn pool_shape(network: &Network, node: &Node, images: usize) -> Result<PoolShape, ComputeError> {
    let (Op::MaxPool { kernel, stride, padding } | Op::AvgPool { kernel, stride, padding }) = node.op else {
        unreachable!("called for poolings only")
    };
    let (h, w, c) = map(input_of(network, node));
    let [kernel, stride, padding] = [kernel, stride, padding].map(both);
    let shape = PoolShape { n: images, h, w, c, kernel, stride, padding };
    shape.checked().map_err(|problem| refused(node, problem))
}

/// The shape of a fully connected layer for `samples`.
///
/// # Errors
/// When it makes no sense.
pub(crate) fn linear_shape(network: &Network, node: &Node, samples: usize) -> Result<LinearShape, ComputeError> {
    let shape = LinearShape { samples, inputs: input_of(network, node).len(), outputs: node.output.len() };
    shape.checked().map_err(|problem| refused(node, problem))
}

/// What `node` puts out for so many samples, in blocks.
///
/// # Errors
/// When it is too large.
pub(crate) fn blocks_of(node: &Node, samples: usize) -> Result<Blocks, ComputeError> {
    blocks(node.output, samples).checked().map_err(|problem| refused(node, problem))
}

/// So many samples of a shape, in blocks; features are one pixel.
pub(crate) fn blocks(shape: Shape, samples: usize) -> Blocks {
    let (h, w, c) = map(shape);
    Blocks { n: samples, h, w, c }
}

/// Height times width, and channels; features are one pixel.
pub(crate) fn pixels_and_channels(shape: Shape) -> (usize, usize) {
    let (h, w, c) = map(shape);
    (h * w, c)
}

fn refused(node: &Node, problem: ShapeError) -> ComputeError {
    ComputeError::Layer { layer: node.name.clone(), problem }
}

fn both(pair: Pair) -> [usize; 2] {
    [pair.height as usize, pair.width as usize]
}

/// Height, width and channels; features are one pixel.
fn map(shape: Shape) -> (usize, usize, usize) {
    match shape {
        Shape::Map { height, width, channels } => (height as usize, width as usize, channels as usize),
        Shape::Features(features) => (1, 1, features as usize),
    }
}
