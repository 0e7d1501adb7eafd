//! `[network]`: a zoo name or a list of layers.

use serde::{Deserialize, Serialize};

/// `[network]`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NetworkSpec {
    /// A network of the zoo; not together with `layers`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The layers, first to last; the last one must have as many outputs as the task needs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<Layer>,
    /// A torchvision or Convoy model file to start from; a head of another size is replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init: Option<String>,
    /// For this many epochs only the head (the last fully connected layer) is trained.
    pub freeze_epochs: u32,
}

/// The network that is built when the spec names none.
pub const DEFAULT_NETWORK: &str = "resnet18-small";

impl NetworkSpec {
    /// The zoo name in force, when no layers are given.
    pub fn zoo_name(&self) -> &str {
        self.name.as_deref().unwrap_or(DEFAULT_NETWORK)
    }
}

/// A layer, with a name that its parameters carry; `layer<index>` (from 0) when absent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Layer {
    /// Name in model files and messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The operation of the layer.
    #[serde(flatten)]
    pub kind: LayerKind,
}

/// Height and width, or one number for both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "PairText", into = "PairText")]
pub struct Pair {
    /// Vertical.
    pub height: u32,
    /// Horizontal.
    pub width: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a number or [height, width]")]
enum PairText {
    Both(u32),
    Each([u32; 2]),
}

impl From<PairText> for Pair {
    fn from(text: PairText) -> Self {
        match text {
            PairText::Both(side) => Pair::square(side),
            PairText::Each([height, width]) => Pair { height, width },
        }
    }
}

impl From<Pair> for PairText {
    fn from(pair: Pair) -> Self {
        if pair.height == pair.width { PairText::Both(pair.height) } else { PairText::Each([pair.height, pair.width]) }
    }
}

impl Pair {
    /// The same number in both directions.
    pub const fn square(side: u32) -> Self {
        Pair { height: side, width: side }
    }
}

fn one() -> Pair {
    Pair::square(1)
}
fn zero() -> Pair {
    Pair::square(0)
}
fn yes() -> bool {
    true
}
fn group() -> u32 {
    1
}
fn bn_eps() -> f64 {
    1e-5
}
fn bn_momentum() -> f64 {
    0.1
}
fn leak() -> f64 {
    0.01
}
fn elu_alpha() -> f64 {
    1.0
}

/// The operation of a layer. Meanings and defaults are those of `torch.nn`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum LayerKind {
    /// 2-d convolution.
    Conv {
        /// Output channels.
        out: u32,
        /// Kernel size.
        kernel: Pair,
        /// Step of the window.
        #[serde(default = "one")]
        stride: Pair,
        /// Zeros around the input.
        #[serde(default = "zero")]
        padding: Pair,
        /// Distance between the kernel's taps.
        #[serde(default = "one")]
        dilation: Pair,
        /// Groups of channels that do not see each other; the input's channels make it depthwise.
        #[serde(default = "group")]
        groups: u32,
        /// Whether a bias is added.
        #[serde(default = "yes")]
        bias: bool,
    },
    /// Maximum over windows.
    MaxPool {
        /// Window size.
        kernel: Pair,
        /// Step; the window size when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stride: Option<Pair>,
        /// Border that never wins.
        #[serde(default = "zero")]
        padding: Pair,
    },
    /// Mean over windows; padding counts.
    AvgPool {
        /// Window size.
        kernel: Pair,
        /// Step; the window size when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stride: Option<Pair>,
        /// Zeros around the input.
        #[serde(default = "zero")]
        padding: Pair,
    },
    /// Mean over height and width.
    GlobalAvgPool,
    /// Batch norm over the shard.
    BatchNorm {
        /// Added to the variance.
        #[serde(default = "bn_eps")]
        eps: f64,
        /// Share of the new value in the running statistics.
        #[serde(default = "bn_momentum")]
        momentum: f64,
    },
    /// Height, width and channels become features, in the order of PyTorch (channel, row, column).
    Flatten,
    /// Fully connected.
    Linear {
        /// Output features.
        out: u32,
        /// Whether a bias is added.
        #[serde(default = "yes")]
        bias: bool,
    },
    /// Random zeros in training.
    Dropout {
        /// Probability of a zero.
        p: f64,
    },
    /// The sum of `layers` and `shortcut`.
    Residual {
        /// The long way.
        layers: Vec<Layer>,
        /// The short way: `"auto"` is the identity where shapes agree, else a 1x1 convolution and batch norm.
        #[serde(default)]
        shortcut: Shortcut,
    },
    /// max(0, x).
    Relu,
    /// min(max(0, x), 6).
    Relu6,
    /// x where positive, else slope * x.
    LeakyRelu {
        /// Slope below zero.
        #[serde(default = "leak")]
        slope: f64,
    },
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
    Elu {
        /// Scale below zero.
        #[serde(default = "elu_alpha")]
        alpha: f64,
    },
    /// Softmax over features.
    Softmax,
}

/// The short way of a residual block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Shortcut {
    /// Identity where shapes agree, else a projection (1x1 convolution and batch norm).
    #[default]
    Auto,
    /// Identity; shapes must agree.
    Identity,
    /// A 1x1 convolution and batch norm.
    Projection,
}
