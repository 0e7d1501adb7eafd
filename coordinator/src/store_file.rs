//! A redb file that nothing makes unusable for longer than it lasts: neither a full disk, nor damage, nor a panic.

use std::fs;
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use convoy_common::durable::{folder_of, rename, sync_folder};
use convoy_common::panic_text;
use parking_lot::{MappedRwLockReadGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};
use redb::{
    CommitError, Database, DatabaseError, ReadTransaction, ReadableDatabase, StorageError, TableError,
    TransactionError, WriteTransaction,
};

use crate::store_backend::StoreBackend;
use crate::store_error::StoreError;

/// A redb file. redb refuses everything after an error of the disk, so the file is closed then and opened anew when it
/// is needed next; a panic within redb is such an error.
#[derive(Debug)]
pub(crate) struct StoreFile {
    path: PathBuf,
    /// What to do when it is damaged.
    remedy: &'static str,
    /// `None` after an error.
    database: RwLock<Option<Database>>,
}

/// Why work on a store came to nothing.
#[derive(Debug)]
pub(crate) enum Halted<E> {
    /// The file could not be read or written.
    File(String),
    /// What was asked for is refused; the file is well.
    Refused(E),
}

macro_rules! halted_by {
    ($($error:ty),*) => {$(
        impl<E> From<$error> for Halted<E> {
            fn from(error: $error) -> Self {
                Halted::File(error.to_string())
            }
        }
    )*};
}

halted_by!(StorageError, TableError, TransactionError, CommitError);

impl StoreFile {
    /// Opens the file at `path`, or makes it where none is, and has `prepare` make its tables. All of the file is
    /// checked. `remedy` is told to people when it is damaged.
    ///
    /// # Errors
    /// When it is in use, damaged, or cannot be read or written.
    pub(crate) fn open(
        path: &Path,
        remedy: &'static str,
        prepare: impl FnOnce(&WriteTransaction) -> Result<(), Halted<StoreError>>,
    ) -> Result<StoreFile, StoreError> {
        let (path, database) = (path.to_owned(), RwLock::new(None));
        let file = StoreFile { path, remedy, database };
        if fs::metadata(&file.path).is_ok_and(|facts| facts.len() == 0) {
            return Err(file.damaged("it is empty".to_owned()));
        }
        *file.database.write() = Some(file.open_database(true)?);
        file.write(prepare)?;
        // The name of a new one is to outlive a loss of power like what is in it.
        sync_folder(folder_of(&file.path)).map_err(|error| file.failed(&error))?;
        Ok(file)
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads; the result of `look` is that of this call.
    ///
    /// # Errors
    /// Those of `look`, and when the file cannot be read.
    pub(crate) fn read<T, E: From<StoreError>>(
        &self,
        look: impl FnOnce(&ReadTransaction) -> Result<T, Halted<E>>,
    ) -> Result<T, E> {
        self.work(|database| look(&database.begin_read()?))
    }

    /// Changes the file as one: all of `change` is on the disk afterwards or, when it is refused, nothing.
    ///
    /// # Errors
    /// Those of `change`, and when the file cannot be written.
    pub(crate) fn write<T, E: From<StoreError>>(
        &self,
        change: impl FnOnce(&WriteTransaction) -> Result<T, Halted<E>>,
    ) -> Result<T, E> {
        self.work(|database| {
            let mut transaction = database.begin_write()?;
            transaction.set_two_phase_commit(true);
            let result = change(&transaction)?;
            transaction.commit()?;
            Ok(result)
        })
    }

    fn work<T, E: From<StoreError>>(&self, work: impl FnOnce(&Database) -> Result<T, Halted<E>>) -> Result<T, E> {
        let database = self.opened()?;
        let done = caught(|| work(&database)).unwrap_or_else(|panic| Err(Halted::File(panic)));
        drop(database);
        done.map_err(|halted| match halted {
            Halted::Refused(error) => error,
            Halted::File(problem) => {
                self.close();
                StoreError::Io { path: self.path.clone(), problem }.into()
            }
        })
    }

    fn opened(&self) -> Result<MappedRwLockReadGuard<'_, Database>, StoreError> {
        loop {
            if let Ok(database) = RwLockReadGuard::try_map(self.database.read(), Option::as_ref) {
                return Ok(database);
            }
            let mut closed = self.database.write();
            if closed.is_none() {
                *closed = Some(self.open_database(false)?);
                tracing::info!(file = %self.path.display(), "opened anew");
            }
            let opened = RwLockWriteGuard::downgrade(closed);
            if let Ok(database) = RwLockReadGuard::try_map(opened, Option::as_ref) {
                return Ok(database);
            }
        }
    }

    /// Closes the file, once nobody works on it.
    fn close(&self) {
        let database = self.database.write().take();
        // What it has to say while it goes has been said already.
        _ = caught(|| drop(database));
    }

