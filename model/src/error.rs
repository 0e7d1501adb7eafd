//! Why a network cannot be built.

use convoy_common::spec::Pair;

use crate::Shape;

/// Largest number of elements of a network's tensors, and of one sample's feature map: 2^31.
pub const MAX_ELEMENTS: u64 = 1 << 31;

/// Why [`crate::Network::build`] or [`crate::Network::of`] refuses.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum NetworkError {
    /// The zoo has no such network.
    #[error(
        "network.name: there is no network `{name}`{}; known are {}",
        nearest.map(|n| format!("; did you mean `{n}`?")).unwrap_or_default(),
        known.join(", ")
    )]
    UnknownName {
        /// As written.
        name: String,
        /// A known name much like it.
        nearest: Option<&'static str>,
        /// All known names.
        known: &'static [&'static str],
    },
    /// A layer of the spec does not fit.
    #[error("layer {index} \"{name}\": {problem}; {remedy}")]
    Layer {
        /// Position in `network.layers` from 0; a layer in a residual block has a dot.
        index: String,
        /// Its name.
        name: String,
        /// What is wrong.
        problem: Problem,
        /// What to do.
        remedy: String,
    },
    /// A network of the zoo does not fit its input.
    #[error("network `{network}` does not fit {input} images: at \"{layer}\", {problem}; {remedy}")]
    Zoo {
        /// The zoo's name.
        network: String,
        /// Height, width and channels.
        input: Shape,
        /// The layer that does not fit.
        layer: String,
        /// What is wrong.
        problem: Problem,
        /// What to do.
        remedy: String,
    },
    /// No layers, or none with weights.
    #[error("the network has nothing to train; add a conv or linear layer to network.layers")]
    NothingToTrain,
    /// The scale of targets cannot become a part of the last layer.
    #[error(
        "targets are scaled (loss.scale_targets), for which the network must end in a linear or conv layer with a bias, but \
         \"{name}\" is none; end with one, or set loss.scale_targets = false"
    )]
    TargetScale {
        /// The layer in its place.
        name: String,
    },
    /// The last layer does not put out what the task needs.
    #[error("the last layer \"{name}\" puts out {found}, but {outputs} outputs are needed{reason}; {remedy}")]
    Outputs {
        /// The last layer.
        name: String,
        /// Its output.
        found: Shape,
        /// Outputs needed.
        outputs: u32,
        /// Why this many, in brackets; may be empty.
        reason: String,
        /// What to do.
        remedy: String,
    },
    /// The loss contains the last activation.
    #[error("the last layer \"{name}\" is a {function}, which the loss applies by itself; remove this layer")]
    FinalActivation {
        /// The last layer.
        name: String,
        /// `sigmoid` or `softmax`.
        function: &'static str,
    },
    /// The smallest shard gives batch norm too little.
    #[error(
        "batch norm \"{name}\" would see {values} value per channel in the smallest shard ({smallest} sample); {remedy}"
    )]
    Shards {
        /// The batch norm.
        name: String,
        /// Values per channel.
        values: u64,
        /// Samples of the smallest shard.
        smallest: u32,
        /// What to do.
        remedy: String,
    },
}

/// What is wrong with a layer.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Problem {
    /// The window, spread by its dilation, does not fit in the padded input.
    #[error("kernel {} is larger than its {}x{} input", show(*kernel), input.0, input.1)]
    KernelTooLarge {
        /// Size of the window after dilation.
        kernel: Pair,
        /// Height and width, with padding.
        input: (u64, u64),
    },
    /// A number that must be positive is zero.
    #[error("`{key}` is 0")]
    Zero {
        /// The key.
        key: &'static str,
    },
    /// A pool's padding is too wide.
    #[error("padding {} is more than half of kernel {}", show(*padding), show(*kernel))]
    PoolPadding {
        /// Padding.
        padding: Pair,
        /// Window.
        kernel: Pair,
    },
    /// Channels cannot be cut into the groups.
    #[error("{groups} groups do not divide its {input} input and {out} output channels")]
    Groups {
        /// Groups.
        groups: u32,
        /// Input channels.
        input: u32,
        /// Output channels.
        out: u32,
    },
    /// The layer works on maps.
    #[error("it needs a map (height x width x channels), but its input has {input} features")]
    NeedsMap {
        /// Features of the input.
        input: u32,
    },
    /// The layer works on features.
    #[error("it needs features, but its input is a {input} map")]
    NeedsFeatures {
        /// The input.
        input: Shape,
    },
    /// A number is out of range.
    #[error("`{key}` is {value}, but must be {allowed}")]
    Range {
        /// The key.
        key: &'static str,
        /// Its value.
        value: String,
        /// What is allowed.
        allowed: &'static str,
    },
    /// The two ways of a residual block differ.
    #[error("its layers turn {input} into {long}, to which its input cannot be added")]
    Residual {
        /// Input of the block.
        input: Shape,
        /// Output of the long way.
        long: Shape,
    },
    /// A residual block without layers.
    #[error("the residual block has no layers")]
    EmptyResidual,
    /// Residual blocks within residual blocks.
    #[error("residual blocks are nested more than {limit} deep")]
    TooDeep {
        /// Most levels.
        limit: usize,
    },
    /// Two layers of one name.
    #[error("another layer has this name")]
    SameName,
    /// A name that files could not hold.
    #[error("the name is empty or has a character other than letters, digits, `_`, `-` and `.`")]
    BadName,
    /// More numbers than any machine of ours holds.
    #[error("{what} would have more than 2^31 elements")]
    TooLarge {
        /// What is too large.
        what: &'static str,
    },
    /// VGG's classifier sees 7x7.
    #[error("its map is {height}x{width}, but height and width must be multiples of 7")]
    NotSevens {
        /// Rows.
        height: u32,
        /// Columns.
        width: u32,
    },
}

impl Problem {
    /// What to do about it. `shrinking` names the nearest earlier layer with a stride above 1.
    pub(crate) fn remedy(&self, shrinking: Option<&str>) -> String {
        match self {
            Problem::KernelTooLarge { .. } => match shrinking {
                Some(layer) => format!("lower the stride of {layer} or add padding"),
                None => "use a smaller kernel, add padding or raise prepare.size".to_owned(),
            },
            Problem::Zero { key } => format!("set `{key}` to 1 or more"),
            Problem::PoolPadding { .. } => "lower the padding".to_owned(),
            Problem::Groups { .. } => "choose groups that divide both".to_owned(),
            Problem::NeedsMap { .. } => "move it before the flatten and linear layers".to_owned(),
            Problem::NeedsFeatures { .. } => "put a flatten or global_avg_pool layer before it".to_owned(),
            Problem::Range { .. } => "change the number".to_owned(),
            Problem::Residual { .. } => "make the shapes agree, or use stride, padding and kernel such that a strided \
                                         1x1 convolution gives the same height and width (shortcut = \"projection\")"
                .to_owned(),
            Problem::EmptyResidual => "give it layers, or remove it".to_owned(),
            Problem::TooDeep { .. } => "write the inner blocks one after the other".to_owned(),
            Problem::SameName | Problem::BadName => "give it another name".to_owned(),
            Problem::TooLarge { .. } => "make it smaller".to_owned(),
            Problem::NotSevens { .. } => {
                "set prepare.size to a multiple of 224, or choose a network that pools globally, such as resnet18"
                    .to_owned()
            }
        }
    }
}

fn show(pair: Pair) -> String {
    format!("{}x{}", pair.height, pair.width)
}
