//! Numbers that are not believed at once: nodes that are computed a second time, and the consequences where digests
//! differ.

use std::collections::BTreeMap;

use super::{Run, RunPhase};
use crate::effect::{AbandonReason, DisconnectReason, Effect, EvictionProof, IgnoreReason, RevokeReason};
use crate::event::GoneReason;
use crate::ids::{StepId, WorkerId};
use crate::lease::{LeaseRef, Work};
use crate::node_answer::NodeAnswer;
use crate::outcome::Outcome;
use crate::owners::Owner;
use crate::record::Record;
use crate::step::{Fault, Verdict, WrongBallot};
use crate::tree::Node;

impl Run {
    /// A worker got impossible numbers for a node: they are not believed before another computation gets such numbers
    /// too.
    pub(super) fn doubt(
        &mut self,
        worker: WorkerId,
        at: LeaseRef,
        fault: Fault,
        effects: &mut Vec<Effect>,
    ) -> Result<(), IgnoreReason> {
        let step = self.fence(worker, at)?;
        let (id, node) = (step.step, step.doubt(at.lease, fault));
        self.members.get_mut(worker).ok_or(IgnoreReason::UnknownWorker)?.strike(id);
        effects.push(Effect::Doubt { worker, at, node });
        self.reopen(effects);
        Ok(())
    }

    /// Copies of a node differ, and the reducer has forgotten the tree: the step begins anew. All who brought the node
    /// are suspects; it goes to others, if there are any, and is audited. A machine that is gone with a node half sent,
    /// or that contradicts itself, has a strike: it could do that in every step.
    pub(super) fn contradicted(
        &mut self,
        id: StepId,
        work: Work,
        node: Node,
        workers: Vec<WorkerId>,
        effects: &mut Vec<Effect>,
    ) -> Result<(), IgnoreReason> {
        match &mut self.phase {
            RunPhase::Finished(_) => return Err(IgnoreReason::RunOver),
            RunPhase::Working(step) if (step.step, step.work) == (id, work) => step.contradict(node, &workers),
            _ => return Err(IgnoreReason::OtherStep { answered: id, committed: self.committed }),
        }
        let alone = self.trust.machines(workers.iter().copied()).len() == 1;
        let struck = workers.iter().copied().filter(|worker| alone || self.members.get(*worker).is_none());
        for machine in self.trust.machines(struck).into_iter().filter(|machine| !machine.is_empty()) {
            self.members.strike(&self.trust, machine, id);
        }
        effects.push(Effect::Contradict { step: id, node, workers });
        self.reopen(effects);
        Ok(())
    }

    /// Begins the step in work anew: nodes that the reducer has already added may be wrong.
    pub(super) fn reopen(&mut self, effects: &mut Vec<Effect>) {
        self.abandon(AbandonReason::Doubted, effects);
        if let RunPhase::Working(step) = &mut self.phase {
            step.reopen();
            let step = step.clone();
            self.open(step, effects);
        }
    }

    /// A worker has computed a node that is counted already: its digest is compared.
    pub(super) fn audited(
        &mut self,
        answer: &NodeAnswer,
        node: Node,
        effects: &mut Vec<Effect>,
    ) -> Result<(), IgnoreReason> {
        let (now, at) = (self.now, answer.at);
        let step = self.fence(answer.worker, at)?;
        let (id, work) = (step.step, step.work);
        let (verdict, losers) = step.vote(at.lease, answer.digest.clone(), now);
        let counted = step.done_by(node);
        self.outrun(work, at, losers, effects);
        match verdict {
            Verdict::Undecided { workers } => effects.push(Effect::Dispute { step: id, node, workers }),
            Verdict::Decided { right, wrong } => {
                if work == Work::Train {
                    // Where owners add chunks, a worker can tell that its numbers are only compared: they say nothing
                    // of those that it has counted.
                    let sliced = self.exchange.is_sliced();
                    let clean = right.iter().filter(|worker| !sliced || counted == Some(**worker));
                    clean.for_each(|worker| self.trust.found_clean(*worker, id));
                }
                self.judge(node, [right[0], right[1]], wrong, effects);
            }
        }
        Ok(())
    }

