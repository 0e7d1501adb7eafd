//! How long a coordinator that does not answer is asked again.

use std::time::Duration;

use convoy_common::backoff::Backoff;
use tokio::time::Instant;

/// Pauses between attempts.
const BACKOFF: Backoff = Backoff { first: Duration::from_millis(100), last: Duration::from_secs(2) };

/// Growing pauses between attempts, until there is no patience left for another one.
#[derive(Debug)]
pub struct Patience {
    /// `None` for as long as it takes.
    bound: Option<Duration>,
    /// Attempts since the last answer.
    attempts: u32,
    since: Instant,
}

impl Patience {
    /// Patience for `bound` from now, or for as long as it takes.
    pub fn new(bound: Option<Duration>) -> Self {
        Patience { bound, attempts: 0, since: Instant::now() }
    }

    /// Somebody answered: patience begins anew.
    pub fn renew(&mut self) {
        *self = Patience::new(self.bound);
    }

    /// The pause before the next attempt; `None` when it would take longer than there is patience.
    pub fn pause(&mut self) -> Option<Duration> {
        let pause = BACKOFF.longest(self.attempts);
        if self.bound.is_some_and(|bound| self.since.elapsed() + pause > bound) {
            return None;
        }
        self.attempts += 1;
        Some(pause)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_until_somebody_answers() {
        let mut patience = Patience::new(None);
        let pauses = [(); 6].map(|()| patience.pause().unwrap().as_millis());
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 2000]);
        patience.renew();
        assert_eq!(patience.pause(), Some(100 * MS));
    }

    #[tokio::test(start_paused = true)]
    async fn patience_ends_before_a_pause_that_would_exceed_it() {
        let mut patience = Patience::new(Some(300 * MS));
        assert_eq!(patience.pause(), Some(100 * MS));
        advance(100 * MS).await;
        assert_eq!(patience.pause(), Some(200 * MS));
        advance(200 * MS).await;
        assert_eq!(patience.pause(), None);
        patience.renew();
        assert_eq!(patience.pause(), Some(100 * MS));
        assert_eq!(Patience::new(Some(Duration::ZERO)).pause(), None);
    }
}
