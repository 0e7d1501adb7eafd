//! What each job waits for, for people.

use std::collections::BTreeMap;
use std::sync::Arc;

use convoy_scheduler::JobId;
use tokio::sync::watch;

/// In words, by job.
pub(crate) type Reasons = BTreeMap<JobId, String>;

/// What each job waits for, in words: written by the fleet's loop, read by whoever shows jobs.
#[derive(Debug, Clone, Default)]
pub(crate) struct WaitingReasons(Arc<watch::Sender<Reasons>>);

impl WaitingReasons {
    /// What `job` waits for; `None` when it waits for nothing or is not in the fleet.
    pub(crate) fn get(&self, job: JobId) -> Option<String> {
        self.0.borrow().get(&job).cloned()
    }

    /// Takes the place of all that was said before.
    pub(crate) fn set(&self, reasons: Reasons) {
        self.0.send_if_modified(|before| {
            let changed = *before != reasons;
            *before = reasons;
            changed
        });
    }

    /// Tells when a reason changes.
    pub(crate) fn changes(&self) -> watch::Receiver<Reasons> {
        self.0.subscribe()
    }
}
