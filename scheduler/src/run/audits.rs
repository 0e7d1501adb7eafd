//! What is not believed at once: nodes that are computed a second time, and what follows when they come out otherwise.

use super::{Phase, Run};
use crate::effect::{AbandonReason, DisconnectReason, Effect, IgnoreReason, Outcome, RevokeReason};
use crate::event::GoneReason;
use crate::ids::{StepId, WorkerId};
use crate::lease::{LeaseRef, Work};
use crate::record::Record;
use crate::step::{Fault, Verdict};
use crate::tree::Node;

impl Run {
    /// A node is not believed before it has come out so again.
    pub(super) fn doubt(
        &mut self,
        worker: WorkerId,
        at: LeaseRef,
        fault: Fault,
        effects: &mut Vec<Effect>,
    ) -> Result<(), IgnoreReason> {
        let node = self.fence(worker, at)?.doubt(at.lease, fault);
        effects.push(Effect::Doubt { worker, at, node });
        self.reopen(effects);
        Ok(())
    }

    /// What the reducer has of the step in work may be wrong: it begins anew.
    fn reopen(&mut self, effects: &mut Vec<Effect>) {
        self.abandon(AbandonReason::Doubted, effects);
        if let Phase::Working(step) = &mut self.phase {
            step.reopen();
            effects.push(Effect::OpenStep { step: step.step, work: step.work, shards: step.shards });
        }
    }

    /// A worker has computed a node that is counted already.
    pub(super) fn audited(
        &mut self,
        worker: WorkerId,
        at: LeaseRef,
        node: Node,
        digest: Option<[u8; 32]>,
        effects: &mut Vec<Effect>,
    ) -> Result<(), IgnoreReason> {
        let now = self.now;
        let step = self.fence(worker, at)?;
        let (id, work) = (step.step, step.work);
        let (verdict, losers) = step.vote(at.lease, digest, now);
        self.outrun(work, at, losers, effects);
        match verdict {
            Verdict::Undecided { workers } => effects.push(Effect::Dispute { step: id, node, workers }),
            Verdict::Decided { right, wrong } => {
                if work == Work::Train {
                    right.iter().for_each(|worker| self.trust.found_clean(*worker, id));
                }
                if !wrong.is_empty() {
                    self.put_out(node, [right[0], right[1]], &wrong, effects);
                }
            }
        }
        Ok(())
    }

    /// `judges` agree that what `wrong` computed for `node` is wrong.
    fn put_out(&mut self, node: Node, judges: [WorkerId; 2], wrong: &[WorkerId], effects: &mut Vec<Effect>) {
        let mut back: Vec<(StepId, WorkerId)> = Vec::new();
        for &worker in wrong {
            // A machine under two numbers: all of the step began anew when it was put out.
            if !self.trust.is_put_out(self.trust.name(worker)) {
                back.push((self.distrust(worker, node, judges, effects), worker));
            }
        }
        let Some((to, worker)) = back.into_iter().min() else { return };
        if to < self.committed {
            self.abandon(AbandonReason::Doubted, effects);
            self.finish(Outcome::RolledBack { to, worker }, effects);
        } else {
            self.reopen(effects);
        }
    }

    /// Puts a machine out. The answer is the first step that may have wrong numbers of it.
    fn distrust(&mut self, worker: WorkerId, node: Node, judges: [WorkerId; 2], effects: &mut Vec<Effect>) -> StepId {
        let (step, name) = (self.committed, self.trust.name(worker).to_owned());
        let since = self.trust.clean(worker).map_or(step, |clean| clean.min(step));
        effects.push(Effect::Record(Record::Evicted { worker, name: name.clone(), since }));
        effects.push(Effect::Evict { worker, name: name.clone(), step, node, judges, since });
        self.trust.distrust(&name);
        self.trust.disbelieve(since);
        if let Phase::Working(step) = &mut self.phase {
            step.discredit(|other| self.trust.name(other) == name);
        }
        let here = self.members.iter().map(|(other, _)| other);
        let same: Vec<WorkerId> = here.filter(|other| self.trust.name(*other) == name).collect();
        for worker in same {
            effects.push(Effect::Disconnect { worker, why: DisconnectReason::Evicted });
            self.worker_left(worker, GoneReason::Evicted, effects).expect("it is a member");
        }
        since
    }

    /// A step that was computed again has not the digest that it had. Somebody computed wrongly, then or now: each node is
    /// computed by two workers before the new one is believed.
    pub(super) fn is_believed(
        &mut self,
        id: StepId,
        recorded: [u8; 32],
        computed: [u8; 32],
        effects: &mut Vec<Effect>,
    ) -> bool {
        let Phase::Working(step) = &mut self.phase else { return false };
        if step.is_proven() {
            effects.push(Effect::Record(Record::Disbelieved { since: id }));
            self.past.digests.clear();
            self.trust.disbelieve(id);
            return true;
        }
        if !step.audit_all && self.plan.audit_every > 0 && self.members.len() > 1 {
            step.audit_all = true;
            self.reopen(effects);
        } else {
            self.abandon(AbandonReason::Diverged, effects);
            self.finish(Outcome::Diverged { step: id, recorded, computed }, effects);
        }
        false
    }

    /// Does without an audit that nobody can do.
    pub(super) fn drop_audits(&mut self, effects: &mut Vec<Effect>) {
        let Phase::Working(step) = &mut self.phase else { return };
        let (work, candidates) = (step.work, self.members.candidates(step.step));
        let audits: Vec<(Node, Vec<WorkerId>)> = step.audits().collect();
        for (node, voters) in audits {
            let in_time = step.running().any(|lease| lease.node == node && !lease.overdue);
            let holders: Vec<WorkerId> = step.running().filter(|l| l.node == node).map(|l| l.worker).collect();
            let fits = |worker: &WorkerId| !holders.contains(worker) && self.trust.is_other(*worker, &voters);
            let anybody = candidates.iter().any(fits);
            if in_time || anybody || step.is_disputed(node) {
                continue;
            }
            let (leases, by) = step.drop_audit(node, self.now);
            let revoke = |worker, at| Effect::Revoke { worker, at, why: RevokeReason::AuditDropped };
            effects.extend(leases.into_iter().map(|lease| revoke(lease.worker, lease.at)));
            if let Some(member) = by.and_then(|by| self.members.get_mut(by)) {
                member.audit_dropped(work);
            }
        }
    }

    /// Nothing that was computed before these parameters can still be found wrong. Checkpoints before them may go, but for
    /// the newest.
    pub fn trusted(&self) -> StepId {
        let clean = self.members.iter().filter_map(|(worker, _)| self.trust.clean(worker));
        let oldest = clean.min().filter(|_| self.plan.audit_every > 0);
        oldest.map_or(self.committed, |oldest| oldest.min(self.committed))
    }

    /// Names that may not join: they were proven to compute wrongly.
    pub fn evicted_names(&self) -> impl Iterator<Item = &str> {
        self.trust.put_out()
    }
}
