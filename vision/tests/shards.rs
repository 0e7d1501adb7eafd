//! Tar archives as data: samples in the way of WebDataset, class folders, archives of one class.

mod common;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use common::{data, png, write};
use convoy_common::file_tree::FileTree;
use convoy_common::manifest::{Label, LabelKind};
use convoy_common::spec::{BadImage, Data, DataFormat, Task};
use convoy_files::{Archives, Disk};
use convoy_vision::{Images, Limits, ScanError, Scanned, Why, files_of, image_files, scan, scan_known, survey};
use tempfile::{TempDir, tempdir};

type Files<'a> = &'a [(&'a str, Vec<u8>)];

fn tar_of(files: Files) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, &bytes[..]).unwrap();
    }
    builder.into_inner().unwrap()
}

/// The overlay over the disk, with a folder to unpack into.
fn overlay() -> (TempDir, Arc<dyn FileTree>) {
    let unpacked = tempdir().unwrap();
    let tree = Arc::new(Archives::new(Arc::new(Disk), unpacked.path().to_owned()));
    (unpacked, tree)
}

fn scanned(data: &Data, task: Task) -> Result<Scanned, ScanError> {
    let (_unpacked, tree) = overlay();
    scan(&*tree, data, task, 0, Path::new(""), &|_, _| {})
}

fn whole(path: &Path) -> Data {
    Data { validation_fraction: 0.0, ..data(path) }
}

/// The message of what is refused.
fn refused(data: &Data) -> String {
    scanned(data, Task::Auto).unwrap_err().to_string()
}

fn paths(scanned: &Scanned) -> Vec<&str> {
    scanned.manifest.train.files.iter().map(|file| file.path.as_str()).collect()
}

fn classes(scanned: &Scanned) -> Vec<&str> {
    let class = |label: &Label| match label {
        Label::Class(class) => scanned.manifest.names[*class as usize].as_str(),
        _ => "none",
    };
    scanned.manifest.train.samples.iter().map(|sample| class(&sample.label)).collect()
}

fn picture(seed: u32) -> Vec<u8> {
    png(9, 8, seed)
}

fn text(text: &str) -> Vec<u8> {
    text.as_bytes().to_vec()
}

/// Samples `first..last` with their numbers as classes.
fn numbered(first: u32, last: u32) -> Vec<u8> {
    let sample = |number: u32| {
        [(format!("{number:04}.png"), picture(number)), (format!("{number:04}.cls"), text(&number.to_string()))]
    };
    let files: Vec<(String, Vec<u8>)> = (first..last).flat_map(sample).collect();
    tar_of(&files.iter().map(|(name, bytes)| (name.as_str(), bytes.clone())).collect::<Vec<_>>())
}

#[test]
fn samples_are_files_of_one_name() {
    let root = tempdir().unwrap();
    let files = [
        ("a/0001.png", picture(1)),
        ("a/0001.cls", text("cat\n")),
        ("a/0001.txt", text("a cat on a mat")),
        ("a/0002.seg.png", picture(20)),
        ("a/0002.png", picture(2)),
        ("a/0002.cls", text("dog")),
        ("b/0001.img.png", picture(3)),
        ("b/0001.cls", text("cat")),
        ("._0001.png", text("left by a system")),
    ];
    write(root.path(), "x.tar", &tar_of(&files));
    let found = scanned(&whole(&root.path().join("x.tar")), Task::Auto).unwrap();
    assert_eq!(paths(&found), ["x.tar/a/0001.png", "x.tar/a/0002.png", "x.tar/b/0001.img.png"]);
    assert_eq!(classes(&found), ["cat", "dog", "cat"]);
    assert_eq!(found.taken.left_out.count(Why::OfSystem), 1);
    assert!(found.taken.source.contains("samples in") && found.taken.task.contains(".cls"), "{:?}", found.taken);
    let file = &found.manifest.train.files[0];
    assert_eq!((file.size, file.blake3), (files[0].1.len() as u64, convoy_common::Digest::of(&files[0].1)));
    // They are read as any other file is.
    let (_unpacked, tree) = overlay();
    let images = Images::open(found.manifest.train.clone(), tree, Limits::from(&data(root.path())), 0).unwrap();
    assert_eq!(
        images.pixels(1).unwrap().data,
        convoy_vision::decode(&files[4].1, &Limits::from(&data(root.path()))).unwrap().pixels.data
    );
}

