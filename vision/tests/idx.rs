//! MNIST's IDX files.

mod common;

use std::io::Write;
use std::sync::Arc;

use common::{data, idx, scan_at, write};
use convoy_common::manifest::Label;
use convoy_common::spec::Data;
use convoy_files::Disk;
use convoy_vision::{Images, Limits};
use flate2::Compression;
use flate2::write::GzEncoder;
use tempfile::tempdir;

fn zipped(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// `count` images of 3 x 2 pixels; image i is all i and shows class `i % classes`.
fn images(count: u8, classes: u8) -> Vec<(u8, Vec<u8>)> {
    (0..count).map(|i| (i % classes, vec![i; 6])).collect()
}

const LIMITS: Limits = Limits { max_side: 1000, max_pixels: 1_000_000 };

#[test]
fn plain_and_zipped() {
    for zip in [false, true] {
        let root = tempdir().unwrap();
        for (part, count) in [("train", 20), ("t10k", 7)] {
            let (pixels, labels) = idx(3, 2, &images(count, 5));
            let (pixels, labels) = if zip { (zipped(&pixels), zipped(&labels)) } else { (pixels, labels) };
            let end = if zip { ".gz" } else { "" };
            write(root.path(), &format!("{part}-images-idx3-ubyte{end}"), &pixels);
            write(root.path(), &format!("{part}-labels-idx1-ubyte{end}"), &labels);
        }
        let scanned = scan_at(&data(root.path())).unwrap();
        assert_eq!(scanned.manifest.names, ["0", "1", "2", "3", "4"]);
        assert_eq!((scanned.manifest.train.samples.len(), scanned.manifest.validation.samples.len()), (20, 7));
        assert_eq!(scanned.manifest.train.samples.at(13).label, Label::Class(3));
        assert_eq!(scanned.train.sizes(), Some([(2, 3); 3]));
        let images = Images::open(scanned.manifest.train.clone(), Arc::new(Disk), LIMITS, 0).unwrap();
        let pixels = images.pixels(13).unwrap();
        assert_eq!((pixels.width, pixels.height, pixels.channels, &pixels.data[..]), (2, 3, 1, &[13; 6][..]));
        // The images' file by name is the same.
        let end = if zip { ".gz" } else { "" };
        let file = root.path().join(format!("train-images-idx3-ubyte{end}"));
        assert_eq!(scan_at(&data(&file)).unwrap().manifest.digest(), scanned.manifest.digest());
    }
}

#[test]
fn one_pair_of_files_is_split() {
    let root = tempdir().unwrap();
    let (pixels, labels) = idx(3, 2, &images(44, 11));
    write(root.path(), "train-images-idx3-ubyte", &pixels);
    write(root.path(), "train-labels-idx1-ubyte", &labels);
    let scanned = scan_at(&Data { validation_fraction: 0.25, ..data(root.path()) }).unwrap();
    assert_eq!((&scanned.manifest.names[0][..], &scanned.manifest.names[10][..]), ("00", "10"));
    assert_eq!((scanned.manifest.train.samples.len(), scanned.manifest.validation.samples.len()), (33, 11));
    let validation = Images::open(scanned.manifest.validation.clone(), Arc::new(Disk), LIMITS, 0).unwrap();
    for (place, sample) in (0..).zip(scanned.manifest.validation.samples.iter()) {
        assert_eq!(validation.pixels(place).unwrap().data[0] as u32, sample.index);
    }
}

#[test]
fn what_is_wrong_is_named() {
    let (good_pixels, good_labels) = idx(3, 2, &images(10, 5));
    let check = |pixels: &[u8], labels: &[u8], expected: &[&str]| {
        let root = tempdir().unwrap();
        write(root.path(), "train-images-idx3-ubyte", pixels);
        write(root.path(), "train-labels-idx1-ubyte", labels);
        let error = scan_at(&data(root.path())).unwrap_err().to_string();
        assert!(expected.iter().all(|part| error.contains(part)), "{error}");
    };
    let claim = |count: u32| [&good_pixels[..4], &count.to_be_bytes(), &good_pixels[8..]].concat();
    check(&claim(11), &good_labels, &["images-idx3", "[11, 3, 2]", "66 bytes", "only 60"]);
    check(&claim(9), &good_labels, &["images-idx3", "54 bytes", "there is more"]);
    check(&claim(u32::MAX), &good_labels, &["images-idx3", "the file has only"]);
    check(&zipped(&claim(u32::MAX)), &good_labels, &["images-idx3", "the file has only"]);
    check(&good_pixels, &idx(3, 2, &images(9, 5)).1, &["labels-idx1", "[9]", "10 images"]);
    check(b"\x89PNG....", &good_labels, &["not an IDX file"]);
    check(&[0, 0, 13, 3], &good_labels, &["0x0d"]);
    check(&good_pixels[..10], &good_labels, &["truncated"]);
    check(&zipped(&good_pixels)[..40], &good_labels, &["images-idx3"]);

    let root = tempdir().unwrap();
    write(root.path(), "train-images-idx3-ubyte", &good_pixels);
    let error = scan_at(&data(root.path())).unwrap_err().to_string();
    assert!(error.contains("labels are missing") && error.contains("train-labels-idx1-ubyte"), "{error}");
}

#[test]
fn a_new_class_in_validation_is_refused() {
    let root = tempdir().unwrap();
    for (part, classes) in [("train", 3), ("t10k", 4)] {
        let (pixels, labels) = idx(3, 2, &images(12, classes));
        write(root.path(), &format!("{part}-images-idx3-ubyte"), &pixels);
        write(root.path(), &format!("{part}-labels-idx1-ubyte"), &labels);
    }
    let error = scan_at(&data(root.path())).unwrap_err().to_string();
    assert!(error.contains("class `3`") && error.contains("label 3"), "{error}");
}

#[test]
fn the_data_set_of_other_crates_tests_is_what_it_says() {
    let folder = tempdir().unwrap();
    let stripes = convoy_testing::Stripes { train: 24, validation: 8 };
    stripes.write(folder.path());
    let scanned = scan_at(&data(folder.path())).unwrap();
    assert_eq!(scanned.manifest, stripes.manifest(folder.path().to_str().unwrap()));
}
