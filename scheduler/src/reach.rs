//! Who reaches whom, as workers say.

use std::collections::{BTreeMap, BTreeSet};

use crate::ids::WorkerId;

/// The workers that each worker says it reaches.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Reach {
    said: BTreeMap<WorkerId, BTreeSet<WorkerId>>,
    /// Counts the changes.
    changes: u64,
}

impl Reach {
    /// A worker says that it reaches these, and no others.
    pub fn said(&mut self, worker: WorkerId, reached: impl IntoIterator<Item = WorkerId>) {
        self.said.insert(worker, reached.into_iter().collect());
        self.changes += 1;
    }

    /// What it said of `peer` does not hold any more.
    pub fn lost(&mut self, worker: WorkerId, peer: WorkerId) {
        if let Some(reached) = self.said.get_mut(&worker) {
            self.changes += u64::from(reached.remove(&peer));
        }
    }

    /// Forgets a worker that is gone. What others said of it is never asked for: numbers are not given twice.
    pub fn forget(&mut self, worker: WorkerId) {
        self.said.remove(&worker);
        self.said.values_mut().for_each(|reached| _ = reached.remove(&worker));
        self.changes += 1;
    }

    /// Counts the changes of what was said.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Whether it said whom it reaches.
    pub fn has_said(&self, worker: WorkerId) -> bool {
        self.said.contains_key(&worker)
    }

    /// Whether it said that it reaches `peer`, or is that one.
    pub fn reaches(&self, worker: WorkerId, peer: WorkerId) -> bool {
        worker == peer || self.said.get(&worker).is_some_and(|reached| reached.contains(&peer))
    }

    /// The first so many of `able` that all of `workers` say they reach.
    pub fn reached_by_all(&self, able: &[WorkerId], workers: &[WorkerId], most: usize) -> Vec<WorkerId> {
        let by_all = |peer: &WorkerId| workers.iter().all(|worker| self.reaches(*worker, *peer));
        able.iter().copied().filter(by_all).take(most).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_reached_by_all_is_who_everybody_says_so_of() {
        let ids = |workers: &[u32]| workers.iter().copied().map(WorkerId).collect::<Vec<_>>();
        let mut reach = Reach::default();
        reach.said(WorkerId(1), ids(&[2, 3]));
        reach.said(WorkerId(2), ids(&[1, 3]));
        reach.said(WorkerId(3), ids(&[1, 2]));
        let all = ids(&[1, 2, 3]);
        assert_eq!(reach.reached_by_all(&all, &all, 9), all);
        assert_eq!(reach.reached_by_all(&all, &all, 2), ids(&[1, 2]), "no more than that");
        reach.lost(WorkerId(1), WorkerId(3));
        assert_eq!(reach.reached_by_all(&all, &all, 9), ids(&[1, 2]));
        assert_eq!(reach.reached_by_all(&all, &ids(&[2, 3]), 9), all, "who is not asked does not matter");
        assert_eq!(reach.reached_by_all(&all, &ids(&[1, 2, 3, 4]), 9), [], "who has said nothing reaches nobody");
        reach.forget(WorkerId(2));
        assert!(!reach.has_said(WorkerId(2)) && !reach.reaches(WorkerId(1), WorkerId(2)));
    }
}
