//! The operations that a network is made of, and all that differs from one to another in this crate.
//!
//! A layer's settings, shapes and the beginning of its tensors are in `builder/layers.rs`; `layer_list.rs` goes from
//! what users write to there. `CONTRIBUTING.md` ("Add a layer") has the places in all crates.

use std::fmt;

use convoy_common::spec::Pair;
pub use convoy_kernels::activation::Activation;

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

impl Op {
    /// Indices of the tensors that the operation uses, parameters and buffers, in the order of PyTorch's `state_dict`.
    pub fn tensors(&self) -> Vec<usize> {
        match *self {
            Op::Conv { weight, bias, .. } | Op::Linear { weight, bias, .. } => {
                std::iter::once(weight).chain(bias).collect()
            }
            Op::BatchNorm { weight, bias, running_mean, running_var, .. } => {
                vec![weight, bias, running_mean, running_var]
            }
            Op::Input
            | Op::MaxPool { .. }
            | Op::AvgPool { .. }
            | Op::GlobalAvgPool
            | Op::Activation(_)
            | Op::Softmax
            | Op::Flatten
            | Op::Dropout { .. }
            | Op::Add => Vec::new(),
        }
    }

    /// The weight that the operation multiplies its input by, once for each place of its output: that of a convolution
    /// or of a fully connected layer.
    pub fn weight(&self) -> Option<usize> {
        match *self {
            Op::Conv { weight, .. } | Op::Linear { weight, .. } => Some(weight),
            _ => None,
        }
    }
}

/// The operation in a few words; settings that are the usual ones are left out.
impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Op::Input => f.write_str("input"),
            Op::Conv { kernel, stride, padding, dilation, groups, .. } => {
                window(f, "conv", [kernel, stride, padding])?;
                unless(f, 1, "dilation", dilation)?;
                if groups == 1 { Ok(()) } else { write!(f, " groups {groups}") }
            }
            Op::MaxPool { kernel, stride, padding } => window(f, "max_pool", [kernel, stride, padding]),
            Op::AvgPool { kernel, stride, padding } => window(f, "avg_pool", [kernel, stride, padding]),
            Op::GlobalAvgPool => f.write_str("global_avg_pool"),
            Op::BatchNorm { .. } => f.write_str("batch_norm"),
            Op::Activation(Activation::Relu) => f.write_str("relu"),
            Op::Activation(Activation::Relu6) => f.write_str("relu6"),
            Op::Activation(Activation::LeakyRelu(slope)) => write!(f, "leaky_relu {slope}"),
            Op::Activation(Activation::Sigmoid) => f.write_str("sigmoid"),
            Op::Activation(Activation::Tanh) => f.write_str("tanh"),
            Op::Activation(Activation::Silu) => f.write_str("silu"),
            Op::Activation(Activation::Gelu) => f.write_str("gelu"),
            Op::Activation(Activation::HardSwish) => f.write_str("hard_swish"),
            Op::Activation(Activation::HardSigmoid) => f.write_str("hard_sigmoid"),
            Op::Activation(Activation::Elu(alpha)) => write!(f, "elu {alpha}"),
            Op::Softmax => f.write_str("softmax"),
            Op::Flatten => f.write_str("flatten"),
            Op::Linear { .. } => f.write_str("linear"),
            Op::Dropout { p, .. } => write!(f, "dropout {p}"),
            Op::Add => f.write_str("add"),
        }
    }
}

fn window(f: &mut fmt::Formatter<'_>, name: &str, [kernel, stride, padding]: [Pair; 3]) -> fmt::Result {
    write!(f, "{name} {}x{}", kernel.height, kernel.width)?;
    unless(f, 1, "stride", stride)?;
    unless(f, 0, "padding", padding)
}

/// `value` behind `word`, unless it is the usual one.
fn unless(f: &mut fmt::Formatter<'_>, usual: u32, word: &str, value: Pair) -> fmt::Result {
    if value == Pair::square(usual) { Ok(()) } else { write!(f, " {word} {}x{}", value.height, value.width) }
}
