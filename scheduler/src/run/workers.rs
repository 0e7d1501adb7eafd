//! Members of a run: they join, get the parameters, answer their leases, leave, are lost or evicted.

use std::collections::BTreeSet;

use super::{Run, RunPhase};
use crate::effect::{
    AbandonReason, CheckpointReason, DisconnectReason, Effect, IgnoreReason, OwnersReason, RevokeReason,
};
use crate::event::{Failure, GoneReason, NodeResult};
use crate::ids::{Micros, StepId, WorkerId};
use crate::lease::{LeaseRef, Work};
use crate::membership::{Sent, is_late, is_uneven};
use crate::node_answer::NodeAnswer;
use crate::outcome::Outcome;
use crate::record::Record;
use crate::step::{Fault, LeaseState, Step};
use crate::tree::Node;

impl Run {
    /// Takes a worker in, or refuses it by disconnecting it.
    pub(super) fn worker_joined(
        &mut self,
        worker: WorkerId,
        machine: String,
        name: String,
        threads: u32,
        effects: &mut Vec<Effect>,
    ) -> Result<(), IgnoreReason> {
        if self.members.get(worker).is_some() {
            return Err(IgnoreReason::AlreadyMember);
        }
        let limit = self.plan.limits.workers;
        if matches!(self.phase, RunPhase::Finished(_)) {
            effects.push(Effect::Disconnect { worker, why: DisconnectReason::RunOver });
        } else if self.trust.is_evicted(&machine) {
            effects.push(Effect::Disconnect { worker, why: DisconnectReason::Evicted });
        } else if self.members.len() >= limit as usize {
            effects.push(Effect::Disconnect { worker, why: DisconnectReason::Full { limit } });
        } else {
            self.members.join(worker, &machine, threads, self.now);
            self.note_reach_of(worker);
            self.trust.joined(worker, &machine, &name);
            effects.push(Effect::Record(Record::WorkerJoined { worker, machine, name, threads }));
        }
        Ok(())
    }

    /// Counts a worker out; its leases end without an answer, and its chunks move.
    pub(super) fn worker_gone(
        &mut self,
        worker: WorkerId,
        reason: GoneReason,
        effects: &mut Vec<Effect>,
    ) -> Result<(), IgnoreReason> {
        self.count_out(worker, reason, effects)?;
        self.disown(&BTreeSet::from([worker]), OwnersReason::Gone(worker), effects);
        Ok(())
    }

    /// Counts a worker out; its leases end without an answer. It still owns its chunks.
    pub(super) fn count_out(
        &mut self,
        worker: WorkerId,
        reason: GoneReason,
        effects: &mut Vec<Effect>,
    ) -> Result<(), IgnoreReason> {
        if let (Some(member), RunPhase::Working(step)) = (self.members.get_mut(worker), &self.phase)
            && reason == GoneReason::Closed
            && match member.computes() {
                true => step.running().any(|lease| lease.worker == worker && lease.started.is_some()),
                false => step.work == Work::Train && self.exchange.owns(worker),
            }
        {
            member.lost(step.step);
        }
        let Some(member) = self.members.remove(worker, self.trust.machine(worker)) else {
            return Err(IgnoreReason::UnknownWorker);
        };
        let mut died_of = Vec::new();
        if let RunPhase::Working(step) = &mut self.phase {
            if reason == GoneReason::Closed {
                died_of = step.died(worker, member.threads, self.now);
            }
            step.drop_worker(worker);
        }
        // Nothing is recorded after the end.
        if self.outcome().is_none() {
            effects.push(Effect::Record(Record::WorkerGone { worker, reason }));
        }
        self.exchange.reach.forget(worker);
        if let Some(node) = died_of.into_iter().find(|node| self.is_deadly(*node)) {
            self.give_up(|step, work| Outcome::HoldersDied { step, work, node, worker }, effects);
        }
        Ok(())
    }

    /// Whether workers died of `node`, and not by chance.
    fn is_deadly(&self, node: Node) -> bool {
        let RunPhase::Working(step) = &self.phase else { return false };
        // Workers that are lost all at once are lent the node one after the other, until that is known.
        let (dead, waves) = step.deaths(node, self.plan.timeouts.heartbeat_silence);
        waves >= self.plan.limits.deaths as usize && self.is_shared(node, &dead, self.plan.limits.deaths)
    }

