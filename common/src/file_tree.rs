//! Where the bytes of a data set come from: a disk, data sets that a coordinator keeps, a worker's cache.

use std::io;
use std::path::{Path, PathBuf};

use crate::Digest;

/// What lies at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// A file.
    File,
    /// A folder.
    Folder,
}

/// Files that can be read whole, by path. Called from many threads, which it may block.
pub trait Files: Send + Sync + std::fmt::Debug {
    /// All bytes of the file at `path`.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] where there is none, and whatever keeps it from being read.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
}

/// Files that can be looked for, too.
pub trait FileTree: Files {
    /// What lies at `path`; `None` for nothing.
    ///
    /// # Errors
    /// When that cannot be found out.
    fn kind(&self, path: &Path) -> io::Result<Option<FileKind>>;

    /// What lies directly in `folder`, as full paths in any order.
    ///
    /// # Errors
    /// When the folder cannot be listed.
    fn entries(&self, folder: &Path) -> io::Result<Vec<(PathBuf, FileKind)>>;

    /// The folder itself where `folder` is a link to it; two links to one folder give the same.
    ///
    /// # Errors
    /// When that cannot be found out.
    fn real(&self, folder: &Path) -> io::Result<PathBuf> {
        Ok(folder.to_owned())
    }

    /// Size and digest of the file at `path` where they are known without reading it.
    ///
    /// # Errors
    /// When that cannot be found out.
    fn known(&self, path: &Path) -> io::Result<Option<(u64, Digest)>> {
        let _ = path;
        Ok(None)
    }

    /// Whether a file lies at `path`.
    fn is_file(&self, path: &Path) -> bool {
        matches!(self.kind(path), Ok(Some(FileKind::File)))
    }

    /// Whether a folder lies at `path`.
    fn is_folder(&self, path: &Path) -> bool {
        matches!(self.kind(path), Ok(Some(FileKind::Folder)))
    }
}
