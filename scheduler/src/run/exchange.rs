//! Owners of chunks: who they are when a step begins, and what follows when one is lost.

use std::collections::{BTreeMap, BTreeSet};

use super::{Run, RunPhase};
use crate::effect::{Effect, IgnoreReason, OwnersReason, RevokeReason};
use crate::exchange::Dealt;
use crate::ids::{Opening, OwnersVersion, RunTime, StepId, WorkerId};
use crate::lease::Work;
use crate::owners::{self, Owner};
use crate::step::Step;
use crate::tree::Node;

impl Run {
    /// The owners that are told of in [`Effect::Owners`], and their version.
    pub fn owners(&self) -> (OwnersVersion, &[Owner]) {
        (self.exchange.version, self.exchange.of())
    }

    /// Has the chunks of the training step that is about to be opened owned by workers that can, and that all say they
    /// reach who will compute it. Where there is none, they are the coordinator's.
    pub(super) fn deal_owners(&mut self, effects: &mut Vec<Effect>) {
        let step = self.committed;
        let mut said = self.members.fit(step);
        said.retain(|worker| self.exchange.reach.has_said(*worker));
        let can = |worker: &WorkerId| {
            self.members.get(*worker).is_some_and(|member| member.can_own(step)) && !self.trust.is_disputed(*worker)
        };
        let adders = if said.len() > 1 { self.adders(step) } else { Vec::new() };
        let mut able: Vec<WorkerId> = said.iter().chain(&adders).copied().filter(can).collect();
        able.sort_unstable();
        let (reach, version) = (self.exchange.reach.changes(), self.exchange.version);
        let dealt = Dealt { able, computing: said.clone(), reach, version };
        if self.exchange.was_dealt(dealt.clone()) {
            return;
        }
        let mut able = self.exchange.reach.reached_by_all(&said);
        able.extend(adders.iter().filter(|adder| self.exchange.reach.is_reached_by_each(&said, **adder)));
        able.retain(|worker| dealt.able.binary_search(worker).is_ok());
        let adds = |worker: &WorkerId| adders.binary_search(worker).is_ok();
        if able.iter().filter(|worker| adds(worker)).count() >= said.len() {
            // As many as compute: each worker sends its gradient once then, and nothing else.
            able.retain(adds);
        }
        // What one worker takes in of all others the coordinator can as well.
        if (able.len() < 2 && said.len() > 1) || self.is_beside_one_of_two() {
            able.clear();
        }
        // Who owns chunks goes on.
        able.sort_by_key(|worker| (!self.exchange.owns(*worker), *worker));
        able.truncate(self.exchange.most());
        able.sort_unstable();
        self.change_owners(owners::deal(self.exchange.of(), &able), OwnersReason::StepBegins, effects);
    }

    /// Whether the coordinator takes in as little as it can by owning everything: of two who compute one is on its
    /// machine. The other one sends its gradients there and gets the parameters, so its link carries one vector each
    /// way, where two owners send half of three.
    fn is_beside_one_of_two(&self) -> bool {
        let computing = self.members.staying();
        let is_beside = |worker: &&WorkerId| self.members.get(**worker).is_some_and(|member| member.place.beside);
        computing.len() == 2 && computing.iter().filter(is_beside).count() == 1
    }

    /// Members that compute nothing and could own chunks of `step`, if all reach them. Whose machine is here under
    /// another number as well owns nothing: it could add wrongly what it has computed wrongly, and vouch for itself.
    fn adders(&self, step: StepId) -> Vec<WorkerId> {
        let mut adders = self.members.adders(step);
        if !adders.is_empty() {
            let mut numbers: BTreeMap<&str, u32> = BTreeMap::new();
            self.members.iter().for_each(|(worker, _)| *numbers.entry(self.trust.machine(worker)).or_default() += 1);
            adders.retain(|adder| numbers.get(self.trust.machine(*adder)) == Some(&1));
        }
        adders
    }

