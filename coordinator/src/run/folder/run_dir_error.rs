//! Why a run folder cannot be used.

use std::io;
use std::path::PathBuf;

use convoy_model::WriteError;

/// Why a run folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RunDirError {
    /// The system refused.
    #[error("run folder: {}: {source}; make it readable and writable, or choose another folder", path.display())]
    Io {
        /// What could not be read or written.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file of it cannot be written.
    #[error("run folder: {0}")]
    Write(#[from] WriteError),
    /// Another run lies there.
    #[error("{dir} holds a run already; `convoy resume {dir}` goes on with it, or choose another folder with --out", dir = .0.display())]
    Taken(PathBuf),
    /// There is no run.
    #[error("{} is not a run folder: it has no plan.json", .0.display())]
    NotARun(PathBuf),
    /// Another process works in it.
    #[error("{} is in use by another process; wait until it ends, or stop it", .0.display())]
    Locked(PathBuf),
    /// A file of it is not what was written.
    #[error("{}: {problem}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
}
