//! The state folder of a coordinator: whose it is, who may look into it, and that one coordinator works in it.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::Path;

use rustix::fs::Mode;

use crate::store_error::StoreError;

/// Bits of a folder's mode that let anybody but its owner in.
const OTHERS: u32 = 0o077;
/// The bit that lets everybody write.
const ANYBODY_WRITES: u32 = 0o002;

/// From now on, what this process makes can be read by its own user alone.
pub fn keep_private() {
    rustix::process::umask(Mode::from_raw_mode(OTHERS));
}

/// Makes the folder at `path` if it is not there, and lets nobody but its owner look into it.
///
/// # Errors
/// When it cannot be made, or is another user's: then that user would decide what happens here.
pub(crate) fn private_folder(path: &Path) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let facts = fs::metadata(path)?;
    let (owner, us, mode) = (facts.uid(), rustix::process::geteuid().as_raw(), facts.mode());
    if owner == us {
        return match mode & OTHERS {
            0 => Ok(()),
            _ => fs::set_permissions(path, fs::Permissions::from_mode(mode & !OTHERS & 0o7777)),
        };
    }
    // Root may do everything anyway: what it mounts for a container is its own.
    if owner == 0 && mode & ANYBODY_WRITES == 0 {
        return Ok(());
    }
    let text = format!("it belongs to user {owner}, and this is user {us}; let it be owned by the coordinator's user");
    Err(io::Error::new(io::ErrorKind::PermissionDenied, text))
}

/// Holds the state folder at `path` for one coordinator, as long as the file is open.
///
/// # Errors
/// When another coordinator holds it, or the disk fails.
pub(crate) fn hold(path: &Path) -> Result<File, StoreError> {
    let file = path.join("lock");
    let fail = |error: io::Error| StoreError::Io { path: file.clone(), problem: error.to_string() };
    let lock = File::create(&file).map_err(fail)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(fs::TryLockError::WouldBlock) => Err(StoreError::InUse(path.display().to_string())),
        Err(fs::TryLockError::Error(error)) => Err(fail(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_owner_sees_a_state_folder() {
        let folder = tempfile::tempdir().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        let new = folder.path().join("deep/state");
        private_folder(&new).unwrap();
        assert_eq!(mode(&new), 0o700);
        fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).unwrap();
        private_folder(&new).unwrap();
        assert_eq!(mode(&new), 0o700, "one that was open is closed");
        fs::write(folder.path().join("file"), "").unwrap();
        assert!(private_folder(&folder.path().join("file/state")).is_err());
    }

    #[test]
    fn a_folder_of_another_user_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        // Only root can give a folder away; for anybody else, root's folder is one of another user, into which
        // everybody may write.
        let given = std::os::unix::fs::chown(folder.path(), Some(12_345), None);
        let path = if given.is_ok() { folder.path() } else { Path::new("/tmp") };
        let error = private_folder(path).unwrap_err();
        assert!(error.to_string().starts_with("it belongs to user "), "{error}");
    }

    #[test]
    fn one_coordinator_holds_a_state_folder() {
        let folder = tempfile::tempdir().unwrap();
        let held = hold(folder.path()).unwrap();
        assert!(matches!(hold(folder.path()), Err(StoreError::InUse(_))));
        drop(held);
        hold(folder.path()).unwrap();
    }
}
