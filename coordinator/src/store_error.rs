//! Why what a coordinator keeps on disk cannot be used, whichever of its stores it is.

use std::path::PathBuf;

/// Why a store of the coordinator cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another coordinator works with it.
    #[error("{0} is in use by another coordinator; stop that one, or choose another --state")]
    InUse(String),
    /// It cannot be read or written right now. It is opened anew by itself when it is needed next.
    #[error("{}: {problem}; check the disk and its free space, then try again", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        problem: String,
    },
    /// It is not what was written.
    #[error("{} is damaged: {problem}; {remedy}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
        /// What to do.
        remedy: &'static str,
    },
}
