//! Losses: sums over the samples of a shard.

use std::borrow::Cow;

use convoy_common::batch::Targets;
use convoy_common::plan::Plan;
use convoy_common::spec::LossKind;
use convoy_kernels::loss::{self, CrossEntropy, LossError};

/// The loss that a plan trains by, with its settings.
#[derive(Debug, Clone, PartialEq)]
pub enum LossFunction {
    /// Softmax and cross entropy.
    CrossEntropy {
        /// Share of the target spread over all classes.
        label_smoothing: f32,
        /// Weight of each class; empty when all count the same.
        class_weights: Vec<f32>,
    },
    /// Sigmoid and binary cross entropy.
    BinaryCrossEntropy,
    /// Mean squared error.
    Mse,
    /// Mean absolute error.
    Mae,
    /// Huber loss.
    Huber {
        /// Where it turns from square to linear.
        delta: f32,
    },
}

/// The sum of a shard's losses with its gradient.
#[derive(Debug, Clone, PartialEq)]
pub struct LossOutput {
    /// Sum of the samples' losses.
    pub loss: f64,
    /// Sum of the samples' weights; their count unless classes are weighted.
    pub weight: f64,
    /// Gradient of the sum with respect to the network's outputs.
    pub doutputs: Vec<f32>,
}

impl LossFunction {
    /// The loss in force.
    pub fn of(plan: &Plan) -> Self {
        let settings = &plan.spec.loss;
        match plan.loss() {
            LossKind::CrossEntropy => LossFunction::CrossEntropy {
                label_smoothing: settings.label_smoothing.unwrap_or(0.0) as f32,
                class_weights: plan.class_weights.clone(),
            },
            LossKind::BinaryCrossEntropy => LossFunction::BinaryCrossEntropy,
            LossKind::Mse => LossFunction::Mse,
            LossKind::Mae => LossFunction::Mae,
            LossKind::Huber => LossFunction::Huber { delta: settings.delta.unwrap_or(1.0) as f32 },
        }
    }

    /// Computes the loss of `outputs`, rows of `width` numbers, one row a sample.
    ///
    /// # Errors
    /// A class that does not exist.
    ///
    /// # Panics
    /// When `targets` are not as many as `outputs` are.
    pub fn apply(&self, outputs: &[f32], width: usize, targets: &Targets) -> Result<LossOutput, LossError> {
        let samples = outputs.len() / width;
        let mut doutputs = vec![0.0; outputs.len()];
        let d = &mut doutputs[..];
        let t = target_values(targets);
        let loss = match self {
            LossFunction::CrossEntropy { label_smoothing, class_weights } => {
                let Targets::Classes(labels) = targets else { panic!("cross entropy needs classes") };
                let class_weights = (!class_weights.is_empty()).then_some(&class_weights[..]);
                let options = CrossEntropy { label_smoothing: *label_smoothing, class_weights };
                let sum = loss::cross_entropy(outputs, labels, width, options, d)?;
                return Ok(LossOutput { loss: sum.loss, weight: sum.weight, doutputs });
            }
            LossFunction::BinaryCrossEntropy => loss::binary_cross_entropy(outputs, &t, width, None, d),
            LossFunction::Mse => loss::mse(outputs, &t, width, d),
            LossFunction::Mae => loss::mae(outputs, &t, width, d),
            LossFunction::Huber { delta } => loss::huber(outputs, &t, width, *delta, d),
        };
        Ok(LossOutput { loss, weight: samples as f64, doutputs })
    }
}

/// Targets as the numbers that outputs are compared with, one row a sample; class 1 of two is 1.
pub fn target_values(targets: &Targets) -> Cow<'_, [f32]> {
    match targets {
        Targets::Classes(classes) => classes.iter().map(|&class| class as f32).collect(),
        Targets::Values { values, .. } => Cow::Borrowed(values),
    }
}
