//! The digest of parameters whose chunks are made in any order.

use std::ops::Range;

use blake3::Hasher;
use convoy_common::Digest;
use convoy_model::{Network, update_elements};
use convoy_proto::CHUNK_ELEMENTS;

/// [`Network::digest`] of parameters that are made chunk by chunk. Each tensor has a hash of its own, which goes on as
/// soon as the chunk is made that it needs next; so little is left to do when the last chunk is made.
#[derive(Debug)]
pub struct DigestByTensor {
    /// By their places in the flat vector.
    tensors: Vec<HashedTensor>,
}

#[derive(Debug)]
struct HashedTensor {
    /// Its index in [`Network::tensors`].
    index: usize,
    range: Range<usize>,
    /// The first element that is not in the hash yet.
    next: usize,
    hasher: Box<Hasher>,
}

impl HashedTensor {
    /// Takes in what is there of the elements that come next.
    fn advance<'a>(&mut self, made: impl Fn(usize) -> Option<&'a [f32]>) {
        while self.next < self.range.end {
            let index = self.next / CHUNK_ELEMENTS;
            let Some(values) = made(index) else { return };
            let first = index * CHUNK_ELEMENTS;
            let end = self.range.end.min(first + values.len());
            update_elements(&mut self.hasher, &values[self.next - first..end - first]);
            self.next = end;
        }
    }
}

impl DigestByTensor {
    /// No chunk is made.
    pub fn new(network: &Network) -> Self {
        let hashed = |(index, tensor): (usize, &convoy_model::Tensor)| {
            let range = tensor.range();
            HashedTensor { index, next: range.start, range, hasher: Box::default() }
        };
        let mut tensors: Vec<HashedTensor> = network.tensors.iter().enumerate().map(hashed).collect();
        tensors.sort_by_key(|tensor| tensor.range.start);
        DigestByTensor { tensors }
    }

    /// Chunk `index` is made; `made` gives the elements of chunks that are, this one among them.
    pub fn advance<'a>(&mut self, index: usize, made: impl Fn(usize) -> Option<&'a [f32]>) {
        let first = index * CHUNK_ELEMENTS;
        let from = self.tensors.partition_point(|tensor| tensor.range.end <= first);
        let here = self.tensors[from..].iter_mut().take_while(|tensor| tensor.range.start < first + CHUNK_ELEMENTS);
        here.filter(|tensor| tensor.next / CHUNK_ELEMENTS == index).for_each(|tensor| tensor.advance(&made));
    }

    /// The digest; `None` while elements are missing.
    pub fn finish(&self, network: &Network) -> Option<Digest> {
        let mut digests = vec![Digest::default(); self.tensors.len()];
        for tensor in &self.tensors {
            if tensor.next < tensor.range.end {
                return None;
            }
            digests[tensor.index] = Digest(*tensor.hasher.finalize().as_bytes());
        }
        Some(network.digest_of(&digests))
    }
}

#[cfg(test)]
mod tests {
    use convoy_common::Plan;
    use convoy_proto::{chunk_count, chunk_range};
    use proptest::prelude::*;

    use super::*;

    /// Tensors of many chunks, of one, and of a few elements; the last chunk is not full.
    fn network() -> Network {
        let layers = "layers = [{ type = \"flatten\" }, { type = \"linear\", out = 300 }, \
                      { type = \"linear\", out = 7 }, { type = \"linear\", out = 3 }]";
        let plan: Plan = convoy_testing::plan(&format!("[network]\n{layers}"), [25, 30, 1], 3);
        Network::of(&plan).expect("a network of a test is right")
    }

    proptest! {
        #[test]
        fn chunks_may_be_made_in_any_order(keys in proptest::collection::vec(any::<u32>(), 4)) {
            let network = network();
            let flat: Vec<f32> = (0..network.len()).map(|i| (i as f32 * 0.37).fract() - 0.5).collect();
            let chunks = chunk_count(flat.len());
            prop_assert_eq!(chunks, keys.len());
            let mut order: Vec<usize> = (0..chunks).collect();
            order.sort_by_key(|index| keys[*index]);
            let mut digest = DigestByTensor::new(&network);
            let mut made = vec![false; chunks];
            for index in order {
                prop_assert_eq!(digest.finish(&network), None, "chunk {} is missing", index);
                made[index] = true;
                digest.advance(index, |index| made[index].then(|| &flat[chunk_range(flat.len(), index)]));
            }
            prop_assert_eq!(digest.finish(&network), Some(network.digest(&flat)));
        }
    }
}
