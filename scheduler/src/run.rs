//! One training run, as the coordinator sees it.
//!
//! ```text
//! Unstarted ── first event ──> Working(train) ── reduced ──> commit ──┬──> Working(train) of the next step
//!                                    ^                                ├──> Working(evaluate) at an epoch's end
//!                                    └───────── reduced ──────────────┘
//!                              Working ── complete, or stopping ──> Saving ── all checkpoints written ──> Finished
//! ```

mod audits;
mod disagreements;
mod ending;
mod exchange;
mod view;
mod workers;

use std::collections::BTreeSet;

use crate::contact::Contact;
use crate::dispatch::Dispatch;
use crate::effect::{AbandonReason, CheckpointReason, Effect, IgnoreReason};
use crate::event::Event;
use crate::exchange::Exchange;
use crate::ids::{LeaseId, Micros, RunTime, StepId, WorkerId};
use crate::lease::Work;
use crate::membership::{Membership, Timing};
use crate::node_answer::NodeAnswer;
use crate::outcome::Outcome;
use crate::plan::RunPlan;
use crate::record::Record;
use crate::resume::{self, Past, ResumeError};
use crate::step::Step;
use crate::tree::root;
use crate::trust::Trust;

/// One training run as the coordinator sees it: a state machine without clock, socket, random number or float.
///
/// Many fields: each is a part that knows nothing of the others.
///
/// # Examples
/// A run of one step of four shards, with one worker:
/// ```
/// use convoy_scheduler::*;
///
/// let mut run = Run::new(RunPlan::new(1, 1, 4, 4));
/// let mut effects = Vec::new();
/// let worker = WorkerId(1);
/// let (machine, name) = ("member 7".to_owned(), "ox".to_owned());
/// run.handle(RunTime(0), Event::WorkerJoined { worker, machine, name, threads: 2 }, &mut effects);
///
/// // The whole step is lent to the worker: record of the start, step opened, record of the worker, lease sent.
/// let Some(Effect::Send { lease, .. }) = effects.last() else { panic!("{effects:?}") };
/// assert_eq!(lease.node, Node { first: 0, last: 4 });
///
/// // Its node has arrived; the run waits for the reducer.
/// let (at, version, result) = (lease.at, OwnersVersion(0), NodeResult::Good);
/// let done = Event::NodeDone { worker, at, shard_micros: 40_000, version, result, digest: None };
/// run.handle(RunTime(80_000), done, &mut Vec::new());
/// assert_eq!(run.waiting_for().to_string(), "the reducer to finish step 0, since 0.0 s");
///
/// // The reducer has added the nodes, and the optimizer has made the next parameters.
/// effects.clear();
/// run.handle(RunTime(90_000), Event::StepReduced { step: StepId(0), digest: [7; 32] }, &mut effects);
/// assert!(matches!(effects[0], Effect::Record(Record::StepCommitted { step: StepId(0), .. })));
/// assert_eq!(run.progress().committed, StepId(1));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Run {
    plan: RunPlan,
    past: Past,
    phase: RunPhase,
    members: Membership,
    trust: Trust,
    timing: Timing,
    exchange: Exchange,
    /// The newest parameters that are final.
    committed: StepId,
    stopping: bool,
    next_lease: LeaseId,
    checkpoints: Checkpoints,
    /// [`Run::trusted`] before the event in work.
    trusted_before: StepId,
    now: RunTime,
}

/// How far a run is; the module's picture shows the ways from one to the next.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum RunPhase {
    Unstarted,
    Working(Step),
    /// Nothing more is computed; the run ends with this outcome when its checkpoints are written.
    Saving(Outcome),
    Finished(Outcome),
}

/// Which checkpoints were asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Checkpoints {
    being_written: BTreeSet<StepId>,
    /// The newest checkpoint that was asked for; none after it failed.
    newest: Option<StepId>,
    /// When the last checkpoint was asked for, or the run began.
    asked: RunTime,
    /// Enough steps were committed since then.
    due: bool,
}

