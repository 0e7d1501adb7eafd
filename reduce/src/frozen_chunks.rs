//! Chunks that no step changes while only the head of a network is trained.

use convoy_common::Plan;
use convoy_model::Network;
use convoy_proto::{CHUNK_ELEMENTS, chunk_count};

/// The first steps of `plan`, in which only the head is trained.
pub(crate) fn frozen_steps(plan: &Plan) -> u64 {
    u64::from(plan.spec.network.freeze_epochs) * plan.train_cut().steps()
}

/// The chunks that hold nothing but frozen layers, and how long these are frozen. Such a chunk travels nowhere: nobody
/// sends its gradient, which is 0, and who has the parameters of any step that it is frozen in has those of the next.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FrozenChunks {
    frozen: Vec<bool>,
    /// Steps in which only the head is trained; they are the first ones.
    steps: u64,
}

impl FrozenChunks {
    /// Those of `network` under `plan`.
    pub fn of(plan: &Plan, network: &Network) -> Self {
        let mut frozen = vec![true; chunk_count(network.len())];
        for range in network.tensors.iter().filter(|tensor| tensor.head).map(|tensor| tensor.range()) {
            frozen[range.start / CHUNK_ELEMENTS..range.end.div_ceil(CHUNK_ELEMENTS)].fill(false);
        }
        FrozenChunks::new(frozen, frozen_steps(plan))
    }

    /// Those chunks of which `frozen` says so, in the first `steps` steps.
    pub fn new(frozen: Vec<bool>, steps: u64) -> Self {
        FrozenChunks { frozen, steps }
    }

    /// Whether step `step` leaves chunk `index` as it is, and all steps before it did.
    pub fn contain(&self, step: u64, index: usize) -> bool {
        step < self.steps && self.frozen.get(index) == Some(&true)
    }

    /// The chunks that step `step` leaves as they are.
    pub fn at(&self, step: u64) -> impl Iterator<Item = usize> {
        (0..self.frozen.len()).filter(move |index| self.contain(step, *index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_is_frozen_where_nothing_of_the_head_is_in_it_and_as_long_as_the_head_learns_alone() {
        let layers = "layers = [{ type = \"flatten\" }, { type = \"linear\", out = 300 }, \
                      { type = \"linear\", out = 3 }]";
        let spec = format!("[train]\nepochs = 3\nbatch = 8\nshard = 8\n[network]\nfreeze_epochs = 2\n{layers}");
        let mut plan = convoy_testing::plan(&spec, [25, 30, 1], 3);
        let network = Network::of(&plan).expect("a network of a test is right");
        let head = network.tensors.iter().filter(|tensor| tensor.head).map(|tensor| tensor.range());
        let head: Vec<usize> = head.flatten().map(|element| element / CHUNK_ELEMENTS).collect();
        let chunks = chunk_count(network.len());
        assert!(chunks > 2 && head.contains(&(chunks - 1)) && !head.contains(&0));
        let frozen = FrozenChunks::of(&plan, &network);
        let steps = 2 * plan.train_cut().steps();
        for step in [0, steps - 1] {
            let expected: Vec<usize> = (0..chunks).filter(|index| !head.contains(index)).collect();
            assert_eq!(frozen.at(step).collect::<Vec<_>>(), expected);
        }
        assert_eq!(frozen.at(steps).count(), 0);
        plan.spec.network.freeze_epochs = 0;
        assert_eq!(FrozenChunks::of(&plan, &network).at(0).count(), 0);
    }
}
