//! What reaches the loop of a run from its other parts.

use std::path::PathBuf;

use convoy_proto::v1::DeclineCause;
use convoy_scheduler::{Event, Failure, LeaseRef, Node, Opening, StepId, WorkerId};

use super::outbox::WorkerOutbox;
use super::tracker::Waits;

/// Something for the loop, in order of arrival.
#[derive(Debug)]
pub(crate) enum RunInput {
    /// An event for the run.
    Event(Event),
    /// A worker joined the run.
    Attach {
        /// Its number.
        worker: WorkerId,
        /// Its machine.
        machine: String,
        /// Its name.
        name: String,
        /// Shards it computes at a time.
        threads: u32,
        /// The way back.
        outbox: WorkerOutbox,
    },
    /// A worker could not do a lease.
    LeaseFailed {
        /// Which worker.
        worker: WorkerId,
        /// Which lease.
        at: LeaseRef,
        /// Whose fault it is.
        failure: Failure,
        /// For people.
        reason: String,
    },
    /// A worker that was sent to the run cannot do it.
    Declined {
        /// Which worker.
        worker: WorkerId,
        /// What is amiss.
        cause: DeclineCause,
        /// For people.
        reason: String,
    },
    /// An owner of chunks was brought one node in two ways.
    Contradicted {
        /// The owner.
        owner: WorkerId,
        /// What it was brought for.
        opening: Opening,
        /// The node.
        node: Node,
        /// Who brought it.
        workers: Vec<WorkerId>,
    },
    /// It is wanted what the owners of chunks were brought of a node.
    AskBrought {
        /// What they were brought it for.
        opening: Opening,
        /// The node.
        node: Node,
        /// The number of the question.
        question: u64,
    },
    /// Owners handed a worker wrong parameters, as it says.
    WrongParameters {
        /// The worker.
        worker: WorkerId,
        /// The step that was to be computed with them.
        step: StepId,
        /// The owners.
        owners: Vec<WorkerId>,
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
    /// A checkpoint cannot be written now, and is tried again.
    CheckpointWaits {
        /// Its parameters.
        step: u64,
        /// Why.
        reason: String,
    },
    /// A checkpoint could not be written.
    CheckpointFailed {
        /// Its parameters.
        step: u64,
        /// Why.
        reason: String,
    },
}
