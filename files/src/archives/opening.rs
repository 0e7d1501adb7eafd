//! Telling which kind of archive a file is.

use std::io;
use std::path::Path;
use std::sync::Arc;

use convoy_common::file_tree::FileTree;

use super::archive::Archive;
use super::cifar::{CifarFile, is_cifar};
use super::npz::{NpzFile, is_npz};
use super::parquet::{MAGIC, ParquetFile};
use super::tar_archive::{TarArchive, is_tar};
use super::unpacked::Unpacked;
use crate::disk::Disk;

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
