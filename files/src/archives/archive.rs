//! What every kind of archive does, and telling which kind a file is.

use std::fmt::Debug;
use std::io;
use std::path::Path;
use std::sync::Arc;

use convoy_common::file_tree::{Contents, FileKind, FileTree};
use convoy_common::samples::Samples;

use super::cifar::{CifarFile, is_cifar};
use super::npz::{NpzFile, is_npz};
use super::parquet::{MAGIC, ParquetFile};
use super::tar_archive::{TarArchive, is_tar};
use super::unpacked::Unpacked;
use crate::Disk;

/// An archive that has been opened. Called from many threads.
///
/// Names are as [`Member`](convoy_common::file_tree::Member) says: with `/` between folders, and none before or behind.
pub trait Archive: Send + Sync + Debug {
    /// What lies in it.
    ///
    /// # Errors
    /// When it cannot be read, or is damaged.
    fn contents(&self) -> io::Result<Contents>;

    /// What lies at `name`; `None` if there is nothing.
    ///
    /// # Errors
    /// When that cannot be found out.
    fn kind(&self, name: &str) -> io::Result<Option<FileKind>>;

    /// All bytes of the member `name`.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] where there is no such member, another error where it cannot be read.
    fn read(&self, name: &str) -> io::Result<Vec<u8>>;

    /// `length` bytes of the member `name` from byte `offset`.
    ///
    /// # Errors
    /// As [`Archive::read`]; [`io::ErrorKind::UnexpectedEof`] where the member ends before.
    fn read_range(&self, name: &str, offset: u64, length: u64) -> io::Result<Vec<u8>>;

    /// The size in bytes of the member `name`.
    ///
    /// # Errors
    /// As [`Archive::read`].
    fn size(&self, name: &str) -> io::Result<u64>;

    /// The samples that lie in it with their labels, one entry for each split.
    fn samples(self: Arc<Self>) -> Vec<Arc<dyn Samples>> {
        Vec::new()
    }
}

/// Bytes that tell which kind a file is.
const LOOKED_AT: u64 = 512;

/// Opens the file at `path` of `files` as the archive that its first bytes say it is; `None` where it is none.
pub(super) fn open(
    files: &Arc<dyn FileTree>,
    path: &Path,
    unpacked: &Unpacked,
) -> io::Result<Option<Arc<dyn Archive>>> {
    let size = files.size(path)?;
    let first = files.read_range(path, 0, size.min(LOOKED_AT))?;
    if is_tar(&first, size, path) {
        return Ok(Some(Arc::new(TarArchive::open(files.clone(), path)?)));
    }
    if unpacked.is_packed_tar(files, path, &first)? {
        let plain = unpacked.plain(files, path)?;
        return Ok(Some(Arc::new(TarArchive::open(Arc::new(Disk), &plain)?)));
    }
    if is_npz(&first, path) {
        return Ok(Some(Arc::new(NpzFile::open(files, path, unpacked)?)));
    }
    if is_cifar(path) {
        return Ok(Some(Arc::new(CifarFile::open(files.clone(), path)?)));
    }
    if first.starts_with(&MAGIC) {
        return Ok(Some(Arc::new(ParquetFile::open(files.clone(), path)?)));
    }
    Ok(None)
}
