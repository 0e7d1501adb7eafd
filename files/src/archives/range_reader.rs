//! A file of a tree as a reader, by reads of parts.

use std::io::{self, Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::sync::Arc;

use convoy_common::file_tree::FileTree;

/// Parts grow to this size while they are read one after the other.
const LARGEST_PART: u64 = 1 << 20;

/// Reads a file of a tree from anywhere. It holds one part of the file in memory: a small one after a jump, twice as
/// much each time that reading goes on where the last part ends, or little behind.
pub(super) struct RangeReader {
    files: Arc<dyn FileTree>,
    path: PathBuf,
    size: u64,
    at: u64,
    part: Vec<u8>,
    part_at: u64,
    /// The size of a part after a jump.
    least: u64,
}

impl RangeReader {
    /// The file at `path`, read in parts of at least `least` bytes.
    ///
    /// # Errors
    /// When its size cannot be found out.
    pub(super) fn new(files: Arc<dyn FileTree>, path: PathBuf, least: u64) -> io::Result<Self> {
        let size = files.size(&path)?;
        Ok(RangeReader { files, path, size, at: 0, part: Vec::new(), part_at: 0, least })
    }

    /// The size of the file in bytes.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Bytes of the next part.
    fn next_length(&self) -> u64 {
        let held = self.part.len() as u64;
        match self.at.checked_sub(self.part_at + held) {
            Some(gap) if gap <= held => (2 * held).clamp(self.least, LARGEST_PART.max(self.least)),
            _ => self.least,
        }
    }

    /// The bytes of the part from `at` on.
    fn rest(&self) -> &[u8] {
        let skipped = self.at.checked_sub(self.part_at).and_then(|skipped| usize::try_from(skipped).ok());
        skipped.and_then(|skipped| self.part.get(skipped..)).unwrap_or_default()
    }
}

impl Read for RangeReader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.at >= self.size {
            return Ok(0);
        }
        if self.rest().is_empty() {
            let length = self.next_length().min(self.size - self.at);
            self.part = self.files.read_range(&self.path, self.at, length)?;
            self.part_at = self.at;
        }
        let count = self.rest().len().min(into.len());
        into[..count].copy_from_slice(&self.rest()[..count]);
        self.at += count as u64;
        Ok(count)
    }
}

impl Seek for RangeReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(by) => self.size.checked_add_signed(by),
        };
        self.at = at.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}
