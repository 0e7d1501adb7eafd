//! How long a coordinator that does not answer is asked again.

use std::time::Duration;

use convoy_common::backoff::Backoff;
use tokio::time::Instant;

/// Pauses between attempts.
const BACKOFF: Backoff = Backoff { first: Duration::from_millis(100), last: Duration::from_secs(2) };

/// Growing pauses between attempts to reach a coordinator, until there is no patience left for another one.
#[derive(Debug)]
pub struct Patience {
    /// `None` for as long as it takes.
    bound: Option<Duration>,
    /// Attempts since patience began.
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

    /// A connection that was opened at `begun` has ended. One that ends at once is of no use: a coordinator that turns
    /// somebody away as soon as they come must not be asked again and again without a pause.
    pub fn connection_ended(&mut self, begun: Instant) {
        if begun.elapsed() >= BACKOFF.last {
            self.renew();
        }
    }

    /// The pause before the next attempt of somebody who is alone; `None` when it would take longer than there is
    /// patience.
    pub fn pause(&mut self) -> Option<Duration> {
        let pause = BACKOFF.longest(self.attempts);
        if self.bound.is_some_and(|bound| self.since.elapsed() + pause > bound) {
            return None;
        }
        self.attempts += 1;
        Some(pause)
    }

    /// The pause of one of many who may have lost the same coordinator: `random` draws it between half of
    /// [`Patience::pause`] and all of it.
    pub fn drawn_pause(&mut self, random: u64) -> Option<Duration> {
        let attempt = self.attempts;
        self.pause().map(|_| BACKOFF.jittered(attempt, random))
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
    async fn only_a_connection_that_was_of_use_renews_patience() {
        let mut patience = Patience::new(None);
        let grow = |patience: &mut Patience| [(); 6].map(|()| patience.drawn_pause(u64::MAX).unwrap().as_millis());
        assert_eq!(grow(&mut patience), [100, 200, 400, 800, 1600, 2000]);
        let begun = Instant::now();
        advance(1999 * MS).await;
        patience.connection_ended(begun);
        assert_eq!(patience.drawn_pause(u64::MAX), Some(2000 * MS), "the connection was of no use");
        advance(MS).await;
        patience.connection_ended(begun);
        assert_eq!(patience.drawn_pause(u64::MAX), Some(100 * MS));
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

    #[tokio::test(start_paused = true)]
    async fn a_drawn_pause_must_fit_as_its_longest() {
        let mut patience = Patience::new(Some(1000 * MS));
        assert_eq!(patience.drawn_pause(0), Some(50 * MS));
        advance(800 * MS).await;
        assert_eq!(patience.drawn_pause(0), Some(100 * MS), "200 ms fit");
        assert_eq!(patience.drawn_pause(0), None, "400 ms do not");
        let begun = Instant::now();
        advance(BACKOFF.last).await;
        patience.connection_ended(begun);
        assert_eq!(patience.drawn_pause(0), Some(50 * MS), "patience begins anew with a connection that was of use");
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_bound_patience_never_ends() {
        let mut patience = Patience::new(None);
        advance(Duration::from_secs(365 * 24 * 3600)).await;
        assert!((0..100).all(|_| patience.drawn_pause(0).is_some()));
    }
}
