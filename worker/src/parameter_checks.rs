//! Parameters are compared with their digest before they are computed with: always before the first lease, then as
//! often as it costs next to nothing.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use convoy_common::Digest;
use convoy_scheduler::WorkerId;
use tokio::time::Instant;
use tonic::Status;

use crate::chunk_sources::ChunkSources;

/// Of the time since a worker joined a run, this part goes into checks: 0.4 %.
const SHARE: u32 = 250;

/// Makes the digest of parameters.
pub(crate) type MakeDigest = Arc<dyn Fn(&[f32]) -> Digest + Send + Sync>;

/// Which parameters are checked, and what came of it.
pub(crate) struct ParameterChecks {
    make: MakeDigest,
    joined: Instant,
    spent: Duration,
    passed: bool,
    /// Checks that failed without one that passed between them.
    failed: u32,
    /// Parameters that workers made were wrong.
    workers_were_wrong: bool,
    misserved: Option<Misserved>,
    wrong: Option<WrongParameters>,
}

/// Parameters that owners handed out were wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WrongParameters {
    pub(crate) step: u64,
    pub(crate) workers: BTreeSet<WorkerId>,
}

/// What was put together, until it can be seen which chunks of it are wrong.
#[derive(Debug)]
pub(crate) struct Misserved {
    pub(crate) step: u64,
    pub(crate) flat: Vec<f32>,
    pub(crate) sources: ChunkSources,
}

/// What a check has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Checked {
    Good,
    /// They are other numbers than the coordinator's, once so far.
    Wrong,
    /// They are so again, although they were fetched again.
    WrongAgain,
}

/// Makes digests apart from the checks.
pub(crate) struct DigestMaker(MakeDigest);

impl DigestMaker {
    pub(crate) fn of(&self, flat: &[f32]) -> Measured {
        let begun = std::time::Instant::now();
        let digest = (self.0)(flat);
        Measured { digest, took: begun.elapsed() }
    }

    /// The digest of parameters, made on a thread that may take its time. `None` where that thread is no more.
    pub(crate) async fn measure(self, flat: Vec<f32>) -> (Result<Vec<f32>, Status>, Option<Measured>) {
        let measuring = tokio::task::spawn_blocking(move || {
            let measured = self.of(&flat);
            (flat, measured)
        });
        match measuring.await {
            Ok((flat, measured)) => (Ok(flat), Some(measured)),
            Err(error) => (Err(Status::internal(error.to_string())), None),
        }
    }
}

/// A digest, and how long it took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measured {
    digest: Digest,
    took: Duration,
}

impl ParameterChecks {
    /// Nothing was checked yet.
    pub(crate) fn new(make: MakeDigest) -> Self {
        ParameterChecks {
            make,
            joined: Instant::now(),
            spent: Duration::ZERO,
            passed: false,
            failed: 0,
            workers_were_wrong: false,
            misserved: None,
            wrong: None,
        }
    }

    /// Whether the next parameters are checked.
    pub(crate) fn due(&self) -> bool {
        !self.passed || self.failed > 0 || self.spent * SHARE <= self.joined.elapsed()
    }

    /// Makes the digest on a thread that may take its time, and hands it to `then` with the parameters.
    pub(crate) fn measure(&self, flat: Vec<f32>, then: impl FnOnce(Vec<f32>, Measured) + Send + 'static) {
        let maker = self.maker();
        tokio::task::spawn_blocking(move || {
            let measured = maker.of(&flat);
            then(flat, measured);
        });
    }

    /// Who makes digests.
    pub(crate) fn maker(&self) -> DigestMaker {
        DigestMaker(self.make.clone())
    }

    /// Whether parameters that workers made are those whose digest the coordinator told. That does not count as a check
    /// of this machine.
    pub(crate) fn workers_were_right(&mut self, measured: Measured, told: Digest) -> bool {
        self.workers_were_wrong |= measured.digest != told;
        measured.digest == told
    }

    /// Whether parameters that workers made were wrong since this was asked last.
    pub(crate) fn workers_were_wrong(&mut self) -> bool {
        std::mem::take(&mut self.workers_were_wrong)
    }

    /// Keeps what was put together and is wrong. The answer is what was kept before.
    pub(crate) fn suspect(&mut self, misserved: Option<Misserved>) -> Option<Vec<f32>> {
        std::mem::replace(&mut self.misserved, misserved).map(|before| before.flat)
    }

    /// The right parameters of `step` are here: finds who handed out others.
    pub(crate) fn find_wrong(&mut self, step: u64, right: &[f32]) {
        if let Some(Misserved { flat, sources, .. }) = self.misserved.as_ref().filter(|wrong| wrong.step == step) {
            let workers = sources.wrong(flat, right);
            self.wrong = (!workers.is_empty()).then_some(WrongParameters { step, workers });
        }
    }

    /// Who handed out wrong parameters, if that was found since this was asked last.
    pub(crate) fn misserved(&mut self) -> Option<WrongParameters> {
        self.wrong.take()
    }

    /// Compares what was measured with the digest that the coordinator told.
    pub(crate) fn compare(&mut self, measured: Measured, told: Digest) -> Checked {
        self.spent += measured.took;
        if measured.digest == told {
            (self.passed, self.failed) = (true, 0);
            return Checked::Good;
        }
        self.failed += 1;
        if self.failed > 1 { Checked::WrongAgain } else { Checked::Wrong }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(byte: u8, took: Duration) -> Measured {
        Measured { digest: Digest::of(&[byte]), took }
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_is_checked_and_then_so_few_that_it_takes_little_time() {
        let mut checks = ParameterChecks::new(Arc::new(|_| Digest::default()));
        let (mut checked, took) = (0, Duration::from_millis(10));
        assert!(checks.due());
        for _ in 0..1000 {
            if checks.due() {
                checked += 1;
                assert_eq!(checks.compare(measured(1, took), Digest::of(&[1])), Checked::Good);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let part = took.as_secs_f64() * f64::from(checked) / 100.0;
        assert!(checked > 20 && part < 0.005, "{checked} checks took {part} of the time");
    }

    #[tokio::test(start_paused = true)]
    async fn a_check_that_fails_is_followed_by_another_and_the_second_in_a_row_is_told_apart() {
        let mut checks = ParameterChecks::new(Arc::new(|_| Digest::default()));
        let told = Digest::of(&[1]);
        assert_eq!(checks.compare(measured(1, Duration::from_secs(1)), told), Checked::Good);
        assert!(!checks.due());
        for _ in 0..2 {
            assert_eq!(checks.compare(measured(2, Duration::ZERO), told), Checked::Wrong);
            assert!(checks.due());
            assert_eq!(checks.compare(measured(1, Duration::ZERO), told), Checked::Good);
        }
        assert_eq!(checks.compare(measured(2, Duration::ZERO), told), Checked::Wrong);
        assert_eq!(checks.compare(measured(2, Duration::ZERO), told), Checked::WrongAgain);
    }
}
