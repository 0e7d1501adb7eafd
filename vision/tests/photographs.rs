//! Files that are not part of the repository: the PngSuite and photographs. They lie in `../shared/data` beside the
//! repository; a test whose files are not there is reported as ignored, with the reason.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use convoy_common::spec::{Data, Task};
use convoy_files::Disk;
use convoy_testing::{Check, run_checks};
use convoy_vision::{Baseline, Images, Limits, Pixels, Scanned, Window, check, decode, image_files, scan};

fn main() -> ExitCode {
    run_checks([
        with_data("decoder-cases", "files_look_as_in_pillow_or_are_refused_in_words", as_pillow_or_refused_in_words),
        with_data("decoder-cases", "every_orientation_is_upright", every_orientation_is_upright),
        with_data("people-cases", "files_named_jpg_are_what_their_bytes_say", what_their_bytes_say),
        with_data("people-cases", "folders_of_mixed_endings_are_read_whole", mixed_endings),
        with_data("people-cases", "pictures_of_twelve_bits_are_stretched", twelve_bits),
        with_data("flowers-small", "photographs_decode_without_complaint", photographs_decode),
        with_data("flowers-small", "windows_of_photographs_are_crops_of_the_whole", windows_are_crops),
    ])
}

/// A test of the files in `../shared/data/FOLDER`; ignored where there is no such folder.
fn with_data(folder: &str, name: &str, test: fn(&Path)) -> Check {
    let data = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data")).join(folder);
    let lack = || format!("../shared/data/{folder} beside the repository");
    Check::needs(name, if data.is_dir() { Ok(data) } else { Err(lack()) }, move |data| test(&data))
}

const LIMITS: Limits = Limits { max_side: 16_384, max_pixels: 1 << 27 };

fn means(pixels: &Pixels) -> [f64; 3] {
    let pixels = pixels.clone().into_channels(3);
    let count = f64::from(pixels.width * pixels.height);
    [0, 1, 2].map(|channel| pixels.data.iter().skip(channel).step_by(3).map(|v| f64::from(*v)).sum::<f64>() / count)
}

/// Files with a wrong checksum of image data, which Pillow shows and we refuse.
const STRICTER: [&str; 1] = ["xcsn0g01.png"];

fn as_pillow_or_refused_in_words(folder: &Path) {
    let mut reader = csv::Reader::from_path(folder.join("pillow_expected.csv")).unwrap();
    let columns = reader.headers().unwrap().clone();
    let mut seen = 0;
    for record in reader.records() {
        let record = record.unwrap();
        check_case(folder, |name| record.get(columns.iter().position(|column| column == name).unwrap()).unwrap());
        seen += 1;
    }
    assert!(seen >= 193, "{seen} cases");
}

/// One row of the table of what Pillow made of each file.
fn check_case<'a>(folder: &Path, field: impl Fn(&str) -> &'a str) {
    let path = field("path");
    let refused = field("pillow_status") != "ok" || STRICTER.iter().any(|name| path.ends_with(name));
    let decoded = match decode(&fs::read(folder.join(path)).unwrap(), &LIMITS) {
        Err(error) => {
            assert!(refused, "{path}: {error}");
            assert!(error.to_string().len() > 20, "{path}: {error}");
            return;
        }
        Ok(_) if refused => panic!("{path} should have been refused"),
        Ok(decoded) => decoded,
    };
    let number = |name: &str| field(name).parse::<f64>().unwrap();
    let orientation = field("exif_orientation").parse().unwrap_or(1).max(1);
    assert_eq!(decoded.orientation, orientation, "{path}");
    let (width, height) = (number("width") as u32, number("height") as u32);
    let upright = if orientation >= 5 { (height, width) } else { (width, height) };
    assert_eq!((decoded.pixels.width, decoded.pixels.height), upright, "{path}");
    if field("mode") == "I;16" {
        // Pillow clips 16-bit grey at 255; we keep the upper byte.
        return;
    }
    // PNG is exact up to the two digits of the table; JPEG decoders may round and upsample differently.
    let bound = if field("format") == "PNG" { 0.0051 } else { 0.2 };
    for (found, name) in means(&decoded.pixels).into_iter().zip(["mean_r", "mean_g", "mean_b"]) {
        assert!((found - number(name)).abs() <= bound, "{path}: {name} is {found}, not {}", number(name));
    }
}

