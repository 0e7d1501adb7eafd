//! When a worker that lost its coordinator tries again, and when it gives up.

use std::time::Duration;

use convoy_common::backoff::Backoff;
use tokio::time::Instant;

/// Pauses between attempts.
const BACKOFF: Backoff = Backoff { first: Duration::from_millis(100), last: Duration::from_secs(2) };

/// Counts attempts to reach a coordinator.
#[derive(Debug)]
pub(crate) struct Reconnect {
    patience: Option<Duration>,
    /// Attempts since the last connection that was of use.
    attempts: u32,
    alone_since: Instant,
}

impl Reconnect {
    /// Nobody was reached so far. The coordinator is given up `patience` from now, or never.
    pub(crate) fn new(patience: Option<Duration>) -> Self {
        Reconnect { patience, attempts: 0, alone_since: Instant::now() }
    }

    /// A connection that was opened at `begun` has ended. One that ends at once is of no use: a coordinator that
    /// turns the worker away as soon as it comes must not be asked again and again without a pause.
    pub(crate) fn connection_ended(&mut self, begun: Instant) {
        if begun.elapsed() >= BACKOFF.last {
            (self.attempts, self.alone_since) = (0, Instant::now());
        }
    }

    /// The pause before the next attempt, drawn by `random`; `None` when there is no patience left for one.
    pub(crate) fn pause(&mut self, random: u64) -> Option<Duration> {
        let longest = BACKOFF.longest(self.attempts);
        if self.patience.is_some_and(|patience| self.alone_since.elapsed() + longest > patience) {
            return None;
        }
        let pause = BACKOFF.jittered(self.attempts, random);
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
    async fn pauses_grow_until_a_connection_was_of_use() {
        let mut reconnect = Reconnect::new(None);
        let grow = |reconnect: &mut Reconnect| [(); 6].map(|()| reconnect.pause(u64::MAX).unwrap().as_millis());
        assert_eq!(grow(&mut reconnect), [100, 200, 400, 800, 1600, 2000]);
        let begun = Instant::now();
        advance(1999 * MS).await;
        reconnect.connection_ended(begun);
        assert_eq!(reconnect.pause(u64::MAX), Some(2000 * MS), "the connection was of no use");
        advance(MS).await;
        reconnect.connection_ended(begun);
        assert_eq!(reconnect.pause(u64::MAX), Some(100 * MS));
    }

    #[tokio::test(start_paused = true)]
    async fn patience_ends_before_a_pause_that_would_exceed_it() {
        let mut reconnect = Reconnect::new(Some(1000 * MS));
        assert_eq!(reconnect.pause(0), Some(50 * MS));
        advance(800 * MS).await;
        assert_eq!(reconnect.pause(0), Some(100 * MS), "200 ms fit");
        assert_eq!(reconnect.pause(0), None, "400 ms do not");
        let begun = Instant::now();
        advance(BACKOFF.last).await;
        reconnect.connection_ended(begun);
        assert_eq!(reconnect.pause(0), Some(50 * MS), "patience begins anew with a connection that was of use");
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_bound_patience_never_ends() {
        let mut reconnect = Reconnect::new(None);
        advance(Duration::from_secs(365 * 24 * 3600)).await;
        assert!((0..100).all(|_| reconnect.pause(0).is_some()));
    }
}
