//! The job spec, as a user writes it in TOML. Every key has a default except `data.train`; unknown keys are refused.
//! [`parse`] reads it, and [`crate::plan`] resolves it once the data is known.

pub(crate) mod check;
mod data;
mod network;
mod parse;
mod train;

pub use data::{
    Augment, BadImage, Channels, Data, DataFormat, Depth16, EmptyClasses, Fill, Filter, Normalize, Prepare, Resize,
    Size, Statistic, StatisticWord, Task,
};
pub use network::{Layer, LayerKind, NetworkSpec, Pair, Shortcut};
pub use parse::{SpecError, names, nearest, parse, to_toml};
pub use train::{
    BalancedWord, CheckpointSpec, ClassWeights, Compression, EarlyStopping, LastStep, Loss, LossKind, Optimizer,
    OptimizerKind, Schedule, ScheduleKind, Train,
};

use serde::{Deserialize, Serialize};

/// Most classes, labels or targets: a confusion matrix must stay of a size that can be summed for each shard.
pub const MAX_NAMES: usize = 2048;

/// f32 on CPUs, the same bits from every instruction set; 3x3 convolutions by Winograd's F(4x4, 3x3) where that is
/// faster.
pub const CPU_F32_V1: &str = "cpu-f32-v1";
/// The same with all convolutions by their definition: smaller rounding errors, slower.
pub const CPU_F32_DIRECT_V1: &str = "cpu-f32-direct-v1";
/// The prefix of the numerics class of each GPU: f32 by compositions of candle's operations. A slash and everything
/// that the bits depend on follow it.
pub const CUDA_F32_V1: &str = "cuda-f32-v1";
/// bf16 operands and activations with f32 sums on CPUs, in an order that AMX has and every CPU can compute.
pub const CPU_BF16_V1: &str = "cpu-bf16-v1";
/// The numerics classes of CPUs.
pub const NUMERICS: [&str; 3] = [CPU_F32_V1, CPU_F32_DIRECT_V1, CPU_BF16_V1];

/// Whether `name` is a numerics class that this version may know how to compute: one of [`NUMERICS`], or the whole name
/// of a GPU's.
pub fn is_numerics(name: &str) -> bool {
    let gpu = name.strip_prefix(CUDA_F32_V1).and_then(|rest| rest.strip_prefix('/'));
    let whole = |gpu: &str| !gpu.is_empty() && gpu.len() <= 256 && !gpu.contains(char::is_control);
    NUMERICS.contains(&name) || gpu.is_some_and(whole)
}

/// A job as its user wrote it, defaults filled in.
///
/// Many fields: they are the keys and tables at the top of the TOML text.
///
/// # Examples
/// ```
/// use convoy_common::spec::{self, OptimizerKind};
///
/// let text = r#"
///     seed = 7
///     data.train = "photos"
///     train.epochs = 3
/// "#;
/// let spec = spec::parse(text, &["optimizer.kind=adamw".to_owned()])?;
/// assert_eq!((spec.seed, spec.train.epochs, spec.train.batch), (7, 3, 128));
/// assert_eq!(spec.optimizer.kind, OptimizerKind::Adamw);
///
/// let error = spec::parse("data.train = \"photos\"\ntrain.batch = 0", &[]).unwrap_err();
/// assert_eq!(error.to_string(), "line 2: `train.batch`: must be at least 1");
/// # Ok::<(), spec::SpecError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// A name for people; used in the run folder's name.
    #[serde(default = "default_name")]
    pub name: String,
    /// Seed of everything random: split, order, initialisation, augmentation, dropout.
    /// At most 2^53 - 1, so that every TOML and JSON reader keeps it.
    #[serde(default)]
    pub seed: u64,
    /// The class of arithmetic within which bits are promised: `"cpu-f32-v1"`, or `"cpu-f32-direct-v1"`, which is
    /// slower and rounds less; or `"cpu-bf16-v1"`, bf16 with f32 sums (`docs/numerics.md`), which is made for CPUs with
    /// AMX (1.0 to 3.0 times as fast as f32 there), wins or loses by the network on AMD's with AVX512_BF16, is slower
    /// than f32 on all others, and takes as little as half the memory for activations. Top-1 of five seeds on
    /// Fashion-MNIST after an epoch: 88.99 ± 0.26, 89.06 ± 0.20 and 89.17 ± 0.33 %, PyTorch 89.04 ± 0.23 %; after ten
    /// epochs 93.50 ± 0.13 % in f32 and 93.41 ± 0.12 % in bf16. Or the class of a GPU, `"cuda-f32-v1/..."`, which names
    /// its model and the versions of what computes on it, as `convoy worker --device cuda` says it.
    #[serde(default = "default_numerics")]
    pub numerics: String,
    /// The kind of task.
    #[serde(default)]
    pub task: Task,
    /// Where images and labels are.
    pub data: Data,
    /// How an image becomes a tensor, the same for training, validation and prediction.
    #[serde(default)]
    pub prepare: Prepare,
    /// Random changes to training images, after `prepare`'s resizing rules.
    #[serde(default)]
    pub augment: Augment,
    /// The network.
    #[serde(default)]
    pub network: NetworkSpec,
    /// The loss.
    #[serde(default)]
    pub loss: Loss,
    /// The optimizer.
    #[serde(default)]
    pub optimizer: Optimizer,
    /// The learning-rate schedule.
    #[serde(default)]
    pub schedule: Schedule,
    /// Epochs, batch, shard.
    #[serde(default)]
    pub train: Train,
    /// When checkpoints are written and which are kept.
    #[serde(default)]
    pub checkpoint: CheckpointSpec,
}

impl Spec {
    /// The keys that name files or folders, each with its path.
    pub fn paths(&self) -> Vec<(&'static str, &str)> {
        let optional = [
            ("data.validation", &self.data.validation),
            ("data.images", &self.data.images),
            ("network.init", &self.network.init),
        ];
        let given = optional.into_iter().filter_map(|(key, path)| Some((key, path.as_deref()?)));
        let moved = self.data.moved.values().map(|path| ("data.moved", path.as_str()));
        [("data.train", self.data.train.as_str())].into_iter().chain(given).chain(moved).collect()
    }

    /// The same spec with other paths: `change` gets each key of [`Spec::paths`] with its path, and returns the new
    /// path.
    ///
    /// # Errors
    /// The first error of `change`.
    pub fn with_paths<E>(mut self, mut change: impl FnMut(&'static str, &str) -> Result<String, E>) -> Result<Self, E> {
        self.data.train = change("data.train", &self.data.train)?;
        let optional = [
            ("data.validation", &mut self.data.validation),
            ("data.images", &mut self.data.images),
            ("network.init", &mut self.network.init),
        ];
        for (key, path) in optional {
            if let Some(path) = path {
                *path = change(key, path)?;
            }
        }
        for path in self.data.moved.values_mut() {
            *path = change("data.moved", path)?;
        }
        Ok(self)
    }
}

fn default_name() -> String {
    "job".to_owned()
}

fn default_numerics() -> String {
    CPU_F32_V1.to_owned()
}
