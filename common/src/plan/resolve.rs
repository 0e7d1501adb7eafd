//! From a spec and the facts about its data to the plan.

use super::check::{check_plan, resolve_task};
use super::{DataFacts, Input, Normalization, Plan};
use crate::metrics::MetricLayout;
use crate::schedule::defaults;
use crate::spec::check::check_spec;
use crate::spec::{
    BalancedWord, Channels, ClassWeights, Depth16, Layer, LayerKind, LossKind, Normalize, OptimizerKind, ScheduleKind,
    Size, Spec, SpecError, Statistic, StatisticWord, Task,
};

/// ImageNet's statistics as torchvision's models expect them.
const IMAGENET: ([f64; 3], [f64; 3]) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);

impl Plan {
    /// The plan of `spec` for data that `facts` tell about.
    ///
    /// # Errors
    /// When the spec does not fit the data; the error names the key and a remedy.
    pub fn resolve(mut spec: Spec, facts: &DataFacts) -> Result<Plan, SpecError> {
        let fail = |key: &str, problem: String| SpecError::Value { key: key.to_owned(), line: None, problem };
        check_spec(&spec).map_err(|(key, problem)| fail(&key, problem))?;
        let task = resolve_task(&spec, facts).map_err(|problem| fail("task", problem))?;
        spec.task = task;
        if spec.prepare.depth16 == Depth16::Stretch {
            return Err(fail("prepare.depth16", "was not measured; give two numbers".to_owned()));
        }
        spec.prepare.size = Size::Fixed(facts.size);
        spec.prepare.channels = Channels::Fixed(facts.channels);
        fill_in(&mut spec, task);
        resolve_scale(&mut spec, facts).map_err(|problem| fail("loss.scale_targets", problem))?;
        let normalization = resolve_normalization(&spec, facts).map_err(|(key, problem)| fail(key, problem))?;
        if spec.prepare.normalize == Normalize::Zscore {
            spec.prepare.std = per_channel(&normalization.std);
        }
        if matches!(spec.prepare.normalize, Normalize::Zscore | Normalize::Mean) {
            spec.prepare.mean = per_channel(&normalization.mean);
        }
        let class_weights =
            resolve_class_weights(&mut spec, facts).map_err(|problem| fail("loss.class_weights", problem))?;
        let plan = Plan {
            input: Input { height: facts.size[0], width: facts.size[1], channels: facts.channels },
            outputs: if task == Task::Binary { 1 } else { facts.names.len() as u32 },
            names: facts.names.clone(),
            normalization,
            class_weights,
            targets: facts.targets.clone(),
            train_samples: facts.train_samples,
            validation_samples: facts.validation_samples,
            manifest: facts.manifest,
            init: facts.init,
            spec,
        };
        check_plan(&plan).map_err(|(key, problem)| fail(&key, problem))?;
        Ok(plan)
    }
}

/// Writes every default that depends on another key into the spec.
fn fill_in(spec: &mut Spec, task: Task) {
    let kind = *spec.loss.kind.get_or_insert(match task {
        Task::Auto | Task::Multiclass => LossKind::CrossEntropy,
        Task::Binary | Task::Multilabel => LossKind::BinaryCrossEntropy,
        Task::Regression => LossKind::Mse,
    });
    match kind {
        LossKind::CrossEntropy => _ = spec.loss.label_smoothing.get_or_insert(0.0),
        LossKind::Huber => _ = spec.loss.delta.get_or_insert(1.0),
        _ => {}
    }
    match spec.optimizer.kind {
        OptimizerKind::Sgd => {
            spec.optimizer.momentum.get_or_insert(0.9);
            spec.optimizer.nesterov.get_or_insert(false);
        }
        OptimizerKind::Adam | OptimizerKind::Adamw => {
            spec.optimizer.betas.get_or_insert([0.9, 0.999]);
            spec.optimizer.eps.get_or_insert(1e-8);
        }
    }
    let schedule = &mut spec.schedule;
    match schedule.kind {
        ScheduleKind::Constant => {}
        ScheduleKind::Step => {
            schedule.every_epochs.get_or_insert(defaults::EVERY_EPOCHS);
            schedule.gamma.get_or_insert(defaults::GAMMA);
        }
        ScheduleKind::Cosine => _ = schedule.final_fraction.get_or_insert(defaults::FINAL_FRACTION),
        ScheduleKind::OneCycle => {
            schedule.rise.get_or_insert(defaults::RISE);
            schedule.div_factor.get_or_insert(defaults::DIV_FACTOR);
            schedule.final_div_factor.get_or_insert(defaults::FINAL_DIV_FACTOR);
        }
    }
    if spec.network.layers.is_empty() {
        spec.network.name = Some(spec.network.zoo_name().to_owned());
    }
    if spec.augment.random_resized_crop.is_some() {
        spec.augment.crop_aspect.get_or_insert([0.75, 4.0 / 3.0]);
    }
    let names = MetricLayout { task, names: 0, of_mean: false };
    spec.checkpoint.best_by.get_or_insert_with(|| names.default_best().to_owned());
}

