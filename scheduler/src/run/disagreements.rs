//! Owners whose sums or parameters are not what others say they must be.
//!
//! What an owner says to have been brought, and what the worker says that brought it, may differ. One of the two is
//! wrong, and nobody else has seen it: they *disagree*. From then on neither owns anything, and whoever disagrees with
//! so many that most machines would have to be wrong otherwise is evicted.

use super::{Run, RunPhase};
use crate::effect::{Effect, EvictionProof, IgnoreReason};
use crate::event::SumFinding;
use crate::ids::{Opening, StepId, WorkerId};
use crate::lease::Work;
use crate::membership::Member;
use crate::record::Record;

impl Run {
    /// The training step in work, if it was opened so.
    fn fence_opening(&self, answered: Opening) -> Result<StepId, IgnoreReason> {
        let current = self.exchange.opening;
        match &self.phase {
            RunPhase::Finished(_) => Err(IgnoreReason::RunOver),
            RunPhase::Working(step) if step.work == Work::Train && answered == current => Ok(step.step),
            _ => Err(IgnoreReason::OtherOpening { answered, current }),
        }
    }

    /// The coordinator has added a chunk of `owner` anew.
    pub(super) fn sum_audited(
        &mut self,
        owner: WorkerId,
        answered: Opening,
        finding: SumFinding,
        effects: &mut Vec<Effect>,
    ) -> Result<(), IgnoreReason> {
        let id = self.fence_opening(answered)?;
        match finding {
            SumFinding::Equal => {
                self.trust.found_sums_clean(owner, id);
                if let RunPhase::Working(step) = &mut self.phase {
                    step.audited_owners.insert(owner);
                }
            }
            SumFinding::Wrong => self.evict_all(vec![(owner, EvictionProof::Sum)], effects),
            SumFinding::Disagrees(holder) => self.disagree(vec![[holder, owner]], effects),
        }
        Ok(())
    }

    /// A worker has not answered what an audit asked of it: it sits out, and owns nothing for a while. Otherwise it
    /// could keep itself from ever being audited, and others as well.
    pub(super) fn unanswered(&mut self, worker: WorkerId, answered: Opening) -> Result<(), IgnoreReason> {
        let id = self.fence_opening(answered)?;
        let member = self.members.get_mut(worker).ok_or(IgnoreReason::UnknownWorker)?;
        member.strike(id);
        member.strike_owner(id);
        Ok(())
    }

    /// `worker` was handed wrong parameters by `owner`, as it says. Nothing was computed with them.
    pub(super) fn wrong_parameters(
        &mut self,
        worker: WorkerId,
        owner: WorkerId,
        effects: &mut Vec<Effect>,
    ) -> Result<(), IgnoreReason> {
        if !matches!(self.phase, RunPhase::Working(_)) {
            return Err(IgnoreReason::RunOver);
        }
        if !self.members.get(worker).is_some_and(Member::computes) {
            return Err(IgnoreReason::ComputesNothing);
        }
        let machine = self.trust.machine(owner);
        if machine.is_empty() || self.trust.is_evicted(machine) {
            return Err(IgnoreReason::UnknownWorker);
        }
        if !self.exchange.added_last.contains(&owner) && !self.exchange.owns(owner) {
            return Err(IgnoreReason::NoOwner(owner));
        }
        let pair = [worker, owner];
        if self.note_disagreement(pair) {
            self.tell_disagreement(pair, self.committed, effects);
            let outvoted = self.outvoted();
            self.evict_all(outvoted, effects);
        }
        Ok(())
    }

    /// Workers disagree about chunks that are counted: what either of two had a part in since their last clean audits
    /// is not believed. Both are audited again soon, also where the coordinator adds everything.
    pub(super) fn disagree(&mut self, pairs: Vec<[WorkerId; 2]>, effects: &mut Vec<Effect>) {
        let itself = |pair: &&[WorkerId; 2]| !self.trust.is_other(pair[0], &pair[1..]);
        if let Some(pair) = pairs.iter().find(itself) {
            // It brought itself something else than it says.
            return self.evict_all(vec![(pair[1], EvictionProof::Sum)], effects);
        }
        let fresh: Vec<bool> = pairs.iter().map(|pair| self.note_disagreement(*pair)).collect();
        let outvoted = self.outvoted();
        let is_out = |worker: &WorkerId| {
            let machine = self.trust.machine(*worker);
            outvoted.iter().any(|(other, _)| self.trust.machine(*other) == machine)
        };
        if pairs.iter().all(|pair| pair.iter().any(is_out)) {
            // Nobody else is doubted any more.
            return self.evict_all(outvoted, effects);
        }
        let clean = pairs.iter().flatten().filter_map(|worker| self.trust.clean(*worker)).min();
        let since = clean.map_or(self.committed, |clean| clean.min(self.committed));
        for (pair, fresh) in pairs.iter().zip(fresh) {
            if fresh || since < self.committed {
                self.tell_disagreement(*pair, since, effects);
            }
        }
        self.trust.disbelieve(since);
        for worker in pairs.iter().flatten() {
            let machine = self.trust.machine(*worker).to_owned();
            self.trust.forget_sums_since(&machine, since);
            if let Some(member) = self.members.get_mut(*worker) {
                member.audit_dropped(Work::Train);
            }
        }
        // It may have been outvoted before, just as the coordinator ended.
        let evicted = self.evict_each(outvoted, effects);
        let doubted = (since, pairs.first().map_or(WorkerId(0), |pair| pair[1]));
        let (to, worker) = evicted.map_or(doubted, |evicted| evicted.min(doubted));
        self.go_back(to, worker, effects);
    }

    /// Notes that two workers' machines disagree. The answer is whether that is new.
    fn note_disagreement(&mut self, pair: [WorkerId; 2]) -> bool {
        let [one, other] = pair.map(|worker| self.trust.machine(worker).to_owned());
        one != other && self.trust.disagree(&one, &other)
    }

    fn tell_disagreement(&mut self, pair: [WorkerId; 2], since: StepId, effects: &mut Vec<Effect>) {
        let machines = pair.map(|worker| self.trust.machine(worker).to_owned());
        effects.push(Effect::Record(Record::Disagreed { machines, since }));
        effects.push(Effect::Disagree { step: self.committed, workers: pair, since });
    }

    /// Those who disagree with too many, with whom.
    fn outvoted(&self) -> Vec<(WorkerId, EvictionProof)> {
        // Who only adds counts as well: it says what it was brought.
        let here: Vec<WorkerId> = self.members.iter().map(|(worker, _)| worker).collect();
        let outvoted = self.trust.outvoted(&self.trust.machines(here));
        let worker_on = |(machine, others): (String, Vec<String>)| {
            Some((self.trust.worker_on(&machine)?, EvictionProof::Disagreements(others)))
        };
        outvoted.into_iter().filter_map(worker_on).collect()
    }
}
