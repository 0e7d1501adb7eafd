//! What can be done to a disk.

/// What is done to a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// A file is made or opened for writing.
    Create,
    /// Bytes are added to a file.
    Write,
    /// A file is cut off.
    Cut,
    /// The bytes of a file are made to outlive a loss of power.
    Sync,
    /// A file takes the place of another one.
    Rename,
    /// The names in a folder are made to outlive a loss of power.
    SyncFolder,
    /// A file is removed.
    Remove,
}
