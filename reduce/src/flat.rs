//! A flat vector, chunk by chunk.

use std::ops::Range;
use std::sync::Arc;

use convoy_common::Digest;
use convoy_model::{Network, TensorRef, digest_tensors};
use convoy_proto::{CHUNK_ELEMENTS, chunk_count, chunk_range};

use crate::ChunkBuffer;

/// A flat vector, as that of a [`Network`], chunk by chunk: each in the memory that it was made in, and shared with
/// whoever reads it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Flat(Vec<Arc<ChunkBuffer>>);

impl Flat {
    /// A copy of `values`.
    pub fn of(values: &[f32]) -> Self {
        let ranges = (0..chunk_count(values.len())).map(|index| chunk_range(values.len(), index));
        ranges.map(|range| Arc::new(ChunkBuffer::of(&values[range]))).collect()
    }

    /// `len` zeros.
    pub fn zeros(len: usize) -> Self {
        let ranges = (0..chunk_count(len)).map(|index| chunk_range(len, index));
        ranges.map(|range| Arc::new(ChunkBuffer::zeros(range.len()))).collect()
    }

    /// The chunks, in order.
    pub fn chunks(&self) -> &[Arc<ChunkBuffer>] {
        &self.0
    }

    /// What [`Network::digest`] makes of them.
    ///
    /// # Panics
    /// When the network has more elements.
    pub fn digest(&self, network: &Network) -> Digest {
        digest_tensors(self.views(network))
    }

    /// The tensors of `network` as they lie here, in the order of [`Network::tensors`].
    ///
    /// # Panics
    /// When the network has more elements.
    pub fn views<'a>(&'a self, network: &'a Network) -> impl Iterator<Item = TensorRef<'a, Vec<&'a [f32]>>> {
        network.tensors.iter().map(|tensor| TensorRef {
            name: &tensor.name,
            shape: &tensor.shape,
            data: self.pieces(tensor.range()),
        })
    }

    /// The elements `range`, as they lie in the chunks.
    ///
    /// # Panics
    /// When there are fewer.
    pub fn pieces(&self, range: Range<usize>) -> Vec<&[f32]> {
        let piece = |index: usize| {
            let first = index * CHUNK_ELEMENTS;
            let end = range.end.min(first + CHUNK_ELEMENTS);
            &self.0[index][range.start.max(first) - first..end - first]
        };
        (range.start / CHUNK_ELEMENTS..range.end.div_ceil(CHUNK_ELEMENTS)).map(piece).collect()
    }

    /// A copy in one piece.
    pub fn to_vec(&self) -> Vec<f32> {
        let mut values = Vec::with_capacity(self.0.len() * CHUNK_ELEMENTS);
        self.0.iter().for_each(|chunk| values.extend_from_slice(chunk));
        values
    }
}

impl FromIterator<Arc<ChunkBuffer>> for Flat {
    /// All chunks of a vector, in order.
    fn from_iter<I: IntoIterator<Item = Arc<ChunkBuffer>>>(chunks: I) -> Self {
        Flat(chunks.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flat_vector_in_chunks_is_cut_where_it_is_wanted() {
        let len = 3 * CHUNK_ELEMENTS + 7;
        let values: Vec<f32> = (0..len).map(|i| i as f32).collect();
        let flat = Flat::of(&values);
        assert_eq!(flat.to_vec(), values);
        let c = CHUNK_ELEMENTS;
        for range in [0..0, 0..len, 5..6, c - 1..c + 1, c..2 * c, 1..3 * c, 3 * c..len, len - 1..len, len..len] {
            let pieces = flat.pieces(range.clone());
            assert_eq!(pieces.concat(), values[range.clone()], "{range:?}");
            let chunks = range.clone().map(|i| i / c).collect::<std::collections::BTreeSet<_>>();
            assert_eq!(pieces.iter().filter(|piece| !piece.is_empty()).count(), chunks.len(), "{range:?}");
        }
    }

    #[test]
    fn zeros_are_zeros_in_memory_that_was_used_before() {
        let len = CHUNK_ELEMENTS + 3;
        drop(Flat::of(&vec![5.0; len]));
        assert_eq!(Flat::zeros(len).to_vec(), vec![0.0; len]);
    }
}