    fn open_database(&self, check: bool) -> Result<Database, StoreError> {
        let opening = caught(|| {
            let backend = StoreBackend::open(&self.path)?;
            Database::builder().set_check_integrity_on_open(check).create_with_backend(backend)
        });
        opening.map_err(|panic| self.damaged(panic))?.map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => {
                StoreError::InUse(self.path.display().to_string())
            }
            DatabaseError::Storage(StorageError::Io(error)) if !is_damage(error.kind()) => self.failed(&error),
            error => self.damaged(error.to_string()),
        })
    }

    fn failed(&self, error: &std::io::Error) -> StoreError {
        StoreError::Io { path: self.path.clone(), problem: error.to_string() }
    }

    fn damaged(&self, problem: String) -> StoreError {
        StoreError::Damaged { path: self.path.clone(), problem, remedy: self.remedy }
    }
}

/// Whether a file that cannot be opened so has other bytes than were written.
fn is_damage(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::InvalidData | ErrorKind::InvalidInput | ErrorKind::UnexpectedEof)
}

/// The result of `work`, or what it said when it panicked.
fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| format!("redb: {}", panic_text(panic.as_ref())))
}

/// Puts a damaged file aside under a name that says so, and returns that.
///
/// # Errors
/// When it cannot be renamed.
pub(crate) fn put_aside(path: &Path) -> Result<PathBuf, StoreError> {
    let now = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
    let (name, extension) = (path.file_stem().unwrap_or_default(), path.extension().unwrap_or_default());
    let aside = format!("{}.damaged-{now}.{}", name.display(), extension.display());
    let aside = path.with_file_name(aside);
    let fail = |error: std::io::Error| StoreError::Io { path: path.to_owned(), problem: error.to_string() };
    rename(path, &aside).and_then(|()| sync_folder(folder_of(path))).map_err(fail)?;
    Ok(aside)
}

#[cfg(test)]
mod tests {
    use redb::TableDefinition;

    use super::*;

    const TABLE: TableDefinition<'_, u64, u64> = TableDefinition::new("table");

    fn open(path: &Path) -> Result<StoreFile, StoreError> {
        StoreFile::open(path, "do something", |write| {
            write.open_table(TABLE)?;
            Ok(())
        })
    }

    fn put(file: &StoreFile, key: u64, value: u64) -> Result<(), StoreError> {
        file.write(|write| {
            write.open_table(TABLE)?.insert(key, value)?;
            Ok(())
        })
    }

    fn get(file: &StoreFile, key: u64) -> Result<Option<u64>, StoreError> {
        file.read(|read| Ok(read.open_table(TABLE)?.get(key)?.map(|value| value.value())))
    }

    #[test]
    fn a_panic_and_an_error_cost_one_call() {
        let folder = tempfile::tempdir().unwrap();
        let file = open(&folder.path().join("x.redb")).unwrap();
        put(&file, 1, 10).unwrap();
        let panicked: Result<(), StoreError> = file.write(|write| {
            write.open_table(TABLE)?.insert(1, 11)?;
            panic!("on purpose")
        });
        assert!(panicked.unwrap_err().to_string().contains("x.redb: redb: on purpose"));
        assert_eq!(get(&file, 1).unwrap(), Some(10));
        let failed = file.write(|write| {
            write.open_table(TABLE)?.insert(1, 12)?;
            Err::<(), _>(Halted::<StoreError>::from(StorageError::PreviousIo))
        });
        assert!(failed.is_err());
        put(&file, 2, 20).unwrap();
        assert_eq!((get(&file, 1).unwrap(), get(&file, 2).unwrap()), (Some(10), Some(20)));
    }

    #[test]
    fn a_file_is_one_coordinators() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.redb");
        let _file = open(&path).unwrap();
        assert!(matches!(open(&path), Err(StoreError::InUse(_))));
    }

    #[test]
    fn a_damaged_file_is_named_and_nothing_in_it_ends_the_process() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.redb");
        let file = open(&path).unwrap();
        (0..200).for_each(|key| put(&file, key, key).unwrap());
        drop(file);
        let good = fs::read(&path).unwrap();
        let written: Vec<usize> = (0..good.len()).filter(|at| good[*at] != 0).collect();
        let mut refused = 0;
        for at in written.iter().step_by(written.len() / 150) {
            let mut bytes = good.clone();
            bytes[*at] ^= 0x10;
            fs::write(&path, bytes).unwrap();
            match open(&path) {
                Ok(file) => (0..200).for_each(|key| assert_eq!(get(&file, key).unwrap(), Some(key), "byte {at}")),
                Err(StoreError::Damaged { path: named, .. }) => {
                    refused += 1;
                    assert_eq!(named, path);
                }
                Err(error) => panic!("byte {at}: {error}"),
            }
        }
        assert!(refused > 20, "{refused}");
        for length in [0, 1, 4096, good.len() / 2, good.len() - 1] {
            fs::write(&path, &good[..length]).unwrap();
            assert!(matches!(open(&path), Err(StoreError::Damaged { .. })), "{length} bytes");
        }
        let aside = put_aside(&path).unwrap();
        assert!(aside.display().to_string().contains("x.damaged-2"), "{}", aside.display());
        assert!(open(&path).is_ok(), "a new one");
    }
}
