//! Owners of chunks: who they are when a step begins, and what follows when one is lost.

use std::collections::BTreeSet;

use super::{Run, RunPhase};
use crate::effect::{Effect, IgnoreReason, OwnersReason, RevokeReason};
use crate::exchange::Dealt;
use crate::ids::{Opening, OwnersVersion, RunTime, StepId, WorkerId};
use crate::lease::Work;
use crate::owners::{self, Owner};
use crate::step::Step;

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
        let can = |worker: &WorkerId| self.members.get(*worker).is_some_and(|member| member.can_own(step));
        let mut able: Vec<WorkerId> = said.iter().copied().filter(can).collect();
        // Who owns chunks goes on.
        able.sort_by_key(|worker| (!self.exchange.owns(*worker), *worker));
        let (reach, version) = (self.exchange.reach.changes(), self.exchange.version);
        if self.exchange.was_dealt(Dealt { able: able.clone(), computing: said.clone(), reach, version }) {
            return;
        }
        let mut able = self.exchange.reach.reached_by_all(&able, &said, self.exchange.most());
        able.sort_unstable();
        self.change_owners(owners::deal(self.exchange.of(), &able), OwnersReason::StepBegins, effects);
    }

    fn change_owners(&mut self, of: Vec<Owner>, why: OwnersReason, effects: &mut Vec<Effect>) {
        if let Some(changed) = self.exchange.change(of, why) {
            effects.push(changed);
            let exchange = &self.exchange;
            self.members.note_reach(|worker| exchange.reaches_owners(worker));
        }
    }

    /// Notes whether a worker reaches the owners of chunks.
    pub(super) fn note_reach_of(&mut self, worker: WorkerId) {
        let reaches_owners = self.exchange.reaches_owners(worker);
        if let Some(member) = self.members.get_mut(worker) {
            member.reaches_owners = reaches_owners;
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
        self.exchange.reach.said(worker, reached);
        self.note_reach_of(worker);
        Ok(())
    }

    /// A worker cannot send its nodes to an owner, which owns nothing any more for a while. Where a worker finds that
    /// again and again it is the one to blame, but it must send its nodes to somebody.
    pub(super) fn peer_lost(
        &mut self,
        worker: WorkerId,
        peer: WorkerId,
        answered: OwnersVersion,
        effects: &mut Vec<Effect>,
    ) -> Result<(), IgnoreReason> {
        let id = self.fence_owner(peer, answered)?;
        if worker == peer || !self.training().is_some_and(|step| step.has_lease(worker)) {
            return Err(IgnoreReason::NothingToSend);
        }
        self.exchange.reach.lost(worker, peer);
        self.note_reach_of(worker);
        if let Some(member) = self.members.get_mut(worker) {
            member.strike_sender(id);
        }
        if let Some(member) = self.members.get_mut(peer) {
            member.strike_owner(id);
        }
        self.disown(peer, OwnersReason::Unreached { owner: peer, by: worker }, effects);
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

    /// A worker owns nothing any more, and neither does any other that is gone: in a step in work, what it owned moves,
    /// and all nodes are sent to who owns it now. Where its sums are all with the coordinator, and nothing else is
    /// waited for than those of others, it has done its part.
    pub(super) fn disown(&mut self, owner: WorkerId, why: OwnersReason, effects: &mut Vec<Effect>) {
        let covered = self.training().is_some_and(|step| step.covered.is_some());
        if !self.owns(owner) || (covered && self.exchange.is_reduced(owner)) {
            return;
        }
        let RunPhase::Working(step) = &mut self.phase else { return };
        if let Some(node) = step.disputed() {
            // Who is right cannot be found out any more with these copies: others compute the node, and are audited.
            let workers = step.voters(node);
            step.contradict(node, &workers);
            effects.push(Effect::Contradict { step: step.step, node, workers });
            return self.reopen(effects);
        }
        let of = owners::pass_on(self.exchange.of(), |other| other != owner && self.members.get(other).is_some());
        self.change_owners(of, why, effects);
        let RunPhase::Working(step) = &mut self.phase else { return };
        let auditors = step.send_again(self.now, |worker| self.members.get(worker).is_some());
        let revoke = |worker, at| Effect::Revoke { worker, at, why: RevokeReason::AuditDropped };
        effects.extend(auditors.into_iter().map(|lease| revoke(lease.worker, lease.at)));
    }

    /// Owners whose sums do not come lose their chunks.
    pub(super) fn disown_late(&mut self, effects: &mut Vec<Effect>) {
        let late: Vec<WorkerId> = self.sums_due().filter(|(_, due)| *due <= self.now).map(|(owner, _)| owner).collect();
        for owner in late {
            if self.sums_due().any(|(other, due)| other == owner && due <= self.now) {
                if let Some(member) = self.members.get_mut(owner) {
                    member.strike_owner(self.committed);
                }
                self.disown(owner, OwnersReason::Late(owner), effects);
            }
        }
    }

    /// When the sums of each owner must be there, once all nodes are with the owners: they are late when no byte of
    /// them came for as long as nodes that are sent may stall, or when all of it takes much longer than usual.
    pub(super) fn sums_due(&self) -> impl Iterator<Item = (WorkerId, RunTime)> {
        let covered = self.training().and_then(|step| step.covered);
        let timeouts = &self.plan.timeouts;
        let most = self.timing.exchanging().times(u64::from(timeouts.send_factor)).max(timeouts.send_floor);
        covered.into_iter().flat_map(move |covered| {
            self.exchange.unreduced().filter_map(move |owner| {
                let pushed = self.members.get(owner)?.contact.pushed;
                Some((owner, covered.max(pushed).after(timeouts.stall).min(covered.after(most))))
            })
        })
    }
}
