//! Losses, metrics, the best epoch, early stopping and throughput: what people want to know of a run.

use std::sync::Arc;
use std::time::{Duration, Instant};

use convoy_common::Plan;
use convoy_common::metrics::{COUNT, LOSS, MetricSums, Metrics, WEIGHT, larger_is_better};
use convoy_common::schedule::LearningRate;
use convoy_common::spec::Task;
use serde::{Deserialize, Serialize};

use super::folder::history::{Best, EpochRow, History};

/// Keeps [`History`] up to date.
#[derive(Debug)]
pub struct Tracker {
    plan: Arc<Plan>,
    rate: LearningRate,
    history: History,
    since: Instant,
    earlier_seconds: f64,
    throughput: Throughput,
    waits: Waits,
    /// When the evaluation in work began.
    evaluating: Option<Instant>,
    /// How long the last one took.
    evaluation_time: Duration,
    /// Loss of the last step.
    last_loss: f64,
}

/// Samples over the time of steps after the first, without evaluation.
#[derive(Debug, Default)]
struct Throughput {
    last_commit: Option<Instant>,
    /// Whether the first step is done.
    counting: bool,
    samples: f64,
    time: Duration,
    /// Of the last few steps, for display.
    recent: std::collections::VecDeque<(f64, Duration)>,
}

/// Thread time of workers, by what they did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Waits {
    /// Seconds of computing.
    pub computing: f64,
    /// Seconds of waiting for samples.
    pub data: f64,
    /// Seconds of waiting for parameters.
    pub parameters: f64,
}

const RECENT_STEPS: usize = 20;

impl Tracker {
    /// Goes on from `history`.
    pub fn new(plan: Arc<Plan>, history: History) -> Self {
        let rate = plan.learning_rate();
        let earlier_seconds = history.seconds;
        Tracker {
            plan,
            rate,
            history,
            since: Instant::now(),
            earlier_seconds,
            throughput: Throughput::default(),
            waits: Waits::default(),
            evaluating: None,
            evaluation_time: Duration::ZERO,
            last_loss: f64::NAN,
        }
    }

    /// A step was committed whose sums are samples, loss, loss weights, correct.
    pub fn committed(&mut self, step: u64, sums: &[f64]) {
        let first_of_epoch = step.is_multiple_of(self.plan.train_cut().steps());
        if first_of_epoch || self.history.epoch_sums.len() != sums.len() {
            self.history.epoch_sums = vec![0.0; sums.len()];
        }
        self.history.epoch_sums.iter_mut().zip(sums).for_each(|(total, sum)| *total += sum);
        self.last_loss = mean_loss(sums);
        let now = Instant::now();
        self.throughput.counting = true;
        if let Some(last) = self.throughput.last_commit.replace(now) {
            let time = now - last;
            self.throughput.samples += sums[COUNT];
            self.throughput.time += time;
            self.throughput.recent.push_back((sums[COUNT], time));
            if self.throughput.recent.len() > RECENT_STEPS {
                self.throughput.recent.pop_front();
            }
        }
    }

    /// Whether an epoch ends with the parameters of `step` and no evaluation follows.
    pub fn ends_unvalidated(&self, step: u64) -> bool {
        self.plan.validation_samples == 0 && step.is_multiple_of(self.plan.train_cut().steps())
    }

    /// An epoch is over; `sums` are those of its evaluation, if there was one. Returns its row and whether the run
    /// should stop early.
    pub fn epoch_ended(&mut self, step: u64, sums: Option<&MetricSums>) -> (EpochRow, bool) {
        let layout = self.plan.metric_layout();
        let validation = sums.map(|sums| layout.finish(sums, &self.plan.names)).unwrap_or_default();
        let best = self.judge(step, &validation);
        let row = EpochRow {
            epoch: (step / self.plan.train_cut().steps()) as u32,
            step,
            seconds: self.seconds(),
            lr: f64::from(self.rate.at(step.saturating_sub(1))),
            train_loss: mean_loss(&self.history.epoch_sums),
            validation,
            best,
        };
        self.history.evaluated_step = step;
        if let Some(sums) = sums {
            self.history.evaluation.clone_from(sums);
        }
        self.history.rows.push(row.clone());
        let patience = self.plan.spec.train.early_stopping.as_ref().map(|stopping| stopping.patience);
        (row, patience.is_some_and(|patience| self.history.stale_epochs >= patience))
    }