fn what_their_bytes_say(folder: &Path) {
    // Means of Pillow's pixels.
    for (name, expected) in [
        ("bmp", [110.0, 117.0, 94.0]),
        ("gif", [110.22, 116.81, 94.05]),
        ("tiff", [110.0, 117.0, 94.0]),
        ("webp", [110.02, 116.99, 94.41]),
    ] {
        let file = fs::read(folder.join(format!("16-jpeg-kinds/{name}-named.jpg"))).unwrap();
        let decoded = decode(&file, &LIMITS).unwrap();
        assert_eq!((decoded.pixels.width, decoded.pixels.height), (56, 40));
        for (found, expected) in means(&decoded.pixels).into_iter().zip(expected) {
            assert!((found - expected).abs() <= 0.0051, "{name}: {found}, not {expected}");
        }
    }
}

fn scanned(folder: PathBuf) -> Scanned {
    let data = Data { validation_fraction: 0.0, ..Data::at(folder.to_str().unwrap()) };
    scan(&Disk, &data, Task::Auto, 0, Path::new(""), None, &|_, _| {}).unwrap()
}

fn mixed_endings(folder: &Path) {
    let scanned = scanned(folder.join("02-mixed-ext/data"));
    assert_eq!((scanned.train.usable().count(), scanned.train.ignored), (80, 0));
    assert_eq!(scanned.manifest.class_counts().iter().sum::<u64>(), 80);
}

fn twelve_bits(folder: &Path) {
    for (name, few) in [("twelve", true), ("tiny", true), ("full", false)] {
        let scanned = scanned(folder.join("15-16bit").join(name));
        let warned = check(&scanned).to_string().contains("prepare.depth16 = \"stretch\"");
        assert_eq!(warned, few, "{name}: {:?}", scanned.train.range16());
        let images = Images::open(scanned.manifest.train.clone(), Arc::new(Disk), LIMITS, 0).unwrap();
        let images = images.stretched(Some(scanned.train.stretch().unwrap()));
        let values: Vec<u8> = (0..scanned.manifest.train.samples.len() as u32)
            .flat_map(|at| images.pixels(at).unwrap().data.clone())
            .collect();
        assert_eq!((values.iter().min(), values.iter().max()), (Some(&0), Some(&255)), "{name}");
        let mut levels = values;
        levels.sort_unstable();
        levels.dedup();
        // The darkest have 30 numbers to begin with.
        let least = if name == "tiny" { 20 } else { 150 };
        assert!(levels.len() >= least, "{name}: {} levels", levels.len());
    }
}

/// Photographs as people have them.
fn photographs_decode(flowers: &Path) {
    let data = convoy_common::spec::Data::at(flowers.to_str().unwrap());
    let scanned = convoy_vision::scan(&Disk, &data, Default::default(), 0, flowers, None, &|_, _| {}).unwrap();
    assert_eq!((scanned.manifest.train.samples.len(), scanned.manifest.validation.samples.len()), (160, 40));
    assert_eq!(scanned.manifest.names, ["daisy", "dandelion", "roses", "sunflowers", "tulips"]);
}

/// Nearly all photographs are for the decoder of windows, whose pixels are those of the decoder of whole files.
fn windows_are_crops(flowers: &Path) {
    let (mut all, mut windowed) = (0, 0);
    for path in image_files(&Disk, flowers).unwrap().0 {
        let bytes = fs::read(&path).unwrap();
        let Ok(whole) = decode(&bytes, &LIMITS) else { continue };
        all += 1;
        let Ok(file) = Baseline::open(bytes, &LIMITS) else { continue };
        windowed += 1;
        let (width, height) = file.size();
        for window in [Window::whole(file.size()), Window { x: 31, y: 45, width: width / 2, height: height / 3 }] {
            assert!(file.window(window) == Some(whole.pixels.crop(window)), "{} {window:?}", path.display());
        }
    }
    assert!(all >= 200 && windowed * 10 >= all * 9, "{windowed} of {all}");
}

/// The photographs of one scene differ in orientation only: upright, they must look the same.
fn every_orientation_is_upright(folder: &Path) {
    for scene in ["Landscape", "Portrait"] {
        let upright = |orientation: u32| {
            let path = folder.join(format!("exif-orientation-recurser/{scene}_{orientation}.jpg"));
            decode(&fs::read(path).unwrap(), &LIMITS).unwrap().pixels.into_channels(1)
        };
        // Each file says in its middle which orientation it has, so compare coarse squares of the upper quarter.
        let first = upright(1);
        for orientation in 2..=8 {
            let other = upright(orientation);
            let small = |image: &Pixels| convoy_vision::resize(image, 24, 24, convoy_common::spec::Filter::Bilinear);
            let (a, b) = (small(&first), small(&other));
            let difference: u32 = a.data[..144].iter().zip(&b.data).map(|(a, b)| u32::from(a.abs_diff(*b))).sum();
            assert!(difference / 144 < 3, "{scene} {orientation}: {difference}");
        }
    }
}
