//! Class folders: what is found, and what is refused in which words.

mod common;

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::{fs, io};

use common::{data, png, scan_at, two_classes, write};
use convoy_common::file_tree::{FileKind, FileTree, Files};
use convoy_common::manifest::Label;
use convoy_common::spec::{BadImage, Data, EmptyClasses};
use convoy_files::Disk;
use convoy_vision::{ScanError, Why, check, files_of, image_files, scan, survey};
use tempfile::tempdir;

fn paths(split: &convoy_common::manifest::Split) -> Vec<&str> {
    split.files.iter().map(|file| file.path).collect()
}

#[test]
fn train_and_validation_folders() {
    for name in ["val", "valid", "validation", "dev"] {
        let root = tempdir().unwrap();
        two_classes(&root.path().join("train"), 2);
        write(root.path(), &format!("{name}/b/x.png"), &png(12, 10, 99));
        write(root.path(), "test/b/y.png", &png(12, 10, 98));
        for junk in [".DS_Store", ".ipynb_checkpoints/0.png", "a/Thumbs.db", "a/._0.png"] {
            write(root.path(), &format!("train/{junk}"), b"junk");
        }
        write(root.path(), "train/a/notes.txt", b"counted");
        let scanned = scan_at(&data(root.path())).unwrap();
        assert_eq!(scanned.manifest.names, ["a", "b"]);
        assert_eq!(paths(&scanned.manifest.train), ["a/0.png", "a/1.png", "b/deep/0.JPG", "b/deep/1.JPG"]);
        assert_eq!(paths(&scanned.manifest.validation), ["b/x.png"]);
        assert_eq!(scanned.manifest.validation.samples.at(0).label, Label::Class(1));
        assert_eq!((scanned.train.ignored, scanned.train.all_grey()), (1, false));
        // The same from the inside.
        let inside = scan_at(&data(&root.path().join("train"))).unwrap();
        assert_eq!(inside.manifest.digest(), scanned.manifest.digest());
    }
}

#[test]
fn one_folder_is_split_by_seed_and_class() {
    let root = tempdir().unwrap();
    two_classes(root.path(), 10);
    let data = data(root.path());
    let scanned = scan_at(&data).unwrap();
    let held_out = &scanned.manifest.validation;
    let classes = |class| held_out.samples.iter().filter(|sample| sample.label == Label::Class(class)).count();
    assert_eq!((classes(0), classes(1), scanned.manifest.train.samples.len()), (2, 2, 16));
    assert_eq!(scan_at(&data).unwrap(), scanned);
    let other = scan(&Disk, &data, Default::default(), 4, root.path(), None, &|_, _| {}).unwrap();
    assert_ne!(other.manifest.digest(), scanned.manifest.digest());
    let none = scan_at(&Data { validation_fraction: 0.0, ..data }).unwrap();
    assert_eq!((none.manifest.train.samples.len(), none.manifest.validation.samples.len()), (20, 0));
}

#[test]
fn train_may_be_a_class() {
    let root = tempdir().unwrap();
    for class in ["car", "plane", "train"] {
        write(root.path(), &format!("{class}/0.png"), &png(9, 9, 1));
    }
    assert_eq!(scan_at(&data(root.path())).unwrap().manifest.names, ["car", "plane", "train"]);
}

fn refused(data: &Data) -> String {
    scan_at(data).unwrap_err().to_string()
}

#[test]
fn what_is_no_data_is_refused_in_words() {
    let root = tempdir().unwrap();
    let at = |path: &str| data(&root.path().join(path));
    assert!(refused(&at("nowhere")).contains("data.train"));
    fs::create_dir(root.path().join("empty")).unwrap();
    assert!(refused(&at("empty")).contains("it is empty"));
    for seed in 0..3 {
        write(root.path(), &format!("flat/{seed}.png"), &png(9, 9, seed));
    }
    write(root.path(), "flat/readme.txt", b"");
    fs::create_dir(root.path().join("flat/more")).unwrap();
    let flat = refused(&at("flat"));
    assert!(flat.contains("no class folders in"), "{flat}");
    assert!(flat.contains("3 images directly, 1 folders without images, 1 other files"), "{flat}");
    assert!(flat.contains("looked for folders"), "{flat}");
    write(root.path(), "file.bin", b"x");
    assert!(refused(&at("file.bin")).contains("neither"));
}

