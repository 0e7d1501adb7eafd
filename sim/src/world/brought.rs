//! What the coordinator knows of chunks that owners were brought, and of their sums that it has added anew.

use std::collections::{BTreeMap, BTreeSet};

use convoy_scheduler::{LeaseRef, WorkerId};

/// A chunk of a node, as its owner was brought it.
#[derive(Clone, Copy, Debug)]
pub struct Brought {
    /// What was brought.
    pub was: u64,
    /// What the owner says to have been brought.
    pub says: u64,
    /// The owner's machine.
    machine: usize,
}

/// What owners say to have been brought in the opening in work.
#[derive(Clone, Debug, Default)]
pub struct BroughtChunks(BTreeMap<LeaseRef, BTreeMap<(usize, WorkerId), Brought>>);

impl BroughtChunks {
    /// Forgets all of it.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Notes what an owner on `machine` was brought of a chunk, and what it says. The first time counts.
    pub fn note(&mut self, at: LeaseRef, (chunk, owner): (usize, WorkerId), machine: usize, [was, says]: [u64; 2]) {
        let chunks = self.0.entry(at).or_default();
        chunks.entry((chunk, owner)).or_insert(Brought { was, says, machine });
    }

    /// What an owner was brought of a chunk of a lease's node.
    pub fn of(&self, at: LeaseRef, chunk: usize, owner: WorkerId) -> Option<Brought> {
        self.0.get(&at)?.get(&(chunk, owner)).copied()
    }

    /// Whether an owner on `machine` may say something else of a lease's node than it was brought: owners of two
    /// machines that do so at once could have anybody evicted, as two judges that agree could.
    pub fn may_misreport(&self, at: LeaseRef, machine: usize) -> bool {
        let others = self.0.get(&at).into_iter().flat_map(BTreeMap::values);
        others.filter(|brought| brought.was != brought.says).all(|brought| brought.machine == machine)
    }
}

/// Whose sums are added anew. Workers are those of this start.
#[derive(Clone, Debug, Default)]
pub struct SumsDue {
    /// Owners of whom one was chosen before.
    known: BTreeSet<WorkerId>,
    /// Owners of whom one was chosen that could not be added anew.
    owed: BTreeSet<WorkerId>,
}

impl SumsDue {
    /// Whether one must be chosen of `owner`, be it by chance or not. It is noted.
    pub fn is_due(&mut self, owner: WorkerId) -> bool {
        self.known.insert(owner) | self.owed.remove(&owner)
    }

    /// Notes that a chosen one could not be added anew: another one is due.
    pub fn owe(&mut self, owner: WorkerId) {
        self.owed.insert(owner);
    }
}
