//! How fast a member computes.

use std::collections::VecDeque;

use crate::ids::Micros;

/// A worker's speed is the mean of so many of its newest measurements.
const SPEEDS: usize = 5;

/// Estimated time that a shard takes a member on one thread.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Speed {
    /// The newest measurements, and how long a shard took at least when it was interrupted.
    recent: VecDeque<Micros>,
    /// The newest of these is such a time.
    interrupted: bool,
    /// What is forgotten: it was not measured for a while.
    forgotten: Micros,
    /// Rounds of its threads in the last lease.
    rounds: u64,
    /// It was measured since the last step of this kind began.
    fresh: bool,
}

impl Speed {
    /// The estimate; `None` without measurements.
    pub fn per_shard(&self) -> Option<Micros> {
        let sum = self.recent.iter().fold(0u64, |sum, time| sum.saturating_add(time.0));
        let mean = Micros(sum.checked_div(self.recent.len() as u64)?);
        let least = self.recent.back().copied().filter(|_| self.interrupted).unwrap_or_default();
        Some(Micros(mean.max(least).0.saturating_sub(self.forgotten.0)))
    }

    /// The least of the newest measurements.
    pub fn at_best(&self) -> Option<Micros> {
        self.recent.iter().min().copied()
    }

    /// Notes a measurement of a lease of so many rounds, or what it took at least.
    pub fn note(&mut self, per_shard: Micros, rounds: u64, interrupted: bool) {
        if self.recent.len() == SPEEDS {
            self.recent.pop_front();
        }
        self.recent.push_back(per_shard);
        (self.interrupted, self.forgotten, self.rounds, self.fresh) = (interrupted, Micros(0), rounds, true);
    }

    /// A step begins: where nothing was measured in the one before, so much of a lease is forgotten. It is not thought
    /// to be faster than `median` for that.
    pub fn age(&mut self, forgotten: Micros, median: Micros) {
        if let Some(slower) = self.per_shard().filter(|_| !self.fresh).and_then(|own| own.0.checked_sub(median.0)) {
            self.forgotten.0 += slower.min(forgotten.0 / self.rounds.max(1));
        }
        self.fresh = false;
    }
}