impl Run {
    /// A run without earlier starts. Its first effects come with its first event, whatever that is.
    ///
    /// # Panics
    /// When [`RunPlan::check`] finds anything wrong.
    pub fn new(plan: RunPlan) -> Run {
        assert_eq!(plan.check(), Ok(()), "a plan is checked before it is run");
        let (committed, chunks) = (plan.first_step, plan.chunks);
        Run {
            plan,
            past: Past::default(),
            phase: RunPhase::Unstarted,
            members: Membership::default(),
            trust: Trust::default(),
            timing: Timing::default(),
            exchange: Exchange::of_chunks(chunks),
            committed,
            stopping: false,
            next_lease: LeaseId(0),
            checkpoints: Checkpoints::default(),
            trusted_before: committed,
            now: RunTime(0),
        }
    }

    /// A run that goes on from the checkpoint that `plan` begins with, given the journal of all earlier starts. Steps
    /// that the journal holds and the checkpoint does not are computed again and must get the same digests; there is no
    /// other recovery.
    ///
    /// # Errors
    /// When the plan is wrong, the journal is damaged, or the two do not belong together.
    pub fn resume(plan: RunPlan, journal: impl IntoIterator<Item = Record>) -> Result<Run, ResumeError> {
        plan.check()?;
        let mut past = resume::read(&plan, journal)?;
        let mut trust = std::mem::take(&mut past.trust);
        trust.started();
        Ok(Run { past, trust, ..Run::new(plan) })
    }

    /// Takes one event that happened at `now` and appends to `effects` everything that must be done about it. Cannot
    /// fail.
    ///
    /// All effects must be carried out, in order, before the next event is handled.
    pub fn handle(&mut self, now: RunTime, event: Event, effects: &mut Vec<Effect>) {
        self.now = self.now.max(now);
        let routine = self.is_routine(&event);
        if !routine {
            self.trusted_before = self.trusted();
            self.expect_lending();
        }
        if self.phase == RunPhase::Unstarted {
            self.start(effects);
        }
        let (worker, what) = (event.worker(), event.name());
        if let Err(why) = self.take(event, effects) {
            effects.push(Effect::Ignore { worker, what, why });
        }
        let idle = matches!(&self.phase, RunPhase::Working(step) if step.nothing_to_lend);
        if routine && idle {
            debug_assert!(self.has_nothing_to_lend(), "a routine event leaves something to lend");
        } else {
            self.settle(effects);
        }
    }

    /// Whether nothing can follow from `event` but what it tells: in a step of which nothing is left to lend, most
    /// events are such. They must not cost more the more workers there are.
    fn is_routine(&self, event: &Event) -> bool {
        let often = matches!(
            event,
            Event::NodeComputed { .. }
                | Event::WorkerReady { .. }
                | Event::NodeDone { .. }
                | Event::OwnerReduced { .. }
        );
        let member = event.worker().and_then(|worker| self.members.get(worker));
        often
            && !self.stopping
            && member.is_some_and(|member| !member.draining)
            && matches!(&self.phase, RunPhase::Working(step) if step.nothing_to_lend)
            && self.next_interval().is_none_or(|at| at > self.now)
    }

    fn has_nothing_to_lend(&self) -> bool {
        matches!(&self.phase, RunPhase::Working(step) if step.covered.is_some() || step.has_nothing_to_lend())
    }

    /// Something happens after which there may be something to lend.
    fn expect_lending(&mut self) {
        if let RunPhase::Working(step) = &mut self.phase {
            step.nothing_to_lend = false;
        }
    }

    /// Notes when a worker was last in contact. Nothing follows from that before [`Event::Deadline`].
    pub fn heard(&mut self, worker: WorkerId, contact: Contact) {
        if let Some(member) = self.members.get_mut(worker) {
            member.heard(contact);
            self.now = self.now.max(contact.heard);
        }
    }

    fn start(&mut self, effects: &mut Vec<Effect>) {
        let (generation, first_step) = (self.plan.generation, self.plan.first_step);
        effects.push(Effect::Record(Record::Started { generation, first_step }));
        self.checkpoints.asked = self.now;
        if self.past.stopped_early {
            self.save(CheckpointReason::Finish, Outcome::StoppedEarly, effects);
        } else {
            self.go_on(self.plan.evaluation_pending, effects);
        }
    }

