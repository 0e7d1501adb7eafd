//! What audits have shown of workers. A machine is known by its name: its number is new whenever it comes back.

use std::collections::{BTreeMap, BTreeSet};

use crate::ids::{StepId, WorkerId};

/// Whom to believe, and since when.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Trust {
    /// Names of all workers of this start, those that have left too.
    names: BTreeMap<WorkerId, String>,
    /// The step of a name's last clean audit of a gradient; before the first, that of which it was first believed one.
    clean: BTreeMap<String, StepId>,
    put_out: BTreeSet<String>,
}

impl Trust {
    /// A start of the coordinator: numbers are given anew.
    pub fn started(&mut self) {
        self.names.clear();
    }

    /// A worker joined.
    pub fn joined(&mut self, worker: WorkerId, name: &str) {
        self.names.insert(worker, name.to_owned());
    }

    /// Whether `worker` is another machine than all of `others`: it may judge them.
    pub fn is_other(&self, worker: WorkerId, others: &[WorkerId]) -> bool {
        others.iter().all(|other| self.name(*other) != self.name(worker))
    }

    /// A gradient of a worker is counted in `step`.
    pub fn counted(&mut self, worker: WorkerId, step: StepId) {
        if let Some(name) = self.names.get(&worker) {
            self.clean.entry(name.clone()).or_insert(step);
        }
    }

    /// The name of a worker of this start.
    pub fn name(&self, worker: WorkerId) -> &str {
        self.names.get(&worker).map_or("", String::as_str)
    }

    /// A gradient that a worker computed in `step` came out the same elsewhere.
    pub fn found_clean(&mut self, worker: WorkerId, step: StepId) {
        if let Some(name) = self.names.get(&worker) {
            let clean = self.clean.entry(name.clone()).or_insert(step);
            *clean = step.max(*clean);
        }
    }

    /// Steps before this one have no gradient of the worker in them that was not found clean later; `None` when no step has
    /// anything of it.
    pub fn clean(&self, worker: WorkerId) -> Option<StepId> {
        self.clean.get(self.name(worker)).copied()
    }

    /// Who has this name computed wrongly.
    pub fn distrust(&mut self, name: &str) {
        self.put_out.insert(name.to_owned());
        self.clean.remove(name);
    }

    /// Steps from `since` on are not believed, and will be computed again.
    pub fn disbelieve(&mut self, since: StepId) {
        self.clean.values_mut().for_each(|clean| *clean = since.min(*clean));
    }

    /// Whether nobody of this name may join.
    pub fn is_put_out(&self, name: &str) -> bool {
        self.put_out.contains(name)
    }

    /// All names that may not join.
    pub fn put_out(&self) -> impl Iterator<Item = &str> {
        self.put_out.iter().map(String::as_str)
    }
}
