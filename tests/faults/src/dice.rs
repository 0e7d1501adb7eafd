//! Random moments and places.

use std::time::{Duration, UNIX_EPOCH};

/// Numbers from a seed.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// From `seed`.
    pub fn new(seed: u64) -> Self {
        Dice(seed)
    }

    /// From a seed that none had before.
    pub fn from_clock() -> Self {
        Dice(UNIX_EPOCH.elapsed().map_or(0, |now| now.as_nanos() as u64))
    }

    /// A number below `bound`; 0 if that is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % bound.max(1)
    }

    /// Waits for less than `most`.
    pub fn pause(&mut self, most: Duration) {
        std::thread::sleep(Duration::from_micros(self.below(most.as_micros() as u64)));
    }
}
