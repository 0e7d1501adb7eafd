//! The file below a redb store: whatever redb does to it is an act of `convoy_common::durable`.

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};

use convoy_common::durable::{Act, act, write};
use redb::backends::FileBackend;
use redb::{BackendError, DatabaseError, StorageBackend};

/// A file as redb sees it.
#[derive(Debug)]
pub(crate) struct StoreBackend {
    path: PathBuf,
    file: FileBackend,
}

impl StoreBackend {
    /// The file at `path`, made where none is.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub(crate) fn open(path: &Path) -> Result<Self, DatabaseError> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let file: File = act(Act::Create, path, || options.open(path))?;
        Ok(StoreBackend { path: path.to_owned(), file: FileBackend::new(file)? })
    }
}

impl StorageBackend for StoreBackend {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        // What grows needs room.
        let kind = if length > self.file.len()? { Act::Write } else { Act::Cut };
        act(kind, &self.path, || self.file.set_len(length))
    }

    fn sync_data(&self) -> io::Result<()> {
        act(Act::Sync, &self.path, || self.file.sync_data())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        write(&self.path, data, |data| self.file.write(offset, data))
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.query_lock_range(start, end)
    }
}
