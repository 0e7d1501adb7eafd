//! Specs as people write them: files with relative paths, and overrides.

use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

use convoy_common::Spec;
use convoy_common::data_place::DataPlace;
use convoy_common::spec;

use crate::error::PlanningError;

/// A spec, and where it came from, for messages.
#[derive(Debug, Clone)]
pub struct SpecFile {
    /// What it says, overrides included.
    pub spec: Spec,
    /// Its file, if there is one.
    pub path: Option<PathBuf>,
    /// The text of the file, without overrides; empty where there is none.
    pub text: String,
}

impl SpecFile {
    /// Reads the spec at `path`, or `None` for no file, with overrides (`key.path=value`). Relative paths in the file
    /// start at its folder, those in overrides at the current one.
    ///
    /// # Errors
    /// When the file cannot be read or makes no sense.
    pub fn read(path: Option<&Path>, overrides: &[String]) -> Result<SpecFile, PlanningError> {
        let text = path.map_or_else(|| Ok(String::new()), read_text)?;
        let fail = |error| PlanningError::Spec { file: path.map(Path::to_owned), error };
        let spec = spec::parse(&text, overrides).map_err(fail)?;
        let folder = path.and_then(Path::parent).unwrap_or(Path::new(""));
        let overridden = |key: &str| overrides.iter().any(|given| given.split('=').next().map(str::trim) == Some(key));
        let base = |key: &str| if overridden(key) { Path::new("") } else { folder };
        let spec = spec.with_paths(|key, path| Ok::<_, PlanningError>(absolute(base(key), path)))?;
        Ok(SpecFile { spec, path: path.map(Path::to_owned), text })
    }

    /// The spec of no file: `overrides` alone.
    ///
    /// # Errors
    /// When they make no sense.
    pub fn of_overrides(overrides: &[String]) -> Result<SpecFile, PlanningError> {
        SpecFile::read(None, overrides)
    }
}

fn read_text(path: &Path) -> Result<String, PlanningError> {
    std::fs::read_to_string(path).map_err(|source| match source.kind() {
        ErrorKind::NotFound => PlanningError::Missing {
            path: path.to_owned(),
            hint: "name a spec (a .toml file) or a folder of images".to_owned(),
        },
        _ => PlanningError::Io { path: path.to_owned(), source },
    })
}

/// Whether `path` names a spec, by its ending.
pub fn is_spec(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("toml"))
}

/// The override that sets `key` to `text`, whatever characters are in it.
pub fn text_override(key: &str, text: &str) -> String {
    format!("{key}={}", toml::Value::from(text))
}

/// `path` with the home folder for a `~` that it begins with.
fn at_home(path: &str, home: Option<&Path>) -> PathBuf {
    let inner = if path == "~" { Some("") } else { path.strip_prefix("~/") };
    match (inner, home) {
        (Some(inner), Some(home)) => home.join(inner),
        _ => PathBuf::from(path),
    }
}

/// `path` from the root of the file system, so that a run can be resumed from anywhere; as it is, if it is none of this
/// machine.
pub(crate) fn absolute(base: &Path, path: &str) -> String {
    if DataPlace::parse(path).map_or(true, |place| !place.is_local()) {
        return path.to_owned();
    }
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let joined = base.join(at_home(path, home.as_deref()));
    without_ups(&std::path::absolute(&joined).unwrap_or(joined)).display().to_string()
}

/// `path` without `..`: each leads to the folder above, as the system follows it. Data sets have no `..`.
fn without_ups(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        if part == Component::ParentDir {
            plain = plain.canonicalize().unwrap_or(plain);
            plain.pop();
        } else {
            plain.push(part);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_above_is_that_of_the_system() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap();
        std::fs::create_dir_all(real.join("far/data")).unwrap();
        std::os::unix::fs::symlink(real.join("far/data"), real.join("link")).unwrap();
        let plain = |path: &str| without_ups(&real.join(path));
        assert_eq!(plain("link/../img/./a"), real.join("far/img/a"));
        assert_eq!(plain("link/x"), real.join("link/x"), "links that nothing leads up from stay");
        assert_eq!(plain("none/../../img"), real.parent().unwrap().join("img"));
    }

    #[test]
    fn a_tilde_is_the_home_folder_and_a_spec_has_its_ending_in_any_case() {
        let at = |path: &str| at_home(path, Some(Path::new("/home/me")));
        assert_eq!([at("~/x"), at("~")], [PathBuf::from("/home/me/x"), PathBuf::from("/home/me/")]);
        assert_eq!([at("~x"), at("a/~/x")], [PathBuf::from("~x"), PathBuf::from("a/~/x")]);
        assert_eq!(at_home("~/x", None), PathBuf::from("~/x"));
        assert!(is_spec(Path::new("JOB.TOML")) && !is_spec(Path::new("job.json")));
    }
}
