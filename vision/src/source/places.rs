//! Where the files of a table lie: one root, and paths below it.

use std::path::{Component, Path, PathBuf};

use convoy_common::data_place::SHARED;
use convoy_common::spec::Data;

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

/// How the paths of a table are followed.
pub(crate) struct Places {
    /// The folder that paths start from.
    pub base: PathBuf,
    /// What paths begin with, and the folder that it is; the longest first.
    moved: Vec<(PathBuf, PathBuf)>,
}

impl Places {
    /// For the table at `path`; relative paths in `data` start at `folder`.
    pub(crate) fn of(path: &Path, folder: &Path, data: &Data) -> Places {
        let base = match &data.images {
            Some(images) => folder.join(images),
            None => path.parent().unwrap_or(Path::new("")).to_owned(),
        };
        let moved = |(from, to): (&String, &String)| (slashed(from), folder.join(to));
        let mut moved: Vec<(PathBuf, PathBuf)> = data.moved.iter().map(moved).collect();
        moved.sort_by_key(|(from, _)| std::cmp::Reverse(from.components().count()));
        Places { base, moved }
    }

    /// For paths that all start at `base`.
    pub(crate) fn at(base: &Path) -> Places {
        Places { base: base.to_owned(), moved: Vec::new() }
    }

    /// Where the file lies that a row calls `text`, and whether that is an absolute path of which nothing says where it
    /// leads.
    pub(crate) fn find(&self, text: &str) -> (PathBuf, bool) {
        let path = slashed(text);
        let found = self.moved.iter().find_map(|(from, to)| Some((to, path.strip_prefix(from).ok()?)));
        match found {
            // `shared:` itself is no folder whose names could be joined with `/`.
            Some((to, rest)) if to.as_os_str() == SHARED => (format!("{SHARED}{}", rest.display()).into(), false),
            Some((to, rest)) => (plain(&to.join(rest)), false),
            None => (plain(&self.base.join(&path)), path.is_absolute()),
        }
    }
}

/// A path as a table has it, plain. Tables of Windows have `\` for `/`.
fn slashed(text: &str) -> PathBuf {
    plain(Path::new(&text.replace('\\', "/")))
}

/// The folder that all of `paths` can be found from, and the paths as they follow it: `base` where all lie in it, else
/// the innermost folder that holds all of them.
pub(crate) fn root_of(base: &Path, paths: &[PathBuf]) -> (PathBuf, Vec<String>) {
    let from = plain(base);
    let inside: Option<Vec<String>> = paths.iter().map(|path| below(&from, path)).collect();
    if let Some(inside) = inside {
        return (base.to_owned(), inside);
    }
    let mut root = paths[0].parent().unwrap_or(Path::new("")).to_owned();
    for path in paths {
        while !path.starts_with(&root) {
            root.pop();
        }
    }
    let relative = paths.iter().map(|path| text(path.strip_prefix(&root).unwrap_or(path))).collect();
    (root, relative)
}

/// `path` as it follows `base`, if it lies in it.
fn below(base: &Path, path: &Path) -> Option<String> {
    let relative = path.strip_prefix(base).ok()?;
    let leaves = relative.components().any(|part| !matches!(part, Component::Normal(_)));
    (!leaves).then(|| text(relative))
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(base: &str, moved: &[(&str, &str)]) -> Places {
        let moved = moved.iter().map(|(from, to)| ((*from).to_owned(), (*to).to_owned())).collect();
        Places::of(Path::new(""), Path::new(""), &Data { images: Some(base.to_owned()), moved, ..Data::at("t.csv") })
    }

    fn check(base: &str, paths: &[&str], root: &str, relative: &[&str]) {
        let paths: Vec<PathBuf> = paths.iter().map(|path| places(base, &[]).find(path).0).collect();
        assert_eq!(root_of(Path::new(base), &paths), (root.into(), relative.iter().map(|p| (*p).to_owned()).collect()));
    }

    #[test]
    fn paths_that_stay_start_at_the_base() {
        check("t", &["./a/0.png", "b/../1.png"], "t", &["a/0.png", "1.png"]);
        check("/d/t", &["/d/t/a/0.png", "1.png"], "/d/t", &["a/0.png", "1.png"]);
        check("/d/x/../t", &["/d/t/a/0.png", "1.png"], "/d/x/../t", &["a/0.png", "1.png"]);
        check("", &["a/0.png"], "", &["a/0.png"]);
    }

    #[test]
    fn paths_that_leave_start_at_the_folder_of_all() {
        check("/d/sub", &["../img/0.png", "../img/1.png"], "/d/img", &["0.png", "1.png"]);
        check("/d/sub", &["../img/0.png", "x.png"], "/d", &["img/0.png", "sub/x.png"]);
        check("/d/t", &["/e/0.png"], "/e", &["0.png"]);
        check("/d/t", &["/../../x"], "/", &["x"]);
        check("dataset:f/sub", &["../img/0.png", "1.png"], "dataset:f", &["img/0.png", "sub/1.png"]);
        check("", &["../0.png"], "..", &["0.png"]);
    }

    #[test]
    fn no_path_leads_above_everything() {
        check("shared:a", &["../../../etc/0.png"], "../../etc", &["0.png"]);
    }

    #[test]
    fn what_was_moved_is_found_where_it_lies_now() {
        let moved = [("/", "dataset:x"), ("/kaggle/input/", "/d/img"), (r"C:\my photos", "shared:"), ("old", "/new")];
        let found = |text: &str| {
            let (path, unknown) = places("/d/t", &moved).find(text);
            (path.display().to_string(), unknown)
        };
        assert_eq!(found("/kaggle/input/a/0.png"), ("/d/img/a/0.png".to_owned(), false));
        assert_eq!(found("/kaggle/./x/../input/0.png"), ("/d/img/0.png".to_owned(), false));
        assert_eq!(found("/kaggle/inputs/0.png"), ("dataset:x/kaggle/inputs/0.png".to_owned(), false));
        assert_eq!(found(r"C:\my photos\a\0.png"), ("shared:a/0.png".to_owned(), false));
        assert_eq!(found("old/0.png"), ("/new/0.png".to_owned(), false));
        assert_eq!(found(r"a\0.png"), ("/d/t/a/0.png".to_owned(), false));
        assert_eq!(places("/d", &moved[1..]).find("/e/0.png"), ("/e/0.png".into(), true));
    }
}
