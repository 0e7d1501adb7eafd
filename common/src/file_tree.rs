//! Where the bytes of files come from: a disk, the data sets of a coordinator, the cache of a worker.

use std::io;
use std::path::{Path, PathBuf};

use crate::Digest;

/// What a path leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// A file.
    File,
    /// A folder.
    Folder,
    /// Something that has no bytes of its own: a pipe, a socket, a device. Reading it might never end.
    Other,
}

/// Files that can be read whole, by path. Called from many threads, which it may block.
pub trait Files: Send + Sync + std::fmt::Debug {
    /// All bytes of the file at `path`.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] where there is no file, another error where it cannot be read.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
}

/// Files in folders, which can be listed.
pub trait FileTree: Files {
    /// The kind of file at `path`; `None` if there is nothing.
    ///
    /// # Errors
    /// When that cannot be found out.
    fn kind(&self, path: &Path) -> io::Result<Option<FileKind>>;

    /// The files and folders directly in `folder`, as full paths in any order.
    ///
    /// # Errors
    /// When the folder cannot be listed.
    fn entries(&self, folder: &Path) -> io::Result<Vec<(PathBuf, FileKind)>>;

    /// The path of `folder` without links: two links to one folder give the same path.
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A tree with the file `a/x`.
    #[derive(Debug)]
    struct One;

    impl Files for One {
        fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
            if path == Path::new("a/x") { Ok(b"x".to_vec()) } else { Err(io::ErrorKind::NotFound.into()) }
        }
    }

    impl FileTree for One {
        fn kind(&self, path: &Path) -> io::Result<Option<FileKind>> {
            match path.to_str() {
                Some("a") => Ok(Some(FileKind::Folder)),
                Some("a/x") => Ok(Some(FileKind::File)),
                Some("secret") => Err(io::ErrorKind::PermissionDenied.into()),
                _ => Ok(None),
            }
        }

        fn entries(&self, folder: &Path) -> io::Result<Vec<(PathBuf, FileKind)>> {
            Ok(vec![(folder.join("x"), FileKind::File)])
        }
    }

    #[test]
    fn a_path_that_cannot_be_looked_at_is_neither_file_nor_folder() {
        let is = |path: &str| (One.is_file(Path::new(path)), One.is_folder(Path::new(path)));
        assert_eq!(
            [is("a"), is("a/x"), is("b"), is("secret")],
            [(false, true), (true, false), (false, false), (false, false)]
        );
        assert_eq!(One.known(Path::new("a/x")).unwrap(), None);
        assert_eq!(One.real(Path::new("a")).unwrap(), Path::new("a"));
    }
}
