//! What a run tells people: events, the rows of `metrics.csv`, the log.

use std::path::{Path, PathBuf};
use std::time::Instant;

use convoy_scheduler::{Node, StepId, WorkerId};

use super::complaints::Complaints;
use super::folder::events::{Events, RunEvent};
use super::folder::run_dir::write_metrics;
use super::tracker::Tracker;

/// A run as it is told to people.
pub(crate) struct RunLog {
    /// Losses, metrics and throughput.
    pub(crate) tracker: Tracker,
    events: Events,
    folder: PathBuf,
    complaints: Complaints,
    /// Whether there was an event since somebody asked.
    told: bool,
}

impl RunLog {
    /// Tells of the run in `folder` to `events`.
    pub(crate) fn new(tracker: Tracker, events: Events, folder: &Path) -> Self {
        RunLog { tracker, events, folder: folder.to_owned(), complaints: Complaints::default(), told: false }
    }

    /// Tells that `event` happened now.
    pub(crate) fn tell(&mut self, event: RunEvent) {
        self.events.tell(event);
        self.told = true;
    }

    /// Whether there was an event since the last call.
    pub(crate) fn has_told(&mut self) -> bool {
        std::mem::take(&mut self.told)
    }

    /// A worker could not do what it was asked to, as it says.
    pub(crate) fn complained(&mut self, worker: WorkerId, mut reason: String) {
        let Some(left_out) = self.complaints.admit(Instant::now()) else { return };
        if left_out > 0 {
            reason.push_str(&format!(" ({left_out} other complaints of workers are left out before this)"));
        }
        tracing::warn!(%worker, reason, "could not do a lease");
        self.tell(RunEvent::LeaseFailed { worker: worker.0, reason });
    }

    /// A worker is no longer a member.
    pub(crate) fn left(&mut self, worker: WorkerId, name: &str, reason: &str) {
        tracing::info!(%worker, name, reason, "left");
        self.tell(RunEvent::WorkerLeft { worker: worker.0, reason: reason.to_owned() });
    }

    /// Workers, by name, came out differently.
    pub(crate) fn disputed(&mut self, step: StepId, node: Node, names: Vec<String>) {
        let workers = names.join(", ");
        tracing::warn!(%step, %node, workers, "computed the same shards and did not come out the same; another judges");
        self.tell(RunEvent::Disputed { step: step.0, node: node.to_string(), workers: names });
    }

    /// Workers brought the same shards and not the same numbers, before the node was done.
    pub(crate) fn contradicted(&mut self, step: StepId, node: Node, names: Vec<String>) {
        let workers = names.join(", ");
        tracing::warn!(%step, %node, workers, "brought the same shards with other numbers; the step begins anew");
        self.tell(RunEvent::Contradicted { step: step.0, node: node.to_string(), workers: names });
    }

    /// Two workers, by name, say different things of what one has brought the other.
    pub(crate) fn disagreed(&mut self, step: StepId, names: [String; 2], since: StepId) {
        let workers = names.join(" and ");
        tracing::error!(
            %step, %since, workers,
            "say different things of what one has brought the other, so one of them is wrong: neither adds chunks any \
             more; look at the memory and the processor of both machines"
        );
        self.tell(RunEvent::Disagreed { step: step.0, workers: names, since: since.0 });
    }

    /// A checkpoint is on disk.
    pub(crate) fn checkpoint_written(&mut self, step: u64, path: &Path) {
        let file = path.strip_prefix(&self.folder).unwrap_or(path).display().to_string();
        tracing::info!(step, file, "checkpoint written");
        self.tell(RunEvent::Checkpoint { step, file });
    }

    /// Writes the epoch's row; says whether the run should stop early. `sums` are those of its evaluation, if there was
    /// one.
    pub(crate) fn epoch_ended(&mut self, step: StepId, sums: Option<&Vec<f64>>) -> bool {
        let (row, stop_early) = self.tracker.epoch_ended(step.0, sums);
        tracing::info!(epoch = row.epoch, step = row.step, train_loss = row.train_loss, validation = ?row.validation, "epoch");
        if let Err(error) = write_metrics(&self.folder, &self.tracker.history().rows) {
            tracing::warn!(%error, "metrics.csv is not up to date");
        }
        self.tell(RunEvent::Epoch(row));
        stop_early
    }
}
