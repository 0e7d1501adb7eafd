//! Where the chunks of nodes go, so that the service can turn away what belongs to earlier owners.

use std::sync::Arc;

use convoy_scheduler::{Owner, OwnersVersion};
use parking_lot::Mutex;

/// The version of the owners that is in force, and the owner of each chunk; none before it changes for the first time.
#[derive(Debug, Default)]
pub(crate) struct Delivery(Mutex<(OwnersVersion, Arc<[Owner]>)>);

impl Delivery {
    /// Chunks are owned by others from now on.
    pub(crate) fn change(&self, version: OwnersVersion, of: &[Owner]) {
        *self.0.lock() = (version, of.into());
    }

    /// To whom the chunks of a node that is sent under `version` have gone: nobody where they are the coordinator's.
    /// `None` where that is not the version in force.
    pub(crate) fn gone_to(&self, version: OwnersVersion) -> Option<Arc<[Owner]>> {
        let (current, of) = &*self.0.lock();
        let workers = of.iter().any(|owner| *owner != Owner::Coordinator);
        (version == *current).then(|| if workers { of.clone() } else { Arc::default() })
    }
}

#[cfg(test)]
mod tests {
    use convoy_scheduler::WorkerId;

    use super::*;

    #[test]
    fn only_the_version_in_force_says_where_chunks_have_gone() {
        let delivery = Delivery::default();
        let gone_to = |version| delivery.gone_to(OwnersVersion(version)).map(|of| of.to_vec());
        assert_eq!(gone_to(0), Some(Vec::new()), "the coordinator begins with everything");
        let workers = [Owner::Worker(WorkerId(1)), Owner::Worker(WorkerId(2))];
        delivery.change(OwnersVersion(1), &workers);
        assert_eq!([0, 1, 2].map(gone_to), [None, Some(workers.to_vec()), None]);
        delivery.change(OwnersVersion(2), &[Owner::Coordinator; 2]);
        assert_eq!(gone_to(2), Some(Vec::new()));
    }
}