    /// Notes that a worker is on the coordinator's machine.
    pub(super) fn worker_beside(&mut self, worker: WorkerId) -> Result<(), IgnoreReason> {
        if let Some(member) = self.members.get_mut(worker) {
            member.place.beside = true;
        }
        Ok(())
    }

    /// Has all chunks of the step that is about to be opened once more owned by the coordinator: something about its
    /// nodes is in doubt, and who brought what must be seen in one place.
    pub(super) fn coordinator_owns(&mut self, effects: &mut Vec<Effect>) {
        let of = vec![Owner::Coordinator; self.exchange.of().len()];
        self.change_owners(of, OwnersReason::Doubt, effects);
    }

    fn change_owners(&mut self, of: Vec<Owner>, why: OwnersReason, effects: &mut Vec<Effect>) {
        if let Some(changed) = self.exchange.change(of, why) {
            effects.push(changed);
            let exchange = &self.exchange;
            self.members.note_reach(|worker| exchange.reaches_owners(worker));
        }
    }

    /// Notes who adds chunks of `step`.
    pub(super) fn note_owners(&mut self, step: StepId) {
        self.exchange.workers().for_each(|owner| self.trust.adds(owner, step));
    }

    /// Notes whether a worker reaches the owners of chunks.
    pub(super) fn note_reach_of(&mut self, worker: WorkerId) {
        let reaches_owners = self.exchange.reaches_owners(worker);
        if let Some(member) = self.members.get_mut(worker) {
            member.place.reaches_owners = reaches_owners;
        }
    }

    /// The training step in work.
    fn training(&self) -> Option<&Step> {
        match &self.phase {
            RunPhase::Working(step) if step.work == Work::Train => Some(step),
            _ => None,
        }
    }

    /// Whether a worker owns chunks of the step in work.
    pub(super) fn owns(&self, worker: WorkerId) -> bool {
        self.training().is_some() && self.exchange.owns(worker)
    }

    /// Notes whom a worker reaches.
    pub(super) fn peers_reached(&mut self, worker: WorkerId, reached: BTreeSet<WorkerId>) -> Result<(), IgnoreReason> {
        let members = &self.members;
        self.exchange.reach.said(worker, reached.into_iter().filter(|other| members.get(*other).is_some()));
        self.note_reach_of(worker);
        Ok(())
    }

    /// A worker cannot send its nodes to an owner, which owns nothing any more for a while. Where a worker finds that
    /// again soon, it may be the one to blame: it sits out, and the rest of the step is the coordinator's.
    pub(super) fn peer_lost(
        &mut self,
        worker: WorkerId,
        peer: WorkerId,
        answered: OwnersVersion,
        effects: &mut Vec<Effect>,
    ) -> Result<(), IgnoreReason> {
        self.exchange.reach.lost(worker, peer);
        self.note_reach_of(worker);
        let id = self.fence_owner(peer, answered)?;
        if worker == peer || !self.training().is_some_and(|step| step.has_lease(worker)) {
            return Err(IgnoreReason::NothingToSend);
        }
        if let Some(member) = self.members.get_mut(peer) {
            member.strike_owner(id);
        }
        let again = self.members.get_mut(worker).is_some_and(|member| member.strike_sender(id));
        let lost = if again { self.exchange.workers().collect() } else { BTreeSet::from([peer]) };
        self.disown(&lost, OwnersReason::Unreached { owner: peer, by: worker }, effects);
        Ok(())
    }

    /// Notes that all sums of an owner are with the coordinator.
    pub(super) fn owner_reduced(
        &mut self,
        worker: WorkerId,
        answered: Opening,
        version: OwnersVersion,
    ) -> Result<(), IgnoreReason> {
        self.fence_owner(worker, version)?;
        let current = self.exchange.opening;
        if answered != current {
            return Err(IgnoreReason::OtherOpening { answered, current });
        }
        self.exchange.note_reduced(worker);
        let step = self.committed;
        if let Some(member) = self.members.get_mut(worker).filter(|member| !member.computes()) {
            member.answered(step);
        }
        Ok(())
    }

