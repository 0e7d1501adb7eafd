//! Waiting for a moment that may not be set, and whether a loop that comes to it was awake.

use std::time::Duration;

use tokio::time::Instant;

/// A loop that comes to a deadline so much too late slept, or was starved.
const OVERSLEPT: Duration = Duration::from_millis(250);
/// What waited to be read while a loop slept is read by then.
const MOMENT: Duration = Duration::from_millis(500);

/// Returns at `deadline`; never, where there is none.
pub(crate) async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// When a loop looks for the silent and the late: at its deadline; but if it comes to that far too late, a moment
/// later. It was asleep then, and what workers have sent waits to be read.
#[derive(Debug)]
pub(crate) struct Lookout {
    not_before: Instant,
}

impl Lookout {
    /// Of a loop that begins now.
    pub(crate) fn new() -> Self {
        Lookout { not_before: Instant::now() }
    }

    /// When to wake up for what the state machine calls its deadline.
    pub(crate) fn due(&self, deadline: Option<Instant>) -> Option<Instant> {
        deadline.map(|at| at.max(self.not_before))
    }

    /// Whether to look now at what was due at `due`. Otherwise it is due again in a moment, and then for certain.
    pub(crate) fn is_awake(&mut self, due: Option<Instant>) -> bool {
        let Some(due) = due else { return true };
        let awake = due.elapsed() < OVERSLEPT || due == self.not_before;
        if !awake {
            self.not_before = Instant::now() + MOMENT;
        }
        awake
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_slept_looks_a_moment_later_and_then_for_certain() {
        let mut lookout = Lookout::new();
        let deadline = Instant::now() + Duration::from_secs(2);
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(lookout.is_awake(lookout.due(Some(deadline))));
        tokio::time::advance(Duration::from_secs(20)).await;
        assert!(!lookout.is_awake(lookout.due(Some(deadline))));
        let due = lookout.due(Some(deadline));
        assert_eq!(due, Some(Instant::now() + MOMENT));
        tokio::time::advance(Duration::from_secs(20)).await;
        assert!(lookout.is_awake(due), "a loop that is always late looks all the same");
    }
}
