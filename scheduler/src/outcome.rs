//! How a run can end.

use std::fmt;

use crate::ids::{StepId, WorkerId};
use crate::lease::Work;
use crate::tree::Node;

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// All epochs are done.
    Completed,
    /// It had gone on long enough without getting better.
    StoppedEarly,
    /// Somebody asked; it can be resumed.
    Stopped,
    /// It ended in one of the ways above, but the checkpoint of its last parameters could not be written; the
    /// parameters can be computed again.
    Unsaved {
        /// The parameters.
        step: StepId,
    },
    /// A worker computed wrongly, and committed steps may hold its wrong numbers. The run goes on from the newest
    /// checkpoint of parameters from before them.
    RolledBack {
        /// The newest parameters that are still believed.
        to: StepId,
        /// The worker that computed wrongly.
        worker: WorkerId,
    },
    /// A NaN or an infinity; nothing of the step was committed.
    NotFinite {
        /// The step (of an evaluation: the parameters).
        step: StepId,
        /// The kind of work.
        work: Work,
        /// Where: among these shards.
        node: Node,
    },
    /// The same samples could not be read again and again.
    DataUnreadable {
        /// The step (of an evaluation: the parameters).
        step: StepId,
        /// The kind of work.
        work: Work,
        /// The shards of the samples.
        node: Node,
        /// The worker that tried last.
        worker: WorkerId,
    },
    /// The same node failed inside workers again and again.
    Failed {
        /// The step (of an evaluation: the parameters).
        step: StepId,
        /// The kind of work.
        work: Work,
        /// Which node.
        node: Node,
        /// The worker that tried last.
        worker: WorkerId,
    },
    /// Workers died again and again while they computed the same node, and nothing else of its step got done.
    HoldersDied {
        /// The step (of an evaluation: the parameters).
        step: StepId,
        /// The kind of work.
        work: Work,
        /// Which node.
        node: Node,
        /// The worker that died last.
        worker: WorkerId,
    },
    /// A step was computed again after a restart and got another digest than the one in the journal.
    Diverged {
        /// The step.
        step: StepId,
        /// The digest in the journal.
        recorded: [u8; 32],
        /// The digest now.
        computed: [u8; 32],
    },
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Completed => write!(f, "completed"),
            Outcome::StoppedEarly => write!(f, "stopped early"),
            Outcome::Stopped => write!(f, "stopped"),
            Outcome::Unsaved { step } => write!(f, "the checkpoint of {step}, the last, could not be written"),
            Outcome::RolledBack { to, worker } => {
                write!(f, "{worker} is not believed; what follows the parameters of {to} is computed again")
            }
            Outcome::NotFinite { step, work, node } => {
                write!(f, "a NaN or an infinity in the {work} of {step}, {node}")
            }
            Outcome::DataUnreadable { step, work, node, worker } => {
                write!(f, "the samples for the {work} of {step}, {node}, could not be read, last by {worker}")
            }
            Outcome::Failed { step, work, node, worker } => {
                write!(f, "the {work} of {step}, {node}, failed again and again, last in {worker}")
            }
            Outcome::HoldersDied { step, work, node, worker } => write!(
                f,
                "workers died again and again at the {work} of {step}, {node}, last {worker}; see whether the job needs \
                 more memory than they have, and lower train.shard"
            ),
            Outcome::Diverged { step, .. } => {
                write!(f, "{step} was computed again and came out different from what the journal says")
            }
        }
    }
}