    /// The step in work, if this worker owns chunks of it by the version of the owners that is in force.
    ///
    /// # Errors
    /// Why that is not so.
    fn fence_owner(&self, owner: WorkerId, answered: OwnersVersion) -> Result<StepId, IgnoreReason> {
        let current = self.exchange.version;
        if answered != current {
            return Err(IgnoreReason::OtherOwners { answered, current });
        }
        let none = IgnoreReason::NoOwner(owner);
        self.training().filter(|_| self.exchange.owns(owner)).map(|step| step.step).ok_or(none)
    }

    /// Some workers own nothing any more, and neither does any other that is gone: in a step in work, what they owned
    /// moves, and all nodes are sent to who owns it now. An owner whose sums are all with the coordinator, where
    /// nothing else is waited for than those of others, has done its part.
    pub(super) fn disown(&mut self, lost: &BTreeSet<WorkerId>, why: OwnersReason, effects: &mut Vec<Effect>) {
        let covered = self.training().is_some_and(|step| step.covered.is_some());
        let has_done = |owner: &WorkerId| covered && self.exchange.is_reduced(*owner);
        if !lost.iter().any(|owner| self.owns(*owner) && !has_done(owner)) {
            return;
        }
        let RunPhase::Working(step) = &mut self.phase else { return };
        if let Some(node) = step.disputed() {
            return self.dissolve(node, effects);
        }
        let of =
            owners::pass_on(self.exchange.of(), |other| !lost.contains(&other) && self.members.get(other).is_some());
        self.change_owners(of, why, effects);
        self.note_owners(self.committed);
        let RunPhase::Working(step) = &mut self.phase else { return };
        let auditors = step.send_again(self.now, |worker| self.members.get(worker).is_some());
        let revoke = |worker, at| Effect::Revoke { worker, at, why: RevokeReason::AuditDropped };
        effects.extend(auditors.into_iter().map(|lease| revoke(lease.worker, lease.at)));
    }

    /// Begins the step anew where a node is disputed and chunks must move: who is right cannot be found out any more
    /// with the copies that there are. All nodes are audited, and all that had a say are audited again soon: it must
    /// not pay to have chunks move.
    fn dissolve(&mut self, node: Node, effects: &mut Vec<Effect>) {
        let RunPhase::Working(step) = &mut self.phase else { return };
        let workers = step.voters(node);
        step.contradict(node, &workers);
        step.audit_all = true;
        let (id, work) = (step.step, step.work);
        for worker in &workers {
            if let Some(member) = self.members.get_mut(*worker) {
                member.audit_dropped(work);
            }
        }
        effects.push(Effect::Contradict { step: id, node, workers });
        self.reopen(effects);
    }

    /// Owners whose sums do not come lose their chunks, all at once.
    pub(super) fn disown_late(&mut self, effects: &mut Vec<Effect>) {
        let due = self.sums_due().filter(|(_, due)| *due <= self.now);
        let late: BTreeSet<WorkerId> = due.map(|(owner, _)| owner).collect();
        for owner in &late {
            if let Some(member) = self.members.get_mut(*owner) {
                member.strike_owner(self.committed);
            }
        }
        if let Some(first) = late.first() {
            self.disown(&late, OwnersReason::Late(*first), effects);
        }
    }

    /// When the sums of each owner must be there, once all nodes are with the owners: they are late when no byte of
    /// them came for as long as nodes that are sent may stall, or when all of it takes longer than a node may on a slow
    /// link. What others need does not matter: an owner could make itself time.
    pub(super) fn sums_due(&self) -> impl Iterator<Item = (WorkerId, RunTime)> {
        let covered = self.training().and_then(|step| step.covered);
        let timeouts = &self.plan.timeouts;
        covered.into_iter().flat_map(move |covered| {
            self.exchange.unreduced().filter_map(move |owner| {
                let pushed = self.members.get(owner)?.contact.pushed;
                let stalls = covered.max(pushed).after(timeouts.stall);
                Some((owner, stalls.min(covered.after(timeouts.send_floor))))
            })
        })
    }
}
