//! Owners whose sums or parameters are not what others say they must be.
//!
//! What an owner says to have been brought, and what the worker says that brought it, may differ. One of the two is
//! wrong, and nobody else has seen it: they *disagree*. From then on neither owns anything, and whoever disagrees with
//! so many that most machines would have to be wrong otherwise is evicted.

use super::{Run, RunPhase};
use crate::effect::{AbandonReason, Effect, EvictionProof, IgnoreReason};
use crate::event::SumFinding;
use crate::ids::{Opening, StepId, WorkerId};
use crate::lease::Work;
use crate::outcome::Outcome;
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
            SumFinding::Disagrees(holder) => self.disagree([holder, owner], effects),
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
        let machine = self.trust.machine(owner);
        if machine.is_empty() || self.trust.is_evicted(machine) {
            return Err(IgnoreReason::UnknownWorker);
        }
        self.note_disagreement([worker, owner], self.committed, effects);
        self.evict_outvoted(effects);
        Ok(())
    }

    /// Two workers disagree about a chunk that is counted: what both had a part in since their last clean audits is not
    /// believed.
    pub(super) fn disagree(&mut self, pair: [WorkerId; 2], effects: &mut Vec<Effect>) {
        if !self.trust.is_other(pair[0], &pair[1..]) {
            // It brought itself something else than it says.
            return self.evict_all(vec![(pair[1], EvictionProof::Sum)], effects);
        }
        let clean = pair.iter().filter_map(|worker| self.trust.clean(*worker)).min();
        let since = clean.map_or(self.committed, |clean| clean.min(self.committed));
        self.note_disagreement(pair, since, effects);
        self.trust.disbelieve(since);
        if self.evict_outvoted(effects) {
            return;
        }
        if since < self.committed {
            self.abandon(AbandonReason::Doubted, effects);
            self.finish(Outcome::RolledBack { to: since, worker: pair[1] }, effects);
        } else {
            self.reopen(effects);
        }
    }

    fn note_disagreement(&mut self, pair: [WorkerId; 2], since: StepId, effects: &mut Vec<Effect>) {
        let [one, other] = pair.map(|worker| self.trust.machine(worker).to_owned());
        if one == other || !(self.trust.disagree(&one, &other) || since < self.committed) {
            return;
        }
        effects.push(Effect::Record(Record::Disagreed { machines: [one, other], since }));
        effects.push(Effect::Disagree { step: self.committed, workers: pair, since });
    }

    /// Evicts whoever disagrees with too many. The answer is whether there is anybody.
    fn evict_outvoted(&mut self, effects: &mut Vec<Effect>) -> bool {
        let here: Vec<WorkerId> = self.members.iter().map(|(worker, _)| worker).collect();
        let machines = self.trust.machines(here);
        let outvoted = self.trust.outvoted(&machines);
        let wrong: Vec<(WorkerId, EvictionProof)> = outvoted
            .into_iter()
            .filter_map(|(machine, others)| {
                Some((self.trust.worker_on(&machine)?, EvictionProof::Disagreements(others)))
            })
            .collect();
        let any = !wrong.is_empty();
        self.evict_all(wrong, effects);
        any
    }
}