#[test]
fn shards_in_a_folder_are_told_apart_by_their_names() {
    let root = tempdir().unwrap();
    for (name, first, last) in
        [("train-000000.tar", 0, 7), ("train-000001.tar", 7, 12), ("val-000000.tar", 3, 5), ("test-0.tar", 0, 1)]
    {
        write(root.path(), name, &numbered(first, last));
    }
    write(root.path(), "README.md", b"x");
    write(root.path(), "extra.tar", &numbered(0, 1));
    let found = scanned(&data(root.path()), Task::Auto).unwrap();
    assert_eq!((found.manifest.train.samples.len(), found.manifest.validation.samples.len()), (12, 2));
    assert_eq!(found.manifest.names[..3], ["00", "01", "02"], "padded, so that their order is that of numbers");
    assert_eq!(found.manifest.validation.samples[0].label, Label::Class(3));
    let count = |why| found.taken.left_out.count(why);
    assert_eq!((count(Why::TestFolder), count(Why::NoSplit)), (1, 1));
    // One of them, and all of a pattern.
    let one = scanned(&data(&root.path().join("train-000000.tar")), Task::Auto).unwrap();
    assert_eq!((one.manifest.train.samples.len(), one.manifest.validation.samples.len()), (7, 2));
    let pattern = whole(&root.path().join("train-{000000..000001}.tar"));
    assert_eq!(scanned(&pattern, Task::Auto).unwrap().manifest.train, found.manifest.train);
    let named = Data { validation: Some(root.path().join("{extra,val-000000}.tar").display().to_string()), ..pattern };
    assert_eq!(scanned(&named, Task::Auto).unwrap().manifest.validation.samples.len(), 3);
    let missing = refused(&whole(&root.path().join("train-{000000..000002}.tar")));
    assert!(missing.contains("data.train") && missing.contains("train-000002.tar does not exist"), "{missing}");
    assert!(refused(&whole(&root.path().join("train-{a}.tar"))).contains("neither a range"));
}

#[test]
fn shards_lie_in_folders_of_splits() {
    let root = tempdir().unwrap();
    for (name, first, last) in [("d/train/0.tar", 0, 4), ("d/train/1.tar", 4, 6), ("d/val/0.tar", 1, 3)] {
        write(root.path(), name, &numbered(first, last));
    }
    for place in ["", "d", "d/train"] {
        let found = scanned(&data(&root.path().join(place)), Task::Auto).unwrap();
        let counts = (found.manifest.train.samples.len(), found.manifest.validation.samples.len());
        assert_eq!(counts, (6, 2), "{place}");
    }
    let (_unpacked, tree) = overlay();
    let names: Vec<String> = (0..6).map(|number| number.to_string()).collect();
    let known = |place: &str| {
        let path = root.path().join(place);
        scan_known(&*tree, &path, &data(root.path()), &names, LabelKind::Class, &|_, _| {}).unwrap().0.samples
    };
    assert_eq!((known("d").len(), known("d/val/0.tar").len(), known("d/train/1.tar").len()), (2, 2, 2));
    assert_eq!(known("d/train/1.tar")[1].label, Label::Class(5));
}

