//! What must outlive a crash: every act on disk that it depends on goes through here.
//!
//! Whole files are written by [`replace_file`]; a file that grows is a [`DurableFile`]. In builds for tests each act is
//! a fail point, before and after it: see `faults`.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

mod acts;
#[cfg(debug_assertions)]
pub mod faults;

pub use acts::Act;

/// A file could not be written. What stood at `path` before still stands there, unless only the sync of the folder
/// failed: then the new file stands there, and may not survive a loss of power.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {}: {source}; {}", path.display(), remedy(source))]
pub struct WriteError {
    /// The file that was to be.
    pub path: PathBuf,
    /// What the system says.
    pub source: io::Error,
}

fn remedy(source: &io::Error) -> &'static str {
    match source.kind() {
        _ if is_full(source) => "free some space and resume; the file that stood there is untouched",
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => "choose a folder that is writable",
        io::ErrorKind::NotFound => "create the folder first",
        _ => "the file that stood there is untouched",
    }
}

/// Whether the system refused for want of space: what is refused so may be tried again when there is some.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// That the disk of `path` is full, in words with the space that is left; `path` need not exist.
pub fn full_disk(path: &Path) -> String {
    let free = path.ancestors().find_map(free_bytes);
    let left = free.map_or(String::new(), |free| format!("{} MiB free at ", free >> 20));
    format!("the disk is full: {left}{}", path.display())
}

/// Bytes that may still be written to the disk of `path`; `None` where the system does not tell.
#[cfg(unix)]
fn free_bytes(path: &Path) -> Option<u64> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    rustix::fs::statvfs(path).ok().map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// Bytes that may still be written to the disk of `path`; `None` where the system does not tell.
#[cfg(not(unix))]
fn free_bytes(_: &Path) -> Option<u64> {
    None
}

/// Bytes that are written at once, at least.
const BUFFER: usize = 64 << 10;

/// Does `act` to the file at `path`, as `carry_out` does it. For files that are written otherwise than by what is here.
///
/// # Errors
/// Those of `carry_out`.
pub fn act<T>(act: Act, path: &Path, carry_out: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    #[cfg(debug_assertions)]
    if let Some(faults) = faults::of(path) {
        return faults.act(act, path, carry_out);
    }
    #[cfg(not(debug_assertions))]
    let _ = (act, path);
    carry_out()
}

/// Writes `bytes` to the file at `path`, as `write` does it. After an error a part of them may be there.
///
/// # Errors
/// Those of `write`.
pub fn write(path: &Path, bytes: &[u8], write: impl FnOnce(&[u8]) -> io::Result<()>) -> io::Result<()> {
    #[cfg(debug_assertions)]
    if let Some(part) = faults::of(path).and_then(|faults| faults.torn(bytes.len())) {
        write(&bytes[..part])?;
        return Err(io::ErrorKind::StorageFull.into());
    }
    act(Act::Write, path, || write(bytes))
}

/// A file that is written to its end and synced.
#[derive(Debug)]
pub struct DurableFile {
    path: PathBuf,
    file: File,
}

impl DurableFile {
    /// The file at `path`, new or emptied.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn create(path: &Path) -> io::Result<Self> {
        let file = act(Act::Create, path, || File::create(path))?;
        Ok(DurableFile { path: path.to_owned(), file })
    }

    /// The file at `path` with what is in it, made if it is not there; what is written comes after that.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn append(path: &Path) -> io::Result<Self> {
        let file = act(Act::Create, path, || OpenOptions::new().append(true).create(true).open(path))?;
        Ok(DurableFile { path: path.to_owned(), file })
    }

    /// Adds bytes at the end. After an error a part of them may be there.
    ///
    /// # Errors
    /// When not all of them could be written.
    pub fn add(&self, bytes: &[u8]) -> io::Result<()> {
        write(&self.path, bytes, |bytes| (&self.file).write_all(bytes))
    }

    /// Cuts the file off after `length` bytes.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn cut(&self, length: u64) -> io::Result<()> {
        act(Act::Cut, &self.path, || self.file.set_len(length))
    }

    /// Returns when all bytes are on disk. Not to be tried again after an error: what the disk holds is unknown then.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn sync(&self) -> io::Result<()> {
        act(Act::Sync, &self.path, || self.file.sync_all())
    }
}

impl Write for DurableFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.add(bytes).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Replaces the file at `path` by what `write` writes: into a temporary file in the same folder, which is synced
/// and renamed; then the folder is synced.
///
/// # Errors
/// When anything of it fails; the temporary file is removed then. A failed sync is not retried: what the disk
/// holds is unknown after it.
pub fn replace_file(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<DurableFile>) -> io::Result<()>,
) -> Result<(), WriteError> {
    put_in_place(path, DurableFile::sync, write)?;
    sync_folder(folder_of(path)).map_err(|source| WriteError { path: path.to_owned(), source })
}

/// As [`replace_file`], for a file that can be made again: nothing waits for the disk, and after a loss of power it may
/// be empty.
///
/// # Errors
/// When it cannot be written; the temporary file is removed then.
pub fn replace_unsynced(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<DurableFile>) -> io::Result<()>,
) -> Result<(), WriteError> {
    put_in_place(path, |_| Ok(()), write)
}

fn put_in_place(
    path: &Path,
    sync: impl FnOnce(&DurableFile) -> io::Result<()>,
    write: impl FnOnce(&mut BufWriter<DurableFile>) -> io::Result<()>,
) -> Result<(), WriteError> {
    let fail = |source| WriteError { path: path.to_owned(), source };
    let Some(name) = path.file_name() else {
        return Err(fail(io::Error::new(io::ErrorKind::InvalidInput, "the path does not end in a file name")));
    };
    let folder = folder_of(path);
    let mut hidden = OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".{}.tmp", std::process::id()));
    let temporary = folder.join(hidden);
    let written = DurableFile::create(&temporary).and_then(|file| {
        let mut buffered = BufWriter::with_capacity(BUFFER, file);
        let written = write(&mut buffered).and_then(|()| buffered.flush());
        // What is left in the buffer after an error is of no use.
        let (file, _) = buffered.into_parts();
        written?;
        sync(&file)?;
        rename(&temporary, path)
    });
    if let Err(source) = written {
        // The error that is told is the first one; a temporary file that cannot be removed was perhaps never made.
        let _ = remove_file(&temporary);
        return Err(fail(source));
    }
    Ok(())
}

/// The file at `from` takes the place of the one at `to`.
///
/// # Errors
/// When the system refuses.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    act(Act::Rename, to, || {
        fs::rename(from, to)?;
        #[cfg(debug_assertions)]
        faults::renamed(from, to);
        Ok(())
    })
}

/// Makes the bytes of `file`, which is at `path` and was written otherwise, outlive a loss of power.
///
/// # Errors
/// When the system refuses. Not to be tried again then.
pub fn sync_file(path: &Path, file: &File) -> io::Result<()> {
    act(Act::Sync, path, || file.sync_all())
}

/// Removes the file at `path`.
///
/// # Errors
/// When the system refuses.
pub fn remove_file(path: &Path) -> io::Result<()> {
    act(Act::Remove, path, || fs::remove_file(path))
}

/// Removes the folder at `path` with all that is in it.
///
/// # Errors
/// When the system refuses.
pub fn remove_folder(path: &Path) -> io::Result<()> {
    act(Act::Remove, path, || fs::remove_dir_all(path))
}

/// Makes the names in a folder outlive a loss of power.
///
/// # Errors
/// When the system refuses. Not to be tried again then.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    act(Act::SyncFolder, folder, || if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) })
}

/// The folder in which `path` is.
pub fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests;
