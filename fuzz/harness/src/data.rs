//! Data sets: bytes as the only file of a folder, looked at as a job looks at its data.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use convoy_common::file_tree::{FileKind, FileTree, Files};
use convoy_common::spec;
use convoy_files::Archives;
use convoy_planning::{Looking, look};
use convoy_vision::Scanned;

/// Files in memory, all of them in the folder `data`.
#[derive(Debug)]
pub(crate) struct Folder(pub(crate) Vec<(&'static str, Vec<u8>)>);

const ROOT: &str = "/data";

impl Folder {
    fn find(&self, path: &Path) -> Option<&Vec<u8>> {
        let name = path.strip_prefix(ROOT).ok()?;
        self.0.iter().find(|(file, _)| name == Path::new(file)).map(|(_, bytes)| bytes)
    }

    /// What a job would find that trains on the folder, or on the file `name` in it.
    pub(crate) fn look(self, name: &str, more: &str) -> Option<Scanned> {
        static UNPACKED: LazyLock<tempfile::TempDir> = LazyLock::new(memory_folder);
        let tree = Archives::new(Arc::new(self), UNPACKED.path().to_owned());
        let spec = format!("[data]\ntrain = \"{ROOT}/{name}\"\n{more}\n[network]\nname = \"simple-cnn\"\n");
        let spec = spec::parse(&spec, &[]).expect("a spec");
        let looking = Looking { counters: |_| Box::new(|_, _| ()), cache: None };
        look(&tree, &spec, &looking).ok()
    }
}

/// A temporary folder in memory, where the system has one.
pub(crate) fn memory_folder() -> tempfile::TempDir {
    let shared = Path::new("/dev/shm");
    let made = if shared.is_dir() { tempfile::tempdir_in(shared) } else { tempfile::tempdir() };
    made.expect("a temporary folder")
}

impl Files for Folder {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.find(path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl FileTree for Folder {
    fn kind(&self, path: &Path) -> io::Result<Option<FileKind>> {
        Ok(match self.find(path) {
            Some(_) => Some(FileKind::File),
            None => (path == Path::new(ROOT)).then_some(FileKind::Folder),
        })
    }

    fn entries(&self, folder: &Path) -> io::Result<Vec<(PathBuf, FileKind)>> {
        Ok(self.0.iter().map(|(name, _)| (folder.join(name), FileKind::File)).collect())
    }
}

/// The first byte says how much of the rest is images; what follows is labels.
pub(crate) fn idx(bytes: &[u8]) {
    let Some((cut, rest)) = bytes.split_first() else { return };
    let at = rest.len() * usize::from(*cut) / 255;
    let (images, labels) = rest.split_at(at);
    let files = vec![("train-images-idx3-ubyte", images.to_vec()), ("train-labels-idx1-ubyte", labels.to_vec())];
    Folder(files).look("", "validation_fraction = 0.1");
}

/// The first byte says what the rest calls itself.
pub(crate) fn archive(bytes: &[u8]) {
    const NAMES: [&str; 8] = ["a.tar", "a.tar.gz", "a.parquet", "a.npz", "data_batch_1.bin", "train.bin", "a.tgz", "a"];
    let Some((kind, rest)) = bytes.split_first() else { return };
    let name = NAMES[usize::from(*kind) % NAMES.len()];
    let folder = Folder(vec![(name, rest.to_vec())]);
    folder.look(if kind & 64 == 0 { name } else { "" }, "validation_fraction = 0.1");
}
