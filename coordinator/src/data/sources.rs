//! All places that a coordinator has data in, as one tree: paths begin with `dataset:NAME` or `shared:`.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use convoy_common::Digest;
use convoy_common::data_place::{DataName, DataPlace, InnerPath};
use convoy_common::file_tree::{FileKind, FileTree, Files, Stamp};
use convoy_files::Disk;

use super::store::DataStore;

/// Data sets, and the folder that workers share, if there is one.
#[derive(Debug, Clone)]
pub(crate) struct Sources {
    pub(crate) store: Arc<DataStore>,
    pub(crate) shared: Option<PathBuf>,
}

fn no_place(path: &Path) -> io::Error {
    io::Error::new(
        io::ErrorKind::NotFound,
        format!("{} is neither in a data set (dataset:NAME/...) nor shared (shared:...)", path.display()),
    )
}

/// Says what helps where a file is damaged. Which one it is, says whoever wants it.
fn with_remedy(error: io::Error, name: &DataName) -> io::Error {
    if error.kind() != io::ErrorKind::InvalidData {
        return error;
    }
    let text = format!("it is damaged at the coordinator; push data set {name} again, which sends it anew");
    io::Error::new(error.kind(), text)
}

impl Sources {
    fn place(&self, path: &Path) -> io::Result<DataPlace> {
        let text = path.to_str().ok_or_else(|| no_place(path))?;
        DataPlace::parse(text).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))
    }

    fn shared(&self, inner: &InnerPath) -> io::Result<PathBuf> {
        let folder = self.shared.as_ref().ok_or_else(|| {
            io::Error::new(io::ErrorKind::NotFound, "this coordinator has no shared folder; start it with --data DIR")
        })?;
        // A link may point anywhere, and what it points to is somebody's choice on this machine; a path may not.
        Ok(folder.join(inner.as_str()))
    }

    /// Digest and size of a file of a data set.
    fn kept(&self, name: &DataName, inner: &InnerPath) -> io::Result<(Digest, u64)> {
        let found = self.store.file(name, inner).map_err(io::Error::other)?;
        found.ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Files for Sources {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        match self.place(path)? {
            DataPlace::DataSet(name, inner) => {
                let digest = self.kept(&name, &inner)?.0;
                self.store.read(&digest).map_err(|error| with_remedy(error, &name))
            }
            DataPlace::Shared(inner) => Disk.read(&self.shared(&inner)?),
            DataPlace::Local(path) => Err(no_place(&path)),
        }
    }

    fn read_range(&self, path: &Path, offset: u64, length: u64) -> io::Result<Vec<u8>> {
        match self.place(path)? {
            DataPlace::DataSet(name, inner) => {
                let digest = self.kept(&name, &inner)?.0;
                self.store.read_range(&digest, offset, length).map_err(|error| with_remedy(error, &name))
            }
            DataPlace::Shared(inner) => Disk.read_range(&self.shared(&inner)?, offset, length),
            DataPlace::Local(path) => Err(no_place(&path)),
        }
    }

    fn doubt(&self, path: &Path) -> io::Result<()> {
        let DataPlace::DataSet(name, inner) = self.place(path)? else { return Ok(()) };
        let digest = self.kept(&name, &inner)?.0;
        self.store.check(&digest).map_err(|error| with_remedy(error, &name))
    }
}

impl FileTree for Sources {
    fn kind(&self, path: &Path) -> io::Result<Option<FileKind>> {
        match self.place(path)? {
            DataPlace::DataSet(name, inner) => {
                if self.store.file(&name, &inner).map_err(io::Error::other)?.is_some() {
                    return Ok(Some(FileKind::File));
                }
                let inside = self.store.entries(&name, &inner).map_err(io::Error::other)?;
                Ok((!inside.is_empty()).then_some(FileKind::Folder))
            }
            DataPlace::Shared(inner) => Disk.kind(&self.shared(&inner)?),
            DataPlace::Local(path) => Err(no_place(&path)),
        }
    }

    fn entries(&self, folder: &Path) -> io::Result<Vec<(PathBuf, FileKind)>> {
        match self.place(folder)? {
            DataPlace::DataSet(name, inner) => {
                let inside = self.store.entries(&name, &inner).map_err(io::Error::other)?;
                let kind = |is_folder| if is_folder { FileKind::Folder } else { FileKind::File };
                Ok(inside.into_iter().map(|(name, is_folder)| (folder.join(name), kind(is_folder))).collect())
            }
            DataPlace::Shared(inner) => {
                let mut found = Vec::new();
                for (path, kind) in Disk.entries(&self.shared(&inner)?)? {
                    let Some(name) = path.file_name() else { continue };
                    // `shared:` itself is no folder whose names could be joined with `/`.
                    let at = match inner.as_str() {
                        "" => PathBuf::from(format!("{}{}", folder.display(), name.to_string_lossy())),
                        _ => folder.join(name),
                    };
                    found.push((at, kind));
                }
                Ok(found)
            }
            DataPlace::Local(path) => Err(no_place(&path)),
        }
    }

