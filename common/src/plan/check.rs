//! The checks of a plan.

use std::collections::BTreeSet;

use super::{DataFacts, Input, Normalization, Plan};
use crate::manifest::{LabelKind, Manifest};
use crate::spec::check::{Problem, check_spec, positive, problem, refuse_foreign, within};
use crate::spec::{Channels, ClassWeights, LastStep, LossKind, MAX_NAMES, Size, Spec, Task};

/// The task in force.
///
/// # Errors
/// When the spec's task does not fit the labels.
pub(super) fn resolve_task(spec: &Spec, facts: &DataFacts) -> Result<Task, String> {
    let names = facts.names.len();
    match (spec.task, facts.labels) {
        (Task::Auto | Task::Multiclass, LabelKind::Class) => Ok(Task::Multiclass),
        (Task::Binary, LabelKind::Class) if names == 2 => Ok(Task::Binary),
        (Task::Binary, LabelKind::Class) => Err(format!(
            "\"binary\" needs two classes, but the data has {names}: {:?}; use \"multiclass\"",
            facts.names
        )),
        (Task::Auto | Task::Multilabel, LabelKind::Set) => Ok(Task::Multilabel),
        (Task::Auto | Task::Regression, LabelKind::Values) => Ok(Task::Regression),
        (task, labels) => {
            Err(format!("{task:?} does not fit the data, whose labels are of kind {labels:?}; leave task out")
                .to_lowercase())
        }
    }
}

impl Plan {
    /// Checks a plan that came from elsewhere: from a file, or over a network.
    ///
    /// # Errors
    /// The first thing that makes no sense, with its key.
    pub fn check(&self) -> Result<(), String> {
        let checked = check_spec(&self.spec).and_then(|()| check_plan(self));
        checked.map_err(|(key, problem)| format!("`{key}` {problem}"))
    }

    /// Checks that the plan is one for the data of `manifest`.
    ///
    /// # Errors
    /// The first difference.
    pub fn fits(&self, manifest: &Manifest) -> Result<(), String> {
        let splits = [
            ("train_samples", self.train_samples, &manifest.train),
            ("validation_samples", self.validation_samples, &manifest.validation),
        ];
        for (key, planned, split) in splits {
            let usable = split.usable().len();
            if usable != planned as usize {
                return Err(format!("`{key}` is {planned}, but the manifest has {usable} usable ones"));
            }
        }
        if self.names != manifest.names {
            return Err("`names` are not those of the manifest".to_owned());
        }
        if labels_of(self.spec.task) != Some(manifest.labels) {
            let (task, labels) = (self.spec.task, manifest.labels);
            return Err(format!("`task` is {task:?}, but the manifest's labels are of kind {labels:?}").to_lowercase());
        }
        Ok(())
    }
}

/// The labels that a task learns from; none of a task that no plan has.
fn labels_of(task: Task) -> Option<LabelKind> {
    match task {
        Task::Auto => None,
        Task::Multiclass | Task::Binary => Some(LabelKind::Class),
        Task::Multilabel => Some(LabelKind::Set),
        Task::Regression => Some(LabelKind::Values),
    }
}

/// Checks everything that only the whole plan shows.
pub(super) fn check_plan(plan: &Plan) -> Result<(), Problem> {
    let spec = &plan.spec;
    if plan.names.len() > MAX_NAMES {
        let problem_text = format!("has {} classes, labels or targets; there may be {MAX_NAMES}", plan.names.len());
        return problem("data.train", problem_text);
    }
    if plan.train_samples == 0 {
        return problem("data.train", "has no usable samples");
    }
    check_names(plan)?;
    check_shape(plan)?;
    check_loss(plan)?;
    if plan.names.len() != 2 && spec.task == Task::Binary {
        return problem("names", format!("are {}, but \"binary\" needs two classes", plan.names.len()));
    }
    if plan.names.len() < 2 && spec.task == Task::Multiclass {
        return problem("data.train", format!("has one class only ({:?}); there is nothing to tell apart", plan.names));
    }
    if plan.train_cut().steps() == 0 {
        let remedy =
            if spec.train.last == LastStep::Drop { "lower it, or set train.last = \"keep\"" } else { "add data" };
        let text =
            format!("is {}, but there are only {} training samples; {remedy}", spec.train.batch, plan.train_samples);
        return problem("train.batch", text);
    }
    let best_by = spec.checkpoint.best_by.as_deref().unwrap_or_default();
    let choices = plan.metric_layout().choices();
    if !choices.contains(&best_by) {
        return problem(
            "checkpoint.best_by",
            format!("`{best_by}` is not a metric of this task; choose one of {choices:?}"),
        );
    }
    if spec.train.early_stopping.is_some() && plan.validation_samples == 0 {
        return problem(
            "train.early_stopping",
            "needs validation data; set data.validation or data.validation_fraction",
        );
    }
    Ok(())
}

