//! `[loss]`, `[optimizer]`, `[schedule]`, `[train]` and `[checkpoint]`.

use serde::{Deserialize, Serialize};

/// `[loss]`. Keys that do not belong to the kind in force are refused when the plan is made.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Loss {
    /// Which loss; by the task when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<LossKind>,
    /// Cross entropy: share of the target spread over all classes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label_smoothing: Option<f64>,
    /// Cross entropy: weight of each class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class_weights: Option<ClassWeights>,
    /// Huber: where the loss turns from square to linear; in standard deviations of a target where targets are scaled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delta: Option<f64>,
    /// Regression: whether the loss compares targets less their mean, divided by their standard deviation over the
    /// training samples. Metrics, predictions and the model are in the targets' own units either way. When absent: yes,
    /// unless `network.layers` ends in something else than a linear or conv layer with a bias.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scale_targets: Option<bool>,
}

/// Which loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossKind {
    /// Softmax and cross entropy (multiclass).
    CrossEntropy,
    /// Sigmoid and binary cross entropy (binary, multilabel).
    BinaryCrossEntropy,
    /// Mean squared error (regression).
    Mse,
    /// Mean absolute error (regression).
    Mae,
    /// Huber loss (regression).
    Huber,
}

/// Weight of each class in the loss.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "class_weights is \"balanced\" or a number per class")]
pub enum ClassWeights {
    /// Samples / (classes * samples of the class).
    Word(BalancedWord),
    /// One number per class, in the order of the class names.
    Given(Vec<f64>),
}

/// The word `balanced`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BalancedWord {
    /// By inverse frequency.
    Balanced,
}

/// `[optimizer]`. Keys that do not belong to the kind in force are refused when the plan is made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Optimizer {
    /// Which optimizer.
    pub kind: OptimizerKind,
    /// Peak learning rate.
    pub lr: f64,
    /// SGD: momentum.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub momentum: Option<f64>,
    /// SGD: Nesterov momentum.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nesterov: Option<bool>,
    /// Adam and AdamW: decay of the first and second moment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub betas: Option<[f64; 2]>,
    /// Adam and AdamW: added to the denominator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eps: Option<f64>,
    /// Weight decay: part of the gradient for SGD and Adam, decoupled for AdamW.
    pub weight_decay: f64,
    /// Whether norms' parameters and biases decay too.
    pub decay_norms_and_biases: bool,
    /// Largest global norm of the gradient; larger ones are scaled down. Costs the overlap of
    /// communication and optimizer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip_norm: Option<f64>,
}

impl Default for Optimizer {
    fn default() -> Self {
        Optimizer {
            kind: OptimizerKind::Sgd,
            lr: 0.05,
            momentum: None,
            nesterov: None,
            betas: None,
            eps: None,
            weight_decay: 5e-4,
            decay_norms_and_biases: false,
            clip_norm: None,
        }
    }
}

/// Which optimizer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerKind {
    /// Stochastic gradient descent (`torch.optim.SGD`).
    Sgd,
    /// Adam (`torch.optim.Adam`).
    Adam,
    /// AdamW (`torch.optim.AdamW`).
    Adamw,
}

/// `[schedule]`: the learning rate by step. Keys that do not belong to the kind in force are refused when the
/// plan is made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Schedule {
    /// Which curve.
    pub kind: ScheduleKind,
    /// Linear warm-up from zero over this many epochs (may be a fraction); not with `one_cycle`.
    pub warmup_epochs: f64,
    /// Step: the rate is multiplied by `gamma` after each of these many epochs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub every_epochs: Option<f64>,
    /// Step: the factor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gamma: Option<f64>,
    /// Cosine: the last rate as a share of `optimizer.lr`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub final_fraction: Option<f64>,
    /// One cycle: share of the steps in which the rate rises.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rise: Option<f64>,
    /// One cycle: the first rate is `optimizer.lr / div_factor`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub div_factor: Option<f64>,
    /// One cycle: the last rate is the first divided by this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub final_div_factor: Option<f64>,
}

impl Default for Schedule {
    fn default() -> Self {
        Schedule {
            kind: ScheduleKind::Cosine,
            warmup_epochs: 0.0,
            every_epochs: None,
            gamma: None,
            final_fraction: None,
            rise: None,
            div_factor: None,
            final_div_factor: None,
        }
    }
}

/// Which curve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScheduleKind {
    /// The same rate throughout.
    Constant,
    /// Multiplied by a factor every few epochs.
    Step,
    /// Half a cosine from the peak to `final_fraction` of it.
    Cosine,
    /// Up and down by cosines (`torch.optim.lr_scheduler.OneCycleLR` without momentum cycling).
    OneCycle,
}

/// `[train]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Train {
    /// Times each sample is seen.
    pub epochs: u32,
    /// Samples per step, over all workers.
    pub batch: u32,
    /// Samples per shard: the unit of work, of batch-norm statistics and of bits.
    pub shard: u32,
    /// Whether the samples that do not fill the last step of an epoch make a smaller step.
    pub last: LastStep,
    /// Whether gradients and changes of parameters are rounded to bf16, `"bf16"`, so that half the bytes pass between
    /// machines; `"none"` unless said otherwise. Where it is rounded is fixed (`docs/numerics.md`), so bits depend on
    /// neither workers nor machines.
    #[serde(skip_serializing_if = "Compression::is_none")]
    pub compression: Compression,
    /// Stop when a metric no longer gets better.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub early_stopping: Option<EarlyStopping>,
}

impl Default for Train {
    fn default() -> Self {
        let (last, compression) = (LastStep::Keep, Compression::None);
        Train { epochs: 10, batch: 128, shard: 32, last, compression, early_stopping: None }
    }
}

/// How exact what workers exchange is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// As it is computed: f32.
    #[default]
    None,
    /// Every node of the reduce tree, and every change of a parameter or buffer, is rounded to bf16.
    Bf16,
}

impl Compression {
    /// Whether nothing is rounded.
    pub fn is_none(&self) -> bool {
        *self == Compression::None
    }
}

/// Whether the samples that do not fill the last step of an epoch make a smaller step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LastStep {
    /// They make a smaller step.
    Keep,
    /// They are left out of this epoch.
    Drop,
}

/// `[train.early_stopping]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EarlyStopping {
    /// Epochs without a better value of `checkpoint.best_by` before the run stops.
    pub patience: u32,
    /// How much better counts as better.
    #[serde(default)]
    pub min_delta: f64,
}

/// `[checkpoint]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CheckpointSpec {
    /// Steps between checkpoints, beside the one after each epoch; 0 is none.
    pub every_steps: u64,
    /// Seconds between checkpoints; 0 is none.
    pub every_seconds: u64,
    /// How many of the newest are kept, beside the best.
    pub keep: u32,
    /// The validation metric by which the best is chosen; `top1`, `mae` or `loss` by the task when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub best_by: Option<String>,
}

impl Default for CheckpointSpec {
    fn default() -> Self {
        CheckpointSpec { every_steps: 0, every_seconds: 60, keep: 3, best_by: None }
    }
}
