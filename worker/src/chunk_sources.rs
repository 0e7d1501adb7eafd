//! Who made the chunks of parameters that were put together, so that whoever made a wrong one can be named.

use std::collections::BTreeSet;

use convoy_proto::chunk_range;
use convoy_scheduler::WorkerId;

/// By chunk, the worker that has handed it out; `None` where the coordinator has, or it was here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ChunkSources(Vec<Option<WorkerId>>);

impl ChunkSources {
    /// No chunk of so many came from a worker.
    pub(crate) fn none(chunks: usize) -> Self {
        ChunkSources(vec![None; chunks])
    }

    /// Chunk `index` came from `worker`.
    pub(crate) fn came(&mut self, index: usize, worker: Option<WorkerId>) {
        self.0[index] = worker;
    }

    /// The worker that chunk `index` came from.
    pub(crate) fn of(&self, index: usize) -> Option<WorkerId> {
        self.0[index]
    }

    /// The workers that have handed out chunks of `came` which are not those of `right`, bit by bit.
    pub(crate) fn wrong(&self, came: &[f32], right: &[f32]) -> BTreeSet<WorkerId> {
        let differs = |index: usize| {
            let range = chunk_range(right.len(), index);
            let (came, right) = (&came[range.clone()], &right[range]);
            came.iter().zip(right).any(|(came, right)| came.to_bits() != right.to_bits())
        };
        let sources = self.0.iter().enumerate().filter_map(|(index, source)| Some((index, (*source)?)));
        sources.filter(|(index, _)| differs(*index)).map(|(_, worker)| worker).collect()
    }
}

#[cfg(test)]
mod tests {
    use convoy_proto::CHUNK_ELEMENTS;

    use super::*;

    #[test]
    fn who_made_a_chunk_of_other_bits_is_named() {
        let (one, two, len) = (WorkerId(1), WorkerId(2), 2 * CHUNK_ELEMENTS + 3);
        let mut sources = ChunkSources::none(3);
        [(0, Some(one)), (1, Some(two)), (2, None)].into_iter().for_each(|(index, from)| sources.came(index, from));
        let right = vec![0.0; len];
        let came = |wrong: &[usize]| {
            let mut came = right.clone();
            wrong.iter().for_each(|element| came[*element] = -0.0);
            sources.wrong(&came, &right)
        };
        assert_eq!(came(&[]), BTreeSet::new());
        assert_eq!(came(&[5]), [one].into(), "a sign is a bit");
        assert_eq!(came(&[CHUNK_ELEMENTS]), [two].into());
        assert_eq!(came(&[0, CHUNK_ELEMENTS, len - 1]), [one, two].into(), "nobody else made the last one");
    }
}