/// Targets are columns of a table, which may have two of one name; what is said of one must not be taken for the other.
fn check_names(plan: &Plan) -> Result<(), Problem> {
    let mut seen = BTreeSet::new();
    match plan.names.iter().find(|name| !seen.insert(name.as_str())) {
        Some(name) if plan.spec.task == Task::Regression => problem(
            "data.label_columns",
            format!("there are two columns `{name}`; give each column of the table a name of its own"),
        ),
        Some(name) => problem("data.train", format!("has two classes or labels of the name `{name}`")),
        None => Ok(()),
    }
}

/// What the network gets and puts out, which [`Plan::resolve`] makes of the rest.
fn check_shape(plan: &Plan) -> Result<(), Problem> {
    let Input { height, width, channels } = plan.input;
    let prepare = &plan.spec.prepare;
    if plan.input.is_empty() || prepare.size != Size::Fixed([height, width]) {
        return problem("input", "is not of the height and width of prepare.size");
    }
    if prepare.channels != Channels::Fixed(channels) {
        return problem("input", "is not of as many channels as prepare.channels");
    }
    let Normalization { mean, std } = &plan.normalization;
    let usable = mean.iter().all(|mean| mean.is_finite()) && std.iter().all(|std| std.is_finite() && *std > 0.0);
    if [mean.len(), std.len()] != [channels as usize; 2] || !usable {
        return problem("normalization", "is not a mean and a positive deviation of each channel");
    }
    if !plan.class_weights.is_empty() && plan.class_weights.len() != plan.names.len() {
        return problem("class_weights", "are not one for each class");
    }
    if plan.spec.task == Task::Binary && plan.names.len() != 2 {
        return problem("outputs", format!("is of two classes, and there are names of {}", plan.names.len()));
    }
    let outputs = if plan.spec.task == Task::Binary { 1 } else { plan.names.len() };
    if plan.outputs as usize != outputs {
        return problem("outputs", format!("is {}, where the task needs {outputs}", plan.outputs));
    }
    Ok(())
}

fn check_targets(plan: &Plan) -> Result<(), Problem> {
    let regression = plan.spec.task == Task::Regression;
    match &plan.targets {
        Some(targets) if !regression || !targets.fits(plan.names.len()) => {
            problem("targets", "are not a mean and a positive deviation of each target")
        }
        None if plan.spec.loss.scale_targets == Some(true) => {
            problem("loss.scale_targets", "needs the targets' statistics, which the plan lacks")
        }
        _ => Ok(()),
    }
}

fn check_loss(plan: &Plan) -> Result<(), Problem> {
    check_targets(plan)?;
    let spec = &plan.spec;
    let fits = match plan.loss() {
        LossKind::CrossEntropy => spec.task == Task::Multiclass,
        LossKind::BinaryCrossEntropy => matches!(spec.task, Task::Binary | Task::Multilabel),
        LossKind::Mse | LossKind::Mae | LossKind::Huber => spec.task == Task::Regression,
    };
    if !fits {
        return problem("loss.kind", format!("does not fit task {:?}; leave it out", spec.task).to_lowercase());
    }
    let cross_entropy = plan.loss() == LossKind::CrossEntropy;
    refuse_foreign(&[
        ("loss.label_smoothing", spec.loss.label_smoothing.is_some() && !cross_entropy, "cross_entropy"),
        ("loss.class_weights", spec.loss.class_weights.is_some() && !cross_entropy, "cross_entropy"),
        ("loss.delta", spec.loss.delta.is_some() && plan.loss() != LossKind::Huber, "huber"),
    ])?;
    if let Some(smoothing) = spec.loss.label_smoothing {
        within("loss.label_smoothing", smoothing, 0.0, 0.99)?;
    }
    if let Some(ClassWeights::Given(weights)) = &spec.loss.class_weights {
        weights.iter().try_for_each(|weight| positive("loss.class_weights", *weight))?;
    }
    spec.loss.delta.map_or(Ok(()), |delta| positive("loss.delta", delta))
}
