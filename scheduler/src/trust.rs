//! The findings of audits about workers. A machine is known by its name: its number is new whenever it comes back.

use std::collections::{BTreeMap, BTreeSet};

use crate::ids::{StepId, WorkerId};

/// Whose gradients are believed, and up to which step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Trust {
    /// Names of all workers of this start, those that are gone included.
    names: BTreeMap<WorkerId, String>,
    /// By name, the step of the last clean audit of one of its gradients; before the first audit, the step of the first
    /// gradient that it was asked for and that may be counted.
    clean: BTreeMap<String, StepId>,
    evicted: BTreeSet<String>,
}

impl Trust {
    /// Begins a start of the coordinator: numbers are given anew.
    pub fn started(&mut self) {
        self.names.clear();
    }

    /// Notes the name of a worker that joined.
    pub fn joined(&mut self, worker: WorkerId, name: &str) {
        self.names.insert(worker, name.to_owned());
    }

    /// The name of a worker of this start; empty for others.
    pub fn name(&self, worker: WorkerId) -> &str {
        self.names.get(&worker).map_or("", String::as_str)
    }

    /// Whether `worker` is another machine than all of `others`: it may judge them.
    pub fn is_other(&self, worker: WorkerId, others: &[WorkerId]) -> bool {
        others.iter().all(|other| self.name(*other) != self.name(worker))
    }

    /// Notes that a gradient of a worker may be counted in `step`.
    pub fn counted(&mut self, worker: WorkerId, step: StepId) {
        if let Some(name) = self.names.get(&worker) {
            self.clean.entry(name.clone()).or_insert(step);
        }
    }

    /// Notes that another worker got the same digest for a gradient that `worker` computed in `step`.
    pub fn found_clean(&mut self, worker: WorkerId, step: StepId) {
        if let Some(name) = self.names.get(&worker) {
            let clean = self.clean.entry(name.clone()).or_insert(step);
            *clean = step.max(*clean);
        }
    }

    /// The step of the last clean audit of the worker: every gradient of it before this step is believed. `None` when
    /// no step counts a gradient of it.
    pub fn clean(&self, worker: WorkerId) -> Option<StepId> {
        self.clean.get(self.name(worker)).copied()
    }

    /// Evicts a name: whoever has it computed wrongly.
    pub fn evict(&mut self, name: &str) {
        self.evicted.insert(name.to_owned());
        self.clean.remove(name);
    }

    /// Forgets audits of `since` and of later steps: these steps are not believed and will be computed again.
    pub fn disbelieve(&mut self, since: StepId) {
        self.clean.values_mut().for_each(|clean| *clean = since.min(*clean));
    }

    /// Whether nobody of this name may join.
    pub fn is_evicted(&self, name: &str) -> bool {
        self.evicted.contains(name)
    }

    /// All names that may not join.
    pub fn evicted(&self) -> impl Iterator<Item = &str> {
        self.evicted.iter().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Workers 1 and 2 are the machine `ox`, worker 3 is `yak`.
    fn trust() -> Trust {
        let mut trust = Trust::default();
        [(1, "ox"), (2, "ox"), (3, "yak")].iter().for_each(|(worker, name)| trust.joined(WorkerId(*worker), name));
        trust
    }

    #[test]
    fn a_machine_under_two_numbers_cannot_judge_itself() {
        let trust = trust();
        assert!(!trust.is_other(WorkerId(1), &[WorkerId(2)]));
        assert!(trust.is_other(WorkerId(3), &[WorkerId(1), WorkerId(2)]));
    }

    #[test]
    fn a_name_is_clean_up_to_its_last_clean_audit() {
        let mut trust = trust();
        assert_eq!(trust.clean(WorkerId(1)), None);
        trust.counted(WorkerId(1), StepId(4));
        trust.counted(WorkerId(2), StepId(5));
        assert_eq!(trust.clean(WorkerId(2)), Some(StepId(4)), "nothing was audited since its first gradient");
        trust.found_clean(WorkerId(2), StepId(9));
        trust.found_clean(WorkerId(1), StepId(7));
        assert_eq!(trust.clean(WorkerId(1)), Some(StepId(9)));
        trust.disbelieve(StepId(6));
        assert_eq!(trust.clean(WorkerId(1)), Some(StepId(6)));
    }

    #[test]
    fn an_evicted_name_stays_evicted_over_starts() {
        let mut trust = trust();
        trust.counted(WorkerId(1), StepId(4));
        trust.evict("ox");
        trust.started();
        assert_eq!((trust.is_evicted("ox"), trust.is_evicted("yak")), (true, false));
        assert_eq!(trust.evicted().collect::<Vec<_>>(), ["ox"]);
        assert_eq!(trust.name(WorkerId(1)), "");
    }
}
