//! Where the chunks of nodes go, so that the service can turn away what belongs to earlier owners.

use convoy_scheduler::{Owner, OwnersVersion};
use parking_lot::Mutex;

/// The version of the owners that is in force, and whether they are workers.
#[derive(Debug, Default)]
pub(crate) struct Delivery(Mutex<(OwnersVersion, bool)>);

impl Delivery {
    /// Chunks are owned by others from now on.
    pub(crate) fn change(&self, version: OwnersVersion, of: &[Owner]) {
        *self.0.lock() = (version, of.iter().any(|owner| *owner != Owner::Coordinator));
    }

    /// Whether the chunks of a node that is sent under `version` have gone to workers; `None` where that is not the
    /// version in force.
    pub(crate) fn went_to_workers(&self, version: OwnersVersion) -> Option<bool> {
        let (current, workers) = *self.0.lock();
        (version == current).then_some(workers)
    }
}

#[cfg(test)]
mod tests {
    use convoy_scheduler::WorkerId;

    use super::*;

    #[test]
    fn only_the_version_in_force_says_where_chunks_have_gone() {
        let delivery = Delivery::default();
        assert_eq!(delivery.went_to_workers(OwnersVersion(0)), Some(false), "the coordinator begins with everything");
        delivery.change(OwnersVersion(1), &[Owner::Worker(WorkerId(1)), Owner::Worker(WorkerId(2))]);
        assert_eq!([0, 1, 2].map(|version| delivery.went_to_workers(OwnersVersion(version))), [None, Some(true), None]);
        delivery.change(OwnersVersion(2), &[Owner::Coordinator; 2]);
        assert_eq!(delivery.went_to_workers(OwnersVersion(2)), Some(false));
    }
}