    /// Takes an event in.
    ///
    /// # Errors
    /// Why it changes nothing.
    fn take(&mut self, event: Event, effects: &mut Vec<Effect>) -> Result<(), IgnoreReason> {
        let joins_or_leaves = matches!(event, Event::WorkerJoined { .. } | Event::WorkerGone { .. });
        if let Some(worker) = event.worker().filter(|_| !joins_or_leaves) {
            let contact = Contact::of_message(self.now);
            self.members.get_mut(worker).ok_or(IgnoreReason::UnknownWorker)?.heard(contact);
        }
        match event {
            Event::WorkerJoined { worker, machine, name, threads } => {
                self.worker_joined(worker, machine, name, threads, effects)
            }
            Event::WorkerGone { worker, reason } => self.worker_gone(worker, reason, effects),
            Event::WorkerDraining { worker } => self.worker_draining(worker),
            Event::WorkerBeside { worker } => self.worker_beside(worker),
            Event::WorkerReady { worker, step } => self.worker_ready(worker, step),
            Event::NodeComputed { worker, at } => self.node_computed(worker, at),
            Event::PeersReached { worker, reached } => self.peers_reached(worker, reached),
            Event::PeerLost { worker, peer, version } => self.peer_lost(worker, peer, version, effects),
            Event::OwnerReduced { worker, opening, version } => self.owner_reduced(worker, opening, version),
            Event::NodeDone { worker, at, shard_micros, version, result, digest } => {
                let per_shard = Micros(shard_micros.max(1));
                self.node_done(&NodeAnswer { worker, at, per_shard, version, result, digest }, effects)
            }
            Event::NodeContradicted { step, work, node, workers } => {
                self.contradicted(step, work, node, workers, effects)
            }
            Event::SumAudited { owner, opening, finding } => self.sum_audited(owner, opening, finding, effects),
            Event::Unanswered { worker, opening } => self.unanswered(worker, opening),
            Event::WrongParameters { worker, owner } => self.wrong_parameters(worker, owner, effects),
            Event::LeaseFailed { worker, at, failure } => self.lease_failed(worker, at, failure, effects),
            Event::StepReduced { step, digest } => self.step_reduced(step, digest, effects),
            Event::StepNotFinite { step } => self.step_not_finite(step, effects),
            Event::EvaluationReduced { step, stop_early } => self.evaluation_reduced(step, stop_early, effects),
            Event::CheckpointWritten { step } => self.checkpoint_done(step, true, effects),
            Event::CheckpointFailed { step } => self.checkpoint_done(step, false, effects),
            Event::StopRequested => self.stop_requested(),
            Event::Deadline => self.look(effects),
        }
    }

    /// Acts on the new state, whatever the event was: lends nodes, disconnects drained workers, stops, saves.
    fn settle(&mut self, effects: &mut Vec<Effect>) {
        self.disconnect_drained(effects);
        self.stop_if_asked(effects);
        while let Some(dispatch) = self.dispatch(effects) {
            dispatch.run();
            // Who held an audit that is dropped has room for another one, or may leave.
            if !self.drop_audits(effects) {
                break;
            }
            self.disconnect_drained(effects);
        }
        if self.next_interval().is_some_and(|at| at <= self.now) {
            self.checkpoint(CheckpointReason::Interval, effects);
        }
    }

    /// Looks for the quiet, the silent and the late.
    fn look(&mut self, effects: &mut Vec<Effect>) -> Result<(), IgnoreReason> {
        self.members.note_quiet(self.now, self.plan.timeouts.quiet);
        self.lose_silent(effects)?;
        self.disown_late(effects);
        if let Some(mut dispatch) = self.dispatch(effects) {
            dispatch.look();
        }
        Ok(())
    }

    /// What lends nodes, while there is something to lend.
    fn dispatch<'a>(&'a mut self, effects: &'a mut Vec<Effect>) -> Option<Dispatch<'a>> {
        let RunPhase::Working(step) = &mut self.phase else { return None };
        let sliced = step.work == Work::Train && self.exchange.is_sliced();
        step.covered.is_none().then_some(Dispatch {
            sliced,
            plan: &self.plan,
            members: &mut self.members,
            trust: &mut self.trust,
            timing: &self.timing,
            step,
            next_lease: &mut self.next_lease,
            now: self.now,
            effects,
        })
    }

    /// The step in work, if it is this one and all its nodes have arrived.
    ///
    /// # Errors
    /// Why it is not.
    fn covered(&self, step: StepId, work: Work) -> Result<&Step, IgnoreReason> {
        match &self.phase {
            RunPhase::Finished(_) => Err(IgnoreReason::RunOver),
            RunPhase::Working(current) if (current.step, current.work) == (step, work) => {
                current.covered.map(|_| current).ok_or(IgnoreReason::NodesMissing)
            }
            _ => Err(IgnoreReason::OtherStep { answered: step, committed: self.committed }),
        }
    }

