//! What a run looks like right now, for a progress bar or a page.

use convoy_scheduler::{Owner, Run, Waiting, WorkerId};
use serde::{Deserialize, Serialize};

use super::tracker::{Tracker, Waits};

/// A run at a glance.
///
/// Many fields: each is a key of the JSON object that people are shown.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Status {
    /// Steps done.
    pub step: u64,
    /// Steps of the run.
    pub steps: u64,
    /// Epoch in work, from 1.
    pub epoch: u32,
    /// Epochs of the run.
    pub epochs: u32,
    /// Mean training loss over the epoch in work.
    #[serde(deserialize_with = "crate::run::folder::history::number_or_null")]
    pub loss: f64,
    /// Share of right answers over the epoch in work, where the task has classes.
    pub accuracy: Option<f64>,
    /// Training samples a second, over the last steps.
    pub images_per_second: f64,
    /// Seconds to the end, once known.
    pub eta_seconds: Option<f64>,
    /// Workers connected.
    pub workers: usize,
    /// How many of them own chunks of the step, and add them for all others.
    #[serde(default)]
    pub owners: usize,
    /// Whether an evaluation is in work.
    pub evaluating: bool,
    /// What the run waits for.
    pub waiting_for: String,
    /// Thread time of workers by what they did.
    pub waits: Waits,
    /// What of its disk holds it up, or keeps it from saving.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_up: Option<String>,
}

impl Status {
    /// The status of `run`, whose workers have names.
    pub fn of(run: &Run, tracker: &Tracker, batch: u32, name: impl Fn(WorkerId) -> String) -> Self {
        let progress = run.progress();
        let speed = tracker.recent_images_per_second();
        let left = progress.steps.saturating_sub(progress.committed.0) as f64 * f64::from(batch);
        Status {
            step: progress.committed.0,
            steps: progress.steps,
            epoch: (progress.epoch + 1).min(progress.epochs),
            epochs: progress.epochs,
            loss: tracker.epoch_loss(),
            accuracy: tracker.epoch_accuracy(),
            images_per_second: speed,
            eta_seconds: (speed > 0.0).then(|| left / speed + tracker.evaluation_seconds_left(progress.epoch)),
            workers: progress.workers.len(),
            owners: Owner::workers_among(run.owners().1).len(),
            evaluating: progress.work == Some(convoy_scheduler::Work::Evaluate),
            waiting_for: waiting_for(&run.waiting_for(), name),
            waits: tracker.waits(),
            held_up: None,
        }
    }
}

impl Status {
    /// Whether `other` says the same; a loss that is no number says that there is none.
    pub(crate) fn says(&self, other: &Status) -> bool {
        let loss = |status: &Status| status.loss.to_bits();
        let rest = |status: &Status| Status { loss: 0.0, ..status.clone() };
        loss(self) == loss(other) && rest(self) == rest(other)
    }
}

/// What a run waits for, with the name of whom it waits for.
fn waiting_for(waiting: &Waiting, name: impl Fn(WorkerId) -> String) -> String {
    match waiting {
        Waiting::Node { worker, .. } | Waiting::Parameters { worker, .. } => format!("{waiting} ({})", name(*worker)),
        Waiting::Judge { workers, .. } => {
            let names: Vec<String> = workers.iter().map(|worker| name(*worker)).collect();
            format!("{waiting} ({})", names.join(", "))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_loss_is_no_news() {
        let none = Status { loss: f64::NAN, ..Status::default() };
        assert!(none.says(&none.clone()));
        assert!(!none.says(&Status { loss: 1.0, ..none.clone() }));
        assert!(!none.says(&Status { step: 1, ..none.clone() }));
    }
}
