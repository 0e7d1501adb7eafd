//! Files that are either the old one or the new one, whatever happens in between.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

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
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "free some space and resume; the file that stood there is untouched"
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => "choose a folder that is writable",
        io::ErrorKind::NotFound => "create the folder first",
        _ => "the file that stood there is untouched",
    }
}

/// Replaces the file at `path` by what `write` writes: into a temporary file in the same folder, which is synced
/// and renamed; then the folder is synced.
///
/// # Errors
/// When anything of it fails; the temporary file is removed then. A failed sync is not retried: what the disk
/// holds is unknown after it.
pub fn replace_file(path: &Path, write: impl FnOnce(&mut File) -> io::Result<()>) -> Result<(), WriteError> {
    let fail = |source| WriteError { path: path.to_owned(), source };
    let Some(name) = path.file_name() else {
        return Err(fail(io::Error::new(io::ErrorKind::InvalidInput, "the path does not end in a file name")));
    };
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut hidden = OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".{}.tmp", std::process::id()));
    let temporary = folder.join(hidden);
    let written = File::create(&temporary).and_then(|mut file| {
        write(&mut file)?;
        file.flush()?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    });
    if let Err(source) = written {
        // The error that is told is the first one; a temporary file that cannot be removed was perhaps never made.
        let _ = fs::remove_file(&temporary);
        return Err(fail(source));
    }
    sync_folder(folder).map_err(fail)
}

/// Makes the names in a folder durable.
fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_leaves_the_old_file_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        replace_file(&path, |file| file.write_all(b"old")).unwrap();
        let error = replace_file(&path, |file| {
            file.write_all(b"half of the new")?;
            Err(io::ErrorKind::StorageFull.into())
        })
        .unwrap_err()
        .to_string();
        assert!(error.contains("state") && error.contains("free some space"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        replace_file(&path, |file| file.write_all(b"new")).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn paths_that_cannot_be_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("missing/file");
        let error = replace_file(&missing, |_| Ok(())).unwrap_err().to_string();
        assert!(error.contains("missing/file") && error.contains("create the folder"), "{error}");
        assert!(replace_file(Path::new("/"), |_| Ok(())).is_err());
        assert!(replace_file(folder.path(), |_| Ok(())).is_err());
    }
}
