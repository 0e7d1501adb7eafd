//! Where the files of a table lie: one root, and paths below it.

use std::path::{Component, Path, PathBuf};

/// `path` without `.` and `..`, which are taken by their names: links are not looked at.
pub(crate) fn plain(path: &Path) -> PathBuf {
    let mut parts: Vec<Component<'_>> = Vec::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir if matches!(parts.last(), Some(Component::Normal(_))) => _ = parts.pop(),
            Component::ParentDir if matches!(parts.last(), Some(Component::RootDir)) => {}
            part => parts.push(part),
        }
    }
    parts.iter().collect()
}

/// The folder that all of `paths`, given as they follow `base`, can be found from, and the paths as they follow it:
/// `base` where all lie in it, else the innermost folder that holds all of them.
pub(crate) fn root_of(base: &Path, paths: &[PathBuf]) -> (PathBuf, Vec<String>) {
    let inside: Option<Vec<String>> = paths.iter().map(|path| below(base, path)).collect();
    if let Some(inside) = inside {
        return (base.to_owned(), inside);
    }
    let full: Vec<PathBuf> = paths.iter().map(|path| plain(&base.join(path))).collect();
    let mut root = full[0].parent().unwrap_or(Path::new("")).to_owned();
    for path in &full {
        while !path.starts_with(&root) {
            root.pop();
        }
    }
    let relative = full.iter().map(|path| text(path.strip_prefix(&root).unwrap_or(path))).collect();
    (root, relative)
}

/// `path` as it follows `base`, if it lies in it.
fn below(base: &Path, path: &Path) -> Option<String> {
    let relative = match path.is_absolute() {
        true => plain(path).strip_prefix(plain(base)).ok()?.to_owned(),
        false => plain(path),
    };
    let leaves = relative.components().any(|part| !matches!(part, Component::Normal(_)));
    (!leaves).then(|| text(&relative))
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(base: &str, paths: &[&str], root: &str, relative: &[&str]) {
        let paths: Vec<PathBuf> = paths.iter().map(PathBuf::from).collect();
        assert_eq!(root_of(Path::new(base), &paths), (root.into(), relative.iter().map(|p| (*p).to_owned()).collect()));
    }

    #[test]
    fn paths_that_stay_start_at_the_base() {
        check("t", &["./a/0.png", "b/../1.png"], "t", &["a/0.png", "1.png"]);
        check("/d/t", &["/d/t/a/0.png", "1.png"], "/d/t", &["a/0.png", "1.png"]);
    }

    #[test]
    fn paths_that_leave_start_at_the_folder_of_all() {
        check("/d/sub", &["../img/0.png", "../img/1.png"], "/d/img", &["0.png", "1.png"]);
        check("/d/sub", &["../img/0.png", "x.png"], "/d", &["img/0.png", "sub/x.png"]);
        check("/d/t", &["/e/0.png"], "/e", &["0.png"]);
        check("/d/t", &["/../../x"], "/", &["x"]);
        check("dataset:f/sub", &["../img/0.png", "1.png"], "dataset:f", &["img/0.png", "sub/1.png"]);
    }

    #[test]
    fn no_path_leads_above_everything() {
        check("shared:a", &["../../../etc/0.png"], "../../etc", &["0.png"]);
    }
}