#[test]
fn two_validation_folders_are_ambiguous() {
    let root = tempdir().unwrap();
    for part in ["train", "val", "dev"] {
        two_classes(&root.path().join(part), 1);
    }
    let text = refused(&data(root.path()));
    assert!(text.contains("dev and val") && text.contains("data.validation"), "{text}");
    let named =
        Data { validation: Some(root.path().join("dev").to_str().unwrap().into()), ..data(&root.path().join("train")) };
    // Naming one settles it; the folder above is not looked at.
    assert_eq!(scan_at(&named).unwrap().manifest.validation.samples.len(), 2);
}

#[test]
fn split_names_are_told_in_any_case_and_a_wrapper_is_passed() {
    for (train, validation) in [("Train", "VAL"), ("training", "valid_set"), ("train_set", "Validation")] {
        let root = tempdir().unwrap();
        two_classes(&root.path().join("dataset").join(train), 3);
        two_classes(&root.path().join("dataset").join(validation), 1);
        let scanned = scan_at(&data(root.path())).unwrap();
        assert_eq!(scanned.manifest.names, ["a", "b"], "{train}");
        assert_eq!((scanned.manifest.train.samples.len(), scanned.manifest.validation.samples.len()), (6, 2));
        assert!(scanned.taken.split.contains(validation), "{}", scanned.taken);
    }
    let root = tempdir().unwrap();
    two_classes(&root.path().join("Train"), 5);
    two_classes(&root.path().join("Test"), 1);
    let scanned = scan_at(&data(root.path())).unwrap();
    assert_eq!((scanned.manifest.train.samples.len(), scanned.manifest.validation.samples.len()), (8, 2));
    assert_eq!(scanned.taken.left_out.count(Why::TestFolder), 1);
}

#[test]
fn a_class_without_a_picture_is_refused_by_name_or_ignored() {
    let root = tempdir().unwrap();
    two_classes(root.path(), 3);
    write(root.path(), "cow/0.txt", b"no picture");
    fs::create_dir(root.path().join("elk")).unwrap();
    let text = refused(&data(root.path()));
    assert!(text.contains("`cow` (cow/0.txt is not a picture), class `elk` (empty)"), "{text}");
    assert!(text.contains("data.empty_classes"), "{text}");
    let ignoring = Data { empty_classes: EmptyClasses::Ignore, ..data(root.path()) };
    assert_eq!(scan_at(&ignoring).unwrap().manifest.names, ["a", "b"]);
    let report =
        check(&survey(&Disk, &data(root.path()), Default::default(), 0, root.path(), None, &|_, _| {}).unwrap());
    assert_eq!(report.empty_classes.len(), 2);
    // A class whose only pictures are broken is as empty.
    write(root.path(), "cow/0.png", b"");
    fs::remove_dir(root.path().join("elk")).unwrap();
    let text = refused(&Data { bad_images: BadImage::Quarantine, ..data(root.path()) });
    assert!(text.contains("`cow` (none of its images can be used)"), "{text}");
}

#[cfg(unix)]
#[test]
fn what_is_no_data_is_left_out_counted_and_named() {
    use std::os::unix::ffi::OsStrExt;
    let root = tempdir().unwrap();
    two_classes(root.path(), 3);
    for junk in
        ["@eaDir/0.png", "__MACOSX/0.png", "$RECYCLE.BIN/0.png", "lost+found/0.png", "a/.ipynb_checkpoints/0.png"]
    {
        write(root.path(), junk, &png(9, 9, 0));
    }
    let socket = std::os::unix::net::UnixListener::bind(root.path().join("a/pipe.png")).unwrap();
    fs::write(root.path().join("b").join(std::ffi::OsStr::from_bytes(b"\xff.png")), png(9, 9, 0)).unwrap();
    let scanned = scan_at(&data(root.path())).unwrap();
    assert_eq!(scanned.manifest.names, ["a", "b"]);
    let count = |why| scanned.taken.left_out.count(why);
    assert_eq!([Why::OfSystem, Why::NoFile, Why::NotUtf8].map(count), [5, 1, 1]);
    assert!(scanned.taken.to_string().contains("$RECYCLE.BIN"), "{}", scanned.taken);
    drop(socket);
}

#[test]
fn a_new_class_in_validation_is_refused() {
    let root = tempdir().unwrap();
    two_classes(&root.path().join("train"), 1);
    write(root.path(), "val/cat/x.png", &png(9, 9, 0));
    let text = refused(&data(root.path()));
    assert!(text.contains("class `cat`") && text.contains("x.png") && text.contains("`a`, `b`"), "{text}");
}

