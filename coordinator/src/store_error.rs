//! Why what a coordinator keeps on disk cannot be used, whichever of its stores it is.

/// Why a store of the coordinator cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another coordinator works with it.
    #[error("{0} is in use by another coordinator; stop that one, or choose another --state")]
    InUse(String),
    /// It cannot be read or written.
    #[error("job store: {0}; check the disk and its free space, then start the coordinator again")]
    Io(String),
    /// A record in it is not what was written.
    #[error("job store: job {id} is damaged: {problem}")]
    Damaged {
        /// Which job.
        id: u64,
        /// What is wrong.
        problem: String,
    },
}
