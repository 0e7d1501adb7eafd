//! Reading and writing files of a run folder, with errors that name them.

use std::fs;
use std::path::Path;

use convoy_common::manifest::{Manifest, ManifestError};

use super::run_dir_error::RunDirError;

/// The bytes of the file at `path`.
///
/// # Errors
/// When it cannot be read.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, RunDirError> {
    fs::read(path).map_err(|source| RunDirError::Io { path: path.to_owned(), source })
}

/// The value in the JSON file at `path`, which `parse` understands.
///
/// # Errors
/// When it cannot be read or holds another kind of value.
pub(super) fn read_json<T>(path: &Path, parse: fn(&[u8]) -> serde_json::Result<T>) -> Result<T, RunDirError> {
    let damaged =
        |error| RunDirError::Damaged { path: path.to_owned(), problem: format!("is not what Convoy wrote: {error}") };
    parse(&read(path)?).map_err(damaged)
}

/// The manifest of the run in `folder`.
///
/// # Errors
/// When it is no run, or the manifest cannot be read or is damaged.
pub fn read_manifest(folder: &Path) -> Result<Manifest, RunDirError> {
    let path = folder.join("manifest.bin");
    if !path.is_file() {
        return Err(RunDirError::not_a_run(folder));
    }
    let damaged = |error: ManifestError| RunDirError::Damaged { path: path.clone(), problem: error.to_string() };
    Manifest::from_bytes(&read(&path)?).map_err(damaged)
}

/// Writes the file at `path`, which nobody reads before it is whole.
///
/// # Errors
/// When it cannot be written.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), RunDirError> {
    fs::write(path, bytes).map_err(|source| RunDirError::Io { path: path.to_owned(), source })
}
