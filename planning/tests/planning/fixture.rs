//! Small images, and trees of them in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use convoy_common::Digest;
use convoy_common::file_tree::{FileKind, FileTree, Files};
use convoy_planning::Looking;
use convoy_vision::Pixels;

/// A job on the data in `data`, with a network of one layer.
pub const SPEC: &str = r#"
[data]
train = "data"
validation_fraction = 0.25
[network]
layers = [{ type = "flatten" }, { type = "linear", out = 2 }]
[train]
epochs = 2
batch = 2
shard = 1
"#;

/// Files in memory.
#[derive(Debug, Default)]
pub struct MemoryTree {
    files: BTreeMap<PathBuf, Vec<u8>>,
    locked: BTreeSet<PathBuf>,
    /// Whether size and digest are known without reading.
    knows: bool,
    reads: AtomicUsize,
}

impl MemoryTree {
    /// Four grey images of 4x4 in each of the classes `a` and `b` of the folder `data`.
    pub fn two_classes() -> Self {
        let mut tree = MemoryTree::default();
        for number in 0..4 {
            tree.put(&format!("data/a/{number}.png"), grey_png(4, 4, number));
            tree.put(&format!("data/b/{number}.png"), grey_png(4, 4, 100 + number));
        }
        tree
    }

    /// The same, and size and digest of each file are known without reading it.
    pub fn knowing(self) -> Self {
        MemoryTree { knows: true, ..self }
    }

    /// Puts a file, in place of the one that is there.
    pub fn put(&mut self, path: &str, bytes: Vec<u8>) {
        self.files.insert(path.into(), bytes);
    }

    /// Takes a file away.
    pub fn remove(&mut self, path: &str) {
        self.files.remove(Path::new(path)).expect("the file is there");
    }

    /// Lets nobody read a file.
    pub fn lock(&mut self, path: &str) {
        self.locked.insert(path.into());
    }

    /// How many files were read.
    pub fn reads(&self) -> usize {
        self.reads.load(Ordering::Relaxed)
    }

    /// The tree, as planning takes it.
    pub fn shared(self) -> Arc<dyn FileTree> {
        Arc::new(self)
    }
}

impl Files for MemoryTree {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        match self.files.get(path) {
            Some(_) if self.locked.contains(path) => Err(ErrorKind::PermissionDenied.into()),
            Some(bytes) => Ok(bytes.clone()),
            None => Err(ErrorKind::NotFound.into()),
        }
    }
}

impl FileTree for MemoryTree {
    fn kind(&self, path: &Path) -> io::Result<Option<FileKind>> {
        let is_folder = || self.files.keys().any(|file| file != path && file.starts_with(path));
        Ok(if self.files.contains_key(path) { Some(FileKind::File) } else { is_folder().then_some(FileKind::Folder) })
    }

    fn entries(&self, folder: &Path) -> io::Result<Vec<(PathBuf, FileKind)>> {
        let inside = self.files.keys().filter_map(|file| file.strip_prefix(folder).ok());
        let names: BTreeSet<PathBuf> =
            inside.filter_map(|inner| Some(folder.join(inner.components().next()?))).collect();
        names.into_iter().map(|path| Ok((path.clone(), self.kind(&path)?.expect("it is there")))).collect()
    }

    fn known(&self, path: &Path) -> io::Result<Option<(u64, Digest)>> {
        let found = self.files.get(path).filter(|_| self.knows);
        Ok(found.map(|bytes| (bytes.len() as u64, Digest::of(bytes))))
    }
}

/// The bytes of a grey PNG file that differs for each `seed`.
pub fn grey_png(width: u32, height: u32, seed: u32) -> Vec<u8> {
    let value = |index: u32| (index % width * 13 + index / width * 31 + seed * 7) as u8;
    Pixels::new(width, height, 1, (0..width * height).map(value).collect()).to_png()
}

/// A folder on the disk with class folders `a`, `b`, ... that hold as many images as `counts` says, each of the size
/// that `size` says of its number.
pub fn folder(counts: &[u32], size: impl Fn(u32) -> (u32, u32)) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mut seed = 0;
    for (class, count) in ('a'..).zip(counts) {
        let class = dir.path().join("photos").join(class.to_string());
        std::fs::create_dir_all(&class).expect("the folder is writable");
        for number in 0..*count {
            let (width, height) = size(number);
            let file = class.join(format!("{number}.png"));
            std::fs::write(file, grey_png(width, height, seed)).expect("the folder is writable");
            seed += 1;
        }
    }
    dir
}

/// Counts nothing and keeps nothing.
pub fn silent() -> Looking {
    Looking { counters: |_| Box::new(|_, _| {}), cache: None }
}
