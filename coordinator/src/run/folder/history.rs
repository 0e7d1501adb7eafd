//! What a checkpoint keeps of a run besides its numbers: finished epochs, the best one, sums of the epoch in work.

use std::collections::BTreeMap;

use convoy_common::metrics::Metrics;
use serde::{Deserialize, Deserializer, Serialize};

/// What is known of a run so far; part of every checkpoint.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct History {
    /// Samples, loss, loss weights, correct, summed over the steps of the epoch in work.
    pub epoch_sums: Vec<f64>,
    /// Finished epochs.
    pub rows: Vec<EpochRow>,
    /// The best epoch.
    pub best: Option<Best>,
    /// The value that early stopping compares with: the last that was better by `min_delta` at least.
    #[serde(default)]
    pub reference: Option<f64>,
    /// Epochs since that one.
    pub stale_epochs: u32,
    /// The parameters that were evaluated last.
    pub evaluated_step: u64,
    /// Metric sums of the last evaluation, for the confusion matrix.
    pub evaluation: Vec<f64>,
    /// Seconds of training, all starts together.
    pub seconds: f64,
}

/// The best epoch by the chosen metric.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// Its parameters.
    pub step: u64,
    /// The metric's value.
    pub value: f64,
}

/// One row of `metrics.csv`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EpochRow {
    /// Counted from 1.
    pub epoch: u32,
    /// Steps done.
    pub step: u64,
    /// Seconds of training so far, earlier starts included.
    pub seconds: f64,
    /// Learning rate of the epoch's last step.
    pub lr: f64,
    /// Mean loss over the epoch's samples, each with the parameters of its step.
    #[serde(deserialize_with = "number_or_null")]
    pub train_loss: f64,
    /// Metrics on the validation split.
    #[serde(deserialize_with = "numbers_or_null")]
    pub validation: Metrics,
    /// Whether this is the best epoch so far.
    pub best: bool,
}

/// JSON has no NaN: it is written as null.
pub(crate) fn number_or_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

fn numbers_or_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Metrics, D::Error> {
    let numbers: BTreeMap<String, Option<f64>> = BTreeMap::deserialize(deserializer)?;
    Ok(numbers.into_iter().map(|(name, number)| (name, number.unwrap_or(f64::NAN))).collect())
}
