//! Class folders of pictures.

use std::path::{Path, PathBuf};

use convoy_common::file_tree::{FileKind, FileTree};
use convoy_common::manifest::LabelKind;

use super::listed::{Listed, ListedImage};
use super::member_tree::MemberTree;
use super::raw_label::RawLabel;
use super::split_names::{Role, role_of};
use crate::error::ScanError;
use crate::formats::is_picture;
use crate::left_out::{LeftOut, Why, by_name_or_kind};

/// A file or folder that is looked at.
struct Entry {
    name: String,
    path: PathBuf,
    kind: FileKind,
}

/// The entries of a folder in byte order of their names. What is left out is named as it follows `base`.
fn entries(tree: &dyn FileTree, folder: &Path, base: &Path, left_out: &mut LeftOut) -> Result<Vec<Entry>, ScanError> {
    let fail = |source| ScanError::Io { path: folder.to_owned(), source };
    let mut found = Vec::new();
    let mut all = tree.entries(folder).map_err(fail)?;
    all.sort_by(|a, b| a.0.cmp(&b.0));
    for (path, kind) in all {
        let shown = path.strip_prefix(base).unwrap_or(&path).to_string_lossy().into_owned();
        let Some(name) = path.file_name().and_then(|name| name.to_str()).map(str::to_owned) else {
            left_out.add(Why::NotUtf8, shown);
            continue;
        };
        match by_name_or_kind(&name, kind) {
            Some(why) => left_out.add(why, shown),
            None => found.push(Entry { name, path, kind }),
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// The folders in `folder`, and whether it holds pictures itself.
fn look_into(tree: &dyn FileTree, folder: &Path) -> Result<(Vec<Entry>, bool), ScanError> {
    let all = entries(tree, folder, folder, &mut LeftOut::default())?;
    let pictures = all.iter().any(|entry| entry.kind == FileKind::File && is_picture(tree, &entry.path));
    Ok((all.into_iter().filter(|entry| entry.kind == FileKind::Folder).collect(), pictures))
}

/// Folders that may lie around class folders.
const WRAPPERS: usize = 8;

/// The folder inside `folder` that is meant: where it holds a single folder and no pictures, and that one holds two
/// folders or more and no pictures, the inner one; else `folder` itself. `stays` names folders that are no wrappers.
fn unwrapped(tree: &dyn FileTree, folder: &Path, stays: impl Fn(&str) -> bool) -> Result<PathBuf, ScanError> {
    let mut inner = folder.to_owned();
    for _ in 0..WRAPPERS {
        let (mut folders, pictures) = look_into(tree, &inner)?;
        match folders.as_mut_slice() {
            [only] if !pictures && !stays(&only.name) => inner = std::mem::take(&mut only.path),
            [_, _, ..] if !pictures => return Ok(inner),
            [only] if !pictures && inner != folder && stays(&only.name) => return Ok(inner),
            _ => break,
        }
    }
    Ok(folder.to_owned())
}

/// The folders that a folder's name or contents tell apart.
pub(crate) struct Splits {
    /// Where the class folders are.
    pub train: PathBuf,
    /// Where a validation folder would be found.
    pub beside: Option<PathBuf>,
    /// The folder that holds training data and others, or class folders.
    pub folder: PathBuf,
}

/// Where training and validation data are found.
///
/// A folder is one of splits when it holds one for training together with one for validation or test, or one for
/// training and no other; so `train` may be a class among others. When the folder itself is one for training, a
/// validation folder is looked for beside it. A single folder around all of it is passed.
pub(crate) fn splits(tree: &dyn FileTree, given: &Path) -> Result<Splits, ScanError> {
    if !tree.is_folder(given) {
        return Err(ScanError::NoClassFolders { path: given.to_owned(), found: "a file, not a folder".to_owned() });
    }
    let folder = unwrapped(tree, given, |name| role_of(name) == Some(Role::Train))?;
    let (inside, _) = look_into(tree, &folder)?;
    let of = |role| inside.iter().filter(move |entry| role_of(&entry.name) == Some(role));
    let others = of(Role::Validation).chain(of(Role::Test)).next().is_some() || inside.len() == 1;
    match of(Role::Train).collect::<Vec<_>>().as_slice() {
        [train] if others => Ok(Splits { train: train.path.clone(), beside: Some(folder.clone()), folder }),
        [_, _, ..] if others => Err(ambiguous(&folder, of(Role::Train), "data.train")),
        _ => {
            let role = given.file_name().and_then(|name| role_of(name.to_str()?));
            let parent = given.parent().filter(|_| role == Some(Role::Train));
            Ok(Splits { train: folder.clone(), beside: parent.map(Path::to_owned), folder })
        }
    }
}

fn ambiguous<'a>(path: &Path, found: impl Iterator<Item = &'a Entry>, key: &'static str) -> ScanError {
    ScanError::AmbiguousSplit { path: path.to_owned(), names: found.map(|entry| entry.name.clone()).collect(), key }
}

/// The validation folder in `folder`, if there is one.
pub(crate) fn validation_in(tree: &dyn FileTree, folder: &Path) -> Result<Option<PathBuf>, ScanError> {
    let (inside, _) = look_into(tree, folder)?;
    let of_role = || inside.iter().filter(|entry| role_of(&entry.name) == Some(Role::Validation));
    match of_role().count() {
        0 | 1 => Ok(of_role().next().map(|entry| entry.path.clone())),
        _ => Err(ambiguous(folder, of_role(), "data.validation")),
    }
}

/// The names of test folders in `folder`.
pub(crate) fn tests_in(tree: &dyn FileTree, folder: &Path) -> Result<Vec<String>, ScanError> {
    let (inside, _) = look_into(tree, folder)?;
    Ok(inside.into_iter().map(|entry| entry.name).filter(|name| role_of(name) == Some(Role::Test)).collect())
}

/// All images below the class folders of `folder`, in byte order of their paths. A folder around the class folders is
/// passed, unless its name is among the classes that are `known`.
pub(crate) fn list(tree: &dyn FileTree, folder: &Path, known: &[String]) -> Result<Listed, ScanError> {
    if !tree.is_folder(folder) {
        return Err(ScanError::NoClassFolders { path: folder.to_owned(), found: "a file, not a folder".to_owned() });
    }
    let root = unwrapped(tree, folder, |name| known.iter().any(|class| class == name))?;
    let mut walk = Walk { tree, base: &root, entries: Vec::new(), left_out: LeftOut::default(), trail: Vec::new() };
    let mut empty = Vec::new();
    let all = entries(tree, &root, &root, &mut walk.left_out)?;
    // A file without a name in Unicode is one among many; a class without one would be gone.
    if let Some(path) = nameless_folder(tree, &root)? {
        return Err(ScanError::NotUtf8 { path });
    }
    for entry in all {
        match entry.kind {
            FileKind::Folder => {
                let (images, others) = (walk.entries.len(), walk.left_out.0.len());
                walk.folder(&entry.path, &entry.name, &entry.name)?;
                if walk.entries.len() == images {
                    empty.push((entry.name.clone(), contents(&walk.left_out.0[others..])));
                }
            }
            _ => walk.left_out.add(Why::BesideClasses, entry.name),
        }
    }
    if walk.entries.is_empty() {
        return Err(ScanError::NoClassFolders { path: folder.to_owned(), found: census(tree, &root)? });
    }
    walk.entries.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    let Walk { entries, left_out, .. } = walk;
    Ok(Listed {
        origin: root.clone(),
        root,
        absolute: false,
        labels: LabelKind::Class,
        targets: Vec::new(),
        entries,
        read: None,
        problems: Vec::new(),
        left_out,
        warnings: Vec::new(),
        lists: Vec::new(),
        empty,
        archives: Vec::new(),
    })
}

/// A folder in `folder` whose name is not UTF-8.
fn nameless_folder(tree: &dyn FileTree, folder: &Path) -> Result<Option<PathBuf>, ScanError> {
    let all = tree.entries(folder).map_err(|source| ScanError::Io { path: folder.to_owned(), source })?;
    let nameless = |path: &Path| path.file_name().is_some_and(|name| name.to_str().is_none());
    Ok(all.into_iter().find(|(path, kind)| *kind == FileKind::Folder && nameless(path)).map(|(path, _)| path))
}

/// What a class folder without a picture holds, in words.
fn contents(left_out: &[(Why, String)]) -> String {
    match left_out {
        [] => "empty".to_owned(),
        [(why, name)] => format!("{name} is {why}"),
        [(why, name), ..] => format!("{} entries, for example {name}, which is {why}", left_out.len()),
    }
}

/// All pictures of a folder or an archive and all below it, in byte order of their paths, and what is left out.
///
/// # Errors
/// When a folder cannot be read, or a link leads back to a folder above it.
pub fn image_files(tree: &dyn FileTree, folder: &Path) -> Result<(Vec<PathBuf>, LeftOut), ScanError> {
    let fail = |source| ScanError::Io { path: folder.to_owned(), source };
    let in_archive;
    let tree = match tree.is_file(folder) {
        true => {
            let contents = tree.contents(folder).map_err(fail)?;
            in_archive = MemberTree::new(tree, folder, &contents.map_or_else(Vec::new, |contents| contents.members));
            &in_archive
        }
        false => tree,
    };
    let mut walk = Walk { tree, base: folder, entries: Vec::new(), left_out: LeftOut::default(), trail: Vec::new() };
    walk.folder(folder, "", "")?;
    let mut paths: Vec<String> = walk.entries.into_iter().map(|entry| entry.path).collect();
    paths.sort();
    Ok((paths.into_iter().map(|path| folder.join(path.trim_start_matches('/'))).collect(), walk.left_out))
}

/// The contents of a folder without class folders, in words.
fn census(tree: &dyn FileTree, folder: &Path) -> Result<String, ScanError> {
    let all = entries(tree, folder, folder, &mut LeftOut::default())?;
    if all.is_empty() {
        return Ok("nothing, it is empty".to_owned());
    }
    let folders = all.iter().filter(|entry| entry.kind == FileKind::Folder).count();
    let images = all.iter().filter(|entry| entry.kind == FileKind::File && is_picture(tree, &entry.path)).count();
    let others = all.len() - folders - images;
    Ok(format!("{images} images directly, {folders} folders without images, {others} other files"))
}

struct Walk<'a> {
    tree: &'a dyn FileTree,
    base: &'a Path,
    entries: Vec<ListedImage>,
    left_out: LeftOut,
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
        for entry in entries(self.tree, folder, self.base, &mut self.left_out)? {
            let relative = format!("{relative}/{}", entry.name);
            if entry.kind == FileKind::Folder {
                self.folder(&entry.path, &relative, class)?;
            } else if is_picture(self.tree, &entry.path) {
                let label = RawLabel::Class(class.to_owned());
                self.entries.push(ListedImage { path: relative, label, line: None });
            } else {
                self.left_out.add(Why::NoPicture, relative.trim_start_matches('/'));
            }
        }
        self.trail.pop();
        Ok(())
    }
}
