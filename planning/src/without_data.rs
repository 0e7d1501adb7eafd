//! Plans without data: what a network is does not depend on what images show.

use std::path::Path;
use std::sync::Arc;

use convoy_common::manifest::LabelKind;
use convoy_common::plan::{DataFacts, Input, Normalization, TargetStatistics};
use convoy_common::spec::{Channels, ClassWeights, Depth16, LayerKind, Size, Spec, Task};
use convoy_common::{Digest, Plan};
use convoy_model::{Network, zoo};

use crate::error::PlanningError;
use crate::spec_file::{SpecFile, is_spec, text_override};

/// The spec at `path`, a .toml file or the name of a network, with overrides. `what` else could be named is said where
/// it is neither.
///
/// # Errors
/// When it is neither, or makes no sense.
pub fn spec_or_network(path: &Path, overrides: &[String], what: &str) -> Result<SpecFile, PlanningError> {
    if is_spec(path) {
        return SpecFile::read(Some(path), overrides);
    }
    let name = path.to_string_lossy();
    if name.contains(['/', '.']) {
        let hint = format!("name {what}, or one of {}", zoo::NAMES.join(", "));
        return Err(PlanningError::Missing { path: path.to_owned(), hint });
    }
    let mut all = vec![text_override("data.train", "-"), text_override("network.name", &name)];
    all.extend_from_slice(overrides);
    SpecFile::of_overrides(&all)
}

/// What is assumed of data that nobody looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Assumed {
    /// Height, width and channels of a sample.
    pub input: Input,
    /// Classes, labels or targets.
    pub classes: u32,
}

impl Default for Assumed {
    /// Colour images of 32x32 pixels in 10 classes.
    fn default() -> Self {
        Assumed { input: Input { height: 32, width: 32, channels: 3 }, classes: 10 }
    }
}

impl Assumed {
    /// What `spec` tells of its data, and the default for what it leaves to the data.
    pub fn of(spec: &Spec) -> Self {
        Assumed { input: input_of(spec), classes: classes_of(spec) }
    }
}

/// The input that `spec` names.
fn input_of(spec: &Spec) -> Input {
    let Assumed { input, .. } = Assumed::default();
    let [height, width] = match spec.prepare.size {
        Size::Fixed(size) => size,
        Size::Auto => [input.height, input.width],
    };
    let channels = match spec.prepare.channels {
        Channels::Fixed(channels) => channels,
        Channels::Auto => input.channels,
    };
    Input { height, width, channels }
}

/// The classes or targets that `spec` tells of: by the task, by class weights, or by the last fully connected layer.
fn classes_of(spec: &Spec) -> u32 {
    let last = || {
        spec.network.layers.iter().rev().find_map(|layer| match layer.kind {
            LayerKind::Linear { out, .. } => Some(out),
            _ => None,
        })
    };
    match (&spec.loss.class_weights, spec.task) {
        (_, Task::Binary) => 2,
        (Some(ClassWeights::Given(weights)), _) => weights.len() as u32,
        _ => last().unwrap_or(Assumed::default().classes),
    }
}

/// The plan of the spec in `file` for data of which only `assumed` is known, and its network. The network begins with
/// random values, even if the spec names a model file.
///
/// # Errors
/// When the spec does not fit such data.
pub fn plan_without_data(file: SpecFile, assumed: Assumed) -> Result<(Arc<Plan>, Arc<Network>), PlanningError> {
    let SpecFile { mut spec, path, text } = file;
    spec.network.init = None;
    // There is nothing to measure.
    spec.prepare.depth16 = Depth16::HighByte;
    let facts = facts(&spec, assumed);
    let plan =
        Plan::resolve(spec, &facts).map_err(|error| PlanningError::Spec { file: path, error: error.located(&text) })?;
    let network = Network::of(&plan)?;
    Ok((Arc::new(plan), Arc::new(network)))
}

/// Targets about 0 with a deviation of 1.
fn standard_targets(targets: usize) -> TargetStatistics {
    TargetStatistics { mean: vec![0.0; targets], std: vec![1.0; targets] }
}

/// Facts of made-up data: one batch, or one sample of each class if that is more.
fn facts(spec: &Spec, Assumed { input, classes }: Assumed) -> DataFacts {
    let labels = match spec.task {
        Task::Regression => LabelKind::Values,
        Task::Multilabel => LabelKind::Set,
        Task::Auto | Task::Multiclass | Task::Binary => LabelKind::Class,
    };
    let channels = input.channels as usize;
    let normalization = Normalization { mean: vec![0.5; channels], std: vec![0.25; channels] };
    DataFacts {
        names: (0..classes).map(|class| class.to_string()).collect(),
        labels,
        train_samples: spec.train.batch.max(classes),
        validation_samples: 0,
        class_counts: if labels == LabelKind::Class { vec![1; classes as usize] } else { Vec::new() },
        targets: (labels == LabelKind::Values).then(|| standard_targets(classes as usize)),
        size: [input.height, input.width],
        channels: input.channels,
        measured: Some(normalization.clone()),
        measured_global: Some(normalization),
        manifest: Digest::default(),
        init: None,
    }
}
