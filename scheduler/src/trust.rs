//! The findings of audits about machines. A machine is what the coordinator says it is: its number is new whenever it
//! comes back, and it may call itself anything.

use std::collections::{BTreeMap, BTreeSet};

use crate::ids::{StepId, WorkerId};

/// Whose gradients are believed, and up to which step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Trust {
    /// All workers of this start, those that are gone included.
    workers: BTreeMap<WorkerId, Known>,
    /// By machine, the step of the last clean audit of one of its gradients; before the first audit, the step of the
    /// first gradient that it was asked for and that may be counted.
    clean: BTreeMap<String, StepId>,
    /// By machine, likewise of the sums of chunks that it owned.
    sums_clean: BTreeMap<String, StepId>,
    /// Pairs of machines that disagree, each way.
    disagree: BTreeSet<(String, String)>,
    /// Machines that may not join, with the names that they had.
    evicted: BTreeMap<String, String>,
}

/// A worker's machine, and its name for people.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Known {
    machine: String,
    name: String,
}

impl Trust {
    /// Begins a start of the coordinator: numbers are given anew.
    pub fn started(&mut self) {
        self.workers.clear();
    }

    /// Notes the machine and the name of a worker that joined.
    pub fn joined(&mut self, worker: WorkerId, machine: &str, name: &str) {
        self.workers.insert(worker, Known { machine: machine.to_owned(), name: name.to_owned() });
    }

    /// The machine of a worker of this start; empty for others.
    pub fn machine(&self, worker: WorkerId) -> &str {
        self.workers.get(&worker).map_or("", |known| &known.machine)
    }

    /// The name of a worker of this start; empty for others.
    pub fn name(&self, worker: WorkerId) -> &str {
        self.workers.get(&worker).map_or("", |known| &known.name)
    }

    /// The machines of these workers.
    pub fn machines(&self, workers: impl IntoIterator<Item = WorkerId>) -> BTreeSet<&str> {
        workers.into_iter().map(|worker| self.machine(worker)).collect()
    }

    /// Whether `worker` is another machine than all of `others`: it may judge them.
    pub fn is_other(&self, worker: WorkerId, others: &[WorkerId]) -> bool {
        others.iter().all(|other| self.machine(*other) != self.machine(worker))
    }

    /// Notes that a gradient of a worker may be counted in `step`.
    pub fn counted(&mut self, worker: WorkerId, step: StepId) {
        if let Some(known) = self.workers.get(&worker) {
            self.clean.entry(known.machine.clone()).or_insert(step);
        }
    }

    /// Notes that another worker got the same digest for a gradient that `worker` computed in `step`.
    pub fn found_clean(&mut self, worker: WorkerId, step: StepId) {
        if let Some(known) = self.workers.get(&worker) {
            let clean = self.clean.entry(known.machine.clone()).or_insert(step);
            *clean = step.max(*clean);
        }
    }

    /// Notes that a worker adds chunks of `step`.
    pub fn adds(&mut self, worker: WorkerId, step: StepId) {
        if let Some(known) = self.workers.get(&worker)
            && !self.sums_clean.contains_key(&known.machine)
        {
            self.sums_clean.insert(known.machine.clone(), step);
        }
    }

    /// Notes that a sum of a worker in `step` was added anew and was equal.
    pub fn found_sums_clean(&mut self, worker: WorkerId, step: StepId) {
        if let Some(known) = self.workers.get(&worker) {
            let clean = self.sums_clean.entry(known.machine.clone()).or_insert(step);
            *clean = step.max(*clean);
        }
    }

    /// The step up to which audits have found the worker clean: every gradient and every sum of it before this step is
    /// believed. `None` when no step counts any of it.
    pub fn clean(&self, worker: WorkerId) -> Option<StepId> {
        let machine = self.machine(worker);
        [&self.clean, &self.sums_clean].into_iter().filter_map(|clean| clean.get(machine)).min().copied()
    }

    /// What a machine has added from `since` on is added anew by others.
    pub fn forget_sums_since(&mut self, machine: &str, since: StepId) {
        if self.sums_clean.get(machine).is_some_and(|clean| *clean >= since) {
            self.sums_clean.remove(machine);
        }
    }

    /// Notes that two machines disagree. The answer is whether that is new.
    pub fn disagree(&mut self, one: &str, other: &str) -> bool {
        self.disagree.insert((other.to_owned(), one.to_owned()));
        self.disagree.insert((one.to_owned(), other.to_owned()))
    }

    /// Whether any machine disagrees with the worker's.
    pub fn is_disputed(&self, worker: WorkerId) -> bool {
        let machine = self.machine(worker);
        self.disagree.iter().any(|(one, _)| one == machine)
    }

    /// Machines that disagree with so many others that most of all there are would have to be wrong if they were right;
    /// each with those others. `here` are the machines that are there. One accuser is never enough.
    pub fn outvoted(&self, here: &BTreeSet<&str>) -> Vec<(String, Vec<String>)> {
        let mut all: BTreeSet<&str> = here.clone();
        let mut others: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for (one, other) in &self.disagree {
            all.extend([&**one, &**other]);
            others.entry(one).or_default().push(other.clone());
        }
        let enough = (all.len().saturating_sub(1) / 2 + 1).max(2);
        let outvoted = others.into_iter().filter(|(_, others)| others.len() >= enough);
        outvoted.map(|(machine, others)| (machine.to_owned(), others)).collect()
    }

