//! Which archives are training data, and which validation data: by the names of files and folders.

use std::path::{Path, PathBuf};

use convoy_common::file_tree::{ArchiveKind, FileKind, FileTree};
use convoy_common::spec::DataFormat;

use super::split_names::{Role, role_of};
use super::{braces, csv, idx, samples};
use crate::error::ScanError;
use crate::formats::is_picture_name;
use crate::left_out::{LeftOut, Why, by_name_or_kind};

/// What archives are called.
const ENDINGS: [&str; 3] = [".tar", ".tar.gz", ".tgz"];

/// The name of an archive without its ending; `None` where it is not called like one.
pub(crate) fn bare_name(path: &Path) -> Option<&str> {
    let name = path.file_name()?.to_str()?;
    let cut = |ending: &&str| {
        let at = name.len().checked_sub(ending.len())?;
        name.is_char_boundary(at).then(|| name.split_at(at)).filter(|(_, end)| end.eq_ignore_ascii_case(ending))
    };
    ENDINGS.iter().find_map(cut).map(|(bare, _)| bare)
}

/// Whether a file is called like an archive.
pub fn is_archive_name(path: &Path) -> bool {
    bare_name(path).is_some()
}

/// The role that the name of an archive tells, whatever number it bears: `train-000012.tar`, `x_val_3-of-9.tgz`.
fn role_of_archive(path: &Path) -> Option<Role> {
    let words = bare_name(path)?.split(['-', '_', '.', ' ']);
    let is_number = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
    let words: Vec<&str> = words.filter(|word| !is_number(word) && !word.eq_ignore_ascii_case("of")).collect();
    role_of(&words.concat()).or_else(|| role_of(words.last()?))
}

/// Archives that were found, each kind in byte order of their paths.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Found {
    pub train: Vec<PathBuf>,
    pub validation: Vec<PathBuf>,
    /// Files and folders that were found and left out.
    pub left_out: LeftOut,
}

impl Found {
    /// All of one split, where names tell no other.
    fn all(train: Vec<PathBuf>) -> Self {
        Found { train, ..Found::default() }
    }

    /// The archives to measure a model on: validation data where there is some.
    pub(crate) fn for_measuring(&self) -> &[PathBuf] {
        if self.validation.is_empty() { &self.train } else { &self.validation }
    }

