//! The digest of a node whose chunks are with workers, in parts by owner.

use std::collections::BTreeMap;
use std::sync::Arc;

use convoy_common::Digest;
use convoy_scheduler::{NodeDigest, Owner, WorkerId};

/// Which chunks of a node have gone to whom.
#[derive(Debug, Clone)]
pub(super) struct ChunksAway {
    /// The owner of each chunk.
    pub(super) of: Arc<[Owner]>,
    /// Whether a chunk is frozen, so that nobody has it.
    pub(super) frozen: Vec<bool>,
}

impl ChunksAway {
    /// The digest of a node of these chunks, whose sums have the digest `sums`: of each owner's chunks blake3 over
    /// their digests, in order. `None` where one of a chunk is missing, or there is one too many.
    pub(super) fn digest(&self, sums: [u8; 32], chunks: &BTreeMap<usize, Digest>) -> Option<NodeDigest> {
        let mut parts: BTreeMap<Owner, blake3::Hasher> = BTreeMap::new();
        let mut used = 0;
        for (index, owner) in self.of.iter().enumerate().filter(|(index, _)| !self.frozen[*index]) {
            parts.entry(*owner).or_default().update(&chunks.get(&index)?.0);
            used += 1;
        }
        let parts = parts.into_iter().map(|(owner, part)| (owner, *part.finalize().as_bytes()));
        (used == chunks.len()).then(|| NodeDigest::of_parts(parts.chain([(Owner::Coordinator, sums)])))
    }

    /// Whether `digests` are of all chunks of an owner that are not frozen, each once, and of nothing else.
    pub(super) fn are_of(&self, owner: WorkerId, digests: &BTreeMap<usize, Digest>) -> bool {
        let own = self.of.iter().enumerate();
        let own = own.filter(|(index, other)| **other == Owner::Worker(owner) && !self.frozen[*index]);
        own.map(|(index, _)| index).eq(digests.keys().copied())
    }

    /// Digests that a worker says of all chunks that are not frozen, in order, by chunk. `None` where they are not as
    /// many.
    pub(super) fn read(&self, bytes: &[u8]) -> Option<BTreeMap<usize, Digest>> {
        let (digests, rest) = bytes.as_chunks::<32>();
        let indices: Vec<usize> = (0..self.of.len()).filter(|index| !self.frozen[*index]).collect();
        let fits = rest.is_empty() && digests.len() == indices.len();
        fits.then(|| indices.into_iter().zip(digests.iter().map(|digest| Digest(*digest))).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn away() -> ChunksAway {
        let owners = [1, 2, 1, 2].map(|id| Owner::Worker(WorkerId(id)));
        ChunksAway { of: owners.into(), frozen: vec![false, false, false, true] }
    }

    fn chunks(bytes: [u8; 3]) -> BTreeMap<usize, Digest> {
        bytes.into_iter().enumerate().map(|(index, byte)| (index, Digest([byte; 32]))).collect()
    }

    #[test]
    fn parts_that_differ_are_those_of_the_owners_of_the_chunks_that_do() {
        let digest = |sums: u8, bytes| away().digest([sums; 32], &chunks(bytes)).unwrap();
        let one = digest(1, [1, 2, 3]);
        let differs = |other: NodeDigest| one.differs_at(&other).into_iter().collect::<Vec<_>>();
        assert_eq!(differs(digest(1, [1, 2, 9])), [Owner::Worker(WorkerId(1))]);
        assert_eq!(differs(digest(1, [1, 9, 3])), [Owner::Worker(WorkerId(2))]);
        assert_eq!(differs(digest(9, [1, 2, 3])), [Owner::Coordinator]);
        assert_eq!(differs(digest(1, [3, 2, 1])), [Owner::Worker(WorkerId(1))], "the order matters");
    }

    #[test]
    fn an_owner_says_all_of_its_own_and_nothing_of_others() {
        let of = |indices: &[usize]| indices.iter().map(|index| (*index, Digest::default())).collect();
        let one = |indices: &[usize]| away().are_of(WorkerId(1), &of(indices));
        assert!(one(&[0, 2]) && away().are_of(WorkerId(2), &of(&[1])));
        assert!(![&[][..], &[0], &[0, 1, 2], &[0, 2, 3], &[0, 2, 99]].into_iter().any(one));
    }

    #[test]
    fn what_is_missing_or_too_much_makes_no_digest() {
        let mut few = chunks([1, 2, 3]);
        few.remove(&1);
        assert_eq!(away().digest([0; 32], &few), None);
        let mut many = chunks([1, 2, 3]);
        many.insert(3, Digest::default());
        assert_eq!(away().digest([0; 32], &many), None, "a frozen chunk");
    }

    #[test]
    fn digests_are_read_for_the_chunks_that_travel() {
        let bytes: Vec<u8> = [1, 2, 3].into_iter().flat_map(|byte| [byte; 32]).collect();
        assert_eq!(away().read(&bytes), Some(chunks([1, 2, 3])));
        assert_eq!((away().read(&bytes[..95]), away().read(&bytes[..64])), (None, None));
    }
}