    fn known(&self, path: &Path) -> io::Result<Option<(u64, Digest)>> {
        let DataPlace::DataSet(name, inner) = self.place(path)? else { return Ok(None) };
        let found = self.store.file(&name, &inner).map_err(io::Error::other)?;
        Ok(found.map(|(digest, size)| (size, digest)))
    }

    fn real(&self, folder: &Path) -> io::Result<PathBuf> {
        match self.place(folder)? {
            DataPlace::Shared(inner) => Disk.real(&self.shared(&inner)?),
            _ => Ok(folder.to_owned()),
        }
    }

    fn stamp(&self, path: &Path) -> io::Result<Option<Stamp>> {
        match self.place(path)? {
            DataPlace::DataSet(name, inner) => Ok(Some(Stamp(self.kept(&name, &inner)?.0))),
            DataPlace::Shared(inner) => Disk.stamp(&self.shared(&inner)?),
            DataPlace::Local(path) => Err(no_place(&path)),
        }
    }

    fn size(&self, path: &Path) -> io::Result<u64> {
        match self.place(path)? {
            DataPlace::DataSet(name, inner) => Ok(self.kept(&name, &inner)?.1),
            DataPlace::Shared(inner) => Disk.size(&self.shared(&inner)?),
            DataPlace::Local(path) => Err(no_place(&path)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::set::SetFile;
    use super::*;
    use crate::disk_use::{DiskLimits, DiskUse};

    #[test]
    fn both_places_are_trees_and_nothing_else_is_seen() {
        let (state, shared) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::create_dir(shared.path().join("a")).unwrap();
        std::fs::write(shared.path().join("a/x"), "disk").unwrap();
        let disk = DiskUse::new(state.path(), DiskLimits::default());
        let store = Arc::new(DataStore::open(state.path(), disk).unwrap());
        let mut receiver = store.receive("local");
        let (digest, path) = (Digest::of(b"kept"), "a/x".parse::<InnerPath>().unwrap());
        receiver.begin(SetFile { path: path.clone(), digest, size: 4 }).unwrap();
        receiver.piece(b"kept").unwrap();
        receiver.finish().unwrap();
        store.commit(&"s".parse().unwrap(), vec![SetFile { path, digest, size: 4 }], false, String::new()).unwrap();
        let tree = Sources { store, shared: Some(shared.path().to_owned()) };
        for (root, text) in [("dataset:s", "kept"), ("shared:", "disk")] {
            let folder = tree.entries(Path::new(root)).unwrap();
            assert_eq!(folder.len(), 1, "{root}");
            assert_eq!(folder[0].1, FileKind::Folder);
            let files = tree.entries(&folder[0].0).unwrap();
            assert!(tree.is_folder(&folder[0].0) && tree.is_file(&files[0].0), "{root}");
            let path = &files[0].0;
            assert_eq!(tree.read(path).unwrap(), text.as_bytes());
            assert_eq!(tree.read_range(path, 1, 2).unwrap(), &text.as_bytes()[1..3]);
            assert!(tree.read_range(path, 3, 2).is_err(), "{root}");
            assert_eq!(tree.size(path).unwrap(), 4);
        }
        for path in ["/etc/passwd", "shared:../x", "dataset:s/../../x", "dataset:S", "shared:/etc/passwd"] {
            assert!(tree.read(Path::new(path)).is_err(), "{path}");
            assert!(!tree.is_file(Path::new(path)), "{path}");
        }
        assert_eq!(tree.kind(Path::new("dataset:none")).unwrap(), None);
        let pack = std::fs::read_dir(state.path().join("packs")).unwrap().next().unwrap().unwrap().path();
        std::fs::write(&pack, std::fs::read_to_string(&pack).unwrap().replace("kept", "lost")).unwrap();
        // Whoever wants the file names it.
        let damaged = tree.read(Path::new("dataset:s/a/x")).unwrap_err().to_string();
        assert_eq!(damaged, "it is damaged at the coordinator; push data set s again, which sends it anew");
        let closed = Sources { shared: None, ..tree };
        assert!(closed.read(Path::new("shared:a/x")).unwrap_err().to_string().contains("--data"));
    }
}
