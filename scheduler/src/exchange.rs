//! Who adds which chunk of the steps, in this generation.

use std::collections::BTreeSet;

use crate::effect::{Effect, OwnersReason};
use crate::ids::{Opening, OwnersVersion, WorkerId};
use crate::owners::{self, Owner};
use crate::reach::Reach;

/// The owners of chunks, and what is known about who could be one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Exchange {
    /// Counts the openings of steps and evaluations.
    pub opening: Opening,
    /// Counts the changes of owners.
    pub version: OwnersVersion,
    /// Who reaches whom.
    pub reach: Reach,
    /// The owner of each chunk.
    of: Vec<Owner>,
    /// The workers that own chunks.
    workers: BTreeSet<WorkerId>,
    /// Owners whose sums are all with the coordinator, in this opening and version.
    reduced: BTreeSet<WorkerId>,
    /// The workers that have added chunks of the step that was committed last.
    pub added_last: BTreeSet<WorkerId>,
    /// What chunks were dealt by last.
    dealt: Option<Dealt>,
}

/// All that decides about the owners when a step begins. Where it is what it was, so are they.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Dealt {
    /// The workers that can own chunks, if all reach them.
    pub able: Vec<WorkerId>,
    /// Those that must reach them.
    pub computing: Vec<WorkerId>,
    /// How often what is known of who reaches whom has changed.
    pub reach: u64,
    /// The owners.
    pub version: OwnersVersion,
}

impl Exchange {
    /// The coordinator owns so many chunks.
    pub fn of_chunks(chunks: u32) -> Exchange {
        Exchange {
            opening: Opening(0),
            version: OwnersVersion(0),
            reach: Reach::default(),
            of: vec![Owner::Coordinator; chunks as usize],
            workers: BTreeSet::new(),
            reduced: BTreeSet::new(),
            added_last: BTreeSet::new(),
            dealt: None,
        }
    }

    /// The owner of each chunk.
    pub fn of(&self) -> &[Owner] {
        &self.of
    }

    /// The most workers that may own chunks: one for each. With several for each, some are made while others are added;
    /// but the fewer owners, the more each has to take in and hand out. A single chunk is added by the coordinator,
    /// which needs its sum anyway.
    pub fn most(&self) -> usize {
        if self.of.len() > 1 { self.of.len() } else { 0 }
    }

    /// The workers that own chunks.
    pub fn workers(&self) -> impl Iterator<Item = WorkerId> {
        self.workers.iter().copied()
    }

    /// Whether workers own chunks.
    pub fn is_sliced(&self) -> bool {
        !self.workers.is_empty()
    }

    /// Whether a worker owns a chunk.
    pub fn owns(&self, worker: WorkerId) -> bool {
        self.workers.contains(&worker)
    }

    /// Whether a worker says that it reaches all owners.
    pub fn reaches_owners(&self, worker: WorkerId) -> bool {
        self.workers().all(|owner| self.reach.reaches(worker, owner))
    }

    /// Whether chunks were dealt by just this before. It is noted.
    pub fn was_dealt(&mut self, dealt: Dealt) -> bool {
        let same = self.dealt.as_ref() == Some(&dealt);
        self.dealt = Some(dealt);
        same
    }

    /// Begins an opening.
    pub fn open(&mut self) -> Opening {
        self.reduced.clear();
        self.opening = self.opening.next();
        self.opening
    }

    /// Has chunks owned by others from now on. The answer is what must be told, if that is a change.
    pub fn change(&mut self, of: Vec<Owner>, why: OwnersReason) -> Option<Effect> {
        if of == self.of {
            return None;
        }
        self.reduced.clear();
        self.version.0 += 1;
        self.workers = owners::workers(&of).collect();
        self.of.clone_from(&of);
        Some(Effect::Owners { version: self.version, of, why })
    }

    /// Notes that all sums of an owner are with the coordinator.
    pub fn note_reduced(&mut self, owner: WorkerId) {
        self.reduced.insert(owner);
    }

    /// Whether all sums of an owner are with the coordinator.
    pub fn is_reduced(&self, owner: WorkerId) -> bool {
        self.reduced.contains(&owner)
    }

    /// Owners of whose sums the coordinator has not all.
    pub fn unreduced(&self) -> impl Iterator<Item = WorkerId> {
        self.workers().filter(|owner| !self.reduced.contains(owner))
    }
}
