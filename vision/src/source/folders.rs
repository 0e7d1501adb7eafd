//! Class folders of pictures.

use std::path::{Path, PathBuf};

use convoy_common::file_tree::{FileKind, FileTree};
use convoy_common::manifest::LabelKind;

use super::listed::{Ignored, Listed, ListedImage, RawLabel, VALIDATION_NAMES};
use crate::error::ScanError;
use crate::formats::is_picture_name;

/// Whether a file is one that operating systems and editors leave behind.
fn is_hidden(name: &str) -> bool {
    name.starts_with('.') || ["Thumbs.db", "desktop.ini", "__MACOSX"].contains(&name)
}

/// The entries of a folder in byte order of their names, without hidden ones.
fn entries(tree: &dyn FileTree, folder: &Path) -> Result<Vec<(String, PathBuf, FileKind)>, ScanError> {
    let fail = |source| ScanError::Io { path: folder.to_owned(), source };
    let mut found = Vec::new();
    for (path, kind) in tree.entries(folder).map_err(fail)? {
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| ScanError::NotUtf8 { path: path.clone() })?.to_owned();
        if !is_hidden(&name) {
            found.push((name, path, kind));
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(found)
}

fn subfolders(tree: &dyn FileTree, folder: &Path) -> Result<Vec<(String, PathBuf)>, ScanError> {
    let folders = entries(tree, folder)?.into_iter().filter(|(_, _, kind)| *kind == FileKind::Folder);
    Ok(folders.map(|(name, path, _)| (name, path)).collect())
}

/// The training folder, and the folder in which validation data would be found.
///
/// A folder is one of splits when it holds `train` together with a validation name or `test`, or `train` and no other
/// folder; so `train` may be a class among others. When the folder itself is called `train`, a validation folder is
/// looked for beside it.
pub(crate) fn splits(tree: &dyn FileTree, folder: &Path) -> Result<(PathBuf, Option<PathBuf>), ScanError> {
    if !tree.is_folder(folder) {
        return Err(ScanError::NoClassFolders { path: folder.to_owned(), found: "a file, not a folder".to_owned() });
    }
    let inside = subfolders(tree, folder)?;
    let holds = |name: &str| inside.iter().any(|(found, _)| found == name);
    let has_parts = VALIDATION_NAMES.iter().any(|name| holds(name)) || holds("test") || inside.len() == 1;
    if holds("train") && has_parts {
        return Ok((folder.join("train"), Some(folder.to_owned())));
    }
    let beside = match (folder.file_name(), folder.parent()) {
        (Some(name), Some(parent)) if name == "train" => Some(parent.to_owned()),
        _ => None,
    };
    Ok((folder.to_owned(), beside))
}

/// The validation folder in `folder`, if there is one.
pub(crate) fn validation_in(tree: &dyn FileTree, folder: &Path) -> Result<Option<PathBuf>, ScanError> {
    let found: Vec<&str> = VALIDATION_NAMES.into_iter().filter(|name| tree.is_folder(&folder.join(name))).collect();
    match found.as_slice() {
        [] => Ok(None),
        [name] => Ok(Some(folder.join(name))),
        several => Err(ScanError::AmbiguousValidation {
            path: folder.to_owned(),
            names: several.iter().map(|name| (*name).to_owned()).collect(),
        }),
    }
}

/// All images below the class folders of `folder`, in byte order of their paths.
pub(crate) fn list(tree: &dyn FileTree, folder: &Path) -> Result<Listed, ScanError> {
    let mut walk = Walk { tree, entries: Vec::new(), ignored: Ignored::default(), trail: Vec::new() };
    for (class, path) in subfolders(tree, folder)? {
        walk.folder(&path, &class, &class)?;
    }
    if walk.entries.is_empty() {
        return Err(ScanError::NoClassFolders { path: folder.to_owned(), found: census(tree, folder)? });
    }
    walk.entries.sort_by(|a, b| a.path.cmp(&b.path));
    for (name, _, _) in entries(tree, folder)?.into_iter().filter(|(_, _, kind)| *kind == FileKind::File) {
        walk.ignored.add(&name);
    }
    Ok(Listed {
        origin: folder.to_owned(),
        root: folder.to_owned(),
        labels: LabelKind::Class,
        targets: Vec::new(),
        entries: walk.entries,
        ignored: walk.ignored,
    })
}

/// All pictures of a folder and all below it, by the endings of their names, in byte order of their paths, and the
/// files that are left out.
///
/// # Errors
/// When a folder cannot be read, or a link leads back to a folder above it.
pub fn image_files(tree: &dyn FileTree, folder: &Path) -> Result<(Vec<PathBuf>, Ignored), ScanError> {
    let mut walk = Walk { tree, entries: Vec::new(), ignored: Ignored::default(), trail: Vec::new() };
    walk.folder(folder, "", "")?;
    let mut paths: Vec<String> = walk.entries.into_iter().map(|entry| entry.path).collect();
    paths.sort();
    let files = paths.into_iter().map(|path| folder.join(path.trim_start_matches('/')));
    Ok((files.collect(), walk.ignored))
}

/// The contents of a folder without class folders, in words.
fn census(tree: &dyn FileTree, folder: &Path) -> Result<String, ScanError> {
    let all = entries(tree, folder)?;
    if all.is_empty() {
        return Ok("nothing, it is empty".to_owned());
    }
    let folders = all.iter().filter(|(_, _, kind)| *kind == FileKind::Folder).count();
    let images = all.iter().filter(|(_, path, kind)| *kind == FileKind::File && is_picture_name(path)).count();
    let others = all.len() - folders - images;
    Ok(format!("{images} images directly, {folders} folders without images, {others} other files"))
}

struct Walk<'a> {
    tree: &'a dyn FileTree,
    entries: Vec<ListedImage>,
    ignored: Ignored,
    /// The real paths of the folders above, to notice a link that leads back.
    trail: Vec<PathBuf>,
}

impl Walk<'_> {
    fn folder(&mut self, folder: &Path, relative: &str, class: &str) -> Result<(), ScanError> {
        let real = self.tree.real(folder).map_err(|source| ScanError::Io { path: folder.to_owned(), source })?;
        if self.trail.contains(&real) {
            return Err(ScanError::Loop { path: folder.to_owned() });
        }
        self.trail.push(real);
        for (name, path, kind) in entries(self.tree, folder)? {
            let relative = format!("{relative}/{name}");
            if kind == FileKind::Folder {
                self.folder(&path, &relative, class)?;
            } else if is_picture_name(&path) {
                let label = RawLabel::Class(class.to_owned());
                self.entries.push(ListedImage { path: relative, label, line: None });
            } else {
                self.ignored.add(&relative);
            }
        }
        self.trail.pop();
        Ok(())
    }
}
