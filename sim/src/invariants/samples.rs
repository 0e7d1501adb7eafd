//! See [`Samples`].

use std::collections::BTreeMap;

use convoy_scheduler::{Effect, Node, StepId, Work};

use super::invariant::{Invariant, check};
use crate::bookkeeping::Books;
use crate::facts::Fact;
use crate::oracle;

/// Every sample of an epoch is in its committed steps exactly once, over all restarts. A step that is computed again
/// takes the place of what it was before.
#[derive(Default)]
pub(super) struct Samples {
    /// The nodes that were counted in each committed step, each with the step whose samples it was computed from.
    taken: BTreeMap<StepId, Vec<(Node, StepId)>>,
}

impl Invariant for Samples {
    fn name(&self) -> &'static str {
        "samples"
    }

    fn look(&mut self, books: &Books, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::CarriedOut(Effect::Commit { step, .. }) => {
                let open = books.open.iter().filter(|open| open.work == Work::Train);
                let source = |(node, _, at): &(Node, _, _)| Some((*node, books.computed.get(at)?.data_of));
                self.taken.insert(*step, open.flat_map(|open| open.counted.iter().filter_map(source)).collect());
                if books.plan.ends_epoch(step.next()) { self.epoch_ends(books, *step) } else { Ok(()) }
            }
            _ => Ok(()),
        }
    }
}

impl Samples {
    fn epoch_ends(&self, books: &Books, last: StepId) -> Result<(), String> {
        let plan = &books.plan;
        let first = StepId(last.next().0 - plan.steps_per_epoch);
        let mut times = vec![0u32; oracle::samples_per_epoch(plan) as usize];
        for (node, data_of) in self.taken.range(first..=last).flat_map(|(_, taken)| taken) {
            for sample in node.leaves().flat_map(|shard| oracle::samples(plan, *data_of, shard)) {
                times[sample as usize] += 1;
            }
        }
        let epoch = plan.epoch(last);
        match times.iter().position(|times| *times != 1) {
            Some(sample) => check(false, || format!("epoch {epoch} has sample {sample} {} times", times[sample])),
            None => Ok(()),
        }
    }
}
