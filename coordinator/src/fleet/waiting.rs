//! What each job waits for, for people.

use std::collections::BTreeMap;
use std::sync::Arc;

use convoy_scheduler::JobId;
use parking_lot::Mutex;

/// What each job waits for, in words: written by the fleet's loop, read by whoever shows jobs.
#[derive(Debug, Clone, Default)]
pub(crate) struct WaitingReasons(Arc<Mutex<BTreeMap<JobId, String>>>);

impl WaitingReasons {
    /// What `job` waits for; `None` when it waits for nothing or is not in the fleet.
    pub(crate) fn get(&self, job: JobId) -> Option<String> {
        self.0.lock().get(&job).cloned()
    }

    /// Takes the place of all that was said before.
    pub(crate) fn set(&self, reasons: BTreeMap<JobId, String>) {
        *self.0.lock() = reasons;
    }
}
