//! Plans without data: a network does not depend on what images show.

use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use convoy_common::manifest::LabelKind;
use convoy_common::plan::{DataFacts, Input, Normalization};
use convoy_common::spec::{Channels, ClassWeights, LayerKind, Size, Spec, Task};
use convoy_common::{Digest, Plan};
use convoy_model::{Network, zoo};

use crate::error::CliError;
use crate::job;

/// `HxWxC`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct InputSize(pub Input);

impl FromStr for InputSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers: Option<Vec<u32>> = text.split('x').map(|part| part.parse().ok()).collect();
        match numbers.as_deref() {
            Some(&[height, width, channels @ (1 | 3)]) => Ok(InputSize(Input { height, width, channels })),
            _ => Err("give height, width and channels (1 or 3), such as 32x32x3".to_owned()),
        }
    }
}

/// The spec at `path`, a .toml file or the name of a network, with overrides; and its text. `what` else could be named
/// is said where it is neither.
///
/// # Errors
/// When it is neither, or makes no sense.
pub fn read(path: &Path, overrides: &[String], what: &str) -> Result<(Spec, String), CliError> {
    if path.extension().is_some_and(|extension| extension == "toml") {
        return job::read_spec(Some(path), overrides);
    }
    let name = path.to_string_lossy();
    if name.contains(['/', '.']) {
        let hint = format!("name {what}, or one of {}", zoo::NAMES.join(", "));
        return Err(CliError::NotFound { path: path.to_owned(), hint });
    }
    let mut all = vec!["data.train=\"-\"".to_owned(), format!("network.name={}", job::toml_string(&name))];
    all.extend_from_slice(overrides);
    job::read_spec(None, &all)
}

/// The input that `spec` names; 32x32x3 where it leaves that to the data.
pub fn input_of(spec: &Spec) -> Input {
    let [height, width] = match spec.prepare.size {
        Size::Fixed(size) => size,
        Size::Auto => [32, 32],
    };
    let channels = match spec.prepare.channels {
        Channels::Fixed(channels) => channels,
        Channels::Auto => 3,
    };
    Input { height, width, channels }
}

/// The classes or targets that `spec` tells of: by the task, by class weights, or by the last fully connected layer; 10
/// where it leaves that to the data.
pub fn classes_of(spec: &Spec) -> u32 {
    let last = || {
        spec.network.layers.iter().rev().find_map(|layer| match layer.kind {
            LayerKind::Linear { out, .. } => Some(out),
            _ => None,
        })
    };
    match (&spec.loss.class_weights, spec.task) {
        (_, Task::Binary) => 2,
        (Some(ClassWeights::Given(weights)), _) => weights.len() as u32,
        _ => last().unwrap_or(10),
    }
}

/// The plan of `spec` for data of which nothing is known but `input` and the number of `classes`. `file` and its `text`
/// are for error messages.
///
/// # Errors
/// When the spec does not fit such data.
pub fn plan(
    mut spec: Spec,
    input: Input,
    classes: u32,
    file: &Path,
    text: &str,
) -> Result<(Arc<Plan>, Arc<Network>), CliError> {
    let labels = match spec.task {
        Task::Regression => LabelKind::Values,
        Task::Multilabel => LabelKind::Set,
        Task::Auto | Task::Multiclass | Task::Binary => LabelKind::Class,
    };
    spec.network.init = None;
    let any = |channels: u32| Normalization { mean: vec![0.5; channels as usize], std: vec![0.25; channels as usize] };
    let samples = spec.train.batch.max(classes);
    let facts = DataFacts {
        names: (0..classes).map(|class| class.to_string()).collect(),
        labels,
        train_samples: samples,
        validation_samples: 0,
        class_counts: if labels == LabelKind::Class { vec![1; classes as usize] } else { Vec::new() },
        size: [input.height, input.width],
        channels: input.channels,
        measured: Some(any(input.channels)),
        measured_global: Some(any(input.channels)),
        manifest: Digest::default(),
        init: None,
    };
    let file = (!text.is_empty()).then(|| file.to_owned());
    let plan = Plan::resolve(spec, &facts).map_err(|error| CliError::Spec { file, error: error.located(text) })?;
    let network = Network::of(&plan)?;
    Ok((Arc::new(plan), Arc::new(network)))
}

#[cfg(test)]
mod tests {
    use convoy_common::spec::parse;

    use super::*;

    fn spec(text: &str) -> Spec {
        parse(&format!("{text}\n[data]\ntrain = \"x\"\n"), &[]).unwrap()
    }

    #[test]
    fn a_spec_tells_of_its_input() {
        let input = |text| input_of(&spec(text));
        assert_eq!(input(""), Input { height: 32, width: 32, channels: 3 });
        assert_eq!(input("[prepare]\nsize = [20, 30]\nchannels = 1"), Input { height: 20, width: 30, channels: 1 });
    }

    #[test]
    fn a_spec_tells_of_its_classes() {
        let classes = |text| classes_of(&spec(text));
        assert_eq!(classes(""), 10);
        assert_eq!(classes("task = \"binary\""), 2);
        assert_eq!(classes("[loss]\nclass_weights = [1.0, 2.0, 3.0]"), 3);
        let layers =
            "[network]\nlayers = [{ type = \"flatten\" }, { type = \"linear\", out = 7 }, { type = \"relu\" },";
        assert_eq!(classes(&format!("{layers} {{ type = \"linear\", out = 5 }}]")), 5);
    }

    #[test]
    fn sizes_are_read() {
        assert_eq!("8x9x1".parse(), Ok(InputSize(Input { height: 8, width: 9, channels: 1 })));
        assert!("8x9".parse::<InputSize>().is_err() && "8x9x2".parse::<InputSize>().is_err());
    }
}
