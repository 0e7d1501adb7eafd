//! Growing pauses between attempts.

use std::time::Duration;

/// Pauses that double from attempt to attempt, up to a bound.
///
/// A pause is a function of its arguments alone: the caller counts the attempts and brings the random number, so that
/// tests need neither a clock nor a seed.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use convoy_common::backoff::Backoff;
///
/// let backoff = Backoff { first: Duration::from_millis(100), last: Duration::from_secs(2) };
/// assert_eq!(backoff.longest(0), Duration::from_millis(100));
/// assert_eq!(backoff.longest(3), Duration::from_millis(800));
/// assert_eq!(backoff.longest(30), Duration::from_secs(2));
/// assert_eq!(backoff.jittered(0, 0), Duration::from_millis(50));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The longest pause after the first failure.
    pub first: Duration,
    /// The bound that no pause exceeds.
    pub last: Duration,
}

impl Backoff {
    /// The longest pause after failure number `attempt`, counted from 0: `first * 2^attempt`, at most `last`.
    pub fn longest(&self, attempt: u32) -> Duration {
        let factor = 1u32.checked_shl(attempt).unwrap_or(u32::MAX);
        self.first.saturating_mul(factor).min(self.last)
    }

    /// A pause between half of [`Backoff::longest`] and all of it, so that many who failed together do not come back
    /// together. `random` is uniform over all of `u64`.
    pub fn jittered(&self, attempt: u32, random: u64) -> Duration {
        let fraction = random as f64 / u64::MAX as f64;
        self.longest(attempt).mul_f64(0.5 + fraction / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BACKOFF: Backoff = Backoff { first: Duration::from_millis(100), last: Duration::from_secs(2) };

    #[test]
    fn pauses_double_up_to_the_bound() {
        let millis: Vec<u128> = (0..7).map(|attempt| BACKOFF.longest(attempt).as_millis()).collect();
        assert_eq!(millis, [100, 200, 400, 800, 1600, 2000, 2000]);
    }

    #[test]
    fn any_number_of_attempts_has_a_pause() {
        for attempt in [31, 32, 33, u32::MAX] {
            assert_eq!(BACKOFF.longest(attempt), BACKOFF.last);
        }
        let endless = Backoff { first: Duration::MAX, last: Duration::MAX };
        assert_eq!(endless.longest(3), Duration::MAX);
    }

    #[test]
    fn the_random_number_chooses_between_half_and_all() {
        assert_eq!(BACKOFF.jittered(1, 0), Duration::from_millis(100));
        assert_eq!(BACKOFF.jittered(1, u64::MAX), Duration::from_millis(200));
        assert_eq!(BACKOFF.jittered(1, u64::MAX / 2).as_millis(), 150);
    }

    proptest! {
        #[test]
        fn a_jittered_pause_is_at_least_half_of_the_longest(attempt: u32, random: u64) {
            let (longest, jittered) = (BACKOFF.longest(attempt), BACKOFF.jittered(attempt, random));
            prop_assert!(longest / 2 <= jittered && jittered <= longest, "{jittered:?} of {longest:?}");
        }
    }
}
