//! Folders that the environment names.

use std::path::PathBuf;

/// The folder in the variable `name`; `None` where it is not set or empty.
pub fn folder(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}
