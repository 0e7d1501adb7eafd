//! Archives as files and folders, good ones and bad ones.

use std::fs;
use std::io::Write;
use std::time::{Duration, SystemTime};

use convoy_common::file_tree::{ArchiveKind, PassedOver};
use flate2::Compression;
use flate2::write::GzEncoder;
use tar::{EntryType, Header};

use super::*;
use crate::Disk;

struct Place {
    root: tempfile::TempDir,
    tree: Archives,
}

impl Place {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let tree = Archives::new(Arc::new(Disk), root.path().join("unpacked"));
        Place { root, tree }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    /// A file that was written long ago, so that it has a stamp.
    fn write(&self, path: &str, bytes: &[u8]) -> PathBuf {
        let path = self.at(path);
        fs::write(&path, bytes).unwrap();
        let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        fs::File::options().append(true).open(&path).unwrap().set_modified(long_ago).unwrap();
        path
    }

    fn contents(&self, path: &str, bytes: &[u8]) -> io::Result<Option<Contents>> {
        self.tree.contents(&self.write(path, bytes))
    }

    fn names(&self, path: &str, bytes: &[u8]) -> Vec<String> {
        let contents = self.contents(path, bytes).unwrap().unwrap();
        assert_eq!((contents.kind, &contents.passed_over[..]), (ArchiveKind::Tar, &[][..]));
        contents.members.into_iter().map(|member| member.name).collect()
    }

    fn unpacked(&self) -> usize {
        fs::read_dir(self.at("unpacked")).map_or(0, Iterator::count)
    }
}

fn header(name: &[u8], size: u64, kind: EntryType) -> Header {
    let mut header = Header::new_gnu();
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header.set_size(size);
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_cksum();
    header
}