    fn step_reduced(&mut self, step: StepId, digest: [u8; 32], effects: &mut Vec<Effect>) -> Result<(), IgnoreReason> {
        let reduced = self.covered(step, Work::Train)?;
        let (ledger, audited_owners) = (reduced.ledger(), reduced.audited_owners.iter().copied().collect());
        if let Some(recorded) = self.past.digests.get(&step).copied().filter(|recorded| *recorded != digest)
            && !self.is_believed(step, recorded, digest, effects)
        {
            return Ok(());
        }
        self.past.digests.remove(&step);
        assert_eq!(step, self.committed, "steps are committed one after the other");
        self.committed = step.next();
        let owners: Vec<WorkerId> = self.exchange.workers().collect();
        self.exchange.added_last = owners.iter().copied().collect();
        effects.push(Effect::Record(Record::StepCommitted { step, digest, ledger, owners, audited_owners }));
        effects.push(Effect::Commit { step, digest });
        let every = self.plan.checkpoint.steps;
        self.checkpoints.due |= every > 0 && self.committed.0.is_multiple_of(every);
        let ends_epoch = self.plan.ends_epoch(self.committed);
        if self.stopping {
            self.save(CheckpointReason::Stop, Outcome::Stopped, effects);
        } else if ends_epoch && self.plan.evaluate_shards == 0 {
            self.end_epoch(effects);
        } else {
            self.go_on(ends_epoch, effects);
        }
        Ok(())
    }

    fn step_not_finite(&mut self, step: StepId, effects: &mut Vec<Effect>) -> Result<(), IgnoreReason> {
        let node = root(self.covered(step, Work::Train)?.shards);
        self.abandon(AbandonReason::NotFinite, effects);
        self.finish(Outcome::NotFinite { step, work: Work::Train, node }, effects);
        Ok(())
    }

    fn evaluation_reduced(
        &mut self,
        step: StepId,
        stop_early: bool,
        effects: &mut Vec<Effect>,
    ) -> Result<(), IgnoreReason> {
        self.covered(step, Work::Evaluate)?;
        effects.push(Effect::Record(Record::Evaluated { step, stop_early }));
        // At the very end there is nothing left to stop. The record tells a start with more epochs.
        if stop_early && self.committed < self.plan.last_parameters() {
            self.save(CheckpointReason::Finish, Outcome::StoppedEarly, effects);
        } else {
            self.end_epoch(effects);
        }
        Ok(())
    }

    /// Asks for the checkpoint of an epoch that ended and was evaluated, and goes on.
    fn end_epoch(&mut self, effects: &mut Vec<Effect>) {
        if self.committed < self.plan.last_parameters() {
            self.checkpoint(CheckpointReason::EpochEnd, effects);
        }
        self.go_on(false, effects);
    }

    /// Opens the evaluation of the committed parameters if `evaluate`, else the next step, or ends the run after the
    /// last.
    fn go_on(&mut self, evaluate: bool, effects: &mut Vec<Effect>) {
        let step = self.committed;
        let (work, shards) = if evaluate {
            (Work::Evaluate, self.plan.evaluate_shards)
        } else if step < self.plan.last_parameters() {
            (Work::Train, self.plan.shards(step))
        } else {
            return self.save(CheckpointReason::Finish, Outcome::Completed, effects);
        };
        let passed = self.timing.opened(self.now);
        self.members.age(work, passed, self.timing.computing(work));
        self.open(Step::new(step, work, shards), effects);
    }

    /// Opens a step or an evaluation, for the first time or once more.
    fn open(&mut self, step: Step, effects: &mut Vec<Effect>) {
        let Step { step: id, work, shards, .. } = step;
        match work {
            Work::Train if step.reopened => self.coordinator_owns(effects),
            Work::Train => self.deal_owners(effects),
            Work::Evaluate => {}
        }
        if work == Work::Train {
            self.note_owners(id);
        }
        self.phase = RunPhase::Working(step);
        effects.push(Effect::OpenStep { step: id, work, shards, opening: self.exchange.open() });
    }
}
