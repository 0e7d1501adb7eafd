//! Why a run did not come to its end.

use std::path::PathBuf;

use convoy_scheduler::{Halt, Outcome, PlanError, ResumeError};

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
    /// It was asked to stop while its disk was full.
    #[error("{0}; it stopped without saving, and `convoy resume` goes on from its last checkpoint")]
    Unsaved(JournalError),
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
    #[error("the last checkpoint is not there: {reason}; `convoy resume {}` goes on from the one before", dir.display())]
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
    /// A part of it panicked.
    #[error("{0}; this is a defect of Convoy. What was saved is kept, and `convoy resume` goes on from it")]
    Crashed(String),
}

impl RunError {
    /// Whether the run came to its end, but could not save itself.
    pub(crate) fn is_unsaved(&self) -> bool {
        matches!(self, RunError::Unsaved(_) | RunError::LastCheckpoint { .. })
    }
}

impl From<Halt<JournalError>> for RunError {
    fn from(halt: Halt<JournalError>) -> Self {
        match halt {
            Halt::Journal(error) => RunError::Journal(error),
            Halt::Waits(error) => RunError::Unsaved(error),
            Halt::Before => RunError::Crashed("the run went on after its journal had failed".to_owned()),
        }
    }
}
