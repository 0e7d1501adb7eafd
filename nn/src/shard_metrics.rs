//! What is counted of a shard's outputs.

use convoy_common::batch::{Batch, Targets};
use convoy_common::metrics::{COUNT, LOSS, MetricSums, WEIGHT, argmax};
use convoy_common::plan::Plan;
use convoy_common::spec::Task;

use crate::loss::{LossOutput, target_values};

/// Samples whose class was found by `outputs`, rows of `width` numbers; 0 for tasks without classes.
pub(crate) fn correct(task: Task, outputs: &[f32], width: usize, targets: &Targets) -> f64 {
    let Targets::Classes(classes) = targets else { return 0.0 };
    let found = |scores: &[f32]| match task {
        Task::Binary => u32::from(scores[0] > 0.0),
        _ => argmax(scores) as u32,
    };
    outputs.chunks_exact(width).zip(classes).filter(|(scores, class)| found(scores) == **class).count() as f64
}

/// Sums for the plan's metrics, in sample order, laid out by [`Plan::metric_layout`]: of `outputs`, rows of `width`
/// numbers, and their loss.
///
/// # Panics
/// If the batch's targets are not of the task's kind.
pub(crate) fn metric_sums(plan: &Plan, outputs: &[f32], width: usize, batch: &Batch, loss: &LossOutput) -> MetricSums {
    let layout = plan.metric_layout();
    let mut sums = vec![0.0; layout.len()];
    (sums[COUNT], sums[LOSS], sums[WEIGHT]) = (batch.samples.len() as f64, loss.loss, loss.weight);
    let values = target_values(&batch.targets);
    let means = plan.targets.as_ref().map_or(&[][..], |targets| &targets.mean);
    for (sample, scores) in outputs.chunks_exact(width).enumerate() {
        match (layout.task, &batch.targets) {
            (Task::Binary, _) => layout.add_binary(&mut sums, values[sample] == 1.0, scores[0]),
            (Task::Regression, _) => {
                layout.add_regression(&mut sums, &values[sample * width..][..width], scores, means);
            }
            (Task::Multilabel, _) => {
                let truth: Vec<bool> = values[sample * width..][..width].iter().map(|t| *t == 1.0).collect();
                layout.add_multilabel(&mut sums, &truth, scores);
            }
            (_, Targets::Classes(classes)) => layout.add_multiclass(&mut sums, classes[sample] as usize, scores),
            (_, Targets::Values { .. }) => unreachable!("the batch was checked to have classes"),
        }
    }
    sums
}
