//! What a run waits for and how far it is, for people: in the log, on the command line, on the web page.

use std::fmt;

use crate::ids::{Micros, StepId, WorkerId};
use crate::lease::Work;
use crate::outcome::Outcome;
use crate::tree::Node;

/// What a run waits for. Its display is what an operator would say.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Waiting {
    /// Nothing yet: the first event.
    Start,
    /// Somebody to compute.
    Workers {
        /// The kind of work.
        work: Work,
        /// With which parameters.
        step: StepId,
    },
    /// A worker to receive the parameters. Of several leases, the one that waits longest.
    Parameters {
        /// Which worker.
        worker: WorkerId,
        /// Which parameters.
        step: StepId,
        /// Since when.
        since: Micros,
    },
    /// A worker to compute. Of several leases, the one that runs longest.
    Node {
        /// Which worker.
        worker: WorkerId,
        /// The kind of work.
        work: Work,
        /// With which parameters.
        step: StepId,
        /// Which shards.
        node: Node,
        /// Since when.
        since: Micros,
    },
    /// Another worker: those that computed a node got different digests.
    Judge {
        /// The kind of work.
        work: Work,
        /// With which parameters.
        step: StepId,
        /// Which shards.
        node: Node,
        /// The workers that computed it.
        workers: Vec<WorkerId>,
    },
    /// An owner of chunks: all nodes have arrived, and it sends its sums to the coordinator. Of several, the one whose
    /// number is least.
    Sums {
        /// The owner.
        owner: WorkerId,
        /// The step.
        step: StepId,
        /// Since when.
        since: Micros,
    },
    /// The reducer: all nodes have arrived, and it adds them and makes the next parameters (or the evaluation's
    /// metrics).
    Reducer {
        /// The kind of work.
        work: Work,
        /// With which parameters.
        step: StepId,
        /// Since when.
        since: Micros,
    },
    /// Checkpoints, before the run ends.
    Checkpoint {
        /// The parameters in the oldest one that is being written.
        step: StepId,
    },
    /// Nothing more: the run is over.
    Nothing {
        /// How it ended.
        outcome: Outcome,
    },
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Waiting::Start => write!(f, "the run to start"),
            Waiting::Workers { work, step } => write!(f, "workers: none is connected for the {work} of {step}"),
            Waiting::Parameters { worker, step, since } => {
                write!(f, "{worker} to receive the parameters of {step}, since {since}")
            }
            Waiting::Node { worker, work, step, node, since } => {
                write!(f, "{worker} for {node} of the {work} of {step}, since {since}")
            }
            Waiting::Judge { work, step, node, workers } => {
                let workers: Vec<String> = workers.iter().map(ToString::to_string).collect();
                let workers = workers.join(" and ");
                write!(
                    f,
                    "one more worker: {workers} computed {node} of the {work} of {step} and did not come out the same"
                )
            }
            Waiting::Sums { owner, step, since } => write!(f, "{owner} to send its sums of {step}, since {since}"),
            Waiting::Reducer { work: Work::Train, step, since } => {
                write!(f, "the reducer to finish {step}, since {since}")
            }
            Waiting::Reducer { work: Work::Evaluate, step, since } => {
                write!(f, "the reducer to sum up the evaluation of {step}, since {since}")
            }
            Waiting::Checkpoint { step } => write!(f, "the checkpoint of {step} to be written"),
            Waiting::Nothing { outcome } => write!(f, "nothing: {outcome}"),
        }
    }
}

/// How far a run is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Progress {
    /// The committed parameters: so many steps are final.
    pub committed: StepId,
    /// Steps of the whole run.
    pub steps: u64,
    /// The epoch in work, from 0; the number of epochs once all are done.
    pub epoch: u32,
    /// Epochs of the whole run.
    pub epochs: u32,
    /// The kind of work that is open, if any is.
    pub work: Option<Work>,
    /// Shards of the open step or evaluation that are done.
    pub shards_done: u32,
    /// All shards of the open step or evaluation.
    pub shards: u32,
    /// The workers that are there.
    pub workers: Vec<WorkerProgress>,
}

/// The leases of a worker and its speed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WorkerProgress {
    /// Its number.
    pub worker: WorkerId,
    /// Shards it computes at a time; 0 where it only owns chunks.
    pub threads: u32,
    /// The newest parameters it holds.
    pub ready: Option<StepId>,
    /// Whether it finishes the leases that it holds and then leaves.
    pub draining: bool,
    /// Leases it holds.
    pub leases: u32,
    /// Shards in them.
    pub shards: u32,
    /// Time that a training shard takes it on one thread, once measured.
    pub shard_micros: Option<Micros>,
}
