//! What the coordinator tells of the exchange: which step is open, and who owns which chunk of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use convoy_proto::v1;
use convoy_scheduler::{Opening, Owner, OwnersVersion, WorkerId};

use crate::error::WorkerError;

/// What chunks on their way between workers belong to. A later opening has a greater fence, and so have later owners in
/// the same opening.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Fence {
    pub(crate) opening: Opening,
    pub(crate) version: OwnersVersion,
}

/// A training step that is open, and its owners.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ToldStep {
    pub(crate) fence: Fence,
    pub(crate) step: u64,
    pub(crate) shards: u32,
    /// The owner of each chunk.
    pub(crate) of: Arc<[Owner]>,
}

impl ToldStep {
    /// The workers that own chunks.
    pub(crate) fn owners(&self) -> BTreeSet<WorkerId> {
        Owner::workers_among(&self.of)
    }

    /// The chunks that `owner` owns.
    pub(crate) fn chunks_of(&self, owner: Owner) -> impl Iterator<Item = usize> {
        self.of.iter().enumerate().filter(move |(_, other)| **other == owner).map(|(index, _)| index)
    }

    /// Whether workers own chunks.
    pub(crate) fn is_sliced(&self) -> bool {
        self.of.iter().any(|owner| *owner != Owner::Coordinator)
    }
}

/// All that was told so far, in parts.
#[derive(Debug, Default)]
pub(crate) struct Telling {
    owners: Option<(OwnersVersion, Arc<[Owner]>)>,
    opened: Option<v1::StepOpened>,
}

impl Telling {
    /// Chunks have other owners from now on. There must be `chunks` of them.
    ///
    /// # Errors
    /// When there are not.
    pub(crate) fn owners(&mut self, owners: v1::Owners, chunks: usize) -> Result<(), WorkerError> {
        if owners.of.len() != chunks {
            let problem = format!("{} chunks have owners, there are {chunks}", owners.of.len());
            return Err(WorkerError::nonsense("a list of owners", problem));
        }
        let owner = |number| match number {
            0 => Owner::Coordinator,
            worker => Owner::Worker(WorkerId(worker)),
        };
        self.owners = Some((OwnersVersion(owners.version), owners.of.into_iter().map(owner).collect()));
        Ok(())
    }

    /// A step is open.
    ///
    /// # Errors
    /// When it has no shards.
    pub(crate) fn opened(&mut self, opened: v1::StepOpened) -> Result<(), WorkerError> {
        if opened.shards == 0 {
            return Err(WorkerError::nonsense("a step", "it has no shards"));
        }
        self.opened = Some(opened);
        Ok(())
    }

    /// No step is open.
    pub(crate) fn closed(&mut self) {
        self.opened = None;
    }

    /// The version of the owners.
    pub(crate) fn version(&self) -> OwnersVersion {
        self.owners.as_ref().map_or(OwnersVersion(0), |(version, _)| *version)
    }

    /// The open step.
    pub(crate) fn step(&self) -> Option<ToldStep> {
        let v1::StepOpened { step, opening, shards, .. } = self.opened?;
        let (version, of) = self.owners.clone()?;
        Some(ToldStep { fence: Fence { opening: Opening(opening), version }, step, shards, of })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_known_with_its_owners_until_it_is_over() {
        let mut telling = Telling::default();
        let opened = v1::StepOpened { job: 7, step: 3, opening: 5, shards: 8 };
        telling.opened(opened).unwrap();
        assert_eq!((telling.step(), telling.version()), (None, OwnersVersion(0)));
        telling.owners(v1::Owners { job: 7, version: 2, of: vec![4, 0, 4] }, 3).unwrap();
        let step = telling.step().unwrap();
        assert_eq!(step.fence, Fence { opening: Opening(5), version: OwnersVersion(2) });
        assert_eq!(step.owners(), [WorkerId(4)].into());
        assert_eq!(step.chunks_of(Owner::Worker(WorkerId(4))).collect::<Vec<_>>(), [0, 2]);
        assert!(step.is_sliced());
        telling.owners(v1::Owners { job: 7, version: 3, of: vec![0; 3] }, 3).unwrap();
        assert!(!telling.step().unwrap().is_sliced());
        telling.closed();
        assert_eq!((telling.step(), telling.version()), (None, OwnersVersion(3)));
    }

    #[test]
    fn owners_of_other_chunks_make_no_sense() {
        let none = Telling::default().opened(v1::StepOpened::default()).unwrap_err();
        assert!(none.to_string().contains("no shards"), "{none}");
        let error = Telling::default().owners(v1::Owners { job: 7, version: 1, of: vec![4] }, 3).unwrap_err();
        assert!(error.to_string().contains("1 chunks have owners, there are 3"), "{error}");
    }
}