    /// A worker of this start that is, or was, of this machine: the last to come.
    pub fn worker_on(&self, machine: &str) -> Option<WorkerId> {
        self.workers.iter().rev().find(|(_, known)| known.machine == machine).map(|(worker, _)| *worker)
    }

    /// Evicts a machine: it computed wrongly. `name` is what it called itself.
    pub fn evict(&mut self, machine: &str, name: &str) {
        self.evicted.insert(machine.to_owned(), name.to_owned());
        self.clean.remove(machine);
        self.sums_clean.remove(machine);
        self.disagree.retain(|(one, other)| one != machine && other != machine);
    }

    /// Forgets audits of `since` and of later steps: these steps are not believed and will be computed again.
    pub fn disbelieve(&mut self, since: StepId) {
        let clean = self.clean.values_mut().chain(self.sums_clean.values_mut());
        clean.for_each(|clean| *clean = since.min(*clean));
    }

    /// Whether this machine may not join.
    pub fn is_evicted(&self, machine: &str) -> bool {
        self.evicted.contains_key(machine)
    }

    /// All machines that may not join, with the names that they had.
    pub fn evicted(&self) -> impl Iterator<Item = (&str, &str)> {
        self.evicted.iter().map(|(machine, name)| (&**machine, &**name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Workers 1 and 2 are the machine `ox` under two names, worker 3 is `yak` and calls itself like worker 1.
    fn trust() -> Trust {
        let mut trust = Trust::default();
        let workers = [(1, "ox", "a"), (2, "ox", "b"), (3, "yak", "a")];
        workers.iter().for_each(|(worker, machine, name)| trust.joined(WorkerId(*worker), machine, name));
        trust
    }

    #[test]
    fn a_machine_under_two_names_cannot_judge_itself() {
        let trust = trust();
        assert!(!trust.is_other(WorkerId(1), &[WorkerId(2)]));
        assert!(trust.is_other(WorkerId(3), &[WorkerId(1), WorkerId(2)]));
        assert_eq!(trust.machines([1, 2, 3].map(WorkerId)).len(), 2);
    }

    #[test]
    fn a_machine_is_clean_up_to_its_last_clean_audit() {
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
    fn gradients_and_sums_are_clean_apart() {
        let mut trust = trust();
        trust.counted(WorkerId(1), StepId(4));
        trust.adds(WorkerId(2), StepId(5));
        trust.found_clean(WorkerId(1), StepId(9));
        assert_eq!(trust.clean(WorkerId(1)), Some(StepId(5)), "no sum of the machine was audited");
        trust.found_sums_clean(WorkerId(1), StepId(12));
        trust.adds(WorkerId(1), StepId(3));
        assert_eq!(trust.clean(WorkerId(1)), Some(StepId(9)));
        trust.disbelieve(StepId(7));
        trust.found_clean(WorkerId(1), StepId(13));
        assert_eq!(trust.clean(WorkerId(1)), Some(StepId(7)), "the audit of a sum is not believed any more either");
    }

    #[test]
    fn who_disagrees_with_half_of_the_others_and_one_more_is_outvoted() {
        let mut trust = Trust::default();
        let here = ["a", "b", "c", "d", "e"];
        let outvoted = |trust: &Trust, here: &[&str]| -> Vec<String> {
            let outvoted = trust.outvoted(&here.iter().copied().collect());
            outvoted.into_iter().map(|(machine, others)| format!("{machine}: {}", others.join(" "))).collect()
        };
        assert!(trust.disagree("a", "b") && !trust.disagree("b", "a"));
        assert!(outvoted(&trust, &here[..2]).is_empty(), "of two nobody can say who is wrong");
        trust.disagree("c", "a");
        assert!(outvoted(&trust, &here).is_empty(), "b and c may both be wrong, and most are right");
        assert_eq!(outvoted(&trust, &here[..3]), ["a: b c"]);
        trust.disagree("a", "d");
        assert_eq!(outvoted(&trust, &here), ["a: b c d"]);
        trust.joined(WorkerId(1), "b", "b");
        assert!(trust.is_disputed(WorkerId(1)));
        trust.evict("a", "a");
        assert!(!trust.is_disputed(WorkerId(1)), "nobody believes a any more");
    }

    #[test]
    fn an_evicted_machine_stays_evicted_over_starts() {
        let mut trust = trust();
        trust.counted(WorkerId(1), StepId(4));
        trust.evict("ox", "a");
        trust.started();
        assert_eq!((trust.is_evicted("ox"), trust.is_evicted("yak")), (true, false));
        assert_eq!(trust.evicted().collect::<Vec<_>>(), [("ox", "a")]);
        assert_eq!(trust.machine(WorkerId(1)), "");
    }
}
