//! The gradient that a training shard gives, as the backward pass makes it tensor by tensor.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use convoy_kernels::finite_check::all_finite;
use convoy_model::Network;

/// Where a training shard's gradient goes, flat as [`Network`] says.
#[derive(Debug)]
pub enum GradientTarget<'a> {
    /// Over what stands there.
    Write(&'a mut Vec<f32>),
    /// The same, and each chunk is handed on as soon as all of it is there, during the backward pass: those of the last
    /// layers first. None is handed on from the first number on that is not finite.
    Chunks(&'a mut Vec<f32>, ChunkTaker),
}

impl GradientTarget<'_> {
    /// The vector.
    pub(crate) fn flat(&mut self) -> &mut Vec<f32> {
        match self {
            GradientTarget::Write(flat) | GradientTarget::Chunks(flat, _) => flat,
        }
    }

    /// Who takes chunks.
    pub(crate) fn taker(&self) -> Option<&ChunkTaker> {
        match self {
            GradientTarget::Write(_) => None,
            GradientTarget::Chunks(_, taker) => Some(taker),
        }
    }
}

/// What is done with a chunk: its index, and its numbers.
type Take = dyn Fn(usize, &[f32]) + Send + Sync;

/// Takes the chunks of a shard's gradient.
#[derive(Clone)]
pub struct ChunkTaker {
    elements: usize,
    take: Arc<Take>,
}

impl ChunkTaker {
    /// Chunks of `elements` numbers, the last one of what is left; chunk `index` begins at `index * elements`. `take`
    /// gets each one's index and numbers, on the thread that computes the shard, which goes on when it returns.
    ///
    /// # Panics
    /// If `elements` is 0.
    pub fn new(elements: usize, take: impl Fn(usize, &[f32]) + Send + Sync + 'static) -> Self {
        assert!(elements > 0, "a chunk has numbers");
        ChunkTaker { elements, take: Arc::new(take) }
    }

    /// Hands on all chunks of a gradient that is made.
    pub(crate) fn take_all(&self, flat: &[f32]) {
        flat.chunks(self.elements).enumerate().for_each(|(index, chunk)| (self.take)(index, chunk));
    }
}

impl fmt::Debug for ChunkTaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChunkTaker").field("elements", &self.elements).finish_non_exhaustive()
    }
}

/// The flat gradient of a shard in the making.
pub(crate) struct ShardGradient {
    network: Arc<Network>,
    /// As long as the network's tensors are together; empty in a pass that makes no gradient.
    flat: Vec<f32>,
    /// Which tensors have been written.
    written: Vec<bool>,
    finite: bool,
    chunks: Option<UnfinishedChunks>,
}

/// What is missing until chunks can be handed on.
struct UnfinishedChunks {
    taker: ChunkTaker,
    /// How many numbers of each chunk are not written yet.
    missing: Vec<usize>,
}

impl UnfinishedChunks {
    fn of(taker: ChunkTaker, len: usize) -> Self {
        let starts = (0..len).step_by(taker.elements);
        UnfinishedChunks { missing: starts.map(|start| taker.elements.min(len - start)).collect(), taker }
    }

    /// The numbers `range` of `flat` are written; hands on the chunks that were waiting for them, unless `held_back`.
    fn written(&mut self, range: Range<usize>, flat: &[f32], held_back: bool) {
        let elements = self.taker.elements;
        for index in range.start / elements..range.end.div_ceil(elements) {
            let chunk = index * elements..((index + 1) * elements).min(flat.len());
            self.missing[index] -= range.end.min(chunk.end) - range.start.max(chunk.start);
            if self.missing[index] == 0 && !held_back {
                (self.taker.take)(index, &flat[chunk]);
            }
        }
    }
}

impl ShardGradient {
    /// A gradient of `network` that is written to `flat`, whose chunks `taker` takes.
    pub fn new(network: Arc<Network>, flat: Vec<f32>, taker: Option<&ChunkTaker>) -> Self {
        let written = vec![false; network.tensors.len()];
        let chunks = taker.map(|taker| UnfinishedChunks::of(taker.clone(), flat.len()));
        ShardGradient { network, flat, written, finite: true, chunks }
    }

    /// Has `fill` write the gradient of a parameter, or what is measured for a buffer: all of its numbers, once.
    pub fn write(&mut self, tensor: usize, fill: impl FnOnce(&mut [f32])) {
        let range = self.network.tensors[tensor].range();
        let place = &mut self.flat[range.clone()];
        fill(place);
        self.finite &= all_finite(place);
        self.written[tensor] = true;
        if let Some(chunks) = &mut self.chunks {
            chunks.written(range, &self.flat, !self.finite);
        }
    }

