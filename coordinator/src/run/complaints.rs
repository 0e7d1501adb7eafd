//! How much of what workers complain of is told.

use std::time::{Duration, Instant};

/// Time over which complaints are counted.
const WINDOW: Duration = Duration::from_secs(10);
/// Complaints that are told in that time.
const TOLD: u32 = 100;

/// Counts complaints, so that no worker fills a log with them.
#[derive(Debug, Default)]
pub(crate) struct Complaints {
    begun: Option<Instant>,
    told: u32,
    left_out: u64,
}

impl Complaints {
    /// How many were left out before this one, if it is to be told at `now`.
    pub(crate) fn admit(&mut self, now: Instant) -> Option<u64> {
        if self.begun.is_none_or(|begun| now.duration_since(begun) >= WINDOW) {
            (self.begun, self.told) = (Some(now), 0);
        }
        if self.told == TOLD {
            self.left_out += 1;
            return None;
        }
        self.told += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_counted_and_goes_by() {
        let (mut complaints, begun) = (Complaints::default(), Instant::now());
        let told = (0..4000).filter(|at| complaints.admit(begun + *at * WINDOW / 4001) == Some(0)).count();
        assert_eq!(told, TOLD as usize);
        assert_eq!(complaints.admit(begun + WINDOW), Some(3900));
        assert_eq!(complaints.admit(begun + WINDOW), Some(0));
    }
}
