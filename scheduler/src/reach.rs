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

    /// Those of `workers`, which are in order, that all of them say they reach. A worker that reaches fewer than half
    /// of those that anybody reaches is not asked: with its say it would leave nobody.
    pub fn reached_by_all(&self, workers: &[WorkerId]) -> Vec<WorkerId> {
        let places: Vec<Vec<usize>> = workers.iter().map(|worker| self.places(*worker, workers)).collect();
        let mut anybody = vec![false; workers.len()];
        places.iter().flatten().for_each(|place| anybody[*place] = true);
        let known = anybody.iter().filter(|reached| **reached).count();
        let (mut asked, mut times) = (0, vec![0; workers.len()]);
        for (itself, places) in places.iter().enumerate() {
            if places.len() * 2 >= known - usize::from(anybody[itself]) {
                asked += 1;
                places.iter().chain([&itself]).for_each(|place| times[*place] += 1);
            }
        }
        workers.iter().zip(times).filter(|(_, times)| *times == asked).map(|(worker, _)| *worker).collect()
    }

    /// Whether each of `workers` says that it reaches `peer`.
    pub fn is_reached_by_each(&self, workers: &[WorkerId], peer: WorkerId) -> bool {
        workers.iter().all(|worker| self.reaches(*worker, peer))
    }

    /// The places of those whom a worker reaches in `workers`, which are in order, without its own.
    fn places(&self, worker: WorkerId, workers: &[WorkerId]) -> Vec<usize> {
        let (mut places, mut at) = (Vec::new(), 0);
        for reached in self.said.get(&worker).into_iter().flatten().filter(|reached| **reached != worker) {
            while workers.get(at).is_some_and(|other| other < reached) {
                at += 1;
            }
            if workers.get(at) == Some(reached) {
                places.push(at);
            }
        }
        places
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
        assert_eq!(reach.reached_by_all(&all), all);
        reach.lost(WorkerId(1), WorkerId(3));
        assert_eq!(reach.reached_by_all(&all), ids(&[1, 2]));
        assert_eq!(reach.reached_by_all(&ids(&[2, 3])), ids(&[2, 3]), "who is not asked does not matter");
        reach.forget(WorkerId(2));
        assert!(!reach.has_said(WorkerId(2)) && !reach.reaches(WorkerId(1), WorkerId(2)));
    }

    #[test]
    fn who_reaches_hardly_anybody_has_no_say() {
        let ids = |workers: &[u32]| workers.iter().copied().map(WorkerId).collect::<Vec<_>>();
        let (mut reach, all) = (Reach::default(), ids(&[1, 2, 3, 4, 5]));
        all.iter().for_each(|worker| reach.said(*worker, all.clone()));
        reach.said(WorkerId(5), ids(&[1]));
        assert_eq!(reach.reached_by_all(&all), all, "one of four");
        reach.said(WorkerId(5), ids(&[1, 2]));
        assert_eq!(reach.reached_by_all(&all), ids(&[1, 2, 5]), "two of four");
        reach.said(WorkerId(5), []);
        assert_eq!(reach.reached_by_all(&all), all);
    }

    #[test]
    fn who_only_adds_must_be_reached_by_each() {
        let ids = |workers: &[u32]| workers.iter().copied().map(WorkerId).collect::<Vec<_>>();
        let (mut reach, computing) = (Reach::default(), ids(&[2, 4]));
        reach.said(WorkerId(2), ids(&[1, 3, 4]));
        reach.said(WorkerId(4), ids(&[1, 2]));
        assert!(reach.is_reached_by_each(&computing, WorkerId(1)), "it has said nothing itself");
        assert!(!reach.is_reached_by_each(&computing, WorkerId(3)));
    }
}
