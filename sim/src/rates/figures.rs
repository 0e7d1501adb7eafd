//! What is counted.

use std::time::Duration;

/// How a run went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rates {
    /// Workers that own chunks in the last step.
    pub owners: usize,
    /// What was counted in each step.
    pub steps: Vec<StepFigures>,
    /// A digest of all that the scheduler was told, and when.
    pub story: u64,
}

impl Rates {
    /// The mean of the steps that are alike: the first one is dealt before all workers are there, and the second has
    /// what is left of it on its links.
    pub fn steady(&self) -> StepFigures {
        let steps = &self.steps[2.min(self.steps.len())..];
        let mean = |of: fn(&StepFigures) -> u64| steps.iter().map(of).sum::<u64>() / steps.len().max(1) as u64;
        StepFigures {
            took: mean(|step| step.took),
            exchange: mean(|step| step.exchange),
            events: mean(|step| step.events),
            heart: steps.iter().map(|step| step.heart).sum::<Duration>() / steps.len().max(1) as u32,
            coordinator_in: mean(|step| step.coordinator_in),
            coordinator_out: mean(|step| step.coordinator_out),
            worker_in_most: mean(|step| step.worker_in_most),
            worker_out_most: mean(|step| step.worker_out_most),
            worker_in_mean: mean(|step| step.worker_in_mean),
            worker_out_mean: mean(|step| step.worker_out_mean),
        }
    }
}

/// What was counted in a step, from one commit to the next. Times are in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StepFigures {
    /// How long it took.
    pub took: u64,
    /// The same without what a worker computes.
    pub exchange: u64,
    /// Events that the scheduler was told.
    pub events: u64,
    /// Time of the processor that the scheduler took for them.
    pub heart: Duration,
    /// Bytes that the coordinator took in.
    pub coordinator_in: u64,
    /// Bytes that it gave out.
    pub coordinator_out: u64,
    /// The most bytes that a worker took in.
    pub worker_in_most: u64,
    /// The most bytes that a worker gave out.
    pub worker_out_most: u64,
    /// The bytes that a worker took in, on average.
    pub worker_in_mean: u64,
    /// The bytes that a worker gave out, on average.
    pub worker_out_mean: u64,
}
