//! Whose runs are open, for those who must not come between a run and its end.

use std::collections::BTreeSet;
use std::sync::Arc;

use convoy_scheduler::JobId;
use parking_lot::{Condvar, Mutex};

/// The jobs whose runs are open: from their start until the fleet knows of their end. Written by the fleet's loop.
///
/// Between a job's last word and the fleet's hearing of it, the job is over for people and runs for the fleet: whoever
/// wants to start it again or take its files away waits that moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct OpenRuns(Arc<State>);

#[derive(Debug, Default)]
struct State {
    open: Mutex<BTreeSet<JobId>>,
    ended: Condvar,
}

impl OpenRuns {
    pub(crate) fn begin(&self, job: JobId) {
        self.0.open.lock().insert(job);
    }

    pub(crate) fn end(&self, job: JobId) {
        self.0.open.lock().remove(&job);
        self.0.ended.notify_all();
    }

    /// Nobody says any more when a run ends.
    pub(super) fn end_all(&self) {
        self.0.open.lock().clear();
        self.0.ended.notify_all();
    }

    /// Waits until the run of `job` is closed. For jobs that are over: others may run for days.
    pub(crate) fn wait_until_closed(&self, job: JobId) {
        let mut open = self.0.open.lock();
        while open.contains(&job) {
            self.0.ended.wait(&mut open);
        }
    }
}
