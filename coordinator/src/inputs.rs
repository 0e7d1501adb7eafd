//! What reaches the coordinator's loop from its other parts.

use std::path::PathBuf;

use convoy_proto::v1;
use convoy_scheduler::{Event, WorkerId};
use tokio::sync::mpsc;

use crate::tracker::Waits;

/// Something for the loop, in order of arrival.
#[derive(Debug)]
pub enum Input {
    /// An event for the run.
    Event(Event),
    /// A worker opened its control stream.
    Attach {
        /// Its number.
        worker: WorkerId,
        /// Its name.
        name: String,
        /// Shards it computes at a time.
        threads: u32,
        /// The way back.
        outbox: mpsc::Sender<Result<v1::CoordinatorMessage, tonic::Status>>,
    },
    /// What a worker said of a lease it could not do.
    LeaseFailed {
        /// Which worker.
        worker: WorkerId,
        /// For people.
        reason: String,
    },
    /// What a worker's threads did for a lease.
    Worked(Waits),
    /// A checkpoint is on disk.
    CheckpointWritten {
        /// Its parameters.
        step: u64,
        /// Its file.
        path: PathBuf,
    },
    /// A checkpoint could not be written.
    CheckpointFailed {
        /// Its parameters.
        step: u64,
        /// Why.
        reason: String,
    },
}