#[test]
fn broken_images_are_fatal_or_quarantined() {
    let root = tempdir().unwrap();
    let train = root.path().join("train");
    two_classes(&train, 4);
    two_classes(&root.path().join("val"), 1);
    let whole = fs::read(train.join("a/1.png")).unwrap();
    write(&train, "a/1.png", &whole[..whole.len() / 2]);
    write(&train, "a/2.png", b"hello, I am text");
    write(&train, "b/deep/3.JPG", &common::jpeg(12, 10, 5)[..200]);
    let text = refused(&data(root.path()));
    assert!(text.contains("3 of 10 images"), "{text}");
    assert!(text.contains("a/1.png is a truncated") && text.contains("a/2.png is not a JPEG, PNG, WebP"), "{text}");
    assert!(text.contains("looks like text") && text.contains("quarantine"), "{text}");

    let quarantine = Data { bad_images: BadImage::Quarantine, ..data(root.path()) };
    let scanned = scan_at(&quarantine).unwrap();
    assert_eq!(scanned.manifest.train.usable(), [0, 3, 4, 5, 6]);
    let broken: Vec<bool> = scanned.train.images.iter().map(Option::is_none).collect();
    assert_eq!(broken.iter().filter(|broken| **broken).count(), 3);

    for file in ["a/0.png", "a/3.png", "b/deep/0.JPG", "b/deep/1.JPG", "b/deep/2.JPG"] {
        write(&train, file, b"");
    }
    let error = scan_at(&quarantine).unwrap_err();
    assert!(matches!(error, ScanError::NothingUsable { total: 8, .. }), "{error}");
}

#[cfg(unix)]
#[test]
fn a_link_upwards_is_refused() {
    let root = tempdir().unwrap();
    two_classes(root.path(), 1);
    std::os::unix::fs::symlink(root.path().join("a"), root.path().join("a/again")).unwrap();
    assert!(refused(&data(root.path())).contains("leads back"));
}

#[test]
fn progress_reaches_the_end() {
    let root = tempdir().unwrap();
    two_classes(root.path(), 5);
    let seen = parking_lot::Mutex::new(Vec::new());
    let note = |done, total| seen.lock().push((done, total));
    scan(&Disk, &data(root.path()), Default::default(), 0, root.path(), None, &note).unwrap();
    let mut seen = seen.into_inner();
    seen.sort_unstable();
    assert_eq!(seen, (1..=10).map(|done| (done, 10)).collect::<Vec<_>>());
}

#[test]
fn pictures_without_an_ending_or_with_an_unknown_one_are_found_by_their_first_bytes() {
    let root = tempdir().unwrap();
    two_classes(root.path(), 1);
    for name in ["a/0", "a/photo.php", "a/x.png~", "b/1.2024", "b/notes.txt", "b/model.npz"] {
        write(root.path(), name, &png(12, 10, name.len() as u32));
    }
    for name in ["a/README", "b/short.part", "b/empty"] {
        write(root.path(), name, &b"no picture at all"[..name.len() % 8]);
    }
    let scanned = scan_at(&Data { validation_fraction: 0.0, ..data(root.path()) }).unwrap();
    let found = ["a/0", "a/0.png", "a/photo.php", "a/x.png~", "b/1.2024", "b/deep/0.JPG"];
    assert_eq!(paths(&scanned.manifest.train), found);
    let left_out = ["5 (not a picture): a/README, b/empty, b/model.npz and 2 more"];
    assert_eq!(scanned.taken.left_out.lines(), left_out);
    let (files, left) = image_files(&Disk, root.path()).unwrap();
    assert_eq!((files.len(), left.lines()), (found.len(), scanned.taken.left_out.lines()));
    let needed = files_of(&Disk, &data(root.path()), Default::default(), root.path()).unwrap().files;
    assert_eq!(needed, files);
}

/// Files of the disk, of which the paths that are read are written down.
#[derive(Debug, Default)]
struct Told(Mutex<Vec<PathBuf>>);

impl Files for Told {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.0.lock().unwrap().push(path.to_owned());
        Disk.read(path)
    }
}

impl FileTree for Told {
    fn kind(&self, path: &Path) -> io::Result<Option<FileKind>> {
        Disk.kind(path)
    }

    fn entries(&self, folder: &Path) -> io::Result<Vec<(PathBuf, FileKind)>> {
        Disk.entries(folder)
    }
}

#[test]
fn names_that_tell_enough_are_listed_unread() {
    let root = tempdir().unwrap();
    two_classes(root.path(), 3);
    for name in ["a/x", "a/notes.TXT", "b/list.csv", "b/archive.zip"] {
        write(root.path(), name, &png(12, 10, 0));
    }
    let tree = Told::default();
    image_files(&tree, root.path()).unwrap();
    assert_eq!(*tree.0.lock().unwrap(), [root.path().join("a/x")]);
}
