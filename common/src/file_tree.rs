//! Where the bytes of files come from: a disk, the data sets of a coordinator, the cache of a worker.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::Digest;
use crate::samples::Samples;

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

/// What tells whether a file is the one it was, without reading it. Equal stamps of one path mean equal bytes, as far
/// as the place that made them can know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp(pub Digest);

/// What an archive is, as its first bytes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArchiveKind {
    /// A tar archive, plain or compressed.
    Tar,
    /// A table whose rows are pictures with labels.
    Samples,
}

/// What lies in an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents {
    /// What it is.
    pub kind: ArchiveKind,
    /// Its files, in its order. No name stands twice.
    pub members: Vec<Member>,
    /// What else it holds, in its order: the name, and why it is no member.
    pub passed_over: Vec<(String, PassedOver)>,
}

/// A file in an archive, whose path is that of the archive, `/` and its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The path in the archive, with `/` between folders; it leads to no other place.
    pub name: String,
    /// The size in bytes where it is known without reading it.
    pub size: Option<u64>,
    /// The bytes of a small member, such as a label, where they were at hand.
    pub bytes: Option<Box<[u8]>>,
}

/// Why something in an archive is no member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PassedOver {
    /// A link, symbolic or hard.
    Link,
    /// A pipe, a device, or of a type that nobody knows.
    NoFile,
    /// Its path is absolute or climbs with `..`.
    Elsewhere,
    /// Its name is empty, or is not UTF-8.
    NoName,
    /// Its bytes are stored as pieces with holes between.
    Sparse,
    /// A later member has the same name.
    Replaced,
    /// The archive ends without its end mark: it may be cut. The name is empty.
    NoEnd,
    /// Bytes after the end mark. The name is empty.
    AfterEnd,
}

/// Files that can be read, by path. Called from many threads, which it may block.
pub trait Files: Send + Sync + std::fmt::Debug {
    /// All bytes of the file at `path`.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] where there is no file, another error where it cannot be read.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// `length` bytes of the file at `path`, from byte `offset`.
    ///
    /// # Errors
    /// As [`Files::read`]; [`io::ErrorKind::UnexpectedEof`] where the file ends before.
    fn read_range(&self, path: &Path, offset: u64, length: u64) -> io::Result<Vec<u8>> {
        range_of(self.read(path)?, offset, length)
    }

    /// Whoever read other bytes of the file at `path` than they know it to have says so: a place that knows the digest
    /// of what it keeps looks at it again.
    ///
    /// # Errors
    /// What is amiss with the file and what to do, where the place finds out.
    fn doubt(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }
}

/// `length` of `bytes` from `offset`.
///
/// # Errors
/// [`io::ErrorKind::UnexpectedEof`] where there are fewer.
pub fn range_of(mut bytes: Vec<u8>, offset: u64, length: u64) -> io::Result<Vec<u8>> {
    let end = offset.checked_add(length).filter(|end| *end <= bytes.len() as u64);
    let end = end.ok_or(io::ErrorKind::UnexpectedEof)?;
    bytes.truncate(end as usize);
    bytes.drain(..offset as usize);
    Ok(bytes)
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

    /// The stamp of the file at `path`; `None` where the place cannot tell, or not yet: a file that was written just
    /// now may be written again within the same tick of its clock.
    ///
    /// # Errors
    /// When that cannot be found out.
    fn stamp(&self, path: &Path) -> io::Result<Option<Stamp>> {
        let _ = path;
        Ok(None)
    }

    /// The size in bytes of the file at `path`.
    ///
    /// # Errors
    /// As [`Files::read`].
    fn size(&self, path: &Path) -> io::Result<u64> {
        Ok(self.read(path)?.len() as u64)
    }

    /// What lies in the archive at `path`, whose files are read at that path, `/` and their name; `None` where it is no
    /// archive, or this tree does not look into archives.
    ///
    /// # Errors
    /// As [`Files::read`], and when the archive is damaged.
    fn contents(&self, path: &Path) -> io::Result<Option<Contents>> {
        let _ = path;
        Ok(None)
    }

    /// The samples that lie in the file at `path` with their labels, one entry for each split; none where it is no such
    /// file, or this tree does not look into files.
    ///
    /// # Errors
    /// As [`FileTree::contents`].
    fn samples(&self, path: &Path) -> io::Result<Vec<Arc<dyn Samples>>> {
        let _ = path;
        Ok(Vec::new())
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
        assert_eq!((One.stamp(Path::new("a/x")).unwrap(), One.size(Path::new("a/x")).unwrap()), (None, 1));
    }

    #[test]
    fn parts_of_files_do_not_reach_beyond_them() {
        let part = |offset, length| range_of(vec![1, 2, 3], offset, length).map_err(|error| error.kind());
        assert_eq!([part(0, 3), part(1, 1), part(3, 0)], [Ok(vec![1, 2, 3]), Ok(vec![2]), Ok(vec![])]);
        for (offset, length) in [(0, 4), (4, 0), (3, 1), (1, u64::MAX)] {
            assert_eq!(part(offset, length), Err(io::ErrorKind::UnexpectedEof));
        }
        assert_eq!(One.read_range(Path::new("a/x"), 0, 1).unwrap(), b"x");
    }
}
