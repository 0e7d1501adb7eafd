//! The loop of the coordinator: one input, all its effects, then the next.

use std::time::{Duration, Instant};

use convoy_common::Plan;
use convoy_scheduler::{Driver, Event, Halt, Outcome, RunTime, StepId, Waiting, Work};
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
    /// What the reducer has made, until the run has accepted all nodes of it.
    pub(crate) made: Option<News>,
    /// The last shard in which a NaN or an infinity was found, and its step.
    pub(crate) not_finite: Option<(StepId, u32)>,
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
            self.pass_on()?;
            let deadline = self.driver.run().deadline().map(|at| self.begun + Duration::from_micros(at.0));
            tokio::select! {
                biased;
                Some(news) = self.news.recv() => self.news(news)?,
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
        let trusted = self.driver.run().trusted();
        self.driver.outbox().trusted = trusted;
        self.driver.handle(now, event)
    }

    fn input(&mut self, input: Input) -> Result<(), Halt<JournalError>> {
        let shell = self.driver.outbox();
        match input {
            Input::Event(Event::WorkerGone { worker, reason }) => {
                shell.left(worker, &format!("{reason:?}").to_lowercase());
                self.event(Event::WorkerGone { worker, reason })
            }
            Input::Event(event) => self.event(event),
            Input::Attach { worker, name, threads, outbox } => {
                tracing::info!(%worker, name, threads, "joined");
                shell.events.tell(RunEvent::WorkerJoined { worker: worker.0, name: name.clone(), threads });
                shell.workers.insert(worker, (name.clone(), outbox));
                let step = self.driver.run().progress().committed.0;
                let committed = convoy_proto::v1::Committed { step };
                self.driver.outbox().send(worker, convoy_proto::v1::coordinator_message::Message::Committed(committed));
                self.event(Event::WorkerJoined { worker, name, threads })
            }
            Input::LeaseFailed { worker, reason } => {
                tracing::warn!(%worker, reason, "could not do a lease");
                shell.events.tell(RunEvent::LeaseFailed { worker: worker.0, reason });
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

    fn news(&mut self, news: News) -> Result<(), Halt<JournalError>> {
        match news {
            News::Node { done, not_finite } => {
                if let (Event::NodeDone { at, .. }, Some(shard)) = (&done, not_finite) {
                    self.not_finite = Some((at.step, shard));
                }
                self.event(done)?;
            }
            made => self.made = Some(made),
        }
        self.pass_on()
    }

    /// Hands on what the reducer has made, if the run waits for it. It may not yet: the reducer counts a node when its
    /// bytes are there, the run when its worker is still a member. A node between the two is computed again first; and an
    /// audit may still be open.
    fn pass_on(&mut self) -> Result<(), Halt<JournalError>> {
        if self.made.is_none() {
            return Ok(());
        }
        let current = self.driver.outbox().opening;
        let Waiting::Reducer { work, step: awaited, .. } = self.driver.run().waiting_for() else { return Ok(()) };
        match self.made.take() {
            Some(News::Reduced { opening, step, digest, sums, norm })
                if (opening, work, step) == (current, Work::Train, awaited) =>
            {
                if let Some(norm) = norm {
                    tracing::debug!(step = step.0, norm, "gradient norm");
                }
                self.driver.outbox().reduced = sums;
                self.event(Event::StepReduced { step, digest: digest.0 })
            }
            Some(News::NotFinite { opening, step }) if (opening, work, step) == (current, Work::Train, awaited) => {
                self.event(Event::StepNotFinite { step })
            }
            Some(News::Evaluated { opening, step, sums })
                if (opening, work, step) == (current, Work::Evaluate, awaited) =>
            {
                let stop_early = self.driver.outbox().epoch_ended(step, Some(sums));
                self.event(Event::EvaluationReduced { step, stop_early })
            }
            other => {
                self.made = other;
                Ok(())
            }
        }
    }

    fn show(&mut self) {
        let batch = self.plan.spec.train.batch;
        let run = self.driver.run().clone();
        let shell = self.driver.outbox();
        let status = Status::of(&run, &shell.tracker, batch, |worker| shell.name_of(worker));
        self.status.send_replace(status);
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;
    use std::sync::Arc;

    use convoy_common::Digest;
    use convoy_common::plan::DataFacts;
    use convoy_model::Network;
    use convoy_scheduler::{JobId, LeaseId, LeaseRef, NodeResult, Run, RunGeneration, RunPlan, WorkerId};
    use convoy_testing::{facts, plan_of};

    use super::*;
    use crate::events::Events;
    use crate::hub::Hub;
    use crate::leases::Leases;
    use crate::tracker::{History, Tracker};
    use crate::writer::Writer;

    /// One epoch of one step of one shard, without validation.
    fn run_loop(folder: &Path) -> RunLoop {
        let facts = DataFacts { train_samples: 8, validation_samples: 0, ..facts([28, 28, 1], 2) };
        let plan = Arc::new(plan_of("[train]\nepochs = 1\nbatch = 8\nshard = 8", &facts));
        let network = Arc::new(Network::of(&plan).unwrap());
        let (journal, _) = JournalFile::open(&folder.join("journal")).unwrap();
        let (input_sender, inputs) = mpsc::unbounded_channel();
        let (_, news) = mpsc::unbounded_channel();
        let shell = Shell {
            hub: Arc::new(Hub::new(mpsc::unbounded_channel().0)),
            job: JobId(1),
            workers: BTreeMap::new(),
            commands: mpsc::unbounded_channel().0,
            leases: Arc::new(Leases::default()),
            writer: Writer::start(folder.to_owned(), plan.clone(), network, journal.syncer(), input_sender),
            board: Arc::new(crate::published::Board::new(0, &Default::default())),
            opening: Default::default(),
            tracker: Tracker::new(plan.clone(), History::default()),
            events: Events::open(&folder.join("events"), None),
            folder: folder.to_owned(),
            reduced: Vec::new(),
            trusted: StepId(0),
            digest: Digest::default(),
            finished: None,
        };
        RunLoop {
            driver: Driver::new(Run::new(RunPlan::new(1, 1, 1, 1)), journal, shell),
            plan,
            inputs,
            news,
            status: watch::Sender::new(Status::default()),
            begun: Instant::now(),
            made: None,
            not_finite: None,
            checkpoint_failed: None,
        }
    }

    #[test]
    fn what_was_made_of_a_lost_workers_node_waits_until_the_node_is_accepted() {
        let folder = tempfile::tempdir().unwrap();
        let mut run_loop = run_loop(folder.path());
        let node_of = |worker: u32, lease: u64, epoch: u32| {
            let at = LeaseRef { generation: RunGeneration(1), step: StepId(0), lease: LeaseId(lease), epoch };
            let result = NodeResult::Good;
            let done = Event::NodeDone { worker: WorkerId(worker), at, shard_micros: 1, result, digest: None };
            News::Node { done, not_finite: None }
        };
        let join = |worker: u32| Event::WorkerJoined { worker: WorkerId(worker), name: worker.to_string(), threads: 1 };
        let committed = |run_loop: &RunLoop| run_loop.driver.run().progress().committed.0;
        run_loop.event(join(1)).unwrap();
        let reason = convoy_scheduler::GoneReason::Closed;
        run_loop.input(Input::Event(Event::WorkerGone { worker: WorkerId(1), reason })).unwrap();
        // The reducer had all bytes of the node before the worker was lost.
        run_loop.news(node_of(1, 0, 0)).unwrap();
        let sums = vec![8.0, 1.0, 8.0, 4.0];
        let opening = run_loop.driver.outbox().opening;
        run_loop.news(News::Reduced { opening, step: StepId(0), digest: Digest::default(), sums, norm: None }).unwrap();
        assert_eq!(committed(&run_loop), 0, "nobody may be credited with the node yet");
        run_loop.event(join(2)).unwrap();
        run_loop.news(node_of(2, 1, 1)).unwrap();
        assert_eq!(committed(&run_loop), 1);
        assert_eq!(run_loop.driver.outbox().tracker.history().rows.len(), 1, "an epoch without validation has its row");
    }
}
