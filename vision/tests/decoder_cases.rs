//! The PngSuite and photographs of every EXIF orientation, against what Pillow made of them. The files are not part of
//! the repository; without them these tests say so and pass.

use std::fs;
use std::path::PathBuf;

use convoy_vision::{Limits, Pixels, decode};

const LIMITS: Limits = Limits { max_side: 16_384, max_pixels: 1 << 27 };

fn cases() -> Option<PathBuf> {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data/decoder-cases"));
    if !folder.is_dir() {
        eprintln!("skipped: the decoder cases are not beside the repository");
        return None;
    }
    Some(folder)
}

fn means(pixels: &Pixels) -> [f64; 3] {
    let pixels = pixels.clone().into_channels(3);
    let count = f64::from(pixels.width * pixels.height);
    [0, 1, 2].map(|channel| pixels.data.iter().skip(channel).step_by(3).map(|v| f64::from(*v)).sum::<f64>() / count)
}

/// Files with a wrong checksum of image data, which Pillow shows and we refuse.
const STRICTER: [&str; 1] = ["xcsn0g01.png"];

#[test]
fn as_pillow_or_refused_in_words() {
    let Some(folder) = cases() else { return };
    let mut reader = csv::Reader::from_path(folder.join("pillow_expected.csv")).unwrap();
    let columns = reader.headers().unwrap().clone();
    let mut seen = 0;
    for record in reader.records() {
        let record = record.unwrap();
        let field = |name: &str| record.get(columns.iter().position(|column| column == name).unwrap()).unwrap();
        let path = field("path");
        let decoded = decode(&fs::read(folder.join(path)).unwrap(), &LIMITS);
        seen += 1;
        let refused = field("pillow_status") != "ok" || STRICTER.iter().any(|name| path.ends_with(name));
        let decoded = match decoded {
            Err(error) => {
                assert!(refused, "{path}: {error}");
                assert!(error.to_string().len() > 20, "{path}: {error}");
                continue;
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
            continue;
        }
        // PNG is exact up to the two digits of the table; JPEG decoders may round and upsample differently.
        let bound = if field("format") == "PNG" { 0.0051 } else { 0.2 };
        for (found, name) in means(&decoded.pixels).into_iter().zip(["mean_r", "mean_g", "mean_b"]) {
            assert!((found - number(name)).abs() <= bound, "{path}: {name} is {found}, not {}", number(name));
        }
    }
    assert!(seen >= 193, "{seen} cases");
}

/// Photographs as people have them decode without complaint.
#[test]
fn real_photographs_are_whole() {
    let Some(folder) = cases() else { return };
    let flowers = folder.join("../flowers-small");
    let data = convoy_common::spec::Data::at(flowers.to_str().unwrap());
    let scanned =
        convoy_vision::scan(&convoy_vision::Disk, &data, Default::default(), 0, &flowers, &|_, _| {}).unwrap();
    assert_eq!((scanned.manifest.train.samples.len(), scanned.manifest.validation.samples.len()), (160, 40));
    assert_eq!(scanned.manifest.names, ["daisy", "dandelion", "roses", "sunflowers", "tulips"]);
}

/// The photographs of one scene differ in orientation only: upright, they must look the same.
#[test]
fn every_orientation_is_upright() {
    let Some(folder) = cases() else { return };
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