    /// Whether `validation` is the best so far; keeps count.
    fn judge(&mut self, step: u64, validation: &Metrics) -> bool {
        let name = self.plan.spec.checkpoint.best_by.as_deref().unwrap_or("loss");
        let Some(value) = validation.get(name).copied().filter(|value| value.is_finite()) else { return false };
        let delta = self.plan.spec.train.early_stopping.as_ref().map_or(0.0, |stopping| stopping.min_delta);
        let beats = |old: f64, delta: f64| {
            if larger_is_better(name) { value > old + delta } else { value < old - delta }
        };
        if self.history.reference.is_none_or(|reference| beats(reference, delta)) {
            self.history.reference = Some(value);
            self.history.stale_epochs = 0;
        } else {
            self.history.stale_epochs += 1;
        }
        let best = self.history.best.is_none_or(|best| beats(best.value, 0.0));
        if best {
            self.history.best = Some(Best { step, value });
        }
        best
    }

    /// A tree was opened: for a training step, or for an evaluation, whose time does not count as training.
    pub fn opened(&mut self, training: bool) {
        let now = Instant::now();
        if let Some(begun) = self.evaluating.take() {
            self.evaluation_time = now - begun;
            // The first step of all does not count, the first after an evaluation does.
            self.throughput.last_commit = self.throughput.counting.then_some(now);
        }
        if !training {
            self.evaluating = Some(now);
        }
    }

    /// Seconds of evaluations to come, from epoch `epoch` (counted from 0) on, as long as the last one.
    pub fn evaluation_seconds_left(&self, epoch: u32) -> f64 {
        let left =
            if self.plan.validation_samples == 0 { 0 } else { self.plan.spec.train.epochs.saturating_sub(epoch) };
        self.evaluation_time.as_secs_f64() * f64::from(left)
    }

    /// Adds what a worker's threads did.
    pub fn worked(&mut self, waits: Waits) {
        self.waits.computing += waits.computing;
        self.waits.data += waits.data;
        self.waits.parameters += waits.parameters;
    }

    /// What a checkpoint keeps.
    pub fn history(&self) -> History {
        History { seconds: self.seconds(), ..self.history.clone() }
    }

    /// Seconds of training, all starts together.
    pub fn seconds(&self) -> f64 {
        self.earlier_seconds + self.since.elapsed().as_secs_f64()
    }

    /// Training samples a second over all steps of this start but the first.
    pub fn images_per_second(&self) -> f64 {
        rate(self.throughput.samples, self.throughput.time)
    }

    /// The same over the last few steps.
    pub fn recent_images_per_second(&self) -> f64 {
        let recent = &self.throughput.recent;
        rate(recent.iter().map(|step| step.0).sum(), recent.iter().map(|step| step.1).sum())
    }

    /// Thread time by what was done.
    pub fn waits(&self) -> Waits {
        self.waits
    }

    /// Loss of the last step, for display.
    pub fn last_loss(&self) -> f64 {
        self.last_loss
    }

    /// Mean loss over the epoch in work.
    pub fn epoch_loss(&self) -> f64 {
        mean_loss(&self.history.epoch_sums)
    }

    /// Mean training accuracy over the epoch in work, where the task has classes.
    pub fn epoch_accuracy(&self) -> Option<f64> {
        let sums = &self.history.epoch_sums;
        let classes = matches!(self.plan.spec.task, Task::Multiclass | Task::Binary);
        (classes && sums.len() > 3 && sums[COUNT] > 0.0).then(|| sums[3] / sums[COUNT])
    }
}

fn mean_loss(sums: &[f64]) -> f64 {
    match sums {
        [] => f64::NAN,
        sums => sums[LOSS] / sums[WEIGHT],
    }
}

fn rate(samples: f64, time: Duration) -> f64 {
    if time.is_zero() { 0.0 } else { samples / time.as_secs_f64() }
}
