//! One training run, as the coordinator sees it.
//!
//! ```text
//! Unstarted ── first event ──> Working(train) ── reduced ──> commit ──┬──> Working(train) of the next step
//!                                    ^                                ├──> Working(evaluate) at an epoch's end
//!                                    └───────── reduced ──────────────┘
//!                              Working ── complete, or stopping ──> Saving ── all checkpoints written ──> Finished
//! ```

use std::collections::BTreeSet;

use crate::dispatch::{Dispatch, due};
use crate::effect::{AbandonReason, CheckpointReason, Effect, EvictReason, IgnoreReason, Outcome, RevokeReason};
use crate::event::{Event, Failure, LeaveReason, NodeResult};
use crate::ids::{LeaseId, Micros, RunTime, StepId, WorkerId};
use crate::lease::{LeaseRef, Work};
use crate::membership::{Membership, Timing};
use crate::plan::RunPlan;
use crate::record::Record;
use crate::resume::{self, Past, ResumeError};
use crate::step::Step;
use crate::waiting::{Progress, Waiting, WorkerProgress};

/// One training run as the coordinator sees it: a state machine without clock, socket, random number or float.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Run {
    plan: RunPlan,
    past: Past,
    phase: Phase,
    members: Membership,
    timing: Timing,
    /// The parameters that are final.
    committed: StepId,
    stopping: bool,
    next_lease: LeaseId,
    checkpoints: Checkpoints,
    now: RunTime,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Phase {
    Unstarted,
    Working(Step),
    /// Nothing more is computed; the run ends with this outcome when its checkpoints are written.
    Saving(Outcome),
    Finished(Outcome),
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Checkpoints {
    being_written: BTreeSet<StepId>,
    /// The newest asked for.
    newest: Option<StepId>,
    /// When it was asked for, or the run began.
    asked: RunTime,
    /// Enough steps were committed since.
    due: bool,
}

impl Run {
    /// A run that nothing is known of yet. Its first effects come with its first event, whatever that is.
    ///
    /// # Panics
    /// If [`RunPlan::check`] finds anything wrong.
    pub fn new(plan: RunPlan) -> Run {
        assert_eq!(plan.check(), Ok(()), "a plan is checked before it is run");
        let committed = plan.first_step;
        Run {
            plan,
            past: Past::default(),
            phase: Phase::Unstarted,
            members: Membership::default(),
            timing: Timing::default(),
            committed,
            stopping: false,
            next_lease: LeaseId(0),
            checkpoints: Checkpoints::default(),
            now: RunTime(0),
        }
    }

    /// A run that goes on from the checkpoint that `plan` begins with, given the journal of all earlier starts. Steps
    /// that the journal holds and the checkpoint does not are computed again and must come out with the same digests;
    /// there is no other recovery.
    pub fn resume(plan: RunPlan, journal: impl IntoIterator<Item = Record>) -> Result<Run, ResumeError> {
        plan.check()?;
        let past = resume::read(&plan, journal)?;
        Ok(Run { past, ..Run::new(plan) })
    }

    /// Takes one event that happened at `now` and appends all that must be done about it. Cannot fail.
    ///
    /// All effects must be carried out, in order, before the next event is handled.
    pub fn handle(&mut self, now: RunTime, event: Event, effects: &mut Vec<Effect>) {
        self.now = self.now.max(now);
        if self.phase == Phase::Unstarted {
            self.start(effects);
        }
        let (worker, what) = (event.worker(), event.name());
        if let Err(why) = self.take(event, effects) {
            effects.push(Effect::Ignore { worker, what, why });
        }
        self.settle(effects);
    }

    /// When to send [`Event::Deadline`] if nothing comes first.
    pub fn deadline(&self) -> Option<RunTime> {
        let step = match &self.phase {
            Phase::Unstarted => return Some(self.now),
            Phase::Finished(_) => return None,
            Phase::Saving(_) => None,
            Phase::Working(step) => Some(step),
        };
        let silence = self.members.iter().map(|(_, member)| member.heard.after(self.plan.heartbeat_silence)).min();
        // What is past was looked at with the last event, and waits for another worker, not for time.
        let leases = step.into_iter().flat_map(|step| {
            step.running().flat_map(|lease| {
                let due = due(&self.plan, &self.members, &self.timing, step, lease);
                [due.slow, due.overdue].into_iter().filter(|at| *at > self.now)
            })
        });
        let interval = self.next_interval().filter(|at| *at > self.now);
        leases.chain(silence).chain(interval).min()
    }

    /// What the run waits for, as an operator would say it.
    pub fn waiting_for(&self) -> Waiting {
        let step = match &self.phase {
            Phase::Unstarted => return Waiting::Start,
            Phase::Finished(outcome) => return Waiting::Nothing { outcome: outcome.clone() },
            Phase::Saving(_) => {
                let step = self.checkpoints.being_written.first().copied().unwrap_or(self.committed);
                return Waiting::Checkpoint { step };
            }
            Phase::Working(step) => step,
        };
        let (work, id) = (step.work, step.step);
        if let Some(covered) = step.covered {
            return Waiting::Reducer { work, step: id, since: self.now.since(covered) };
        }
        match step.running().min_by_key(|lease| (lease.started.is_none(), lease.started, lease.sent, lease.at)) {
            None => Waiting::Workers { work, step: id },
            Some(lease) => match lease.started {
                Some(started) => {
                    let (worker, node) = (lease.worker, lease.node);
                    Waiting::Node { worker, work, step: id, node, since: self.now.since(started) }
                }
                None => Waiting::Parameters { worker: lease.worker, step: id, since: self.now.since(lease.sent) },
            },
        }
    }

    /// How far the run is.
    pub fn progress(&self) -> Progress {
        let step = match &self.phase {
            Phase::Working(step) => Some(step),
            _ => None,
        };
        let loads = step.map(Step::loads).unwrap_or_default();
        let workers = self.members.iter().map(|(worker, member)| {
            let load = loads.get(&worker).copied().unwrap_or_default();
            WorkerProgress {
                worker,
                threads: member.threads,
                ready: member.ready,
                draining: member.draining,
                leases: load.held,
                shards: load.shards,
                shard_micros: member.speed(Work::Train),
            }
        });
        Progress {
            committed: self.committed,
            steps: self.plan.last_parameters().0,
            epoch: self.plan.epoch(self.committed),
            epochs: self.plan.epochs,
            work: step.map(|step| step.work),
            shards_done: step.map_or(0, Step::shards_done),
            shards: step.map_or(0, |step| step.shards),
            workers: workers.collect(),
        }
    }

    /// How the run ended, once it has.
    pub fn outcome(&self) -> Option<&Outcome> {
        match &self.phase {
            Phase::Finished(outcome) => Some(outcome),
            _ => None,
        }
    }

    /// The plan it runs by.
    pub fn plan(&self) -> &RunPlan {
        &self.plan
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

    /// Takes an event in; or says why it changes nothing.
    fn take(&mut self, event: Event, effects: &mut Vec<Effect>) -> Result<(), IgnoreReason> {
        let joins_or_leaves = matches!(event, Event::WorkerJoined { .. } | Event::WorkerLeft { .. });
        if let Some(worker) = event.worker().filter(|_| !joins_or_leaves) {
            self.members.get_mut(worker).ok_or(IgnoreReason::UnknownWorker)?.heard = self.now;
        }
        match event {
            Event::WorkerJoined { worker, threads } => self.worker_joined(worker, threads, effects),
            Event::WorkerLeft { worker, reason } => self.worker_left(worker, reason, effects),
            Event::WorkerDraining { worker } => self.worker_draining(worker),
            Event::Heartbeat { .. } => Ok(()),
            Event::WorkerReady { worker, step } => self.worker_ready(worker, step),
            Event::NodeDone { worker, at, shard_micros, result } => {
                self.node_done(worker, at, Micros(shard_micros.max(1)), result, effects)
            }
            Event::LeaseFailed { worker, at, failure } => self.lease_failed(worker, at, failure, effects),
            Event::StepReduced { step, digest } => self.step_reduced(step, digest, effects),
            Event::EvaluationReduced { step, stop_early } => self.evaluation_reduced(step, stop_early, effects),
            Event::CheckpointWritten { step } => self.checkpoint_written(step, effects),
            Event::StopRequested => self.stop_requested(),
            Event::Deadline => {
                for (worker, silence) in self.members.silent(self.now, self.plan.heartbeat_silence) {
                    effects.push(Effect::Evict { worker, why: EvictReason::Silent { silence } });
                    self.worker_left(worker, LeaveReason::Silent, effects)?;
                }
                Ok(())
            }
        }
    }

    /// What follows from the new state, whatever the event was.
    fn settle(&mut self, effects: &mut Vec<Effect>) {
        self.stop_if_asked(effects);
        if let Phase::Working(step) = &mut self.phase
            && step.covered.is_none()
        {
            Dispatch {
                plan: &self.plan,
                members: &mut self.members,
                timing: &self.timing,
                step,
                next_lease: &mut self.next_lease,
                now: self.now,
                effects,
            }
            .run();
        }
        self.let_drained_go(effects);
        if self.next_interval().is_some_and(|at| at <= self.now) {
            self.checkpoint(CheckpointReason::Interval, effects);
        }
    }

    // Workers.

    fn worker_joined(&mut self, worker: WorkerId, threads: u32, effects: &mut Vec<Effect>) -> Result<(), IgnoreReason> {
        if self.members.get(worker).is_some() {
            return Err(IgnoreReason::AlreadyMember);
        }
        let limit = self.plan.limits.workers;
        if matches!(self.phase, Phase::Finished(_)) {
            effects.push(Effect::Evict { worker, why: EvictReason::RunOver });
        } else if self.members.len() >= limit as usize {
            effects.push(Effect::Evict { worker, why: EvictReason::Full { limit } });
        } else {
            self.members.join(worker, threads, self.now);
            effects.push(Effect::Record(Record::WorkerJoined { worker, threads }));
        }
        Ok(())
    }

    fn worker_left(
        &mut self,
        worker: WorkerId,
        reason: LeaveReason,
        effects: &mut Vec<Effect>,
    ) -> Result<(), IgnoreReason> {
        if !self.members.leave(worker) {
            return Err(IgnoreReason::UnknownWorker);
        }
        if let Phase::Working(step) = &mut self.phase {
            step.forget(worker);
        }
        // Nothing is recorded behind the end.
        if self.outcome().is_none() {
            effects.push(Effect::Record(Record::WorkerLeft { worker, reason }));
        }
        Ok(())
    }

    fn worker_draining(&mut self, worker: WorkerId) -> Result<(), IgnoreReason> {
        self.members.get_mut(worker).ok_or(IgnoreReason::UnknownWorker)?.draining = true;
        if let Phase::Working(step) = &mut self.phase {
            step.unplan(worker);
        }
        Ok(())
    }

    fn worker_ready(&mut self, worker: WorkerId, ready: StepId) -> Result<(), IgnoreReason> {
        let member = self.members.get_mut(worker).ok_or(IgnoreReason::UnknownWorker)?;
        member.ready = member.ready.max(Some(ready));
        match &mut self.phase {
            Phase::Working(step) if member.ready >= Some(step.step) => step.start_clocks(worker, self.now),
            _ => {}
        }
        Ok(())
    }

    fn let_drained_go(&mut self, effects: &mut Vec<Effect>) {
        let loads = match &self.phase {
            Phase::Working(step) => step.loads(),
            _ => Default::default(),
        };
        let idle = |worker| !loads.contains_key(&worker);
        let going: Vec<WorkerId> =
            self.members.iter().filter(|(worker, m)| m.draining && idle(*worker)).map(|(worker, _)| worker).collect();
        for worker in going {
            effects.push(Effect::Evict { worker, why: EvictReason::Drained });
            self.worker_left(worker, LeaveReason::Drained, effects).expect("a draining worker is a member");
        }
    }

    // Leases.

    /// The step that this answer belongs to, or why it belongs to none.
    fn fence(&mut self, worker: WorkerId, at: LeaseRef) -> Result<&mut Step, IgnoreReason> {
        let (answered, current) = (at.generation, self.plan.generation);
        if answered != current {
            return Err(IgnoreReason::OtherGeneration { answered, current });
        }
        let other_step = IgnoreReason::OtherStep { answered: at.step, committed: self.committed };
        let step = match &mut self.phase {
            Phase::Finished(_) => return Err(IgnoreReason::RunOver),
            Phase::Working(step) if step.step == at.step => step,
            _ => return Err(other_step),
        };
        step.fence(worker, at)?;
        Ok(step)
    }

    fn node_done(
        &mut self,
        worker: WorkerId,
        at: LeaseRef,
        per_shard: Micros,
        result: NodeResult,
        effects: &mut Vec<Effect>,
    ) -> Result<(), IgnoreReason> {
        // Even an answer that comes too late shows that the worker computes.
        self.members.get_mut(worker).ok_or(IgnoreReason::UnknownWorker)?.forgive();
        let now = self.now;
        let step = self.fence(worker, at)?;
        let (id, work) = (step.step, step.work);
        if result == NodeResult::NotFinite {
            let node = step.end(at.lease);
            self.abandon(AbandonReason::NotFinite, effects);
            self.finish(Outcome::NotFinite { step: id, work, node }, effects);
            return Ok(());
        }
        for (worker, at) in step.done(at.lease, now) {
            effects.push(Effect::Revoke { worker, at, why: RevokeReason::AnotherWasFirst });
        }
        self.members.get_mut(worker).ok_or(IgnoreReason::UnknownWorker)?.measured(work, per_shard);
        self.timing.measured(work, per_shard);
        Ok(())
    }

    fn lease_failed(
        &mut self,
        worker: WorkerId,
        at: LeaseRef,
        failure: Failure,
        effects: &mut Vec<Effect>,
    ) -> Result<(), IgnoreReason> {
        let step = self.fence(worker, at)?;
        let (node, times) = step.fail(at.lease, failure);
        let (step, work) = (step.step, step.work);
        self.members.get_mut(worker).ok_or(IgnoreReason::UnknownWorker)?.strike(step);
        let (limit, outcome) = match failure {
            Failure::DataUnreadable => {
                (self.plan.limits.data_attempts, Outcome::DataUnreadable { step, work, node, worker })
            }
            Failure::Internal => (self.plan.limits.internal_attempts, Outcome::Failed { step, work, node, worker }),
        };
        if times >= limit as usize {
            self.abandon(AbandonReason::Failed, effects);
            self.save(CheckpointReason::Stop, outcome, effects);
        }
        Ok(())
    }

    /// Gives up what is in work.
    fn abandon(&mut self, why: AbandonReason, effects: &mut Vec<Effect>) {
        if let Phase::Working(step) = &self.phase {
            for lease in step.running() {
                let (worker, at) = (lease.worker, lease.at);
                effects.push(Effect::Revoke { worker, at, why: RevokeReason::StepAbandoned });
            }
            effects.push(Effect::AbandonStep { step: step.step, work: step.work, why });
        }
    }

    // Steps.

    /// What is in work, if it is this and all its nodes are in.
    fn covered(&self, step: StepId, work: Work) -> Result<&Step, IgnoreReason> {
        match &self.phase {
            Phase::Finished(_) => Err(IgnoreReason::RunOver),
            Phase::Working(current) if (current.step, current.work) == (step, work) => {
                current.covered.map(|_| current).ok_or(IgnoreReason::NodesMissing)
            }
            _ => Err(IgnoreReason::OtherStep { answered: step, committed: self.committed }),
        }
    }

    fn step_reduced(&mut self, step: StepId, digest: [u8; 32], effects: &mut Vec<Effect>) -> Result<(), IgnoreReason> {
        let ledger = self.covered(step, Work::Train)?.ledger();
        if let Some(recorded) = self.past.digests.remove(&step).filter(|recorded| *recorded != digest) {
            self.abandon(AbandonReason::Diverged, effects);
            self.finish(Outcome::Diverged { step, recorded, computed: digest }, effects);
            return Ok(());
        }
        assert_eq!(step, self.committed, "steps are committed one after the other");
        self.committed = step.next();
        effects.push(Effect::Record(Record::StepCommitted { step, digest, ledger }));
        effects.push(Effect::Commit { step, digest });
        let every = self.plan.checkpoint_every_steps;
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

    fn evaluation_reduced(
        &mut self,
        step: StepId,
        stop_early: bool,
        effects: &mut Vec<Effect>,
    ) -> Result<(), IgnoreReason> {
        self.covered(step, Work::Evaluate)?;
        effects.push(Effect::Record(Record::Evaluated { step, stop_early }));
        if stop_early && self.committed < self.plan.last_parameters() {
            self.save(CheckpointReason::Finish, Outcome::StoppedEarly, effects);
        } else {
            self.end_epoch(effects);
        }
        Ok(())
    }

    /// An epoch is behind us, evaluation and all.
    fn end_epoch(&mut self, effects: &mut Vec<Effect>) {
        if self.committed < self.plan.last_parameters() {
            self.checkpoint(CheckpointReason::EpochEnd, effects);
        }
        self.go_on(false, effects);
    }

    /// Opens what comes next: the evaluation of the committed parameters, a step, or the end.
    fn go_on(&mut self, evaluate: bool, effects: &mut Vec<Effect>) {
        let step = self.committed;
        let (work, shards) = if evaluate {
            (Work::Evaluate, self.plan.evaluate_shards)
        } else if step < self.plan.last_parameters() {
            (Work::Train, self.plan.shards(step))
        } else {
            return self.save(CheckpointReason::Finish, Outcome::Completed, effects);
        };
        self.members.age(work);
        self.phase = Phase::Working(Step::new(step, work, shards));
        effects.push(Effect::OpenStep { step, work, shards });
    }

    // Checkpoints and the end.

    /// When the next checkpoint is due that no epoch's end or other reason brings: now, later, or not at all. One at a
    /// time, and none while an evaluation is open, which must be in the checkpoint of its step.
    fn next_interval(&self) -> Option<RunTime> {
        let training = matches!(&self.phase, Phase::Working(step) if step.work == Work::Train);
        let newest = self.checkpoints.newest.unwrap_or(self.plan.first_step);
        if !training || !self.checkpoints.being_written.is_empty() || newest == self.committed {
            return None;
        }
        let timed = self.plan.checkpoint_every.0 > 0;
        let by_time = timed.then(|| self.checkpoints.asked.after(self.plan.checkpoint_every));
        if self.checkpoints.due { Some(self.now) } else { by_time }
    }

    /// Asks for a checkpoint of the committed parameters.
    fn checkpoint(&mut self, reason: CheckpointReason, effects: &mut Vec<Effect>) {
        let step = self.committed;
        effects.push(Effect::Checkpoint { step, reason });
        self.checkpoints.being_written.insert(step);
        self.checkpoints.newest = Some(step);
        self.checkpoints.asked = self.now;
        self.checkpoints.due = false;
    }

    fn checkpoint_written(&mut self, step: StepId, effects: &mut Vec<Effect>) -> Result<(), IgnoreReason> {
        if !self.checkpoints.being_written.remove(&step) {
            return Err(IgnoreReason::NoSuchCheckpoint(step));
        }
        self.finish_if_saved(effects);
        Ok(())
    }

    fn stop_requested(&mut self) -> Result<(), IgnoreReason> {
        match &self.phase {
            Phase::Finished(_) => Err(IgnoreReason::RunOver),
            Phase::Saving(_) => Err(IgnoreReason::AlreadyStopping),
            _ if self.stopping => Err(IgnoreReason::AlreadyStopping),
            _ => {
                self.stopping = true;
                Ok(())
            }
        }
    }

    /// A training step in flight is finished first, as long as anybody is there to do so. An evaluation is not: it is
    /// pending in the checkpoint, and a resumed run begins with it.
    fn stop_if_asked(&mut self, effects: &mut Vec<Effect>) {
        let Phase::Working(step) = &self.phase else { return };
        let can_finish = step.covered.is_some() || !self.members.is_empty();
        if self.stopping && !(step.work == Work::Train && can_finish) {
            self.abandon(AbandonReason::Stopped, effects);
            self.save(CheckpointReason::Stop, Outcome::Stopped, effects);
        }
    }

    /// Ends the run when the committed parameters are on disk. If their checkpoint was asked for already, and so holds
    /// the outcome of their evaluation, that one will do.
    fn save(&mut self, reason: CheckpointReason, outcome: Outcome, effects: &mut Vec<Effect>) {
        self.phase = Phase::Saving(outcome);
        if self.checkpoints.newest != Some(self.committed) {
            self.checkpoint(reason, effects);
        }
        self.finish_if_saved(effects);
    }

    fn finish_if_saved(&mut self, effects: &mut Vec<Effect>) {
        if let Phase::Saving(outcome) = &self.phase
            && self.checkpoints.being_written.is_empty()
        {
            self.finish(outcome.clone(), effects);
        }
    }

    fn finish(&mut self, outcome: Outcome, effects: &mut Vec<Effect>) {
        effects.push(Effect::Record(Record::Finished { outcome: outcome.clone() }));
        effects.push(Effect::Finish { outcome: outcome.clone() });
        self.phase = Phase::Finished(outcome);
    }
}
