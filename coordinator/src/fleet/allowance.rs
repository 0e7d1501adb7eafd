//! How much a worker may say.

use std::time::Duration;

use tokio::time::Instant;

/// Messages that a worker may send at once.
const AT_ONCE: u64 = 4096;
/// Messages that it may send a second without being told anything: its heartbeats and its log.
const A_SECOND: u64 = 200;
/// Messages that it may send for each that it was told: of a lease it says that it is computed, and that it failed.
const EACH: u64 = 3;

/// The messages that a worker may send at the moment.
#[derive(Debug)]
pub(crate) struct Allowance {
    left: u64,
    /// Up to then, time is counted in `left`.
    counted: Instant,
    /// So many messages to it are counted in `left`.
    told: u64,
}

/// It sends far more than it has reason to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it sends more than {A_SECOND} messages a second, and {EACH} for each that it was sent")]
pub(crate) struct TooMany;

impl Allowance {
    /// Of a worker that comes now.
    pub(crate) fn new() -> Self {
        Allowance { left: AT_ONCE, counted: Instant::now(), told: 0 }
    }

    /// Counts a message of a worker that was told `told` so far.
    ///
    /// # Errors
    /// When it was one too many.
    pub(crate) fn take(&mut self, told: u64) -> Result<(), TooMany> {
        if self.left == 0 {
            let earned = self.counted.elapsed().as_micros() as u64 * A_SECOND / 1_000_000;
            self.counted += Duration::from_micros(earned * 1_000_000 / A_SECOND);
            self.left = (earned + told.saturating_sub(self.told).saturating_mul(EACH)).min(AT_ONCE);
            self.told = told;
        }
        self.left = self.left.checked_sub(1).ok_or(TooMany)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_honest_worker_says_as_much_as_it_has_to() {
        let mut allowance = Allowance::new();
        let mut told = 0;
        // A thousand steps a second with four leases each, for a minute, and its heartbeats and log.
        for _ in 0..60_000 {
            told += 6;
            (0..9).for_each(|_| allowance.take(told).expect("it has reason to"));
            tokio::time::advance(Duration::from_millis(1)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_ends_soon() {
        let mut allowance = Allowance::new();
        let mut sent = 0;
        while allowance.take(1).is_ok() {
            sent += 1;
            tokio::time::advance(Duration::from_micros(10)).await;
        }
        assert!(sent < 2 * AT_ONCE, "{sent}");
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert_eq!(
            (0..2 * AT_ONCE).filter(|_| allowance.take(1).is_ok()).count() as u64,
            AT_ONCE,
            "and no more is saved"
        );
    }
}
