//! Every reason for which nothing is planned.

use std::io::{self, ErrorKind};
use std::path::PathBuf;

use convoy_common::planner::Refusal;
use convoy_common::spec::SpecError;
use convoy_model::{InitError, NetworkError};
use convoy_vision::ScanError;

/// Why a job cannot be planned.
#[derive(Debug, thiserror::Error)]
pub enum PlanningError {
    /// A file that was named is not there.
    #[error("{} does not exist; {hint}", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// What could have been meant.
        hint: String,
    },
    /// A file cannot be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The spec.
    #[error("{}{error}", file.as_ref().map(|file| format!("{}: ", file.display())).unwrap_or_default())]
    Spec {
        /// Its file, if it has one.
        file: Option<PathBuf>,
        /// What is wrong.
        error: SpecError,
    },
    /// Data that is not on this machine.
    #[error("{key} = \"{path}\" is kept by a coordinator: `convoy submit` trains on it; here, name a path")]
    KeptElsewhere {
        /// The spec's key.
        key: &'static str,
        /// What it names.
        path: String,
    },
    /// The data.
    #[error(transparent)]
    Scan(#[from] ScanError),
    /// The network.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The model file that the network starts from.
    #[error(transparent)]
    Init(#[from] InitError),
    /// The data is not what it was when the run began.
    #[error("the data has changed since the run began: {difference}; put it back to resume, or start a new run")]
    DataChanged {
        /// The first difference.
        difference: String,
    },
}

impl From<PlanningError> for Refusal {
    fn from(error: PlanningError) -> Self {
        let refusal = match &error {
            PlanningError::Spec { .. }
            | PlanningError::KeptElsewhere { .. }
            | PlanningError::Network(_)
            | PlanningError::Init(_) => Refusal::BadSpec,
            PlanningError::Missing { .. } | PlanningError::Scan(ScanError::Missing { .. }) => Refusal::Missing,
            PlanningError::Io { source, .. } | PlanningError::Scan(ScanError::Io { source, .. }) => of_system(source),
            PlanningError::Scan(_) => Refusal::BadData,
            PlanningError::DataChanged { .. } => Refusal::DataChanged,
        };
        refusal(error.to_string())
    }
}

fn of_system(error: &io::Error) -> fn(String) -> Refusal {
    match error.kind() {
        ErrorKind::NotFound => Refusal::Missing,
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => Refusal::NotAllowed,
        _ => Refusal::Unreadable,
    }
}