    /// Gives up the step in work, saves, and ends the run.
    fn give_up(&mut self, outcome: impl FnOnce(StepId, Work) -> Outcome, effects: &mut Vec<Effect>) {
        let RunPhase::Working(step) = &self.phase else { return };
        let outcome = outcome(step.step, step.work);
        self.abandon(AbandonReason::Failed, effects);
        self.save(CheckpointReason::Stop, outcome, effects);
    }

    /// Notes that a worker wants to leave; nodes planned for it become homeless.
    pub(super) fn worker_draining(&mut self, worker: WorkerId) -> Result<(), IgnoreReason> {
        self.members.get_mut(worker).ok_or(IgnoreReason::UnknownWorker)?.draining = true;
        if let RunPhase::Working(step) = &mut self.phase {
            step.unplan(worker);
        }
        Ok(())
    }

    /// Notes the parameters that a worker holds; the clocks of its leases start.
    pub(super) fn worker_ready(&mut self, worker: WorkerId, ready: StepId) -> Result<(), IgnoreReason> {
        let member = self.members.get_mut(worker).ok_or(IgnoreReason::UnknownWorker)?;
        member.ready = member.ready.max(Some(ready));
        match &mut self.phase {
            RunPhase::Working(step) if member.ready >= Some(step.step) => step.start_clocks(worker, self.now),
            _ => {}
        }
        Ok(())
    }

    /// Workers that nothing was heard of for too long are lost.
    pub(super) fn lose_silent(&mut self, effects: &mut Vec<Effect>) -> Result<(), IgnoreReason> {
        let silent = self.members.silent(self.now, self.plan.timeouts.heartbeat_silence);
        for (worker, silence) in &silent {
            let (worker, silence) = (*worker, *silence);
            if let (Some(member), RunPhase::Working(step)) = (self.members.get_mut(worker), &self.phase) {
                member.strike(step.step);
            }
            effects.push(Effect::Disconnect { worker, why: DisconnectReason::Silent { silence } });
            self.count_out(worker, GoneReason::Silent, effects)?;
        }
        let lost: BTreeSet<WorkerId> = silent.into_iter().map(|(worker, _)| worker).collect();
        if let Some(first) = lost.first() {
            self.disown(&lost, OwnersReason::Gone(*first), effects);
        }
        Ok(())
    }

    /// Workers that wanted to leave and hold nothing more leave. One that owns chunks of the step in work stays for it,
    /// as long as the step gets on.
    pub(super) fn disconnect_drained(&mut self, effects: &mut Vec<Effect>) {
        // When chunks of one move, another may have something to do again, or nothing any more.
        loop {
            let going = self.drained();
            let Some(first) = going.first().copied() else { return };
            for worker in &going {
                effects.push(Effect::Disconnect { worker: *worker, why: DisconnectReason::Drained });
                self.count_out(*worker, GoneReason::Drained, effects).expect("a draining worker is a member");
            }
            self.disown(&going, OwnersReason::Gone(first), effects);
        }
    }

    /// Workers that want to leave and that nothing is wanted of any more.
    fn drained(&self) -> BTreeSet<WorkerId> {
        let (loads, gets_on) = match &self.phase {
            RunPhase::Working(step) => {
                let stays = step.covered.is_some() || !self.members.staying().is_empty();
                (step.loads(), stays && step.awaits_judge().is_none())
            }
            _ => Default::default(),
        };
        let is_needed = |worker| loads.contains_key(&worker) || (gets_on && self.owns(worker));
        let draining = self.members.iter().filter(|(worker, member)| member.draining && !is_needed(*worker));
        draining.map(|(worker, _)| worker).collect()
    }

    /// The step in work, if this is an answer by `worker` to a lease of it that still runs.
    ///
    /// # Errors
    /// Why the answer does not count.
    pub(super) fn fence(&mut self, worker: WorkerId, at: LeaseRef) -> Result<&mut Step, IgnoreReason> {
        let (answered, current) = (at.generation, self.plan.generation);
        if answered != current {
            return Err(IgnoreReason::OtherGeneration { answered, current });
        }
        let other_step = IgnoreReason::OtherStep { answered: at.step, committed: self.committed };
        let step = match &mut self.phase {
            RunPhase::Finished(_) => return Err(IgnoreReason::RunOver),
            RunPhase::Working(step) if step.step == at.step => step,
            _ => return Err(other_step),
        };
        step.fence(worker, at)?;
        Ok(step)
    }

