//! The loop of a run: one input, all its effects, then the next.

use std::collections::BTreeSet;
use std::time::Duration;

use convoy_proto::v1::brought_wanted::What;
use convoy_proto::v1::coordinator_message::Message;
use convoy_scheduler::{Driver, Event, Halt, Outcome, Run, RunTime, StepId, Waiting, Work, WorkerId};
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::effects::EffectHandler;
use super::error::RunError;
use super::folder::events::RunEvent;
use super::folder::journal::{JournalError, JournalFile};
use super::outbox::WorkerOutbox;
use super::patience::{LAST_TRIES, TRY_EVERY};
use super::reduction::reducer_queue::News;
use super::run_inputs::RunInput;
use super::status::Status;
use crate::deadline::{Lookout, sleep_until};
use crate::queue::QueueReceiver;

const STATUS_EVERY: Duration = Duration::from_millis(250);
/// Inputs that are handled at a stretch before anything else has its turn.
const AT_A_STRETCH: u32 = 256;

/// The loop of one start of a run.
pub(crate) struct RunLoop {
    /// Samples of a step.
    batch: u32,
    driver: Driver<JournalFile, EffectHandler>,
    inputs: QueueReceiver<RunInput>,
    news: mpsc::UnboundedReceiver<News>,
    status: watch::Sender<Status>,
    begun: Instant,
    lookout: Lookout,
    /// What the reducer has made, until the run has accepted all nodes of it.
    made: Option<News>,
    /// The last shard in which a NaN or an infinity was found, and its step.
    not_finite: Option<(StepId, u32)>,
    /// Why the newest checkpoint could not be written.
    checkpoint_failed: Option<String>,
    full: Option<FullDisk>,
    stopping: bool,
}

fn reducer_ended() -> RunError {
    RunError::Crashed("the reducer's thread ended".to_owned())
}

/// The journal has no room. Nothing goes on before there is some.
struct FullDisk {
    reason: String,
    /// When it is tried again.
    again: Instant,
    /// When it is no longer, as the run shall stop.
    until: Option<Instant>,
}

impl RunLoop {
    /// A loop that has not begun, of a run whose steps have `batch` samples. It hears of its workers and checkpoints by
    /// `inputs`, of the reducer by `news`, and shows itself in `status`.
    pub(crate) fn new(
        batch: u32,
        driver: Driver<JournalFile, EffectHandler>,
        inputs: QueueReceiver<RunInput>,
        news: mpsc::UnboundedReceiver<News>,
        status: watch::Sender<Status>,
    ) -> Self {
        RunLoop {
            batch,
            driver,
            inputs,
            news,
            status,
            begun: Instant::now(),
            lookout: Lookout::new(),
            made: None,
            not_finite: None,
            checkpoint_failed: None,
            full: None,
            stopping: false,
        }
    }

    /// Runs until the run is over. `stop` asks it to finish the step in flight and save. While the disk is full it
    /// waits.
    ///
    /// # Errors
    /// When the journal cannot be written, or the reducer has crashed.
    pub(crate) async fn run(&mut self, stop: impl Future<Output = ()>) -> Result<Outcome, RunError> {
        tokio::pin!(stop);
        let mut stretch = 0;
        let mut tick = tokio::time::interval(STATUS_EVERY);
        // Nothing that a restart could have changed is asked for before the first event.
        self.event(Event::Deadline)?;
        loop {
            if let Some(outcome) = self.driver.run().outcome().cloned() {
                self.show();
                return Ok(outcome);
            }
            self.pass_on()?;
            let full = self.full.is_some();
            if !full && stretch < AT_A_STRETCH && self.take_waiting()? {
                stretch += 1;
                continue;
            }
            stretch = 0;
            let due = self.lookout.due(self.deadline());
            let again = self.full.as_ref().map(|full| full.again);
            tokio::select! {
                biased;
                () = &mut stop, if !self.stopping => self.ask_to_stop()?,
                _ = tick.tick() => self.show(),
                () = sleep_until(again), if full => self.try_again()?,
                () = sleep_until(due), if !full => self.look(due)?,
                news = self.news.recv(), if !full => match news {
                    Some(news) => self.news(news)?,
                    None => return Err(reducer_ended()),
                },
                Some(input) = self.inputs.recv(), if !full => self.input(input)?,
            }
        }
    }

    fn ask_to_stop(&mut self) -> Result<(), Halt<JournalError>> {
        self.stopping = true;
        self.driver.outbox().hurry();
        match &mut self.full {
            Some(full) => full.until = Some(Instant::now() + LAST_TRIES),
            None => self.event(Event::StopRequested)?,
        }
        Ok(())
    }

