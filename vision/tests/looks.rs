//! What a look finds is kept, and taken while a file is the one it was.

mod common;

use std::path::{Path, PathBuf};
use std::{fs, io};

use common::{data, two_classes};
use convoy_common::file_tree::{FileKind, FileTree, Files, Stamp};
use convoy_common::spec::{BadImage, Data};
use convoy_files::Disk;
use convoy_vision::{LookCache, Pixels, Scanned, scan};
use tempfile::tempdir;

/// Counts what is read of the disk.
#[derive(Debug, Default)]
struct Reads(parking_lot::Mutex<Vec<String>>);

impl Files for Reads {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.0.lock().push(path.file_name().unwrap().to_string_lossy().into_owned());
        Disk.read(path)
    }
}

impl FileTree for Reads {
    fn kind(&self, path: &Path) -> io::Result<Option<FileKind>> {
        Disk.kind(path)
    }

    fn entries(&self, folder: &Path) -> io::Result<Vec<(PathBuf, FileKind)>> {
        Disk.entries(folder)
    }

    fn stamp(&self, path: &Path) -> io::Result<Option<Stamp>> {
        Disk.stamp(path)
    }
}

impl Reads {
    fn scan(&self, data: &Data, cache: &LookCache) -> (Scanned, Vec<String>) {
        let scanned = scan(self, data, Default::default(), 0, Path::new(""), Some(cache), &|_, _| {}).unwrap();
        let mut read = std::mem::take(&mut *self.0.lock());
        read.sort();
        (scanned, read)
    }
}

fn age(path: &Path, seconds: u64) {
    let time = std::time::SystemTime::now() - std::time::Duration::from_secs(seconds);
    fs::File::options().append(true).open(path).unwrap().set_modified(time).unwrap();
}

#[test]
fn what_did_not_change_is_not_read_again() {
    let (root, folder) = (tempdir().unwrap(), tempdir().unwrap());
    two_classes(root.path(), 6);
    let at = |name: &str| root.path().join(name);
    fs::write(at("a/broken.png"), "no picture").unwrap();
    let pictures = (0..6).flat_map(|number| [format!("a/{number}.png"), format!("b/deep/{number}.JPG")]);
    let all: Vec<PathBuf> = pictures.chain(["a/broken.png".to_owned()]).map(|name| at(&name)).collect();
    all.iter().for_each(|path| age(path, 100));
    let data = Data { bad_images: BadImage::Quarantine, ..data(root.path()) };
    let (reads, cache) = (Reads::default(), LookCache::in_folder(folder.path()));
    let (first, read) = reads.scan(&data, &cache);
    assert_eq!(read.len(), all.len());
    let (second, read) = reads.scan(&data, &cache);
    assert_eq!((read, &second), (vec![], &first));
    // Another seed holds other samples out; it is the same list.
    let other = Data { validation_fraction: 0.5, ..data.clone() };
    assert_eq!(reads.scan(&other, &cache).1, Vec::<String>::new());
    // Same size, other bytes, another time.
    fs::write(at("a/broken.png"), "a picture?").unwrap();
    age(&at("a/broken.png"), 50);
    fs::write(at("b/new.png"), Pixels::filled(4, 4, 1, 9).to_png()).unwrap();
    let (third, read) = reads.scan(&data, &cache);
    assert_eq!(read, ["broken.png", "new.png"]);
    assert_ne!(third.manifest.digest(), first.manifest.digest());
    // A file as young as this one may change without another time.
    assert_eq!(reads.scan(&data, &cache).1, ["new.png"]);
    assert_eq!(reads.scan(&data, &cache.clone().anew()).1.len(), all.len() + 1);
    // What was kept is what a first look finds.
    let (fresh, _) = reads.scan(&data, &LookCache::in_folder(folder.path().join("other")));
    assert_eq!(fresh, reads.scan(&data, &cache).0);
}
