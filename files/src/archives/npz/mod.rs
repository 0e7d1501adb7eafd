//! NumPy's `.npz` files with arrays of pictures and labels, as MedMNIST and Keras have them: each row is a file.

mod array;
mod split;
#[cfg(test)]
mod tests;
mod zipped;

use std::io;
use std::path::Path;
use std::sync::Arc;

use convoy_common::file_tree::{ArchiveKind, Contents, FileKind, FileTree, Member, range_of};
use convoy_common::samples::Samples;

use super::archive::Archive;
use super::unpacked::Unpacked;
use array::wrong;
use split::{Split, pairs};
use zipped::arrays;

/// What a zip file begins with.
const MAGIC: [u8; 2] = *b"PK";

/// Whether a file that begins with `first` is such a file: a zip archive whose name says it.
pub(super) fn is_npz(first: &[u8], path: &Path) -> bool {
    first.starts_with(&MAGIC) && path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("npz"))
}

/// A file that has been opened. Only places of arrays are held.
#[derive(Debug)]
pub(super) struct NpzFile {
    splits: Vec<Arc<Split>>,
}

impl NpzFile {
    /// Reads the headers of the arrays.
    ///
    /// # Errors
    /// When the file cannot be read, is damaged, or holds no pictures with labels.
    pub(super) fn open(files: &Arc<dyn FileTree>, path: &Path, unpacked: &Unpacked) -> io::Result<Self> {
        let arrays = arrays(files, path, unpacked)?;
        let file = path.file_name().and_then(|name| name.to_str()).ok_or_else(|| wrong("its name is not UTF-8"))?;
        let names: Vec<&str> = arrays.iter().map(|array| array.name.as_str()).collect();
        let pairs = pairs(&names);
        if pairs.is_empty() {
            return Err(wrong(format!(
                "it holds {}; looked for arrays such as `train_images` and `train_labels`, `x_train` and `y_train`, or \
                 `images` and `labels`",
                names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
            )));
        }
        let split = |(name, images, labels): (String, usize, usize)| {
            Split::new(name, file, arrays[images].clone(), arrays[labels].clone()).map(Arc::new)
        };
        Ok(NpzFile { splits: pairs.into_iter().map(split).collect::<io::Result<_>>()? })
    }

    /// The split and the row that a member's name means.
    fn find(&self, name: &str) -> Option<(&Split, u64)> {
        let (images, row) = name.split_once('/')?;
        let split = self.splits.iter().find(|split| split.images() == images)?;
        Some((split, split.row_of(row)?))
    }
}

impl Archive for NpzFile {
    fn contents(&self) -> io::Result<Contents> {
        let all = self.splits.iter().flat_map(|split| split.names());
        let members = all.map(|name| Member { name, size: None, bytes: None }).collect();
        Ok(Contents { kind: ArchiveKind::Samples, members, passed_over: Vec::new() })
    }

    fn kind(&self, name: &str) -> io::Result<Option<FileKind>> {
        let is_folder = || self.splits.iter().any(|split| split.images() == name);
        Ok(match self.find(name) {
            Some(_) => Some(FileKind::File),
            None => is_folder().then_some(FileKind::Folder),
        })
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let (split, row) = self.find(name).ok_or(io::ErrorKind::NotFound)?;
        split.picture(row)
    }

    fn read_range(&self, name: &str, offset: u64, length: u64) -> io::Result<Vec<u8>> {
        range_of(self.read(name)?, offset, length)
    }

    fn size(&self, name: &str) -> io::Result<u64> {
        let (split, _) = self.find(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(split.picture_size())
    }

    fn samples(self: Arc<Self>) -> Vec<Arc<dyn Samples>> {
        self.splits.iter().map(|split| split.clone() as Arc<dyn Samples>).collect()
    }
}
