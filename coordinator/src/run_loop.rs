//! The loop of the coordinator: one input, all its effects, then the next.

use std::time::{Duration, Instant};

use convoy_common::Plan;
use convoy_scheduler::{Driver, Event, Halt, Outcome, RunTime, StepId, WorkerId};
use tokio::sync::{mpsc, watch};

use crate::events::RunEvent;
use crate::inputs::Input;
use crate::journal::{JournalError, JournalFile};
use crate::reducer::News;
use crate::shell::Shell;
use crate::status::Status;

const STATUS_EVERY: Duration = Duration::from_millis(250);

pub(crate) struct RunLoop {
    pub(crate) plan: std::sync::Arc<Plan>,
    pub(crate) driver: Driver<JournalFile, Shell>,
    pub(crate) inputs: mpsc::UnboundedReceiver<Input>,
    pub(crate) news: mpsc::UnboundedReceiver<News>,
    pub(crate) status: watch::Sender<Status>,
    pub(crate) begun: Instant,
    /// The first shard in which a worker found a NaN or an infinity.
    pub(crate) not_finite: Option<u32>,
    /// Why the newest checkpoint could not be written.
    pub(crate) checkpoint_failed: Option<String>,
}

impl RunLoop {
    /// Runs until the run is over. `stop` asks it to finish the step in flight and save.
    pub(crate) async fn run(&mut self, stop: impl Future<Output = ()>) -> Result<Outcome, Halt<JournalError>> {
        tokio::pin!(stop);
        let mut stopping = false;
        let mut tick = tokio::time::interval(STATUS_EVERY);
        // Nothing that a restart could have changed is asked for before the first event.
        self.event(Event::Deadline)?;
        loop {
            if let Some(outcome) = self.driver.outbox().finished.take() {
                self.show();
                return Ok(outcome);
            }
            let deadline = self.driver.run().deadline().map(|at| self.begun + Duration::from_micros(at.0));
            tokio::select! {
                biased;
                Some(news) = self.news.recv() => self.reduced(news)?,
                Some(input) = self.inputs.recv() => self.input(input)?,
                () = &mut stop, if !stopping => {
                    stopping = true;
                    self.event(Event::StopRequested)?;
                }
                _ = tick.tick() => self.show(),
                () = sleep_until(deadline) => self.event(Event::Deadline)?,
            }
        }
    }

    fn event(&mut self, event: Event) -> Result<(), Halt<JournalError>> {
        let now = RunTime(self.begun.elapsed().as_micros() as u64);
        self.driver.handle(now, event)
    }

    fn input(&mut self, input: Input) -> Result<(), Halt<JournalError>> {
        let shell = self.driver.outbox();
        match input {
            Input::Event(Event::WorkerLeft { worker, reason }) => {
                self.left(worker, &format!("{reason:?}").to_lowercase());
                self.event(Event::WorkerLeft { worker, reason })
            }
            Input::Event(event) => self.event(event),
            Input::Attach { worker, name, threads, outbox } => {
                tracing::info!(%worker, name, threads, "joined");
                shell.events.tell(RunEvent::WorkerJoined { worker: worker.0, name: name.clone(), threads });
                shell.workers.insert(worker, (name, outbox));
                let step = self.driver.run().progress().committed.0;
                let committed = convoy_proto::v1::Committed { step };
                self.driver.outbox().send(worker, convoy_proto::v1::coordinator_message::Message::Committed(committed));
                self.event(Event::WorkerJoined { worker, threads })
            }
            Input::LeaseFailed { worker, reason } => {
                tracing::warn!(%worker, reason, "could not do a lease");
                shell.events.tell(RunEvent::LeaseFailed { worker: worker.0, reason });
                Ok(())
            }
            Input::NotFinite { shard } => {
                self.not_finite.get_or_insert(shard);
                Ok(())
            }
            Input::Worked(waits) => {
                shell.tracker.worked(waits);
                Ok(())
            }
            Input::CheckpointWritten { step, path } => {
                let file = path.strip_prefix(&shell.folder).unwrap_or(&path).display().to_string();
                tracing::info!(step, file, "checkpoint written");
                shell.events.tell(RunEvent::Checkpoint { step, file });
                self.checkpoint_failed = None;
                self.event(Event::CheckpointWritten { step: StepId(step) })
            }
            Input::CheckpointFailed { step, reason } => {
                tracing::error!(step, reason, "checkpoint not written; training goes on, the last good one is kept");
                shell.events.tell(RunEvent::CheckpointFailed { step, reason: reason.clone() });
                self.checkpoint_failed = Some(reason);
                self.event(Event::CheckpointFailed { step: StepId(step) })
            }
        }
    }

    fn left(&mut self, worker: WorkerId, reason: &str) {
        let shell = self.driver.outbox();
        if let Some((name, _)) = shell.workers.remove(&worker) {
            tracing::info!(%worker, name, reason, "left");
            shell.events.tell(RunEvent::WorkerLeft { worker: worker.0, reason: reason.to_owned() });
        }
    }

    fn reduced(&mut self, news: News) -> Result<(), Halt<JournalError>> {
        match news {
            News::Event(event) => self.event(event),
            News::Reduced { step, digest, sums, norm } => {
                if let Some(norm) = norm {
                    tracing::debug!(step = step.0, norm, "gradient norm");
                }
                self.driver.outbox().reduced = sums;
                let epoch_ends = (step.0 + 1).is_multiple_of(self.plan.train_cut().steps());
                self.event(Event::StepReduced { step, digest: digest.0 })?;
                if epoch_ends && self.plan.validation_samples == 0 {
                    self.epoch_ended(step.next(), None);
                }
                Ok(())
            }
            News::Evaluated { step, sums } => {
                let stop_early = self.epoch_ended(step, Some(sums));
                self.event(Event::EvaluationReduced { step, stop_early })
            }
        }
    }

    /// Writes the epoch's row; says whether the run should stop early.
    fn epoch_ended(&mut self, step: StepId, sums: Option<Vec<f64>>) -> bool {
        let shell = self.driver.outbox();
        let (row, stop_early) = shell.tracker.epoch_ended(step.0, sums.as_ref());
        tracing::info!(epoch = row.epoch, step = row.step, train_loss = row.train_loss, validation = ?row.validation, "epoch");
        let history = shell.tracker.history();
        if let Err(error) = crate::run_dir::write_metrics(&shell.folder, &history.rows) {
            tracing::warn!(%error, "metrics.csv is not up to date");
        }
        shell.events.tell(RunEvent::Epoch(row));
        stop_early
    }

    fn show(&mut self) {
        let batch = self.plan.spec.train.batch;
        let run = self.driver.run().clone();
        let status = Status::of(&run, &self.driver.outbox().tracker, batch);
        self.status.send_replace(status);
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