    /// Notes that a worker has computed a lease and sends it from now on.
    pub(super) fn node_computed(&mut self, worker: WorkerId, at: LeaseRef) -> Result<(), IgnoreReason> {
        let now = self.now;
        self.fence(worker, at)?.computed(at.lease, now);
        Ok(())
    }

    /// Counts a node, compares it with the one that is counted already, or doubts it.
    pub(super) fn node_done(&mut self, answer: &NodeAnswer, effects: &mut Vec<Effect>) -> Result<(), IgnoreReason> {
        let NodeAnswer { worker, at, per_shard, version, result, ref digest } = *answer;
        let (now, current) = (self.now, self.exchange.version);
        let step = self.fence(worker, at)?;
        if step.work == Work::Train && version != current {
            return Err(IgnoreReason::OtherOwners { answered: version, current });
        }
        let (id, work, node) = (step.step, step.work, step.node_of(at.lease));
        let again = step.is_sent_again(at.lease);
        if let Some(sent) = step.arrived(at.lease, now).filter(|_| !again) {
            self.sent(worker, work, sent);
        }
        if !again {
            self.waited(worker, at, per_shard);
        }
        let step = self.fence(worker, at)?;
        step.nothing_to_lend &= !step.is_done(node) && result == NodeResult::Good && digest.is_none();
        if step.is_done(node) {
            self.measured(worker, work, per_shard, node);
            return self.audited(answer, node, effects);
        }
        match result {
            NodeResult::Good => {}
            NodeResult::Absurd if self.is_believed_of(node, Fault::Absurd, worker) => {}
            NodeResult::Absurd => return self.doubt(worker, at, Fault::Absurd, effects),
            NodeResult::NotFinite if self.is_believed_of(node, Fault::NotFinite, worker) => {
                self.fence(worker, at)?.end(at.lease);
                self.abandon(AbandonReason::NotFinite, effects);
                self.finish(Outcome::NotFinite { step: id, work, node }, effects);
                return Ok(());
            }
            NodeResult::NotFinite => return self.doubt(worker, at, Fault::NotFinite, effects),
        }
        let losers = self.fence(worker, at)?.done(at.lease, digest.clone(), now);
        if let Some(member) = self.members.get_mut(worker).filter(|_| digest.is_some() && !again) {
            member.audit_opened(work, self.plan.audit_every);
        }
        self.outrun(work, at, losers, effects);
        if !again {
            self.measured(worker, work, per_shard, node);
        }
        Ok(())
    }

    /// Notes the time that a shard took, for the worker and for all.
    fn measured(&mut self, worker: WorkerId, work: Work, per_shard: Micros, node: Node) {
        if let (Some(member), RunPhase::Working(step)) = (self.members.get_mut(worker), &self.phase) {
            member.measured(work, per_shard, u64::from(node.size().div_ceil(member.threads)));
            member.answered(step.step);
        }
        self.timing.measured(work, per_shard);
    }

    /// Notes the time that nodes took to be sent, for the worker and for all.
    fn sent(&mut self, worker: WorkerId, work: Work, sent: Sent) {
        let beside = match &mut self.phase {
            RunPhase::Working(step) => step.sent(sent.per_node),
            _ => None,
        };
        if let Some(member) = self.members.get_mut(worker).filter(|_| is_uneven(sent.per_node, beside)) {
            member.sent_nodes(work, sent, self.now);
        }
        self.timing.sent(work, sent.per_node);
    }

    /// Notes how much longer a lease took than its worker needs for it at best, if it had nothing else to compute: it
    /// waited to begin, or was interrupted. Its first lease is left out, as it is where speed is measured.
    fn waited(&mut self, worker: WorkerId, at: LeaseRef, per_shard: Micros) {
        let (RunPhase::Working(step), Some(member)) = (&mut self.phase, self.members.get_mut(worker)) else { return };
        let work = step.work;
        if member.shown(work).is_none() {
            return;
        }
        let at_best = member.at_best(work, per_shard);
        let Some(waited) = step.waited(at.lease, member.threads, at_best) else { return };
        if is_late(waited, step.delayed(waited)) {
            member.delayed(work, waited, self.now);
        }
        self.timing.waited(work, waited);
    }

