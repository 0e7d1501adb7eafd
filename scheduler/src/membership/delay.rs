//! How long leases wait for a member longer than for others.

use crate::ids::{Micros, RunTime};

/// A lease that waits for up to so many medians, or so long, waits like all others.
const LATE: u64 = 8;
const LATE_LEAST: Micros = Micros::millis(5);
/// The first time that a lease waited for its worker, that is forgotten so many times more slowly than it passes.
const FIRST: u64 = 16;
/// If one waited again within so many times the time until it was forgotten, that wait is forgotten so many times as
/// slowly: any machine has a break now and then, and one that has them again and again is to be waited for seldom.
const AGAIN: u64 = 4;
/// No wait is forgotten more slowly than this many times the time that passes.
const REMEMBERED: u64 = 64;
/// No longer wait is remembered: where there are others, they do the lease by then, and one long break must not keep a
/// worker out for an hour.
const LONGEST_WAIT: Micros = Micros::seconds(1);

/// Whether a lease waited much longer for its worker than others did for others; without others, it did not.
pub(crate) fn is_late(waited: Micros, others: Option<Micros>) -> bool {
    others.is_some_and(|others| waited > others.times(LATE).max(LATE_LEAST))
}

/// The longest that a lease waited for a member, as far as that is not forgotten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Delay {
    waited: Micros,
    at: RunTime,
    /// How many times more slowly it is forgotten than it passed.
    remembered: u64,
}

impl Delay {
    /// Notes that a lease waited.
    pub fn note(&mut self, waited: Micros, now: RunTime) {
        let waited = waited.min(LONGEST_WAIT);
        if self.left(now) <= waited {
            let soon = now.since(self.at) < self.waited.times(self.remembered).times(AGAIN);
            let remembered = if soon { (self.remembered * AGAIN).min(REMEMBERED) } else { FIRST };
            *self = Delay { waited, at: now, remembered };
        }
    }

    /// What is not forgotten.
    pub fn left(&self, now: RunTime) -> Micros {
        let forgotten = now.since(self.at).0.checked_div(self.remembered).unwrap_or(0);
        Micros(self.waited.0.saturating_sub(forgotten))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_forgotten_soon_and_waits_that_come_again_and_again_are_not() {
        let mut delay = Delay::default();
        // After how many times as long it is forgotten.
        let mut remembered = |at| {
            delay.note(Micros(10_000), RunTime(at));
            (1..).find(|times| delay.left(RunTime(at + times * 10_000)) == Micros(0))
        };
        let all = [0, 100_000, 2_000_000, 2_000_000 + 5 * 640_000].map(|at| remembered(at).unwrap_or(0));
        assert_eq!(all, [16, 64, 64, 16]);
    }

    #[test]
    fn a_shorter_wait_changes_nothing_and_no_wait_is_longer_than_a_second() {
        let mut delay = Delay::default();
        delay.note(Micros(20_000_000), RunTime(5));
        let before = delay;
        delay.note(Micros(900_000), RunTime(10));
        assert_eq!((delay, delay.left(RunTime(5))), (before, LONGEST_WAIT));
    }

    #[test]
    fn a_lease_is_late_beside_others_of_its_step() {
        let late = |waited, others: Option<u64>| is_late(Micros(waited), others.map(Micros));
        assert!(!late(1_000_000, None), "all of a step may have waited for the coordinator");
        assert_eq!([late(5_000, Some(0)), late(5_001, Some(0))], [false, true]);
        assert_eq!([late(80_000, Some(10_000)), late(80_001, Some(10_000))], [false, true]);
    }
}
