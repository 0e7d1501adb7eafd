//! Why data cannot be kept or had.

use convoy_common::durable::WriteError;

use crate::disk_use::NoRoom;
use crate::store_error::StoreError;
use crate::store_file::Halted;

/// Why data cannot be kept or had.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// No such data set.
    #[error("there is no data set `{0}`; `convoy data ls` shows those there are")]
    Unknown(String),
    /// The name is taken.
    #[error("data set `{0}` is there already and holds other files; choose another name, or push with --replace")]
    Taken(String),
    /// What arrived is not what was announced.
    #[error("{path}: {problem}")]
    Wrong {
        /// The file.
        path: String,
        /// What is wrong.
        problem: String,
    },
    /// A file that a data set wants was not pushed.
    #[error("{missing} files of the data set have not been pushed, for example {first}; push again")]
    Missing {
        /// How many.
        missing: usize,
        /// One of them.
        first: String,
    },
    /// A job needs it.
    #[error("data set `{name}` is used by {job}; remove or finish that job first")]
    Used {
        /// The data set.
        name: String,
        /// The job.
        job: String,
    },
    /// There is no room for it.
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
    /// What is kept of it cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The disk fails.
    #[error("data store: {0}; check the disk and its free space")]
    Io(String),
}

impl From<std::io::Error> for DataError {
    fn from(error: std::io::Error) -> Self {
        DataError::Io(error.to_string())
    }
}

impl From<WriteError> for DataError {
    fn from(WriteError { path, source }: WriteError) -> Self {
        StoreError::Io { path, problem: source.to_string() }.into()
    }
}

impl From<DataError> for Halted<DataError> {
    fn from(error: DataError) -> Self {
        Halted::Refused(error)
    }
}