    /// The lease `first` was done before `losers` on the same node: they are revoked, and those that began earlier sit
    /// out.
    pub(super) fn outrun(&mut self, work: Work, first: LeaseRef, losers: Vec<LeaseState>, effects: &mut Vec<Effect>) {
        for loser in losers {
            let (worker, why) = (loser.worker, RevokeReason::AnotherWasFirst);
            effects.push(Effect::Revoke { worker, at: loser.at, why });
            let member = self.members.get_mut(worker).expect("a running lease has its worker");
            let per_shard = loser.per_shard_at_least(self.now, member.threads);
            member.at_least(work, per_shard, loser.rounds(member.threads));
            if let Some(computed) = loser.computed.filter(|_| !loser.again) {
                member.sent_nodes(work, Sent { per_node: self.now.since(computed), nodes: 1 }, self.now);
            }
            if loser.slow.is_some() {
                member.delayed(work, self.now.since(loser.sent), self.now);
                member.outrun();
            }
            // A worker that began earlier and lost may hang: without this, every step would wait to find out.
            if loser.at.epoch < first.epoch && !loser.overdue && loser.computed.is_none() {
                member.strike(first.step);
            }
        }
    }

    /// Whether `tried` are so many attempts that `node` is to blame and not who computed it: attempts of as many
    /// machines, or of all that are there. One that is overdue with the node had its turn.
    fn is_shared(&self, node: Node, tried: &[WorkerId], attempts: u32) -> bool {
        let RunPhase::Working(step) = &self.phase else { return false };
        let mut machines = self.trust.machines(tried.iter().copied());
        if tried.len() < attempts as usize || machines.len() >= attempts as usize {
            return tried.len() >= attempts as usize;
        }
        let overdue = step.running().filter(|lease| lease.node == node && lease.overdue);
        machines.extend(self.trust.machines(overdue.map(|lease| lease.worker)));
        self.trust.machines(self.members.staying()).is_subset(&machines)
    }

    /// Whether an impossible number in `node` is believed, now that `last` has found it as well.
    fn is_believed_of(&self, node: Node, fault: Fault, last: WorkerId) -> bool {
        let RunPhase::Working(step) = &self.phase else { return false };
        let tried: Vec<WorkerId> = step.tried(node, fault).chain([last]).collect();
        self.is_shared(node, &tried, self.plan.limits.doubtful_attempts)
    }

    /// Notes that a worker could not compute a node; the run ends if that happened too often.
    pub(super) fn lease_failed(
        &mut self,
        worker: WorkerId,
        at: LeaseRef,
        failure: Failure,
        effects: &mut Vec<Effect>,
    ) -> Result<(), IgnoreReason> {
        let fault = Fault::Failed(failure);
        let step = self.fence(worker, at)?;
        let (id, node) = (step.step, step.fail(at.lease, fault));
        let tried: Vec<WorkerId> = step.tried(node, fault).collect();
        self.members.get_mut(worker).ok_or(IgnoreReason::UnknownWorker)?.strike(id);
        let limit = match failure {
            Failure::DataUnreadable => self.plan.limits.data_attempts,
            Failure::Internal => self.plan.limits.internal_attempts,
        };
        if self.is_shared(node, &tried, limit) {
            let outcome = |step, work| match failure {
                Failure::DataUnreadable => Outcome::DataUnreadable { step, work, node, worker },
                Failure::Internal => Outcome::Failed { step, work, node, worker },
            };
            self.give_up(outcome, effects);
        }
        Ok(())
    }

    /// Gives up the step in work.
    pub(super) fn abandon(&mut self, why: AbandonReason, effects: &mut Vec<Effect>) {
        if let RunPhase::Working(step) = &self.phase {
            for lease in step.running() {
                let (worker, at) = (lease.worker, lease.at);
                effects.push(Effect::Revoke { worker, at, why: RevokeReason::StepAbandoned });
            }
            effects.push(Effect::AbandonStep { step: step.step, work: step.work, why });
        }
    }
}
