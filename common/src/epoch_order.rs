//! The order of samples: which samples form shard s of step t, by index arithmetic on (seed, epoch), the same on every
//! machine.

use std::ops::Range;

use crate::random::{Purpose, permutation};

/// How the samples of an epoch are cut into steps and shards.
///
/// # Examples
/// ```
/// use convoy_common::epoch_order::EpochCut;
///
/// let cut = EpochCut { samples: 300, batch: 128, shard: 32, keep_last: true };
/// assert_eq!((cut.steps(), cut.shards(0), cut.shards(2)), (3, 4, 2));
/// assert_eq!(cut.shard(2, 0), 256..278);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochCut {
    /// Samples of an epoch.
    pub samples: u32,
    /// Samples of a full step.
    pub batch: u32,
    /// Samples of a full shard.
    pub shard: u32,
    /// Whether the samples that do not fill the last step make a smaller step; otherwise they are left out.
    pub keep_last: bool,
}

impl EpochCut {
    /// Steps of an epoch.
    pub fn steps(&self) -> u64 {
        let full = u64::from(self.samples / self.batch);
        full + u64::from(self.keep_last && !self.samples.is_multiple_of(self.batch))
    }

    /// Positions in the epoch's order of the samples of step `step`, counted from 0 within the epoch.
    pub fn step(&self, step: u64) -> Range<u32> {
        let first = (step * u64::from(self.batch)).min(u64::from(self.samples)) as u32;
        first..first.saturating_add(self.batch).min(self.samples)
    }

    /// Number of shards of step `step`: n samples make ceil(n / shard) shards.
    pub fn shards(&self, step: u64) -> u32 {
        let range = self.step(step);
        (range.end - range.start).div_ceil(self.shard)
    }

    /// Positions in the epoch's order of the samples of shard `shard` of step `step`. Sizes of shards within a step
    /// differ by at most one, larger ones first.
    ///
    /// # Panics
    /// When the step has no such shard.
    pub fn shard(&self, step: u64, shard: u32) -> Range<u32> {
        let range = self.step(step);
        let shards = self.shards(step);
        assert!(shard < shards, "step {step} has {shards} shards, not shard {shard}");
        let (small, larger) = ((range.end - range.start) / shards, (range.end - range.start) % shards);
        let first = range.start + shard * small + shard.min(larger);
        first..first + small + u32::from(shard < larger)
    }

    /// Samples of the smallest shard of an epoch, which batch norm must be able to work with; 0 when there is no step.
    pub fn smallest_shard(&self) -> u32 {
        let smallest = |step| {
            let range = self.step(step);
            (range.end - range.start).checked_div(self.shards(step)).unwrap_or(0)
        };
        match self.steps() {
            0 => 0,
            steps => smallest(0).min(smallest(steps - 1)),
        }
    }
}

/// The order of one epoch over `usable` samples (indices into the manifest's split).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EpochOrder {
    samples: Vec<u32>,
}

impl EpochOrder {
    /// The order of training epoch `epoch`: a permutation at addresses under (`seed`, order, `epoch`).
    pub fn shuffled(seed: u64, epoch: u32, usable: &[u32]) -> Self {
        let order = permutation(seed, Purpose::Order, epoch, usable.len() as u32);
        EpochOrder { samples: order.into_iter().map(|position| usable[position as usize]).collect() }
    }

    /// The order of the manifest, for evaluations.
    pub fn sequential(usable: &[u32]) -> Self {
        EpochOrder { samples: usable.to_vec() }
    }

    /// The samples at `positions`.
    ///
    /// # Panics
    /// When the epoch has no such positions.
    pub fn samples(&self, positions: Range<u32>) -> &[u32] {
        &self.samples[positions.start as usize..positions.end as usize]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_last_step_takes_what_remains() {
        let cut = EpochCut { samples: 300, batch: 128, shard: 32, keep_last: true };
        assert_eq!((cut.steps(), cut.shards(0), cut.shards(2)), (3, 4, 2));
        assert_eq!((cut.shard(2, 0), cut.shard(2, 1)), (256..278, 278..300));
        assert_eq!(EpochCut { keep_last: false, ..cut }.steps(), 2);
    }

    proptest! {
        #[test]
        fn every_position_once(samples in 1u32..2000, batch in 1u32..300, shard in 1u32..64, keep_last: bool) {
            let cut = EpochCut { samples, batch, shard, keep_last };
            let mut next = 0;
            for step in 0..cut.steps() {
                let sizes: Vec<u32> = (0..cut.shards(step)).map(|s| {
                    let range = cut.shard(step, s);
                    assert_eq!(range.start, next);
                    next = range.end;
                    range.end - range.start
                }).collect();
                let (low, high) = (*sizes.iter().min().unwrap(), *sizes.iter().max().unwrap());
                prop_assert!(high - low <= 1 && high <= shard && low >= cut.smallest_shard());
            }
            prop_assert_eq!(next, if keep_last { samples } else { samples / batch * batch });
        }

        #[test]
        fn epochs_differ_but_hold_the_same(seed: u64, count in 20u32..200) {
            let usable: Vec<u32> = (0..count).map(|i| i * 2).collect();
            let (a, b) = (EpochOrder::shuffled(seed, 0, &usable), EpochOrder::shuffled(seed, 1, &usable));
            prop_assert_ne!(&a, &b);
            let mut sorted = a.samples(0..count).to_vec();
            sorted.sort_unstable();
            prop_assert_eq!(sorted, usable);
        }
    }
}
