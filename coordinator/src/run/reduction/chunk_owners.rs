//! Who owns which chunk, and whose sums have come.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use convoy_scheduler::{Owner, OwnersVersion, WorkerId};

/// The owners of chunks, and what of the open step they have brought.
#[derive(Debug, Default)]
pub(crate) struct ChunkOwners {
    version: OwnersVersion,
    of: Arc<[Owner]>,
    /// Whether a chunk need not be brought any more: its owner has done so, or the step leaves it as it is.
    settled: Vec<bool>,
    /// Whether the squares of a chunk's sum were told by its owner.
    squared: Vec<bool>,
}

impl ChunkOwners {
    /// The version that is in force.
    pub(crate) fn version(&self) -> OwnersVersion {
        self.version
    }

    /// Other owners are in force. The chunks that have moved must be brought again.
    pub(crate) fn change(&mut self, version: OwnersVersion, of: Arc<[Owner]>) -> Vec<usize> {
        let moved: Vec<usize> = (0..of.len()).filter(|index| self.of.get(*index) != Some(&of[*index])).collect();
        (self.version, self.of) = (version, of);
        self.settled.resize(self.of.len(), false);
        self.squared.resize(self.of.len(), false);
        moved.iter().for_each(|index| self.squared[*index] = false);
        moved
    }

    /// A step is opened, which leaves the chunks `frozen` as they are.
    pub(crate) fn open(&mut self, frozen: impl Iterator<Item = usize>) {
        self.settled.fill(false);
        self.squared.fill(false);
        frozen.for_each(|index| self.settle(index, true));
    }

    /// Whether `worker` owns chunk `index`.
    pub(crate) fn owns(&self, worker: WorkerId, index: usize) -> bool {
        self.of.get(index) == Some(&Owner::Worker(worker))
    }

    /// Notes whether chunk `index` need not be brought.
    pub(crate) fn settle(&mut self, index: usize, settled: bool) {
        if let Some(chunk) = self.settled.get_mut(index) {
            *chunk = settled;
        }
    }

    /// Notes that the owner of chunk `index` has told the squares of its sum.
    pub(crate) fn note_squares(&mut self, index: usize) {
        if let Some(chunk) = self.squared.get_mut(index) {
            *chunk = true;
        }
    }

    /// Whether `worker` has told the squares of some of its chunks, and those of all that it has to bring.
    pub(crate) fn has_told_squares(&self, worker: WorkerId) -> bool {
        let chunks = self.of.iter().zip(self.squared.iter().zip(&self.settled));
        let mut own = chunks.filter(|(owner, _)| **owner == Owner::Worker(worker)).map(|(_, known)| known);
        own.clone().any(|(squared, _)| *squared) && own.all(|(squared, settled)| *squared || *settled)
    }

    /// The workers that own chunks.
    pub(crate) fn workers(&self) -> BTreeSet<WorkerId> {
        Owner::workers_among(&self.of)
    }

    /// By worker, the chunks that it owns and has to bring: those for which `counts` holds.
    pub(crate) fn by_worker(&self, counts: impl Fn(usize) -> bool) -> BTreeMap<WorkerId, Vec<usize>> {
        let mut chunks: BTreeMap<WorkerId, Vec<usize>> = BTreeMap::new();
        for (index, owner) in self.of.iter().enumerate().filter(|(index, _)| counts(*index)) {
            if let Owner::Worker(worker) = owner {
                chunks.entry(*worker).or_default().push(index);
            }
        }
        chunks
    }

    /// Whether nothing is left for `worker` to bring.
    pub(crate) fn has_brought_all(&self, worker: WorkerId) -> bool {
        !self.of.iter().zip(&self.settled).any(|(owner, settled)| *owner == Owner::Worker(worker) && !settled)
    }

    /// The workers that own chunks and have nothing left to bring.
    pub(crate) fn reduced(&self) -> Vec<WorkerId> {
        let mut all: BTreeMap<WorkerId, bool> = BTreeMap::new();
        for (owner, settled) in self.of.iter().zip(&self.settled) {
            if let Owner::Worker(worker) = owner {
                *all.entry(*worker).or_insert(true) &= settled;
            }
        }
        all.into_iter().filter(|(_, all)| *all).map(|(worker, _)| worker).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(workers: &[u32]) -> Arc<[Owner]> {
        workers
            .iter()
            .map(|worker| if *worker == 0 { Owner::Coordinator } else { Owner::Worker(WorkerId(*worker)) })
            .collect()
    }

    #[test]
    fn who_has_brought_all_of_its_chunks_is_known() {
        let mut owners = ChunkOwners::default();
        assert_eq!(owners.change(OwnersVersion(1), of(&[1, 2, 1])), [0, 1, 2]);
        owners.open(std::iter::once(1));
        assert!(owners.owns(WorkerId(2), 1) && !owners.owns(WorkerId(1), 1) && !owners.owns(WorkerId(1), 9));
        assert_eq!(owners.reduced(), [WorkerId(2)], "the step leaves its chunk as it is");
        owners.settle(0, true);
        assert!(!owners.has_brought_all(WorkerId(1)));
        owners.settle(2, true);
        assert!(owners.has_brought_all(WorkerId(1)));
        owners.open(std::iter::empty());
        assert_eq!(owners.reduced(), []);
    }

    #[test]
    fn a_chunk_that_moves_is_brought_again_and_others_are_not() {
        let mut owners = ChunkOwners::default();
        owners.change(OwnersVersion(1), of(&[1, 2, 1]));
        owners.open(std::iter::empty());
        (0..3).for_each(|index| owners.settle(index, true));
        let moved = owners.change(OwnersVersion(2), of(&[1, 1, 1]));
        assert_eq!((moved.clone(), owners.version()), (vec![1], OwnersVersion(2)));
        moved.into_iter().for_each(|index| owners.settle(index, false));
        assert!(!owners.has_brought_all(WorkerId(1)));
        assert_eq!(owners.change(OwnersVersion(3), of(&[0, 0, 0])), [0, 1, 2]);
        assert_eq!(owners.reduced(), [], "nobody owns anything");
    }
}