    /// Acts on numbers for `node` that are not those that the `judges` agree on. Where only owners of other machines
    /// say so of what they were brought, it may be them that are wrong.
    fn judge(&mut self, node: Node, judges: [WorkerId; 2], wrong: Vec<WrongBallot>, effects: &mut Vec<Effect>) {
        let (mut proven, mut pairs) = (Vec::new(), Vec::new());
        for ballot in wrong {
            let witnesses = self.witnesses(&ballot);
            if witnesses.is_empty() {
                proven.push((ballot.worker, EvictionProof::Node { node, judges }));
            }
            pairs.extend(witnesses.into_iter().map(|owner| [ballot.worker, owner]));
        }
        match proven.is_empty() {
            true if pairs.is_empty() => {}
            true => self.disagree(pairs, effects),
            false => self.evict_all(proven, effects),
        }
    }

    /// The owners on whose word alone the numbers of a worker are wrong, one of each machine; none where it is proven:
    /// by its own word, or by what it has told the coordinator, or where two others say so independently.
    fn witnesses(&self, ballot: &WrongBallot) -> Vec<WorkerId> {
        let WrongBallot { worker, say: Some(say), judge } = ballot else { return Vec::new() };
        let owners = Owner::workers_among(&say.iter().copied().collect::<Vec<_>>());
        let by_machine: BTreeMap<&str, WorkerId> =
            owners.iter().map(|owner| (self.trust.machine(*owner), *owner)).collect();
        let itself = say.contains(&Owner::Coordinator) || by_machine.contains_key(self.trust.machine(*worker));
        // An owner's own numbers say nothing more than its word.
        let seconded = judge.is_some_and(|judge| {
            let machine = self.trust.machine(judge);
            by_machine.keys().any(|other| *other != machine)
        });
        if itself || seconded { Vec::new() } else { by_machine.into_values().collect() }
    }

    /// Evicts the workers `wrong`. Wrong numbers that may be committed already roll the run back; otherwise the step in
    /// work begins anew.
    pub(super) fn evict_all(&mut self, wrong: Vec<(WorkerId, EvictionProof)>, effects: &mut Vec<Effect>) {
        if let Some((to, worker)) = self.evict_each(wrong, effects) {
            self.go_back(to, worker, effects);
        }
    }

    /// Evicts the workers `wrong`. The answer is the first step that may hold wrong numbers, and whose.
    pub(super) fn evict_each(
        &mut self,
        wrong: Vec<(WorkerId, EvictionProof)>,
        effects: &mut Vec<Effect>,
    ) -> Option<(StepId, WorkerId)> {
        let mut back: Vec<(StepId, WorkerId)> = Vec::new();
        for (worker, proof) in wrong {
            // A machine under two numbers is evicted once.
            if !self.trust.is_evicted(self.trust.machine(worker)) {
                back.push((self.evict(worker, proof, effects), worker));
            }
        }
        back.into_iter().min()
    }

    /// Numbers from step `to` on are not believed, for what `worker` did: the run is rolled back, or where none of them
    /// is committed the step in work begins anew.
    pub(super) fn go_back(&mut self, to: StepId, worker: WorkerId, effects: &mut Vec<Effect>) {
        if to < self.committed {
            self.abandon(AbandonReason::Doubted, effects);
            self.finish(Outcome::RolledBack { to, worker }, effects);
        } else {
            self.reopen(effects);
        }
    }