/// Whether targets are scaled: unless something else is said, where the spec's network ends in a layer that can take
/// the scale up.
fn resolve_scale(spec: &mut Spec, facts: &DataFacts) -> Result<(), String> {
    match (spec.task, spec.loss.scale_targets, &facts.targets) {
        (Task::Regression, None, targets) => {
            spec.loss.scale_targets = Some(targets.is_some() && ends_in_a_sum(&spec.network.layers));
            Ok(())
        }
        (Task::Regression, Some(true), None) => {
            Err("needs the targets' statistics, which were not measured".to_owned())
        }
        (Task::Regression, ..) | (_, None, _) => Ok(()),
        (_, Some(_), _) => Err("belongs to task \"regression\" only; leave it out".to_owned()),
    }
}

/// Whether the last layer with weights has a bias and nothing but flattening and averaging follows it. All networks of
/// the zoo are such.
fn ends_in_a_sum(layers: &[Layer]) -> bool {
    let averages = |layer: &&Layer| matches!(layer.kind, LayerKind::Flatten | LayerKind::GlobalAvgPool);
    match layers.iter().rev().find(|layer| !averages(layer)).map(|layer| &layer.kind) {
        Some(LayerKind::Linear { bias, .. } | LayerKind::Conv { bias, .. }) => *bias,
        Some(_) => false,
        None => true,
    }
}

/// The numbers as the shortest decimals that are the same f32, so that the resolved spec reads well and means the same.
fn per_channel(values: &[f32]) -> Statistic {
    Statistic::PerChannel(values.iter().map(|value| value.to_string().parse().unwrap_or(f64::from(*value))).collect())
}

/// Mean and deviation of each channel that are in force.
fn resolve_normalization(spec: &Spec, facts: &DataFacts) -> Result<Normalization, (&'static str, String)> {
    let channels = facts.channels as usize;
    let (mean, std) = match spec.prepare.normalize {
        Normalize::Unit => (vec![0.0; channels], vec![1.0; channels]),
        Normalize::Signed => (vec![0.5; channels], vec![0.5; channels]),
        Normalize::Mean => (statistic(&spec.prepare.mean, facts, "prepare.mean", true)?, vec![1.0; channels]),
        Normalize::Zscore => (
            statistic(&spec.prepare.mean, facts, "prepare.mean", true)?,
            statistic(&spec.prepare.std, facts, "prepare.std", false)?,
        ),
    };
    if let Some(bad) = mean.iter().find(|mean| !mean.is_finite()) {
        return Err(("prepare.mean", format!("is {bad} as a 32-bit number; the scale is [0, 1]")));
    }
    if let Some(bad) = std.iter().find(|std| !(std.is_finite() && **std > 0.0)) {
        return Err((
            "prepare.std",
            format!("is {bad}, but must be positive; if all images have one colour, use normalize = \"unit\""),
        ));
    }
    Ok(Normalization { mean, std })
}

/// The means (if `mean`) or deviations of each channel that `statistic`, the value of `key`, stands for.
fn statistic(
    statistic: &Statistic,
    facts: &DataFacts,
    key: &'static str,
    mean: bool,
) -> Result<Vec<f32>, (&'static str, String)> {
    let channels = facts.channels as usize;
    let pick = |measured: &Option<Normalization>| match measured {
        Some(measured) if mean => Ok(measured.mean.clone()),
        Some(measured) => Ok(measured.std.clone()),
        None => Err((key, "was not measured; give numbers".to_owned())),
    };
    match statistic {
        Statistic::Word(StatisticWord::Measured) => pick(&facts.measured),
        Statistic::Word(StatisticWord::MeasuredGlobal) => pick(&facts.measured_global),
        Statistic::Word(StatisticWord::Imagenet) if channels == 3 => {
            Ok((if mean { IMAGENET.0 } else { IMAGENET.1 }).map(|value| value as f32).to_vec())
        }
        Statistic::Word(StatisticWord::Imagenet) => {
            Err((key, format!("\"imagenet\" has 3 channels, but the input has {channels}; set prepare.channels = 3")))
        }
        Statistic::Global(value) => Ok(vec![*value as f32; channels]),
        Statistic::PerChannel(values) if values.len() == channels => {
            Ok(values.iter().map(|value| *value as f32).collect())
        }
        Statistic::PerChannel(values) => {
            Err((key, format!("has {} numbers, but the input has {channels} channels", values.len())))
        }
    }
}

/// The weight of each class, which is written into the spec as well; empty where none are asked for.
fn resolve_class_weights(spec: &mut Spec, facts: &DataFacts) -> Result<Vec<f32>, String> {
    let weights: Vec<f64> = match &spec.loss.class_weights {
        None => return Ok(Vec::new()),
        Some(ClassWeights::Word(BalancedWord::Balanced)) => {
            let total: u64 = facts.class_counts.iter().sum();
            let classes = facts.class_counts.len() as f64;
            facts.class_counts.iter().map(|count| total as f64 / (classes * (*count).max(1) as f64)).collect()
        }
        Some(ClassWeights::Given(weights)) => weights.clone(),
    };
    if weights.len() != facts.names.len() {
        return Err(format!(
            "has {} numbers, but there are {} classes: {:?}",
            weights.len(),
            facts.names.len(),
            facts.names
        ));
    }
    let weights: Vec<f32> = weights.into_iter().map(|weight| weight as f32).collect();
    let Statistic::PerChannel(shown) = per_channel(&weights) else { unreachable!("per_channel makes numbers") };
    spec.loss.class_weights = Some(ClassWeights::Given(shown));
    Ok(weights)
}
