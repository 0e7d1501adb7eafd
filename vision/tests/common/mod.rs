//! Small data sets in temporary folders.

#![allow(dead_code, reason = "each test file uses some of it")]

use std::fs;
use std::path::Path;

use convoy_common::spec::Data;
use convoy_files::Disk;
use convoy_vision::{Pixels, ScanError, Scanned, scan};

/// A picture that differs for each `seed`.
pub fn rgb(width: u32, height: u32, seed: u32) -> Pixels {
    let mut picture = Pixels::filled(width, height, 3, 0);
    for (x, y) in (0..height).flat_map(|y| (0..width).map(move |x| (x, y))) {
        let value = |channel: u32| (x * 11 + y * 7 + seed * 29 + channel * 60 + x * y) as u8;
        picture.pixel_mut(x, y).copy_from_slice(&[value(0), value(1), value(2)]);
    }
    picture
}

/// The bytes of a PNG file.
pub fn png(width: u32, height: u32, seed: u32) -> Vec<u8> {
    rgb(width, height, seed).to_png()
}

/// The bytes of a grey PNG file.
pub fn grey_png(width: u32, height: u32, seed: u32) -> Vec<u8> {
    let value = |at: u32| (at % width * 3 + at / width * 5 + seed) as u8;
    Pixels::new(width, height, 1, (0..width * height).map(value).collect()).to_png()
}

/// The bytes of a JPEG file.
pub fn jpeg(width: u32, height: u32, seed: u32) -> Vec<u8> {
    let (picture, mut file) = (rgb(width, height, seed), Vec::new());
    let encoder = jpeg_encoder::Encoder::new(&mut file, 75);
    encoder.encode(&picture.data, width as u16, height as u16, jpeg_encoder::ColorType::Rgb).unwrap();
    file
}

/// Writes a file and the folders above it.
pub fn write(root: &Path, path: &str, bytes: &[u8]) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// Class folders `a` and `b` with `count` images each, of one size, below `root`.
pub fn two_classes(root: &Path, count: u32) {
    for seed in 0..count {
        write(root, &format!("a/{seed}.png"), &png(12, 10, seed));
        write(root, &format!("b/deep/{seed}.JPG"), &jpeg(12, 10, 1000 + seed));
    }
}

/// IDX files of `images`, each with a label.
pub fn idx(height: u32, width: u32, images: &[(u8, Vec<u8>)]) -> (Vec<u8>, Vec<u8>) {
    let count = (images.len() as u32).to_be_bytes();
    let mut pixels = [&[0, 0, 8, 3][..], &count, &height.to_be_bytes(), &width.to_be_bytes()].concat();
    let mut labels = [&[0, 0, 8, 1][..], &count].concat();
    for (label, image) in images {
        pixels.extend(image);
        labels.push(*label);
    }
    (pixels, labels)
}

/// Scans with everything else left open.
pub fn scan_at(data: &Data) -> Result<Scanned, ScanError> {
    scan(&Disk, data, convoy_common::spec::Task::Auto, 3, Path::new(""), None, &|_, _| {})
}

/// `[data]` for a path.
pub fn data(path: &Path) -> Data {
    Data::at(path.to_str().unwrap())
}
