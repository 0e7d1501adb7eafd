//! Waiting for a moment that may not be set, and whether a loop that comes to it was awake.

use std::time::Duration;

use tokio::time::Instant;

/// A loop that comes to a deadline so much too late slept, or was starved.
const OVERSLEPT: Duration = Duration::from_millis(250);
/// What waits to be read is read by then.
const GLANCE: Duration = Duration::from_millis(20);
/// What waited to be read while a loop slept is read by then.
const MOMENT: Duration = Duration::from_millis(500);

/// Returns at `deadline`; never, where there is none.
pub(crate) async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// When a loop looks for the silent and the late: not when it wakes up for its deadline, but when it wakes up a second
/// time soon after, since the whole process may have been asleep and what workers have sent may wait to be read. If it
/// woke up far too late it has surely been, and gives itself longer.
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
        let Some(due) = due.filter(|due| *due != self.not_before) else { return true };
        self.not_before = Instant::now() + if due.elapsed() < OVERSLEPT { GLANCE } else { MOMENT };
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_wakes_up_looks_a_moment_later_and_then_for_certain() {
        let mut lookout = Lookout::new();
        let deadline = Instant::now() + Duration::from_secs(2);
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(!lookout.is_awake(lookout.due(Some(deadline))));
        let again = lookout.due(Some(deadline));
        assert_eq!(again, Some(Instant::now() + GLANCE));
        tokio::time::advance(GLANCE).await;
        assert!(lookout.is_awake(again));

        let deadline = Instant::now() + Duration::from_secs(2);
        tokio::time::advance(Duration::from_secs(20)).await;
        assert!(!lookout.is_awake(lookout.due(Some(deadline))));
        let again = lookout.due(Some(deadline));
        assert_eq!(again, Some(Instant::now() + MOMENT));
        tokio::time::advance(Duration::from_secs(20)).await;
        assert!(lookout.is_awake(again), "a loop that is always late looks all the same");
    }
}
