//! The files of this machine as all commands see them.

use std::env;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use convoy_common::file_tree::FileTree;

use crate::{Archives, Disk};

/// The files of this machine, with those in archives. All callers share one overlay, so that an archive is looked
/// through once.
pub fn here() -> Arc<dyn FileTree> {
    static HERE: OnceLock<Arc<Archives>> = OnceLock::new();
    HERE.get_or_init(|| Arc::new(Archives::new(Arc::new(Disk), cache_folder().join("unpacked")))).clone()
}

/// The folder for what can be made again: `CONVOY_CACHE`, or `convoy` in the user's folder for such things.
pub fn cache_folder() -> PathBuf {
    let of = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let of_user = || of("XDG_CACHE_HOME").or_else(|| Some(of("HOME")?.join(".cache")));
    of("CONVOY_CACHE").unwrap_or_else(|| of_user().unwrap_or_else(env::temp_dir).join("convoy"))
}
