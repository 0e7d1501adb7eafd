use std::path::{Path, PathBuf};
use std::{fs, io};

use convoy_common::file_tree::{FileKind, FileTree, Files};

/// The files of this machine; relative paths start at the current folder.
#[derive(Debug, Clone, Copy, Default)]
pub struct Disk;

fn kind_of(metadata: &fs::Metadata) -> FileKind {
    if metadata.is_dir() { FileKind::Folder } else { FileKind::File }
}

impl Files for Disk {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path)
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