#[test]
fn class_folders_in_an_archive() {
    let root = tempdir().unwrap();
    let files: Vec<(String, Vec<u8>)> = (0..6)
        .map(|number| {
            (format!("flowers/{}/photo.{number}.png", ["rose", "tulip"][number as usize % 2]), picture(number))
        })
        .collect();
    let mut files: Vec<(&str, Vec<u8>)> = files.iter().map(|(name, bytes)| (name.as_str(), bytes.clone())).collect();
    write(root.path(), "f.tgz", &packed(&tar_of(&files)));
    let found = scanned(&whole(&root.path().join("f.tgz")), Task::Auto).unwrap();
    assert_eq!((found.manifest.names.join(" "), found.manifest.train.files.len()), ("rose tulip".to_owned(), 6));
    assert_eq!(paths(&found)[0], "rose/photo.0.png");
    // Unpacked they are the same.
    for (name, bytes) in &files {
        write(&root.path().join("unpacked"), name, bytes);
    }
    let unpacked = scanned(&whole(&root.path().join("unpacked")), Task::Auto).unwrap();
    assert_eq!(unpacked.manifest.digest(), found.manifest.digest());
    // With splits inside.
    files.iter_mut().for_each(|(name, _)| *name = if name.contains('4') { "s/val/rose/4.png" } else { name });
    let renamed: Vec<(String, Vec<u8>)> =
        files.iter().map(|(name, bytes)| (name.replace("flowers", "s/train"), bytes.clone())).collect();
    let renamed: Vec<(&str, Vec<u8>)> = renamed.iter().map(|(name, bytes)| (name.as_str(), bytes.clone())).collect();
    write(root.path(), "s.tar", &tar_of(&renamed));
    let split = scanned(&data(&root.path().join("s.tar")), Task::Auto).unwrap();
    assert_eq!((split.manifest.train.samples.len(), split.manifest.validation.samples.len()), (5, 1));
}

