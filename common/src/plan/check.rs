//! The checks of a plan.

use std::collections::BTreeSet;

use super::{DataFacts, Normalization, Plan};
use crate::manifest::LabelKind;
use crate::spec::check::{Problem, check_spec, positive, problem, refuse_foreign, within};
use crate::spec::{ClassWeights, LastStep, LossKind, MAX_NAMES, Spec, Task};

/// Most rows or columns of an input, which may be as large as the images are: so many that nothing overflows.
const MOST_SIDE: f64 = 65_536.0;

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
    /// Checks a plan that came from a file.
    ///
    /// # Errors
    /// The first thing that makes no sense, with its key.
    pub fn check(&self) -> Result<(), String> {
        let checked = check_spec(&self.spec).and_then(|()| check_plan(self));
        checked.map_err(|(key, problem)| format!("`{key}` {problem}"))
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
    check_loss(plan)?;
    check_shapes(plan)?;
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

/// What follows from the spec and the data by itself, and must fit together where a plan comes from elsewhere.
fn check_shapes(plan: &Plan) -> Result<(), Problem> {
    let Plan { spec, names, input, outputs, normalization, class_weights, .. } = plan;
    for side in [input.height, input.width] {
        within("input", side.into(), 1.0, MOST_SIDE)?;
    }
    if ![1, 3].contains(&input.channels) {
        return problem("input", format!("has {} channels; there may be 1 or 3", input.channels));
    }
    let channels = input.channels as usize;
    let Normalization { mean, std } = normalization;
    let usable = mean.iter().all(|mean| mean.is_finite()) && std.iter().all(|std| std.is_finite() && *std > 0.0);
    if (mean.len(), std.len()) != (channels, channels) || !usable {
        return problem(
            "normalization",
            format!("is not a mean and a positive deviation of each of {channels} channels"),
        );
    }
    let (wanted, of_names) = match spec.task {
        Task::Auto => return problem("task", "is not resolved"),
        Task::Binary => (1, names.len() == 2),
        Task::Multiclass | Task::Multilabel | Task::Regression => (names.len(), !names.is_empty()),
    };
    if *outputs as usize != wanted || !of_names {
        return problem("outputs", format!("is {outputs}, which does not fit {} names", names.len()));
    }
    if ![0, names.len()].contains(&class_weights.len()) {
        return problem("class_weights", format!("has {} numbers for {} names", class_weights.len(), names.len()));
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
