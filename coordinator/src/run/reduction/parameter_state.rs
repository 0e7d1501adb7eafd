//! Parameters, buffers and optimizer state after some step, chunk by chunk.

use std::ops::Range;
use std::sync::Arc;

use convoy_common::Digest;
use convoy_common::spec::{Optimizer, OptimizerKind};
use convoy_model::{DigestInOrder, Network, TensorRef};
use convoy_proto::{CHUNK_ELEMENTS, chunk_count, chunk_range};

use super::chunk_buffer::ChunkBuffer;

/// Parameters, buffers and optimizer state after some number of steps.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ParameterState {
    /// Steps that made it.
    pub step: u64,
    /// Parameters, then buffers.
    pub flat: Flat,
    /// Optimizer state, each as long as the parameters: SGD's momentum, or Adam's first and second moment.
    pub moments: Vec<Vec<f32>>,
}

/// The flat vector of a [`Network`], chunk by chunk: each in the memory of the root that it was made of, and shared
/// with the workers that read it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Flat(Vec<Arc<ChunkBuffer>>);

impl Flat {
    /// A copy of `values`.
    pub fn of(values: &[f32]) -> Self {
        let ranges = (0..chunk_count(values.len())).map(|index| chunk_range(values.len(), index));
        ranges.map(|range| Arc::new(ChunkBuffer::of(&values[range]))).collect()
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
        let mut digest = DigestInOrder::new(network);
        self.0.iter().for_each(|chunk| digest.add(network, chunk));
        digest.finish(network)
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

    fn pieces(&self, range: Range<usize>) -> Vec<&[f32]> {
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

/// Names of the optimizer's state, in the order of [`ParameterState::moments`].
pub fn moment_names(optimizer: &Optimizer) -> &'static [&'static str] {
    match optimizer.kind {
        OptimizerKind::Sgd if optimizer.momentum == Some(0.0) => &[],
        OptimizerKind::Sgd => &["momentum"],
        OptimizerKind::Adam | OptimizerKind::Adamw => &["first_moment", "second_moment"],
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
}
