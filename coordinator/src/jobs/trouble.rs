//! Why a job's run stands still, and whether that may pass.

use convoy_common::durable::{full_disk, is_full};

use super::queue::JobError;
use crate::run::error::RunError;
use crate::run::folder::run_dir_error::RunDirError;

/// Why a job's run does not get on, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The disk is full: the run goes on when there is room.
    Full(String),
    /// It may go on from its last checkpoint.
    Passing(String),
    /// It would end so again.
    Final(String),
}

impl Trouble {
    /// A panic with this text in the middle of `what`.
    pub(super) fn crashed(what: &str, text: &str) -> Trouble {
        Trouble::Passing(format!("{what} crashed: {text}; this is a defect of Convoy"))
    }
}

impl From<RunError> for Trouble {
    fn from(error: RunError) -> Self {
        match &error {
            RunError::Folder(folder) => from_folder(folder),
            RunError::Journal(journal) => match journal.full() {
                Some(path) => Trouble::Full(full_disk(path)),
                None => Trouble::Passing(error.to_string()),
            },
            RunError::Crashed(_) => Trouble::Passing(error.to_string()),
            _ => Trouble::Final(error.to_string()),
        }
    }
}

impl From<JobError> for Trouble {
    fn from(error: JobError) -> Self {
        match &error {
            JobError::RunDir(folder) => from_folder(folder),
            _ => Trouble::Final(error.to_string()),
        }
    }
}

fn from_folder(error: &RunDirError) -> Trouble {
    match error {
        RunDirError::Io { path, source } if is_full(source) => Trouble::Full(full_disk(path)),
        RunDirError::Write(write) if is_full(&write.source) => Trouble::Full(full_disk(&write.path)),
        _ => Trouble::Final(error.to_string()),
    }
}