    /// Evicts a machine under all its numbers. The answer is the first step that may hold wrong numbers of it.
    fn evict(&mut self, worker: WorkerId, proof: EvictionProof, effects: &mut Vec<Effect>) -> StepId {
        let (machine, name) = (self.trust.machine(worker).to_owned(), self.trust.name(worker).to_owned());
        let step = self.committed;
        let since = self.trust.clean(worker).map_or(step, |clean| clean.min(step));
        effects.push(Effect::Record(Record::Evicted { worker, machine: machine.clone(), name: name.clone(), since }));
        self.trust.evict(&machine, &name);
        self.trust.disbelieve(since);
        if let RunPhase::Working(step) = &mut self.phase {
            step.forget_failures(|other| self.trust.machine(other) == machine);
        }
        let here = self.members.iter().map(|(other, _)| other);
        let same: Vec<WorkerId> = here.filter(|other| self.trust.machine(*other) == machine).collect();
        effects.push(Effect::Evict { worker, machine, name, step, proof, since });
        for worker in same {
            effects.push(Effect::Disconnect { worker, why: DisconnectReason::Evicted });
            self.count_out(worker, GoneReason::Evicted, effects).expect("it is a member");
        }
        since
    }

    /// Whether a step that was computed again, and got another digest than before, is believed now. Some worker
    /// computed wrongly, then or now: the new digest is believed when each node was computed by two workers that agree.
    /// Otherwise the step begins anew with all nodes audited; where nobody can audit, the run ends.
    pub(super) fn is_believed(
        &mut self,
        id: StepId,
        recorded: [u8; 32],
        computed: [u8; 32],
        effects: &mut Vec<Effect>,
    ) -> bool {
        let computing = self.members.iter().filter(|(_, member)| member.computes()).count();
        let RunPhase::Working(step) = &mut self.phase else { return false };
        if step.is_proven() {
            effects.push(Effect::Record(Record::Disbelieved { since: id }));
            self.past.digests.clear();
            self.trust.disbelieve(id);
            return true;
        }
        if !step.audit_all && self.plan.audit_every > 0 && computing > 1 {
            step.audit_all = true;
            self.reopen(effects);
        } else {
            self.abandon(AbandonReason::Diverged, effects);
            self.finish(Outcome::Diverged { step: id, recorded, computed }, effects);
        }
        false
    }

    /// Gives up audits that nobody can do in time. The answer is whether there were any.
    pub(super) fn drop_audits(&mut self, effects: &mut Vec<Effect>) -> bool {
        let RunPhase::Working(step) = &mut self.phase else { return false };
        let mut any = false;
        let (work, candidates) = (step.work, self.members.candidates(step.step, step.work));
        let audits: Vec<(Node, Vec<WorkerId>)> = step.audits().collect();
        for (node, voters) in audits {
            let in_time = step.running().any(|lease| lease.node == node && !lease.overdue);
            let holders: Vec<WorkerId> = step.running().filter(|l| l.node == node).map(|l| l.worker).collect();
            let fits = |worker: &WorkerId| !holders.contains(worker) && self.trust.is_other(*worker, &voters);
            let anybody = candidates.iter().any(fits);
            if in_time || anybody || step.is_disputed(node) {
                continue;
            }
            any = true;
            let (leases, by) = step.drop_audit(node, self.now);
            let revoke = |worker, at| Effect::Revoke { worker, at, why: RevokeReason::AuditDropped };
            effects.extend(leases.into_iter().map(|lease| revoke(lease.worker, lease.at)));
            if let Some(member) = by.and_then(|by| self.members.get_mut(by)) {
                member.audit_dropped(work);
            }
        }
        any
    }

    /// The newest parameters that no audit can still find wrong. Checkpoints that are older may be removed, except for
    /// the newest of them.
    pub fn trusted(&self) -> StepId {
        let clean = self.members.iter().filter_map(|(worker, _)| self.trust.clean(worker));
        let oldest = clean.min().filter(|_| self.plan.audit_every > 0);
        oldest.map_or(self.committed, |oldest| oldest.min(self.committed))
    }

    /// Evicted machines, which may not join, with the names that they had.
    pub fn evicted(&self) -> impl Iterator<Item = (&str, &str)> {
        self.trust.evicted()
    }
}