    /// Goes on if there is room on the disk again.
    fn try_again(&mut self) -> Result<(), Halt<JournalError>> {
        let Some(FullDisk { until, .. }) = self.full.take() else { return Ok(()) };
        match self.driver.go_on() {
            Err(Halt::Waits(error)) if until.is_none_or(|until| Instant::now() < until) => {
                self.full = Some(FullDisk { reason: error.to_string(), again: Instant::now() + TRY_EVERY, until });
                Ok(())
            }
            Ok(()) => {
                tracing::info!("there is room on the disk again; the run goes on");
                if until.is_some() { self.event(Event::StopRequested) } else { Ok(()) }
            }
            failed => failed,
        }
    }

    /// Takes what waits to be handled; `false` when nothing does.
    fn take_waiting(&mut self) -> Result<bool, RunError> {
        match self.news.try_recv() {
            Ok(news) => self.news(news)?,
            // Before anything that only follows from it: a checkpoint whose parameters never came, say.
            Err(TryRecvError::Disconnected) => return Err(reducer_ended()),
            Err(TryRecvError::Empty) => match self.inputs.try_recv() {
                Some(input) => self.input(input)?,
                None => return Ok(false),
            },
        }
        Ok(true)
    }

    fn deadline(&self) -> Option<Instant> {
        self.driver.run().deadline().map(|at| self.begun + Duration::from_micros(at.0))
    }

    /// Tells the run who was in contact when.
    fn hear(&mut self) {
        let now = RunTime(self.begun.elapsed().as_micros() as u64);
        let contacts = self.driver.outbox().members.contacts(self.begun);
        for (worker, mut contact) in contacts {
            if self.driver.outbox().waits_for_scales(worker) {
                contact.pushed = now;
            }
            self.driver.heard(worker, contact);
        }
    }

    /// Tells the run the time, with what is known of everybody now.
    fn look(&mut self, due: Option<Instant>) -> Result<(), Halt<JournalError>> {
        self.hear();
        match self.deadline().is_some_and(|at| at <= Instant::now()) && self.lookout.is_awake(due) {
            true => self.event(Event::Deadline),
            false => Ok(()),
        }
    }

    /// The run, to look at.
    pub(crate) fn scheduled(&self) -> &Run {
        self.driver.run()
    }

    /// What the run does outside.
    pub(crate) fn effects(&mut self) -> &mut EffectHandler {
        self.driver.outbox()
    }

    /// The last shard in which a NaN or an infinity was found, and its step.
    pub(crate) fn not_finite(&self) -> Option<(StepId, u32)> {
        self.not_finite
    }

    /// Why the newest checkpoint could not be written; `None` when it was.
    pub(crate) fn checkpoint_failed(&self) -> Option<&str> {
        self.checkpoint_failed.as_deref()
    }

    fn event(&mut self, event: Event) -> Result<(), Halt<JournalError>> {
        let now = RunTime(self.begun.elapsed().as_micros() as u64);
        match self.driver.handle(now, event) {
            Err(Halt::Waits(error)) => {
                tracing::warn!(%error, "the run waits until there is room");
                // Who was asked to stop waits no longer for the next record either.
                let until = self.stopping.then(|| Instant::now() + LAST_TRIES);
                self.full = Some(FullDisk { reason: error.to_string(), again: Instant::now() + TRY_EVERY, until });
                self.show();
                Ok(())
            }
            done => done,
        }
    }

    fn input(&mut self, input: RunInput) -> Result<(), Halt<JournalError>> {
        let effects = self.driver.outbox();
        match input {
            RunInput::Event(Event::WorkerGone { worker, reason }) => {
                effects.left(worker, &format!("{reason:?}").to_lowercase());
                self.event(Event::WorkerGone { worker, reason })
            }
            RunInput::Event(event) => self.event(event),
            RunInput::Attach { worker, machine, name, threads, outbox } => {
                tracing::info!(%worker, name, machine, threads, "joined");
                self.attach(worker, &name, threads, outbox);
                self.event(Event::WorkerJoined { worker, machine, name, threads })
            }
            RunInput::LeaseFailed { worker, at, failure, reason } => {
                effects.log.complained(worker, reason);
                self.event(Event::LeaseFailed { worker, at, failure })
            }
            RunInput::Declined { worker, cause, reason } => {
                tracing::debug!(%worker, ?cause, "cannot do the job");
                effects.log.complained(worker, reason);
                Ok(())
            }
            RunInput::Contradicted { owner, opening, node, workers } => match effects.step_owned_by(owner, opening) {
                // It may be the owner that is wrong: it is among those in doubt.
                Some(step) => {
                    let workers = workers.into_iter().chain([owner]).collect::<BTreeSet<_>>().into_iter().collect();
                    self.event(Event::NodeContradicted { step, work: Work::Train, node, workers })
                }
                None => Ok(()),
            },
            RunInput::AskBrought { opening, node, question } => {
                effects.ask_brought(opening, question, None, What::Node(node.into()));
                Ok(())
            }
            RunInput::WrongParameters { worker, step, owners } => {
                tracing::warn!(%worker, %step, ?owners, "was handed wrong parameters");
                self.wrong_parameters(worker, owners)
            }
            RunInput::Worked(waits) => {
                effects.log.tracker.worked(waits);
                Ok(())
            }
            RunInput::CheckpointWritten { step, path } => {
                effects.log.checkpoint_written(step, &path);
                self.checkpoint_failed = None;
                self.event(Event::CheckpointWritten { step: StepId(step) })
            }
            RunInput::CheckpointWaits { step, reason } => {
                tracing::error!(step, reason, "checkpoint not written; it is tried again, the last good one is kept");
                effects.log.tell(RunEvent::CheckpointFailed { step, reason: reason.clone() });
                self.checkpoint_failed = Some(reason);
                Ok(())
            }
            RunInput::CheckpointFailed { step, reason } => {
                tracing::error!(step, reason, "checkpoint given up; the last good one is kept");
                self.checkpoint_failed = Some(reason);
                self.event(Event::CheckpointFailed { step: StepId(step) })
            }
        }
    }

