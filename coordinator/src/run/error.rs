//! Why a run did not come to its end.

use std::path::PathBuf;

use convoy_scheduler::{Outcome, PlanError, ResumeError};

use super::folder::checkpoint::CheckpointError;
use super::folder::journal::JournalError;
use super::folder::run_dir_error::RunDirError;

/// Why a run did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Its folder cannot be used.
    #[error(transparent)]
    Folder(#[from] RunDirError),
    /// Its journal cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// No checkpoint can be used.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// Journal and checkpoint do not fit.
    #[error("{0}")]
    Resume(ResumeError),
    /// The plan makes no sense to the scheduler.
    #[error("{0}")]
    Plan(PlanError),
    /// The last checkpoint could not be written.
    #[error("the last checkpoint could not be written: {reason}; `convoy resume {}` goes on from the one before", dir.display())]
    LastCheckpoint {
        /// Why.
        reason: String,
        /// The run folder.
        dir: PathBuf,
    },
    /// A NaN or an infinity.
    #[error(
        "the loss became NaN or infinite in {what} (samples {samples}); the checkpoint before it is kept. Lower optimizer.lr, \
         set optimizer.clip_norm, or look at these samples"
    )]
    NotFinite {
        /// Step and shard.
        what: String,
        /// The first samples of the shard, by path.
        samples: String,
    },
    /// All shards were finite, and what was made of them is not.
    #[error(
        "the parameters became NaN or infinite after step {step}; the checkpoint before it is kept. Lower optimizer.lr, or \
         set optimizer.clip_norm"
    )]
    Overflow {
        /// The step.
        step: u64,
    },
    /// The run ended otherwise than by its plan.
    #[error("{outcome}; `convoy resume {}` tries again from the last checkpoint", dir.display())]
    Outcome {
        /// How.
        outcome: Outcome,
        /// The run folder.
        dir: PathBuf,
    },
    /// The socket failed.
    #[error("the coordinator's socket failed: {0}")]
    Socket(String),
}