fn packed(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn archives_of_one_class_each_and_class_folders_over_several() {
    let root = tempdir().unwrap();
    write(root.path(), "a/n01.tar", &tar_of(&[("n01_1.png", picture(1)), ("n01_2.png", picture(2))]));
    write(root.path(), "a/n02.tar", &tar_of(&[("n02_1.png", picture(3)), ("n02.txt", text("x"))]));
    let found = scanned(&whole(&root.path().join("a")), Task::Auto).unwrap();
    assert_eq!((classes(&found), found.taken.left_out.count(Why::NoPicture)), (vec!["n01", "n01", "n02"], 1));
    write(root.path(), "b/0.tar", &tar_of(&[("all/cat/1.png", picture(1)), ("all/dog/2.png", picture(2))]));
    write(root.path(), "b/1.tar", &tar_of(&[("all/cat/x/3.png", picture(3))]));
    assert_eq!(classes(&scanned(&whole(&root.path().join("b")), Task::Auto).unwrap()), ["cat", "dog", "cat"]);
    let inside = [("c/cat/1.png", picture(1)), ("c/dog/1.png", picture(2)), ("c/names.json", text("[]"))];
    write(root.path(), "c.tar", &tar_of(&inside));
    let beside = scanned(&whole(&root.path().join("c.tar")), Task::Auto).unwrap();
    assert_eq!(classes(&beside), ["cat", "dog"], "what lies beside no picture is no label");
    write(root.path(), "b/2.tar", &tar_of(&[("4.png", picture(4))]));
    let error = refused(&whole(&root.path().join("b")));
    assert!(error.contains("nothing tells the class of 2.tar/4.png"), "{error}");
}

#[test]
fn labels_stand_in_json_too() {
    let root = tempdir().unwrap();
    let place = root.path().join("x.tar");
    let save = |labels: [&str; 3]| {
        let files: Vec<(String, Vec<u8>)> = (0..)
            .zip(labels)
            .flat_map(|(n, json)| [(format!("{n}.png"), picture(n)), (format!("{n}.json"), text(json))])
            .collect();
        fs::write(&place, tar_of(&files.iter().map(|(n, b)| (n.as_str(), b.clone())).collect::<Vec<_>>())).unwrap();
    };
    let at = |columns: &[&str]| {
        let label_columns = columns.iter().map(|name| (*name).to_owned()).collect();
        Data { label_columns, ..whole(&place) }
    };
    save([r#"{"kind": "cat", "n": 1}"#, r#"{"n": 2, "kind": "dog"}"#, r#"{"kind": "cat", "n": 3.5}"#]);
    assert_eq!(classes(&scanned(&at(&["kind"]), Task::Auto).unwrap()), ["cat", "dog", "cat"]);
    let values = scanned(&at(&["n"]), Task::Regression).unwrap();
    assert_eq!(
        (values.manifest.names.join(""), &values.manifest.train.samples[2].label),
        ("n".into(), &Label::Values(vec![3.5]))
    );
    let error = refused(&at(&[]));
    assert!(error.contains("data.label_columns") && error.contains("`kind`"), "{error}");
    save([r#"{"tags": ["red", "round"]}"#, r#"{"tags": ["red"]}"#, r#"{"tags": ["blue"]}"#]);
    let sets = scanned(&at(&[]), Task::Auto).unwrap();
    assert_eq!((sets.manifest.labels, sets.manifest.names.join(" ")), (LabelKind::Set, "blue red round".to_owned()));
    save([r#"{"kind": "cat"}"#, r#"{"other": 1}"#, r#"{"kind": null}"#]);
    let found = scanned(&at(&["kind"]), Task::Auto).unwrap();
    assert_eq!((found.manifest.train.files.len(), found.taken.left_out.count(Why::NoLabel)), (1, 2));
    for (broken, why) in [("{", "is no JSON"), ("[]", "holds no object"), (r#"{"kind": {}}"#, "`kind` in its .json")] {
        save([r#"{"kind": "cat"}"#, broken, r#"{"kind": "dog"}"#]);
        let error = refused(&at(&["kind"]));
        assert!(error.contains("x.tar/1:") && error.contains(why), "{error}");
        let (_unpacked, tree) = overlay();
        let found = survey(&*tree, &at(&["kind"]), Task::Auto, 0, Path::new(""), &|_, _| {}).unwrap();
        assert_eq!((found.manifest.train.files.len(), found.problems.len()), (2, 1), "the others go on");
    }
}

#[test]
fn samples_that_lack_something_are_left_out_and_named() {
    let root = tempdir().unwrap();
    let files = [
        ("1.png", picture(1)),
        ("1.cls", text("0")),
        ("2.png", picture(2)),
        ("3.cls", text("0")),
        ("4.png", text("broken")),
        ("4.cls", text("1")),
        ("5.png", picture(5)),
        ("5.cls", text(" \n")),
        ("6.png", picture(6)),
        ("6.cls", text("1")),
    ];
    write(root.path(), "x.tar", &tar_of(&files));
    let at = Data { bad_images: BadImage::Quarantine, ..whole(&root.path().join("x.tar")) };
    let found = scanned(&at, Task::Auto).unwrap();
    let left_out = &found.taken.left_out;
    assert_eq!((left_out.count(Why::NoLabel), left_out.count(Why::NoPicture)), (2, 1));
    assert!(left_out.lines().iter().any(|line| line.ends_with("x.tar/2.png, x.tar/5.png")), "{left_out:?}");
    assert_eq!((found.manifest.train.files.len(), found.manifest.train.usable().len()), (3, 2));
    assert!(refused(&whole(&root.path().join("x.tar"))).contains("x.tar/4.png"));
    write(root.path(), "two.tar", &tar_of(&[("1.png", picture(1)), ("1.jpg", picture(1)), ("1.cls", text("0"))]));
    assert!(refused(&whole(&root.path().join("two.tar"))).contains("two.tar/1: has 2 pictures (.png, .jpg)"));
}

#[test]
fn archives_that_cannot_be_used_are_named() {
    let root = tempdir().unwrap();
    let at = |name: &str, bytes: &[u8]| {
        write(root.path(), name, bytes);
        whole(&root.path().join(name))
    };
    assert!(refused(&at("text.tar", b"no archive")).contains("text.tar is no tar archive"));
    assert!(refused(&at("empty.tar", &[0; 10240])).contains("no class folders in"));
    let good = numbered(0, 4);
    let cut = refused(&at("cut.tar", &good[..good.len() - 1800]));
    assert!(cut.contains("cut.tar cannot be read: the archive is"), "{cut}");
    let cut = refused(&at("cut.tgz", &packed(&good)[..500]));
    assert!(cut.contains("cut.tgz cannot be read: the compressed archive is cut"), "{cut}");
    let inside = refused(&at("outer.tar", &tar_of(&[("inner.tar", good.clone()), ("b.txt", text("x"))])));
    assert!(inside.contains("2 other files"), "{inside}");
    assert!(refused(&at("a.bin", b"neither")).contains("nor a tar archive"));
    fs::create_dir(root.path().join("none")).unwrap();
    let forced = Data { format: DataFormat::Tar, ..whole(&root.path().join("none")) };
    assert!(refused(&forced).contains("no archives in"));
    let labels = at("labels.tar", &tar_of(&[("1.cls", text("0"))]));
    let labels = Data { label_columns: vec!["cls".to_owned()], ..labels };
    assert!(refused(&labels).contains("no sample in its archives: 1 (not a picture): labels.tar/1"));
    // Among others it is one problem of the data.
    for name in ["many/0.tar", "many/1.tar"] {
        at(name, if name.contains('0') { &good } else { &good[..600] });
    }
    let many = whole(&root.path().join("many"));
    assert!(refused(&many).contains("many/1.tar cannot be read"));
    let (_unpacked, tree) = overlay();
    let found = survey(&*tree, &many, Task::Auto, 0, Path::new(""), &|_, _| {}).unwrap();
    assert_eq!((found.manifest.train.files.len(), found.problems.len()), (4, 1));
    // A name says nothing where the bytes do.
    assert_eq!(scanned(&at("shard", &good), Task::Auto).unwrap().manifest.train.files.len(), 4);
}

#[test]
fn what_an_archive_holds_beside_files_is_counted_and_named() {
    let root = tempdir().unwrap();
    let mut builder = tar::Builder::new(Vec::new());
    let mut add = |name: &str, kind, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(kind);
        header.set_size(bytes.len() as u64);
        header.set_cksum();
        builder.append(&header, bytes).unwrap();
    };
    let file = tar::EntryType::Regular;
    add("1.png", file, &picture(1));
    add("1.cls", file, b"0");
    add("2.png", tar::EntryType::Symlink, b"");
    add("../3.png", file, &picture(3));
    add("1.cls", file, b"7");
    let bytes = builder.into_inner().unwrap();
    write(root.path(), "x.tar", &bytes[..bytes.len() - 1024]);
    let found = scanned(&whole(&root.path().join("x.tar")), Task::Auto).unwrap();
    assert_eq!(found.manifest.names, ["7"], "of two files of one name the later counts");
    let lines = found.taken.left_out.lines().join("\n");
    for line in ["a link in an archive): x.tar/2.png", "leads out of its archive): x.tar/../3.png", "x.tar/1.cls"] {
        assert!(lines.contains(line), "{lines}");
    }
    assert_eq!(found.taken.warnings, ["x.tar ends without an end mark: it may be cut"]);
}

#[test]
fn archives_are_what_a_job_takes_along() {
    let root = tempdir().unwrap();
    for name in ["train-0.tar", "train-1.tar", "val-0.tar", "test-0.tar"] {
        write(root.path(), name, &numbered(0, 2));
    }
    let (_unpacked, tree) = overlay();
    let (files, _) = files_of(&*tree, &data(root.path()), Task::Auto, Path::new("")).unwrap();
    assert_eq!(files, ["train-0.tar", "train-1.tar", "val-0.tar"].map(|name| root.path().join(name)));
    let (pictures, _) = image_files(&*tree, &root.path().join("val-0.tar")).unwrap();
    assert_eq!(pictures, ["0000.png", "0001.png"].map(|name| root.path().join("val-0.tar").join(name)));
}

#[test]
fn an_archive_beside_class_folders_is_left_out() {
    let root = tempdir().unwrap();
    common::two_classes(root.path(), 2);
    write(root.path(), "all.tar", &numbered(0, 2));
    let found = scanned(&whole(root.path()), Task::Auto).unwrap();
    assert_eq!((found.manifest.names.join(""), found.taken.left_out.count(Why::BesideClasses)), ("ab".to_owned(), 1));
}