/// An archive of entries: name, type and bytes.
fn tar_of(entries: &[(&str, EntryType, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, kind, bytes) in entries {
        builder.append(&header(name.as_bytes(), bytes.len() as u64, *kind), *bytes).unwrap();
    }
    builder.into_inner().unwrap()
}

fn files(entries: &[(&str, &[u8])]) -> Vec<u8> {
    tar_of(&entries.iter().map(|(name, bytes)| (*name, EntryType::Regular, *bytes)).collect::<Vec<_>>())
}

fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn an_archive_is_a_file_and_a_folder() {
    let place = Place::new();
    let tree = &place.tree;
    let bytes = files(&[("./b/2.png", b"two"), ("a.txt", b"one"), ("b//c/./3.png", b"three")]);
    let path = place.write("x.tar", &bytes);
    let at = |name: &str| path.join(name);
    assert_eq!(tree.read(&path).unwrap(), bytes);
    assert_eq!(tree.kind(&path).unwrap(), Some(FileKind::File));
    assert_eq!(tree.read(&at("b/2.png")).unwrap(), b"two");
    assert_eq!(tree.read_range(&at("b/c/3.png"), 1, 3).unwrap(), b"hre");
    assert_eq!(tree.size(&at("b/c/3.png")).unwrap(), 5);
    for (offset, length) in [(3, 3), (6, 0), (1, u64::MAX)] {
        let error = tree.read_range(&at("b/c/3.png"), offset, length).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
    let kinds = ["a.txt", "b", "b/c", "b/c/3.png", "c", "a.txt/x", "b/2"].map(|name| tree.kind(&at(name)).unwrap());
    let (file, folder) = (Some(FileKind::File), Some(FileKind::Folder));
    assert_eq!(kinds, [file, folder, folder, file, None, None, None]);
    let entries = |path: &Path| tree.entries(path).unwrap();
    assert_eq!(entries(&path), [(at("a.txt"), FileKind::File), (at("b"), FileKind::Folder)]);
    assert_eq!(entries(&at("b")), [(at("b/2.png"), FileKind::File), (at("b/c"), FileKind::Folder)]);
    for missing in [at("c"), place.at("nothing"), place.at("nothing/x")] {
        assert_eq!(tree.entries(&missing).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(tree.read(&missing).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
    assert_eq!(tree.known(&at("a.txt")).unwrap(), None);
    assert_eq!(tree.real(&at("b")).unwrap(), Disk.real(&path).unwrap().join("b"));
    let names: Vec<String> = tree.contents(&path).unwrap().unwrap().members.into_iter().map(|m| m.name).collect();
    assert_eq!(names, ["b/2.png", "a.txt", "b/c/3.png"], "in the archive's order");
}

#[test]
fn what_is_no_archive_is_a_file_alone() {
    let place = Place::new();
    for (name, bytes) in [("a.png", &b"picture"[..]), ("b.tar", &[7; 2048]), ("c.tar", &[]), ("d", &[0; 2048])] {
        assert_eq!(place.contents(name, bytes).unwrap(), None, "{name}");
        assert!(place.tree.read(&place.at(name).join("x")).is_err());
        assert!(place.tree.entries(&place.at(name)).is_err());
    }
    assert_eq!(place.names("empty.tar", &[0; 1024]), Vec::<String>::new());
    assert_eq!(place.names("without a name for it", &files(&[("a", b"")])), ["a"]);
}

#[test]
fn a_member_has_a_stamp_that_follows_its_archive() {
    let place = Place::new();
    let path = place.write("x.tar", &files(&[("a", b"1"), ("b", b"2")]));
    // It was changed just now, so the disk may not say yet what it is.
    let stamp = |tree: &Archives, name: &str| tree.stamp(&path.join(name)).unwrap();
    assert_eq!(stamp(&place.tree, "a").is_some(), Disk.stamp(&path).unwrap().is_some());
    if let Some(a) = stamp(&place.tree, "a") {
        assert_eq!(stamp(&place.tree, "a"), Some(a));
        assert_ne!(stamp(&place.tree, "b"), Some(a));
    }
    assert!(place.tree.stamp(&path.join("c")).is_err());
    place.write("x.tar", &files(&[("a", b"1"), ("c", b"changed"), ("b", b"2")]));
    assert_eq!(place.tree.read(&path.join("c")).unwrap(), b"changed", "it is looked through again");
}

#[test]
fn links_and_other_places_are_passed_over_and_named() {
    let place = Place::new();
    let bytes = tar_of(&[
        ("good", EntryType::Regular, b"x"),
        ("soft", EntryType::Symlink, b""),
        ("hard", EntryType::Link, b""),
        ("/etc/passwd", EntryType::Regular, b"x"),
        ("a/../../x", EntryType::Regular, b"x"),
        ("pipe", EntryType::Fifo, b""),
        ("folder/", EntryType::Directory, b""),
        ("old folder/", EntryType::Regular, b""),
        ("./", EntryType::Directory, b""),
        (".", EntryType::Regular, b""),
        ("twice", EntryType::Regular, b"first"),
        ("./twice", EntryType::Regular, b"second"),
    ]);
    let contents = place.contents("x.tar", &bytes).unwrap().unwrap();
    let names: Vec<&str> = contents.members.iter().map(|member| member.name.as_str()).collect();
    assert_eq!(names, ["good", "twice"]);
    let passed_over: Vec<(&str, PassedOver)> = contents.passed_over.iter().map(|(n, why)| (n.as_str(), *why)).collect();
    let expected = [
        ("soft", PassedOver::Link),
        ("hard", PassedOver::Link),
        ("/etc/passwd", PassedOver::Elsewhere),
        ("a/../../x", PassedOver::Elsewhere),
        ("pipe", PassedOver::NoFile),
        (".", PassedOver::NoName),
        ("twice", PassedOver::Replaced),
    ];
    assert_eq!(passed_over, expected);
    assert_eq!(place.tree.read(&place.at("x.tar/twice")).unwrap(), b"second");
    for name in ["soft", "hard", "/etc/passwd", "a/../../x", "../x.tar"] {
        assert!(place.tree.read(&PathBuf::from(format!("{}/{name}", place.at("x.tar").display()))).is_err(), "{name}");
    }
}

#[test]
fn long_names_and_old_headers_are_read() {
    let place = Place::new();
    let long = format!("{}/x.png", "d".repeat(300));
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_data(&mut header(b"", 0, EntryType::Regular), &long, &b""[..]).unwrap();
    assert_eq!(place.names("gnu.tar", &builder.into_inner().unwrap()), [long.as_str()]);
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_pax_extensions([("path", long.as_bytes()), ("size", b"3")]).unwrap();
    builder.append(&header(b"short", 3, EntryType::Regular), &b"pax"[..]).unwrap();
    assert_eq!(place.names("pax.tar", &builder.into_inner().unwrap()), [long.as_str()]);
    assert_eq!(place.tree.read(&place.at("pax.tar").join(&long)).unwrap(), b"pax");
    let mut old = Header::new_old();
    old.as_old_mut().name[..3].copy_from_slice(b"old");
    old.set_size(1);
    old.set_cksum();
    let mut builder = tar::Builder::new(Vec::new());
    builder.append(&old, &b"x"[..]).unwrap();
    assert_eq!(place.names("old", &builder.into_inner().unwrap()), ["old"]);
    // A size in base 256.
    let mut large = header(b"large", 0, EntryType::Regular);
    large.as_old_mut().size = [0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
    large.set_cksum();
    let mut builder = tar::Builder::new(Vec::new());
    builder.append(&large, &b"xy"[..]).unwrap();
    assert_eq!(place.names("large.tar", &builder.into_inner().unwrap()), ["large"]);
    assert_eq!(place.tree.size(&place.at("large.tar/large")).unwrap(), 2);
}

#[test]
fn damage_is_an_error_that_says_where() {
    let place = Place::new();
    let whole = files(&[("a", &[1; 600]), ("b", &[2; 600])]);
    let fails = |name: &str, bytes: &[u8]| place.contents(name, bytes).unwrap_err().to_string();
    let cut = fails("cut.tar", &whole[..2 * 512 + 1024 + 400]);
    assert!(cut.starts_with("the archive is cut: `b` has 600 bytes"), "{cut}");
    let cut = fails("header.tar", &whole[..1536 + 100]);
    assert!(cut.starts_with("the archive is damaged behind `a`"), "{cut}");
    let mut other = whole.clone();
    other[1536] = b'c';
    assert!(fails("sum.tar", &other).starts_with("the archive is damaged behind `a`: archive header checksum"));
    for size in [1 << 40, u64::MAX - 600, u64::MAX] {
        let mut lying = Header::new_gnu();
        lying.as_old_mut().name[0] = b'a';
        lying.as_old_mut().size[0] = 0x80;
        lying.as_old_mut().size[4..].copy_from_slice(&size.to_be_bytes());
        lying.set_cksum();
        let bytes = [lying.as_bytes().as_slice(), &[0; 2048]].concat();
        let error = fails("size.tar", &bytes);
        assert!(error.contains("cut") || error.contains("damaged"), "{error}");
        // The same of a name.
        lying.set_entry_type(EntryType::GNULongName);
        lying.set_cksum();
        fails("name.tar", &[lying.as_bytes().as_slice(), &vec![b'a'; 4 << 20]].concat());
    }
}

#[test]
fn an_end_that_is_missing_or_none_is_named() {
    let place = Place::new();
    let whole = files(&[("a", &[1; 600])]);
    let why = |name: &str, bytes: &[u8]| place.contents(name, bytes).unwrap().unwrap().passed_over;
    assert_eq!(why("open.tar", &whole[..1536]), [(String::new(), PassedOver::NoEnd)]);
    let joined = [&whole[..], &files(&[("b", b"x")])].concat();
    assert_eq!(why("joined.tar", &joined), [(String::new(), PassedOver::AfterEnd)]);
}

#[test]
fn sparse_files_are_passed_over() {
    let place = Place::new();
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_pax_extensions([("GNU.sparse.major", &b"1"[..]), ("GNU.sparse.name", b"holes")]).unwrap();
    builder.append(&header(b"GNUSparseFile.0/holes", 3, EntryType::Regular), &b"pax"[..]).unwrap();
    let contents = place.contents("x.tar", &builder.into_inner().unwrap()).unwrap().unwrap();
    assert_eq!((contents.members.len(), contents.passed_over[0].1), (0, PassedOver::Sparse));
}

#[test]
fn a_compressed_archive_is_unpacked_once() {
    let place = Place::new();
    let bytes = files(&[("a", b"one"), ("b", &[5; 5000])]);
    let (first, second) = bytes.split_at(700);
    let parts = [packed(first), packed(second), vec![0; 512]].concat();
    for (name, bytes) in [("x.tar.gz", packed(&bytes)), ("y.tgz", parts), ("z", packed(&bytes))] {
        assert_eq!(place.names(name, &bytes), ["a", "b"], "{name}");
        assert_eq!(place.tree.read(&place.at(name).join("b")).unwrap(), [5; 5000]);
        assert_eq!(place.tree.read(&place.at(name)).unwrap(), bytes);
    }
    let unpacked = place.unpacked();
    assert!(unpacked >= 3);
    let again = Archives::new(Arc::new(Disk), place.at("unpacked"));
    assert_eq!(again.read(&place.at("z/a")).unwrap(), b"one");
    assert_eq!(place.unpacked(), unpacked, "it is found again");
}

#[test]
fn compressed_archives_that_are_damaged_leave_nothing() {
    let place = Place::new();
    let bytes = packed(&files(&[("a", &[5; 5000]), ("b", b"two")]));
    let fails = |name: &str, bytes: &[u8]| place.contents(name, bytes).unwrap_err().to_string();
    assert!(fails("a.tgz", &bytes[..bytes.len() / 2]).starts_with("the compressed archive is cut: it ends after"));
    assert!(fails("b.tgz", &[&bytes[..], b"garbage"].concat()).ends_with("something follows that is not compressed"));
    let mut flipped = bytes.clone();
    let last = flipped.len() - 6;
    flipped[last] ^= 1;
    assert!(fails("c.tgz", &flipped).starts_with("the compressed archive is damaged after"));
    assert_eq!(place.unpacked(), 0);
    assert!(fails("d.tgz", &packed(b"no archive")).contains("damaged"));
}

#[test]
fn unpacked_archives_that_nobody_uses_make_room() {
    let place = Place::new();
    fs::create_dir(place.at("unpacked")).unwrap();
    place.write("unpacked/old.tar", b"x");
    fs::write(place.at("unpacked/new.tar"), b"x").unwrap();
    place.names("x.tgz", &packed(&files(&[("a", b"")])));
    assert!(!place.at("unpacked/old.tar").exists());
    assert!(place.at("unpacked/new.tar").exists());
}

#[test]
fn a_folder_without_room_is_named() {
    let place = Place::new();
    fs::write(place.at("unpacked"), b"a file in the way").unwrap();
    let error = place.contents("x.tgz", &packed(&files(&[("a", b"")]))).unwrap_err().to_string();
    assert!(error.contains("unpacked into") && error.contains("CONVOY_CACHE"), "{error}");
}

/// A folder may hold so much.
#[derive(Debug)]
struct Limit(u64);

impl UnpackLimit for Limit {
    fn left(&self, folder: &Path) -> u64 {
        let used: u64 =
            fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
        self.0.saturating_sub(used)
    }
}

#[test]
fn no_more_is_unpacked_than_may_be() {
    let place = Place::new();
    place.write("small.tgz", &packed(&files(&[("a", &[1; 1000])])));
    place.write("bomb.tgz", &packed(&files(&[("a", &[0; 50 << 20])])));
    let tree = Archives::limited(Arc::new(Disk), place.at("unpacked"), Arc::new(Limit(8 << 20)));
    assert_eq!(tree.read(&place.at("small.tgz/a")).unwrap(), [1; 1000]);
    let error = tree.read(&place.at("bomb.tgz/a")).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    assert!(error.to_string().contains("no more may be unpacked there"), "{error}");
    assert_eq!(place.unpacked(), 1, "nothing of it is left");
    assert_eq!(tree.read(&place.at("small.tgz/a")).unwrap(), [1; 1000]);
}

#[test]
fn what_is_known_of_a_member_is_small() {
    assert!(size_of::<super::tar_archive::Place>() <= 40);
}
