//! Saying once in a while what happens all the time.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// How often the same thing is said.
const EVERY: Duration = Duration::from_secs(10);

/// Keeps something that others can make happen thousands of times a second from filling a log.
#[derive(Debug)]
pub struct Rarely(Mutex<Said>);

#[derive(Debug)]
struct Said {
    last: Option<Instant>,
    left_out: u64,
}

impl Default for Rarely {
    fn default() -> Self {
        Rarely::new()
    }
}

impl Rarely {
    /// Nothing was said yet.
    pub const fn new() -> Self {
        Rarely(Mutex::new(Said { last: None, left_out: 0 }))
    }

    /// How many times it was not said since the last time, if it is to be said now; at most every ten seconds.
    pub fn now(&self) -> Option<u64> {
        self.at(Instant::now())
    }

    fn at(&self, now: Instant) -> Option<u64> {
        let mut said = self.0.lock();
        if said.last.is_some_and(|last| now.duration_since(last) < EVERY) {
            said.left_out += 1;
            return None;
        }
        said.last = Some(now);
        Some(std::mem::take(&mut said.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_said_once_and_counted() {
        let (rarely, begun) = (Rarely::default(), Instant::now());
        assert_eq!(rarely.at(begun), Some(0));
        assert!((1..1775).all(|at| rarely.at(begun + at * EVERY / 2000).is_none()));
        assert_eq!(rarely.at(begun + EVERY), Some(1774));
        assert_eq!(rarely.at(begun + 2 * EVERY), Some(0));
    }
}
