//! Where the time of a step goes: `RUST_LOG=convoy_coordinator::stages=debug` shows a line for each step.

use std::time::{Duration, Instant};

/// What the reducer's thread did for one step. Time by the clock: other work on the core is in it.
#[derive(Debug, Default)]
pub struct Stages {
    /// Sums over the reduce tree.
    pub tree: Duration,
    /// The optimizer, with the copy of the old state that it begins with, and looking for NaN and infinity.
    pub optimizer: Duration,
    /// The digest of the next parameters.
    pub digest: Duration,
}

impl Stages {
    /// The step is committed; the next one begins with nothing.
    pub fn committed(&mut self, step: u64) {
        let Stages { tree, optimizer, digest } = std::mem::take(self);
        let [tree, optimizer, digest] = [tree, optimizer, digest].map(|time| time.as_secs_f64() * 1e3);
        tracing::debug!(target: "convoy_coordinator::stages", step, tree, optimizer, digest, "ms");
    }
}

/// Adds the time since `begun` to `stage`, and gives the time it is now.
pub fn lap(stage: &mut Duration, begun: Instant) -> Instant {
    let now = Instant::now();
    *stage += now - begun;
    now
}
