//! What a run asks of whoever holds the connections of its workers.

use std::sync::Arc;

use convoy_scheduler::{JobId, WorkerId};

use super::handle::RunHandle;

/// The connections of workers, as a run sees them.
pub(crate) trait WorkerLinks: Send + Sync {
    /// The run has begun: its workers are called, and may ask for its plan and its parameters.
    fn open(&self, job: JobId, run: Arc<RunHandle>);

    /// The run is over: all of its workers are released.
    fn close(&self, job: JobId, reason: &str);

    /// The run lets a worker go: it is free for another job.
    fn release(&self, worker: WorkerId, job: JobId, reason: &str);

    /// A worker's connection is of no more use: it does not read.
    fn lose(&self, worker: WorkerId);

    /// Closes a worker's connection with a goodbye; it may come back.
    fn disconnect(&self, worker: WorkerId, reason: &str);

    /// Nobody on this machine is taken in any more; the first reason that was given is what they are told.
    fn evict(&self, machine: &str, reason: String);
}
