//! Whether what comes in fits plan and network.

use convoy_common::batch::{Batch, Targets};
use convoy_common::plan::Plan;
use convoy_common::spec::Task;
use convoy_model::Network;

use crate::ComputeError;

/// Whether the lengths of a batch agree and its targets are of the task's kind.
///
/// # Errors
/// When not.
pub(crate) fn check_batch(plan: &Plan, network: &Network, batch: &Batch) -> Result<(), ComputeError> {
    let count = batch.samples.len();
    check_length("the batch", batch.x_nhwc.len(), count * plan.input.len())?;
    let (task, classes) = match plan.spec.task {
        Task::Auto | Task::Multiclass => ("multiclass", true),
        Task::Binary => ("binary", true),
        Task::Multilabel => ("multilabel", false),
        Task::Regression => ("regression", false),
    };
    match &batch.targets {
        Targets::Classes(given) if classes => check_length("the targets", given.len(), count),
        Targets::Values { values, .. } if !classes => {
            check_length("the targets", values.len(), count * network.outputs as usize)
        }
        Targets::Classes(_) => Err(ComputeError::Targets { found: "classes", task, needed: "values" }),
        Targets::Values { .. } => Err(ComputeError::Targets { found: "values", task, needed: "classes" }),
    }
}

/// Whether a buffer has the length that it should have.
///
/// # Errors
/// When not.
pub(crate) fn check_length(what: &'static str, actual: usize, expected: usize) -> Result<(), ComputeError> {
    if actual == expected { Ok(()) } else { Err(ComputeError::Length { what, actual, expected }) }
}
