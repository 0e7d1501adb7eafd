//! Why an authority or an identity cannot be used.

use std::io;
use std::path::PathBuf;

/// Why an authority cannot be made or used.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// There is one already.
    #[error("{} holds a cluster's authority already; every certificate would be worthless without it", .0.display())]
    Exists(PathBuf),
    /// There is none.
    #[error("{} holds no cluster's authority; `convoy cluster init` makes one", .0.display())]
    Missing(PathBuf),
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file is not what was written, or a key cannot be used.
    #[error("{what}: {problem}")]
    Bad {
        /// Which file or key.
        what: String,
        /// What is wrong.
        problem: String,
    },
}

/// Why an identity cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Key or certificate make no sense.
    #[error("key and certificate cannot be used: {0}; join the cluster again with a new token")]
    Bad(String),
}
