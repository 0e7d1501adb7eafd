//! An archive as a tree of folders that is listed from memory.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use convoy_common::file_tree::{FileKind, FileTree, Files, Member};

/// The members of one archive in their folders, read from `files`.
#[derive(Debug)]
pub(crate) struct MemberTree<'a> {
    files: &'a dyn FileTree,
    folders: BTreeMap<PathBuf, BTreeSet<PathBuf>>,
}

impl<'a> MemberTree<'a> {
    /// The tree of the `members` of the archive at `path` in `files`, which is its root.
    pub(crate) fn new(files: &'a dyn FileTree, path: &Path, members: &[Member]) -> Self {
        let mut folders: BTreeMap<PathBuf, BTreeSet<PathBuf>> = BTreeMap::new();
        folders.insert(path.to_owned(), BTreeSet::new());
        for member in members {
            let mut inner = path.join(&member.name);
            while let Some(outer) = inner.parent().filter(|outer| outer.starts_with(path)).map(Path::to_owned) {
                if !folders.entry(outer.clone()).or_default().insert(inner) {
                    break;
                }
                inner = outer;
            }
        }
        MemberTree { files, folders }
    }
}

impl Files for MemberTree<'_> {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.files.read(path)
    }

    fn read_range(&self, path: &Path, offset: u64, length: u64) -> io::Result<Vec<u8>> {
        self.files.read_range(path, offset, length)
    }
}

impl FileTree for MemberTree<'_> {
    fn kind(&self, path: &Path) -> io::Result<Option<FileKind>> {
        if self.folders.contains_key(path) {
            return Ok(Some(FileKind::Folder));
        }
        let is_file =
            path.parent().and_then(|outer| self.folders.get(outer)).is_some_and(|inside| inside.contains(path));
        Ok(is_file.then_some(FileKind::File))
    }

    fn entries(&self, folder: &Path) -> io::Result<Vec<(PathBuf, FileKind)>> {
        let inside = self.folders.get(folder).ok_or(io::ErrorKind::NotFound)?;
        let kind = |path: &PathBuf| if self.folders.contains_key(path) { FileKind::Folder } else { FileKind::File };
        Ok(inside.iter().map(|path| (path.clone(), kind(path))).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_lie_in_their_folders() {
        let member = |name: &str| Member { name: name.to_owned(), size: None, bytes: None };
        let tree =
            MemberTree::new(&convoy_files::Disk, Path::new("x.tar"), &["a/1", "a/b/2", "3", "a/b/4"].map(member));
        let names = |folder: &str| -> Vec<(String, FileKind)> {
            let entries = tree.entries(Path::new(folder)).unwrap().into_iter();
            entries.map(|(path, kind)| (path.display().to_string(), kind)).collect()
        };
        let (file, folder) = (FileKind::File, FileKind::Folder);
        assert_eq!(names("x.tar"), [("x.tar/3".to_owned(), file), ("x.tar/a".to_owned(), folder)]);
        assert_eq!(names("x.tar/a/b"), [("x.tar/a/b/2".to_owned(), file), ("x.tar/a/b/4".to_owned(), file)]);
        assert!(
            tree.is_file(Path::new("x.tar/3"))
                && tree.is_folder(Path::new("x.tar"))
                && tree.entries(Path::new("y")).is_err()
        );
    }
}
