//! The digest of a node's numbers, in parts, so that it can be seen who says what.

use std::collections::{BTreeMap, BTreeSet};

use crate::owners::Owner;

/// The digest of a node's numbers in parts: of the chunks that each owner has, as that one was brought them. The
/// coordinator's part is also of the node's sums.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NodeDigest(BTreeMap<Owner, [u8; 32]>);

impl NodeDigest {
    /// These parts.
    pub fn of_parts(parts: impl IntoIterator<Item = (Owner, [u8; 32])>) -> NodeDigest {
        NodeDigest(parts.into_iter().collect())
    }

    /// The digest of a node all of which is with the coordinator.
    pub fn whole(digest: [u8; 32]) -> NodeDigest {
        NodeDigest::of_parts([(Owner::Coordinator, digest)])
    }

    /// The owners of which the two have different parts.
    pub fn differs_at(&self, other: &NodeDigest) -> BTreeSet<Owner> {
        let owners = self.0.keys().chain(other.0.keys());
        owners.copied().filter(|owner| self.0.get(owner) != other.0.get(owner)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::WorkerId;

    #[test]
    fn parts_that_differ_or_are_missing_are_named() {
        let worker = |id| Owner::Worker(WorkerId(id));
        let digest =
            |parts: &[(Owner, u8)]| NodeDigest::of_parts(parts.iter().map(|(owner, byte)| (*owner, [*byte; 32])));
        let one = digest(&[(Owner::Coordinator, 1), (worker(1), 2), (worker(2), 3)]);
        assert!(one.differs_at(&one).is_empty());
        let other = digest(&[(Owner::Coordinator, 1), (worker(1), 9), (worker(3), 3)]);
        assert_eq!(one.differs_at(&other), [worker(1), worker(2), worker(3)].into());
        assert_eq!(NodeDigest::whole([1; 32]), digest(&[(Owner::Coordinator, 1)]));
    }
}