    fn wrong_parameters(&mut self, worker: WorkerId, owners: Vec<WorkerId>) -> Result<(), Halt<JournalError>> {
        for owner in owners {
            // While the disk is full nothing more is taken in.
            if self.full.is_none() {
                self.event(Event::WrongParameters { worker, owner })?;
            }
        }
        Ok(())
    }

    fn attach(&mut self, worker: WorkerId, name: &str, threads: u32, outbox: WorkerOutbox) {
        let step = self.driver.run().progress().committed;
        let effects = self.driver.outbox();
        effects.log.tell(RunEvent::WorkerJoined { worker: worker.0, name: name.to_owned(), threads });
        effects.members.join(worker, name.to_owned(), outbox);
        effects.members.send(worker, Message::Committed(effects.committed(step)));
        effects.tell_exchange(worker);
        if threads == 0 && self.driver.run().plan().chunks < 2 {
            let why = "this run is added by the coordinator alone: it has one chunk, or --exchange star";
            tracing::warn!(%worker, name, why, "it only adds for others, and there is nothing to add");
        }
    }

    fn news(&mut self, news: News) -> Result<(), Halt<JournalError>> {
        match news {
            News::Node { event_after, not_finite, permit: _permit } => {
                if let (Event::NodeDone { at, .. }, Some(shard)) = (&event_after, not_finite) {
                    self.not_finite = Some((at.step, shard));
                }
                self.event(event_after)?;
            }
            News::Contradicted { opening, event } => {
                if self.driver.outbox().opening == Some(opening) {
                    self.event(event)?;
                }
            }
            News::OwnerReduced { opening, version, worker } => {
                self.event(Event::OwnerReduced { worker, opening, version })?;
            }
            News::AskKept { opening, index, of } => self.driver.outbox().ask_kept(opening, index, of),
            News::AskBrought { opening, index, owner } => {
                self.driver.outbox().ask_brought_of(opening, index, owner);
            }
            News::SumAudited { opening, owner, finding } => {
                self.event(Event::SumAudited { owner, opening, finding })?;
            }
            News::Unanswered { opening, worker } => self.event(Event::Unanswered { worker, opening })?,
            News::AuditsLeft { opening } => self.driver.outbox().audits_left(opening),
            News::OwnerSquared { opening, worker } => self.driver.outbox().squared(opening, worker),
            News::Scaled { opening, scales } => self.driver.outbox().scaled(opening, scales),
            made => self.made = Some(made),
        }
        self.pass_on()
    }

    /// Hands on what the reducer has made, if the run waits for it. It may not yet: the reducer counts a node when its
    /// bytes are there, the run when its worker is still a member. A node between the two is computed again first; and
    /// an audit may still be open.
    fn pass_on(&mut self) -> Result<(), Halt<JournalError>> {
        if self.full.is_some() {
            return Ok(());
        }
        let Some((work, awaited)) = self.driver.run().expects() else { return Ok(()) };
        if matches!(self.driver.run().waiting_for(), Waiting::Sums { .. }) {
            // Chunks may have moved since it was made: those who own them now must bring the same sums.
            return Ok(());
        }
        let Some(current) = self.driver.outbox().opening else { return Ok(()) };
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
                let stop_early = self.driver.outbox().log.epoch_ended(step, Some(&sums));
                self.event(Event::EvaluationReduced { step, stop_early })
            }
            other => {
                self.made = other;
                Ok(())
            }
        }
    }

    fn show(&mut self) {
        self.hear();
        let run = self.driver.run().clone();
        let EffectHandler { log, members, .. } = self.driver.outbox();
        let status = Status {
            held_up: self.full.as_ref().map(|full| full.reason.clone()).or(self.checkpoint_failed.clone()),
            ..Status::of(&run, &log.tracker, self.batch, |worker| members.name_of(worker))
        };
        let told = log.has_told();
        self.status.send_if_modified(|shown| {
            let news = told || !shown.says(&status);
            *shown = status;
            news
        });
    }
}

#[cfg(test)]
mod tests;
