//! The files of the machine that this runs on.

use std::path::{Path, PathBuf};
use std::{fs, io};

use convoy_common::file_tree::{FileKind, FileTree, Files};

/// The files of this machine; relative paths start at the current folder.
#[derive(Debug, Clone, Copy, Default)]
pub struct Disk;

fn kind_of(metadata: &fs::Metadata) -> FileKind {
    match (metadata.is_dir(), metadata.is_file()) {
        (true, _) => FileKind::Folder,
        (_, true) => FileKind::File,
        _ => FileKind::Other,
    }
}

impl Files for Disk {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        // A pipe without a writer would be waited for, for ever.
        match fs::metadata(path)?.is_file() {
            true => fs::read(path),
            false => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is a folder, a pipe, a socket or a device")),
        }
    }
}

impl FileTree for Disk {
    fn kind(&self, path: &Path) -> io::Result<Option<FileKind>> {
        // The current folder has no name of its own.
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        match fs::metadata(path) {
            Ok(metadata) => Ok(Some(kind_of(&metadata))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn entries(&self, folder: &Path) -> io::Result<Vec<(PathBuf, FileKind)>> {
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let mut found = Vec::new();
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            // A link that leads nowhere is a file that cannot be read; whoever reads it says so.
            let kind = self.kind(&path)?.unwrap_or(FileKind::File);
            found.push((path, kind));
        }
        Ok(found)
    }

    fn real(&self, folder: &Path) -> io::Result<PathBuf> {
        fs::canonicalize(folder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_folders_and_links_are_told_apart() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        fs::write(at("file"), b"x").unwrap();
        fs::create_dir(at("folder")).unwrap();
        assert_eq!(Disk.kind(&at("file")).unwrap(), Some(FileKind::File));
        assert_eq!(Disk.kind(&at("folder")).unwrap(), Some(FileKind::Folder));
        assert_eq!(Disk.kind(&at("nothing")).unwrap(), None);
        assert_eq!(Disk.kind(Path::new("")).unwrap(), Some(FileKind::Folder), "the current folder");
        let mut entries = Disk.entries(root.path()).unwrap();
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        assert_eq!(entries, [(at("file"), FileKind::File), (at("folder"), FileKind::Folder)]);
        assert_eq!(Disk.read(&at("file")).unwrap(), b"x");
    }

    #[cfg(unix)]
    #[test]
    fn links_lead_to_one_real_folder_or_are_files_that_cannot_be_read() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        fs::create_dir(at("folder")).unwrap();
        std::os::unix::fs::symlink(at("folder"), at("link")).unwrap();
        assert_eq!(Disk.real(&at("link")).unwrap(), Disk.real(&at("folder")).unwrap());
        std::os::unix::fs::symlink(at("nothing"), at("dead")).unwrap();
        let entries = Disk.entries(root.path()).unwrap();
        assert!(entries.contains(&(at("dead"), FileKind::File)));
        assert!(entries.contains(&(at("link"), FileKind::Folder)));
    }
}
