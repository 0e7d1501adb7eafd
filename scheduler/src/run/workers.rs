//! Workers come and go, and answer for their leases.

use super::{Phase, Run};
use crate::effect::{AbandonReason, CheckpointReason, Effect, EvictReason, IgnoreReason, Outcome, RevokeReason};
use crate::event::{Failure, LeaveReason, NodeResult};
use crate::ids::{Micros, StepId, WorkerId};
use crate::lease::LeaseRef;
use crate::record::Record;
use crate::step::{Fault, Step};

impl Run {
    pub(super) fn worker_joined(
        &mut self,
        worker: WorkerId,
        threads: u32,
        effects: &mut Vec<Effect>,
    ) -> Result<(), IgnoreReason> {
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

    pub(super) fn worker_left(
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

    pub(super) fn worker_draining(&mut self, worker: WorkerId) -> Result<(), IgnoreReason> {
        self.members.get_mut(worker).ok_or(IgnoreReason::UnknownWorker)?.draining = true;
        if let Phase::Working(step) = &mut self.phase {
            step.unplan(worker);
        }
        Ok(())
    }

    pub(super) fn worker_ready(&mut self, worker: WorkerId, ready: StepId) -> Result<(), IgnoreReason> {
        let member = self.members.get_mut(worker).ok_or(IgnoreReason::UnknownWorker)?;
        member.ready = member.ready.max(Some(ready));
        match &mut self.phase {
            Phase::Working(step) if member.ready >= Some(step.step) => step.start_clocks(worker, self.now),
            _ => {}
        }
        Ok(())
    }

    pub(super) fn let_drained_go(&mut self, effects: &mut Vec<Effect>) {
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

    /// The step that this answer belongs to, or why it belongs to none.
    pub(super) fn fence(&mut self, worker: WorkerId, at: LeaseRef) -> Result<&mut Step, IgnoreReason> {
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

    pub(super) fn node_done(
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
            let (node, times) = step.fail(at.lease, Fault::NotFinite);
            if times >= self.plan.limits.not_finite_attempts as usize {
                self.abandon(AbandonReason::NotFinite, effects);
                self.finish(Outcome::NotFinite { step: id, work, node }, effects);
            } else {
                effects.push(Effect::Doubt { worker, at, node });
            }
            return Ok(());
        }
        for loser in step.done(at.lease, now) {
            let (worker, why) = (loser.worker, RevokeReason::AnotherWasFirst);
            effects.push(Effect::Revoke { worker, at: loser.at, why });
            let member = self.members.get_mut(worker).expect("a running lease has its worker");
            member.at_least(work, loser.per_shard_at_least(now, member.threads));
            // One that began earlier and lost may hang: without this, every step would wait to find out.
            if loser.at.epoch < at.epoch && !loser.overdue {
                member.strike(id);
            }
        }
        self.members.get_mut(worker).ok_or(IgnoreReason::UnknownWorker)?.measured(work, per_shard);
        self.timing.measured(work, per_shard);
        Ok(())
    }

    pub(super) fn lease_failed(
        &mut self,
        worker: WorkerId,
        at: LeaseRef,
        failure: Failure,
        effects: &mut Vec<Effect>,
    ) -> Result<(), IgnoreReason> {
        let step = self.fence(worker, at)?;
        let (node, times) = step.fail(at.lease, Fault::Failed(failure));
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
    pub(super) fn abandon(&mut self, why: AbandonReason, effects: &mut Vec<Effect>) {
        if let Phase::Working(step) = &self.phase {
            for lease in step.running() {
                let (worker, at) = (lease.worker, lease.at);
                effects.push(Effect::Revoke { worker, at, why: RevokeReason::StepAbandoned });
            }
            effects.push(Effect::AbandonStep { step: step.step, work: step.work, why });
        }
    }
}
