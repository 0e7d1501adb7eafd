//! When a worker was last in contact: timestamps that cost nothing to note.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use convoy_scheduler::{Contact, RunTime};
use tokio::time::{Instant, timeout};

/// While a worker waits for the coordinator, this often it is noted that its silence is not its own.
const EXCUSE: Duration = Duration::from_millis(100);

/// When a worker was last in contact, and how much it was told. Whoever reads from its connections or writes to them
/// notes it here; the loops of the run and the fleet look here before they look for the silent and the late.
#[derive(Debug)]
pub(crate) struct WorkerContact {
    since: Instant,
    /// Microseconds after `since`, here and below.
    heard: AtomicU64,
    came: AtomicU64,
    pushed: AtomicU64,
    fetched: AtomicU64,
    /// Messages that it was told.
    told: AtomicU64,
}

impl WorkerContact {
    /// A worker that comes now.
    pub(crate) fn new() -> Self {
        let since = Instant::now();
        let (heard, came, pushed, fetched, told) = Default::default();
        WorkerContact { since, heard, came, pushed, fetched, told }
    }

    /// Anything came of it.
    pub(crate) fn heard(&self) {
        let now = self.now();
        self.heard.fetch_max(now, Ordering::Relaxed);
        self.came.fetch_max(now, Ordering::Relaxed);
    }

    /// Bytes of a node of it came.
    pub(crate) fn pushed(&self) {
        self.pushed.fetch_max(self.now(), Ordering::Relaxed);
        self.heard();
    }

    /// It took bytes of parameters.
    pub(crate) fn fetched(&self) {
        let now = self.now();
        self.fetched.fetch_max(now, Ordering::Relaxed);
        self.heard.fetch_max(now, Ordering::Relaxed);
    }

    /// It was told something.
    pub(crate) fn told(&self) {
        self.told.fetch_add(1, Ordering::Relaxed);
    }

    /// How many messages it was told.
    pub(crate) fn times_told(&self) -> u64 {
        self.told.load(Ordering::Relaxed)
    }

    /// The times, counted from `begun`.
    pub(crate) fn read(&self, begun: Instant) -> Contact {
        let time = |micros: &AtomicU64| {
            let at = self.since + Duration::from_micros(micros.load(Ordering::Relaxed));
            RunTime(at.saturating_duration_since(begun).as_micros() as u64)
        };
        let [heard, came, pushed, fetched] = [&self.heard, &self.came, &self.pushed, &self.fetched].map(time);
        Contact { heard, came, pushed, fetched }
    }

    fn now(&self) -> u64 {
        self.since.elapsed().as_micros() as u64
    }
}

/// Waits for `room`, and calls `excuse` at the end and every now and then: who has to wait for the coordinator is not
/// silent.
pub(crate) async fn excused<T>(room: impl Future<Output = T>, excuse: impl Fn()) -> T {
    tokio::pin!(room);
    loop {
        let waited = timeout(EXCUSE, &mut room).await;
        excuse();
        if let Ok(room) = waited {
            return room;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn times_count_from_where_the_reader_says() {
        let contact = WorkerContact::new();
        tokio::time::advance(Duration::from_millis(3)).await;
        let begun = Instant::now();
        contact.pushed();
        tokio::time::advance(Duration::from_millis(2)).await;
        contact.fetched();
        let (heard, zero) = (RunTime(2000), RunTime(0));
        assert_eq!(contact.read(begun), Contact { heard, came: zero, pushed: zero, fetched: heard });
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_the_coordinator_is_not_silent() {
        let contact = WorkerContact::new();
        let begun = Instant::now();
        excused(tokio::time::sleep(Duration::from_millis(1400)), || contact.heard()).await;
        assert_eq!(contact.read(begun).heard, RunTime(1_400_000));
        let waiting = timeout(Duration::from_secs(60), excused(std::future::pending::<()>(), || contact.heard()));
        assert!(waiting.await.is_err());
        assert!(contact.read(begun).heard >= RunTime(60_900_000), "it was excused to the end");
    }
}
