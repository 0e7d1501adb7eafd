//! The graph of a network and the list of its tensors.

use convoy_common::plan::Input;
use convoy_common::spec::Pair;

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
    /// Numbers in one sample.
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

    /// The last axis: what batch norm keeps apart.
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
    /// What it sees.
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
    /// Elements of the flat vector: parameters and buffers.
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

/// What a node computes. Tensors are named by their index in [`Network::tensors`].
#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    /// The samples, NHWC.
    Input,
    /// `torch.nn.Conv2d` with zero padding.
    Conv {
        /// Size of the window.
        kernel: Pair,
        /// Its step.
        stride: Pair,
        /// Zeros on each side.
        padding: Pair,
        /// Distance between taps.
        dilation: Pair,
        /// Groups of channels that do not see each other.
        groups: u32,
        /// `[out, in / groups, rows, columns]`.
        weight: usize,
        /// `[out]`.
        bias: Option<usize>,
    },
    /// `torch.nn.MaxPool2d`; the padding never wins, windows are floored.
    MaxPool {
        /// Size of the window.
        kernel: Pair,
        /// Its step.
        stride: Pair,
        /// Border on each side.
        padding: Pair,
    },
    /// `torch.nn.AvgPool2d`; the padding counts (`count_include_pad`), windows are floored.
    AvgPool {
        /// Size of the window.
        kernel: Pair,
        /// Its step.
        stride: Pair,
        /// Zeros on each side.
        padding: Pair,
    },
    /// `torch.nn.AdaptiveAvgPool2d(1)`: a map becomes a map of 1x1.
    GlobalAvgPool,
    /// `torch.nn.BatchNorm2d`, or `BatchNorm1d` on features: over all axes but the last.
    BatchNorm {
        /// Added to the variance.
        eps: f32,
        /// Share of the new value in the running statistics.
        momentum: f32,
        /// `[channels]`: scale.
        weight: usize,
        /// `[channels]`: shift.
        bias: usize,
        /// `[channels]`: buffer.
        running_mean: usize,
        /// `[channels]`: buffer.
        running_var: usize,
    },
    /// Element by element.
    Activation(Activation),
    /// Over features.
    Softmax,
    /// A map becomes features in the order of PyTorch: channel, row, column.
    Flatten,
    /// `torch.nn.Linear`.
    Linear {
        /// `[out, in]`.
        weight: usize,
        /// `[out]`.
        bias: Option<usize>,
        /// Height, width and channels of the map when the input is a [`Op::Flatten`]: the weight's columns are
        /// in the order channel, row, column, while the map in memory is row, column, channel.
        flattened: Option<(u32, u32, u32)>,
    },
    /// Random zeros in training, survivors divided by `1 - p`; the identity otherwise.
    Dropout {
        /// Probability of a zero, in [0, 1).
        p: f32,
        /// Which dropout of the network, from 0: the stream of its random numbers.
        stream: u32,
    },
    /// The sum of two inputs of one shape.
    Add,
}

/// A function of one number. Meanings are those of `torch.nn`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Activation {
    /// max(0, x).
    Relu,
    /// min(max(0, x), 6).
    Relu6,
    /// x where positive, else slope * x.
    LeakyRelu(f32),
    /// 1 / (1 + exp(-x)).
    Sigmoid,
    /// Hyperbolic tangent.
    Tanh,
    /// x * sigmoid(x).
    Silu,
    /// x * Phi(x), with the error function.
    Gelu,
    /// x * relu6(x + 3) / 6.
    HardSwish,
    /// relu6(x + 3) / 6.
    HardSigmoid,
    /// x where positive, else alpha * (exp(x) - 1).
    Elu(f32),
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
    /// Elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether it has no elements; [`Network::build`] makes no such tensor.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where it lies in the flat vector.
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