    /// Parts by what their names tell. They tell nothing unless one of them is called training data.
    fn by_names(archives: Vec<PathBuf>) -> Self {
        let with =
            |role| archives.iter().filter(move |path| role_of_archive(path) == role).cloned().collect::<Vec<_>>();
        let train = with(Some(Role::Train));
        if train.is_empty() {
            return Found::all(archives);
        }
        let mut left_out = LeftOut::default();
        for (why, paths) in [(Why::TestFolder, with(Some(Role::Test))), (Why::NoSplit, with(None))] {
            paths.iter().for_each(|path| left_out.add(why, file_name(path)));
        }
        Found { train, validation: with(Some(Role::Validation)), left_out }
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Finds the archives that `given` names: one, a folder of them, or all of a pattern with braces. `None` where it names
/// something else, and `format` does not say that it must be archives.
pub(crate) fn find(
    tree: &dyn FileTree,
    given: &Path,
    format: DataFormat,
    key: &'static str,
) -> Result<Option<Found>, ScanError> {
    if !matches!(format, DataFormat::Auto | DataFormat::Tar) {
        return Ok(None);
    }
    let forced = format == DataFormat::Tar;
    let fail = |source| ScanError::Io { path: given.to_owned(), source };
    let found = match tree.kind(given).map_err(fail)? {
        None => return Ok(all_of_pattern(tree, given, key)?.map(Found::all)),
        Some(FileKind::Folder) => in_folder(tree, given, forced)?,
        // The bytes of a file with another name may say it all the same.
        Some(_) if is_archive_name(given) || forced => Some(one(tree, given)?),
        Some(_) if is_known_file(given) => None,
        Some(_) => {
            let contents = tree.contents(given).map_err(fail)?.filter(|contents| contents.kind == ArchiveKind::Tar);
            contents.map(|_| Found::all(vec![given.to_owned()]))
        }
    };
    match found {
        None if forced => Err(ScanError::NoArchives { path: given.to_owned() }),
        found => Ok(found),
    }
}

/// Whether a file is of a kind that its name tells.
fn is_known_file(path: &Path) -> bool {
    csv::is_table(path) || idx::looks_like_idx(path) || samples::format_of_name(path).is_some()
}

/// All archives of a pattern with braces; `None` where there are no braces.
fn all_of_pattern(tree: &dyn FileTree, given: &Path, key: &'static str) -> Result<Option<Vec<PathBuf>>, ScanError> {
    let Some(text) = given.to_str().filter(|text| text.contains('{')) else { return Ok(None) };
    let pattern = |problem| ScanError::Pattern { path: given.to_owned(), problem };
    let Some(mut paths) = braces::expand(text).map_err(pattern)? else { return Ok(None) };
    paths.sort();
    paths.dedup();
    let paths: Vec<PathBuf> = paths.into_iter().map(PathBuf::from).collect();
    match paths.iter().find(|path| !tree.is_file(path)) {
        Some(missing) => Err(ScanError::Missing { path: missing.clone(), key }),
        None => Ok(Some(paths)),
    }
}

/// One archive, and those beside it that are called validation data where it is called training data.
fn one(tree: &dyn FileTree, given: &Path) -> Result<Found, ScanError> {
    let mut found = Found::all(vec![given.to_owned()]);
    if let (Some(Role::Train), Some(folder)) = (role_of_archive(given), given.parent()) {
        let beside = Inside::of(tree, folder)?.archives;
        found.validation = beside.into_iter().filter(|path| role_of_archive(path) == Some(Role::Validation)).collect();
    }
    Ok(found)
}

/// What lies in a folder, without what systems leave behind.
struct Inside {
    archives: Vec<PathBuf>,
    folders: Vec<PathBuf>,
    pictures: bool,
}

impl Inside {
    fn of(tree: &dyn FileTree, folder: &Path) -> Result<Self, ScanError> {
        let mut all = tree.entries(folder).map_err(|source| ScanError::Io { path: folder.to_owned(), source })?;
        all.retain(|(path, kind)| {
            path.file_name().and_then(|name| name.to_str()).is_some_and(|name| by_name_or_kind(name, *kind).is_none())
        });
        all.sort_by(|a, b| a.0.cmp(&b.0));
        let pictures = all.iter().any(|(path, kind)| *kind == FileKind::File && is_picture_name(path));
        let (folders, files): (Vec<_>, Vec<_>) = all.into_iter().partition(|(_, kind)| *kind == FileKind::Folder);
        let paths = |entries: Vec<(PathBuf, FileKind)>| entries.into_iter().map(|(path, _)| path);
        let archives = paths(files).filter(|path| is_archive_name(path)).collect();
        Ok(Inside { archives, folders: paths(folders).collect(), pictures })
    }

    /// Whether it is a folder of archives: with class folders or pictures beside them, they are something else.
    fn is_of_archives(&self, forced: bool) -> bool {
        !self.archives.is_empty() && (forced || self.folders.is_empty() && !self.pictures)
    }
}

/// Folders that may lie around a folder of archives.
const WRAPPERS: usize = 8;

fn in_folder(tree: &dyn FileTree, given: &Path, forced: bool) -> Result<Option<Found>, ScanError> {
    let mut folder = given.to_owned();
    for _ in 0..WRAPPERS {
        let inside = Inside::of(tree, &folder)?;
        if inside.is_of_archives(forced) {
            let mut found = Found::by_names(inside.archives);
            let is_train = folder.file_name().and_then(|name| role_of(name.to_str()?)) == Some(Role::Train);
            if let (true, true, Some(parent)) = (is_train, found.validation.is_empty(), folder.parent()) {
                let beside = Inside::of(tree, parent)?.folders;
                found.validation = of_role(tree, &beside, Role::Validation, parent, forced)?;
            }
            return Ok(Some(found));
        }
        if !inside.archives.is_empty() || inside.pictures {
            return Ok(None);
        }
        let train = of_role(tree, &inside.folders, Role::Train, &folder, forced)?;
        if !train.is_empty() {
            let validation = of_role(tree, &inside.folders, Role::Validation, &folder, forced)?;
            let mut found = Found { train, validation, left_out: LeftOut::default() };
            let tests = inside.folders.iter().filter(|path| role_of(&file_name(path)) == Some(Role::Test));
            tests.for_each(|path| found.left_out.add(Why::TestFolder, file_name(path)));
            return Ok(Some(found));
        }
        match <[PathBuf; 1]>::try_from(inside.folders) {
            Ok([only]) => folder = only,
            Err(_) => return Ok(None),
        }
    }
    Ok(None)
}

/// The archives in the one of `folders`, which lie in `around`, that is called by `role`.
fn of_role(
    tree: &dyn FileTree,
    folders: &[PathBuf],
    role: Role,
    around: &Path,
    forced: bool,
) -> Result<Vec<PathBuf>, ScanError> {
    let mut found: Vec<(&PathBuf, Vec<PathBuf>)> = Vec::new();
    for folder in folders.iter().filter(|path| role_of(&file_name(path)) == Some(role)) {
        let inside = Inside::of(tree, folder)?;
        if inside.is_of_archives(forced) {
            found.push((folder, inside.archives));
        }
    }
    match found.len() {
        0 => Ok(Vec::new()),
        1 => Ok(found.remove(0).1),
        _ => Err(ScanError::AmbiguousSplit {
            path: around.to_owned(),
            names: found.iter().map(|(folder, _)| file_name(folder)).collect(),
            key: if role == Role::Train { "data.train" } else { "data.validation" },
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_archives_tell_roles_whatever_number_they_bear() {
        let role = |name: &str| role_of_archive(Path::new(name));
        for name in ["train.tar", "train-000000.tar", "imagenet1k-train-0001.tar.gz", "train-00001-of-00128.TGZ"] {
            assert_eq!(role(name), Some(Role::Train), "{name}");
        }
        assert_eq!(role("x/val_000.tar"), Some(Role::Validation));
        assert_eq!(role("training_set_2.tar"), Some(Role::Train));
        assert_eq!(role("test.tar"), Some(Role::Test));
        for name in ["n01440764.tar", "0001.tar", "cat.tar", ".tar", "train.zip", "train"] {
            assert_eq!(role(name), None, "{name}");
        }
    }

    #[test]
    fn archives_are_told_by_their_names() {
        assert_eq!(bare_name(Path::new("a/x.y.tar.gz")), Some("x.y"));
        assert_eq!(bare_name(Path::new("ü.TAR")), Some("ü"));
        assert_eq!([bare_name(Path::new("tar")), bare_name(Path::new("a.gz")), bare_name(Path::new("öö"))], [None; 3]);
    }
}
