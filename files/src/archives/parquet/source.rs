//! The bytes of a Parquet file, as the library asks for them.

use std::io::{self, BufReader, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use convoy_common::file_tree::FileTree;
use convoy_common::panic_text;
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};

/// A file of a tree.
#[derive(Debug, Clone)]
pub(super) struct Source {
    pub files: Arc<dyn FileTree>,
    pub path: PathBuf,
    pub size: u64,
}

/// Bytes that are read at once where nobody knows how many are needed: most headers fit.
const PART: usize = 512;

impl Length for Source {
    fn len(&self) -> u64 {
        self.size
    }
}

impl ChunkReader for Source {
    type T = BufReader<From>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        Ok(BufReader::with_capacity(PART, From { source: self.clone(), at: start }))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        Ok(self.files.read_range(&self.path, start, length as u64)?.into())
    }
}

/// The rest of a file.
pub(super) struct From {
    source: Source,
    at: u64,
}

impl Read for From {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let length = (into.len() as u64).min(self.source.size.saturating_sub(self.at));
        let bytes = self.source.files.read_range(&self.source.path, self.at, length)?;
        into[..bytes.len()].copy_from_slice(&bytes);
        self.at += length;
        Ok(bytes.len())
    }
}

/// An error in the words of `text`.
pub(super) fn damaged(text: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text.into())
}

/// An error of the library in words.
fn in_words(error: &str) -> String {
    match error.split_once("Disabled feature at compile time: ") {
        Some((_, packing)) => format!(
            "it is compressed with {packing}, which is not read; write it with snappy, zstd or gzip, or uncompressed"
        ),
        None => format!("it is a damaged or unknown Parquet file: {error}"),
    }
}

/// What `work` gives; a panic of the library is an error.
pub(super) fn guarded<T>(work: impl FnOnce() -> Result<T, ParquetError>) -> io::Result<T> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(error)) => Err(damaged(in_words(&error.to_string()))),
        Err(panic) => Err(damaged(format!("it makes the Parquet reader fail: {}", panic_text(panic.as_ref())))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_in_another_way_is_said_with_a_remedy() {
        let said = in_words("Parquet error: Disabled feature at compile time: lz4");
        assert!(said.starts_with("it is compressed with lz4, which is not read; write it with snappy"), "{said}");
        assert_eq!(in_words("Parquet error: EOF"), "it is a damaged or unknown Parquet file: Parquet error: EOF");
    }
}
