//! The plan: the meaning of a spec once the data is known. It is resolved once, and all machines of a run hold the same
//! one.

mod check;
mod resolve;
mod targets;

pub use crate::spec::MAX_NAMES;
pub use targets::TargetStatistics;

use serde::{Deserialize, Serialize};

use crate::Digest;
use crate::epoch_order::EpochCut;
use crate::manifest::LabelKind;
use crate::metrics::MetricLayout;
use crate::schedule::LearningRate;
use crate::spec::{CheckpointSpec, Data, LastStep, LossKind, Spec};

/// The plan of a run. With the data, it determines every bit that the run computes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The spec with nothing left open: no `"auto"`, no `"measured"`.
    pub spec: Spec,
    /// Class names, label names or names of targets.
    pub names: Vec<String>,
    /// Shape of the network's input.
    pub input: Input,
    /// Outputs of the network for one sample.
    pub outputs: u32,
    /// How pixels become the network's numbers.
    pub normalization: Normalization,
    /// Weight of each class in the loss; empty when they all count the same.
    pub class_weights: Vec<f32>,
    /// Mean and deviation of the targets of a regression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub targets: Option<TargetStatistics>,
    /// Usable training samples.
    pub train_samples: u32,
    /// Usable validation samples.
    pub validation_samples: u32,
    /// Digest of the manifest.
    pub manifest: Digest,
    /// Digest of the initial model file, if the spec names one.
    pub init: Option<Digest>,
}

/// Shape of one sample, NHWC without the N.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    /// Rows.
    pub height: u32,
    /// Columns.
    pub width: u32,
    /// Channels.
    pub channels: u32,
}

impl Input {
    /// Numbers in one sample.
    pub fn len(&self) -> usize {
        self.height as usize * self.width as usize * self.channels as usize
    }

    /// Whether a sample has no numbers; refused by [`Plan::resolve`].
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// `(x / 255 - mean) / std`, one of each per channel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Normalization {
    /// Subtracted.
    pub mean: Vec<f32>,
    /// Divided by.
    pub std: Vec<f32>,
}

/// Facts that a scan of the data has shown. [`Plan::resolve`] makes a plan of them and a spec.
#[derive(Debug, Clone, PartialEq)]
pub struct DataFacts {
    /// Class names, label names or names of targets.
    pub names: Vec<String>,
    /// The kind of labels.
    pub labels: LabelKind,
    /// Usable training samples.
    pub train_samples: u32,
    /// Usable validation samples.
    pub validation_samples: u32,
    /// Usable training samples of each class; empty unless labels are classes.
    pub class_counts: Vec<u64>,
    /// Height and width in force.
    pub size: [u32; 2],
    /// Channels in force.
    pub channels: u32,
    /// Mean and deviation of the targets over the usable training samples, if labels are numbers.
    pub targets: Option<TargetStatistics>,
    /// Mean and standard deviation of each channel on the scale [0, 1], where they were to be measured.
    pub measured: Option<Normalization>,
    /// Mean and standard deviation over all channels, likewise.
    pub measured_global: Option<Normalization>,
    /// Digest of the manifest.
    pub manifest: Digest,
    /// Digest of the initial model file.
    pub init: Option<Digest>,
}

impl Plan {
    /// blake3 of the plan as canonical JSON, without the keys that change no bit (`name`, paths, `[checkpoint]` but for
    /// `best_by`, cache size): two runs with equal digests compute equal bits.
    pub fn digest(&self) -> Digest {
        let mut bare = self.clone();
        bare.spec.name = String::new();
        bare.spec.data = Data::at("");
        bare.spec.network.init = None;
        let best_by = bare.spec.checkpoint.best_by.take();
        bare.spec.checkpoint = CheckpointSpec { best_by, ..Default::default() };
        Digest::of(&bare.to_json())
    }

    /// How training samples are cut into steps and shards.
    pub fn train_cut(&self) -> EpochCut {
        EpochCut {
            samples: self.train_samples,
            batch: self.spec.train.batch,
            shard: self.spec.train.shard,
            keep_last: self.spec.train.last == LastStep::Keep,
        }
    }

    /// How validation samples are cut into shards: one step that takes them all.
    pub fn evaluate_cut(&self) -> EpochCut {
        EpochCut {
            samples: self.validation_samples,
            batch: self.validation_samples.max(1),
            shard: self.spec.train.shard,
            keep_last: true,
        }
    }

    /// Steps of the whole run.
    pub fn total_steps(&self) -> u64 {
        self.train_cut().steps() * u64::from(self.spec.train.epochs)
    }

    /// The learning-rate curve.
    pub fn learning_rate(&self) -> LearningRate {
        LearningRate::new(&self.spec, self.train_cut().steps(), self.total_steps())
    }

    /// The loss in force.
    pub fn loss(&self) -> LossKind {
        self.spec.loss.kind.unwrap_or(LossKind::CrossEntropy)
    }

    /// What targets are scaled by in training, if they are: the loss then compares `(value - mean) / std`, which is
    /// also what the network in training puts out.
    pub fn target_scale(&self) -> Option<&TargetStatistics> {
        self.targets.as_ref().filter(|_| self.spec.loss.scale_targets == Some(true))
    }

    /// Where each sum for the metrics lies.
    pub fn metric_layout(&self) -> MetricLayout {
        MetricLayout { task: self.spec.task, names: self.names.len(), of_mean: self.targets.is_some() }
    }
}
