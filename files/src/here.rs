//! Places of this machine.

use std::env;
use std::path::PathBuf;

/// The folder for what can be made again: `CONVOY_CACHE`, or `convoy` in the user's folder for such things.
pub fn cache_folder() -> PathBuf {
    let of = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let of_user = || of("XDG_CACHE_HOME").or_else(|| Some(of("HOME")?.join(".cache")));
    of("CONVOY_CACHE").unwrap_or_else(|| of_user().unwrap_or_else(env::temp_dir).join("convoy"))
}