    /// The gradient is 0 where nothing was written.
    pub fn fill_rest(&mut self) {
        for tensor in 0..self.written.len() {
            if !self.written[tensor] {
                self.write(tensor, |place| place.fill(0.0));
            }
        }
    }

    /// Whether everything written is finite.
    pub fn is_finite(&self) -> bool {
        self.finite
    }

    /// The flat vector.
    pub fn into_flat(self) -> Vec<f32> {
        self.flat
    }
}

#[cfg(test)]
mod tests {
    use convoy_common::plan::Input;
    use convoy_common::spec::parse;
    use parking_lot::Mutex;

    use super::*;

    /// Two tensors: a weight of four numbers and a bias of two.
    fn network() -> Arc<Network> {
        let layers = r#"{ type = "flatten" }, { type = "linear", out = 2 }"#;
        let spec = parse(&format!("[network]\nlayers = [{layers}]\n[data]\ntrain = \"x\"\n"), &[]).unwrap();
        Arc::new(Network::build(&spec.network, Input { height: 1, width: 2, channels: 1 }, 2).unwrap())
    }

    /// A chunk's index and numbers.
    type Handed = (usize, Vec<f32>);

    /// Chunks of a gradient, in the order in which they were handed on.
    #[derive(Clone, Default)]
    struct Taken(Arc<Mutex<Vec<Handed>>>);

    impl Taken {
        fn taker(&self, elements: usize) -> ChunkTaker {
            let taken = self.clone();
            ChunkTaker::new(elements, move |index, chunk| taken.0.lock().push((index, chunk.to_vec())))
        }

        fn indices(&self) -> Vec<usize> {
            self.0.lock().iter().map(|(index, _)| *index).collect()
        }
    }

    #[test]
    fn what_stands_there_is_written_over() {
        let mut gradient = ShardGradient::new(network(), vec![f32::NAN; 6], None);
        gradient.write(1, |place| place.copy_from_slice(&[-0.0, 3.0]));
        gradient.fill_rest();
        assert!(gradient.is_finite(), "what stood there does not count");
        let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&gradient.into_flat()), bits(&[0.0, 0.0, 0.0, 0.0, -0.0, 3.0]));
    }

    #[test]
    fn a_number_that_is_not_finite_is_noticed() {
        for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut gradient = ShardGradient::new(network(), vec![0.0; 6], None);
            gradient.write(0, |place| place.fill(1.0));
            gradient.write(1, |place| place.copy_from_slice(&[1.0, wrong]));
            assert!(!gradient.is_finite(), "{wrong}");
        }
    }

    /// Of three numbers each: the first holds weights alone, the second the last weight and the bias.
    #[test]
    fn a_chunk_is_handed_on_when_the_last_tensor_in_it_is_written() {
        let taken = Taken::default();
        let mut gradient = ShardGradient::new(network(), vec![0.0; 6], Some(&taken.taker(3)));
        gradient.write(1, |place| place.copy_from_slice(&[5.0, 6.0]));
        assert!(taken.indices().is_empty(), "a weight is missing in the second");
        gradient.write(0, |place| place.copy_from_slice(&[1.0, 2.0, 3.0, 4.0]));
        assert_eq!(*taken.0.lock(), [(0, vec![1.0, 2.0, 3.0]), (1, vec![4.0, 5.0, 6.0])]);
        gradient.fill_rest();
        assert_eq!(taken.indices(), [0, 1], "each once");
    }

    #[test]
    fn every_chunk_is_handed_on_once_whatever_its_length() {
        for (elements, order) in [(1, vec![4, 5, 0, 1, 2, 3]), (2, vec![2, 0, 1]), (4, vec![1, 0]), (7, vec![0])] {
            let taken = Taken::default();
            let mut gradient = ShardGradient::new(network(), vec![0.0; 6], Some(&taken.taker(elements)));
            gradient.write(1, |place| place.fill(1.0));
            gradient.fill_rest();
            assert_eq!(taken.indices(), order, "chunks of {elements}");
        }
    }

    #[test]
    fn nothing_is_handed_on_from_a_number_on_that_is_not_finite() {
        let taken = Taken::default();
        let mut gradient = ShardGradient::new(network(), vec![0.0; 6], Some(&taken.taker(2)));
        gradient.write(1, |place| place.fill(1.0));
        gradient.write(0, |place| place.copy_from_slice(&[1.0, f32::NAN, 1.0, 1.0]));
        assert_eq!(taken.indices(), [2]);
        assert!(!gradient.is_finite());
    }
}
