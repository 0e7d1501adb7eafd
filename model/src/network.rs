//! The graph of a network and the list of its tensors.

use convoy_common::plan::Input;

use crate::Op;

/// Shape of what a node puts out for one sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Shape {
    /// A feature map, NHWC without the N.
    Map {
        /// Rows.
        height: u32,
        /// Columns.
        width: u32,
        /// Channels, which lie next to each other in memory.
        channels: u32,
    },
    /// A vector.
    Features(u32),
}

impl Shape {
    /// Numbers in one sample: height x width x channels, or features.
    pub fn len(&self) -> usize {
        match *self {
            Shape::Map { height, width, channels } => height as usize * width as usize * channels as usize,
            Shape::Features(features) => features as usize,
        }
    }

    /// Whether a sample has no numbers; [`Network::build`] makes no such shape.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Size of the last axis, over which batch norm takes no means: the channels of a map, the features of a vector.
    pub fn channels(&self) -> u32 {
        match *self {
            Shape::Map { channels, .. } => channels,
            Shape::Features(features) => features,
        }
    }
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Shape::Map { height, width, channels } => write!(f, "{height}x{width}x{channels}"),
            Shape::Features(features) => write!(f, "{features}"),
        }
    }
}

/// A network: a graph of nodes in an order in which they can be computed, and the tensors that they use.
///
/// Its numbers are kept in one flat vector: all parameters in network order, then all buffers, each tensor in
/// the layout that it has in files (OIHW and the like). [`Tensor::offset`] says where.
#[derive(Debug, Clone, PartialEq)]
pub struct Network {
    /// Height, width and channels of the images that it sees.
    pub input: Input,
    /// The first is [`Op::Input`]; the last one puts out the logits or values (no final softmax or sigmoid).
    pub nodes: Vec<Node>,
    /// Parameters and buffers in the order of PyTorch's `state_dict`.
    pub tensors: Vec<Tensor>,
    /// Elements of all parameters.
    pub parameters: usize,
    /// Elements of all buffers.
    pub buffers: usize,
    /// Features of the last node.
    pub outputs: u32,
}

impl Network {
    /// Elements of the flat vector: those of all parameters and all buffers.
    pub fn len(&self) -> usize {
        self.parameters + self.buffers
    }

    /// Whether there is nothing to train; [`Network::build`] makes no such network.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// One operation of a network.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// The layer's name, unique in the network.
    pub name: String,
    /// What it computes.
    pub op: Op,
    /// Indices of earlier nodes.
    pub inputs: Vec<usize>,
    /// What it puts out.
    pub output: Shape,
}

/// A parameter or a buffer.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// torchvision's name for it, for instance `layer1.0.conv1.weight`.
    pub name: String,
    /// As in files: `[out, in / groups, rows, columns]`, `[out, in]`, `[channels]`.
    pub shape: Vec<usize>,
    /// What it is for.
    pub role: Role,
    /// Where it begins in the flat vector.
    pub offset: usize,
    /// Whether it belongs to the head, the last layer with weights.
    pub head: bool,
    /// How it begins.
    pub init: Init,
}

impl Tensor {
    /// Elements: the product of the sides.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether it has no elements; [`Network::build`] makes no such tensor.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The elements of the flat vector that are the tensor's.
    pub fn range(&self) -> std::ops::Range<usize> {
        self.offset..self.offset + self.len()
    }
}

/// What a tensor is for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Role {
    /// Trained by the optimizer.
    Parameter {
        /// Whether weight decay applies; not for norms and biases.
        decay: bool,
    },
    /// Running statistics of batch norm.
    Buffer {
        /// Share of the new value.
        momentum: f32,
    },
}

/// How a tensor begins.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Init {
    /// All zeros.
    Zeros,
    /// All ones.
    Ones,
    /// Uniform in [-bound, bound).
    Uniform {
        /// Half the width.
        bound: f32,
    },
    /// Normal about zero.
    Normal {
        /// Standard deviation.
        std: f32,
    },
}
