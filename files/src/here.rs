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
    cache_folder_by(|name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from))
}

/// As [`cache_folder`]; `set` looks up a variable of the environment.
fn cache_folder_by(set: impl Fn(&str) -> Option<PathBuf>) -> PathBuf {
    let home = || set("HOME").map(|home| home.join(".cache"));
    let of_user = || set("XDG_CACHE_HOME").or_else(home).unwrap_or_else(env::temp_dir).join("convoy");
    set("CONVOY_CACHE").unwrap_or_else(of_user)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_is_where_caches_are() {
        let folder = |set: &[(&str, &str)]| {
            cache_folder_by(|name| set.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into()))
        };
        let home = ("HOME", "/h");
        assert_eq!(folder(&[("XDG_CACHE_HOME", "/c"), home]), PathBuf::from("/c/convoy"));
        assert_eq!(folder(&[("CONVOY_CACHE", "/own"), ("XDG_CACHE_HOME", "/c"), home]), PathBuf::from("/own"));
        assert_eq!(folder(&[home]), PathBuf::from("/h/.cache/convoy"));
        assert_eq!(folder(&[]), env::temp_dir().join("convoy"));
    }
}
