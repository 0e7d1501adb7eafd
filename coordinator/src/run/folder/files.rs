//! Reading and writing files of a run folder, with errors that name them.

use std::fs;
use std::path::Path;

use super::run_dir_error::RunDirError;

/// The bytes of the file at `path`.
///
/// # Errors
/// When it cannot be read.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, RunDirError> {
    fs::read(path).map_err(|source| RunDirError::Io { path: path.to_owned(), source })
}

/// Writes the file at `path`, which nobody reads before it is whole.
///
/// # Errors
/// When it cannot be written.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), RunDirError> {
    fs::write(path, bytes).map_err(|source| RunDirError::Io { path: path.to_owned(), source })
}
