//! Comparison with Pillow and torchvision; `tests/reference/vision.py` at the root of the repository makes the values.

use convoy_common::plan::Input;
use convoy_common::spec::{Fill, Filter, Prepare, Resize};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::affine::rotate_and_scale;
use crate::pixels::Pixels;
use crate::{Geometry, Limits, color, decode, decode_in, resize};

#[derive(Deserialize)]
#[serde(from = "(u32, u32, u32, String)")]
struct Image(Pixels);

impl From<(u32, u32, u32, String)> for Image {
    fn from((width, height, channels, hex): (u32, u32, u32, String)) -> Self {
        Image(Pixels::new(width, height, channels, bytes(&hex)))
    }
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn cases<T: DeserializeOwned>(group: &str) -> Vec<T> {
    let all: serde_json::Value = serde_json::from_str(include_str!("../tests/reference/pillow.json")).unwrap();
    let cases: Vec<T> = serde_json::from_value(all[group].clone()).unwrap();
    assert!(cases.len() > 5, "{group}");
    cases
}

/// Largest difference of two images of one shape, and how many numbers differ.
fn difference(a: &Pixels, b: &Pixels, what: &str) -> (u8, usize) {
    assert_eq!((a.width, a.height, a.channels), (b.width, b.height, b.channels), "{what}");
    let differences = || a.data.iter().zip(&b.data).map(|(a, b)| a.abs_diff(*b));
    (differences().max().unwrap(), differences().filter(|difference| *difference > 0).count())
}

#[test]
fn resizing_is_pillows_bit_for_bit() {
    #[derive(Deserialize)]
    struct ResizeCase {
        filter: Filter,
        input: Image,
        output: Image,
        at_once: Option<Image>,
    }
    for ResizeCase { filter, input, output, at_once } in cases("resize") {
        let found = resize(&input.0, output.0.width, output.0.height, filter);
        let what = format!("{filter:?} {}x{} to {}x{}", input.0.width, input.0.height, found.width, found.height);
        assert_eq!(difference(&found, &output.0, &what), (0, 0), "{what}");
        // Where Pillow resizes columns first, rounding between the passes differs.
        let at_once = at_once.map_or(0, |at_once| difference(&found, &at_once.0, &what).0);
        assert!(at_once <= 1, "{what} at once: differs by up to {at_once}");
    }
}

#[test]
fn geometry_is_pillows_bit_for_bit() {
    #[derive(Deserialize)]
    struct GeometryCase {
        resize: Resize,
        crop_fraction: f64,
        filter: Filter,
        size: [u32; 2],
        input: Image,
        output: Image,
    }
    for GeometryCase { resize, crop_fraction, filter, size: [height, width], input, output } in cases("geometry") {
        let prepare = Prepare { resize, crop_fraction, filter, fill: Fill::Zeros, ..Prepare::default() };
        let geometry = Geometry::new(&prepare, Input { height, width, channels: input.0.channels });
        let what = format!("{resize:?} {crop_fraction} {filter:?} {}x{}", input.0.width, input.0.height);
        assert_eq!(difference(&geometry.apply(&input.0), &output.0, &what), (0, 0), "{what}");
    }
}

#[test]
fn rotation_and_scale_are_torchvisions_within_one() {
    #[derive(Deserialize)]
    struct AffineCase {
        degrees: f64,
        scale: f64,
        input: Image,
        output: Image,
    }
    for AffineCase { degrees, scale, input, output } in cases("affine") {
        let found = rotate_and_scale(&input.0, degrees, scale, Fill::Zeros);
        let what = format!("{degrees} degrees, times {scale}");
        let (largest, count) = difference(&found, &output.0, &what);
        assert!(largest <= 1 && count * 20 <= found.data.len(), "{what}: {count} differ by up to {largest}");
    }
}

#[test]
fn colours_are_torchvisions_within_one() {
    #[derive(Deserialize)]
    struct ColourCase {
        change: String,
        factor: f32,
        input: Image,
        output: Image,
    }
    for ColourCase { change, factor, input, output } in cases("colour") {
        let mut found = input.0;
        match change.as_str() {
            "brightness" => color::brightness(&mut found, factor),
            "contrast" => color::contrast(&mut found, factor),
            "saturation" => color::saturation(&mut found, factor),
            _ => color::hue(&mut found, factor),
        }
        let what = format!("{change} {factor}");
        let (largest, count) = difference(&found, &output.0, &what);
        assert!(largest <= 1 && count * 10 <= found.data.len(), "{what}: {count} differ by up to {largest}");
    }
}

#[test]
fn files_decode_as_with_pillow() {
    #[derive(Deserialize)]
    struct FileCase {
        name: String,
        file: String,
        output: Image,
    }
    let limits = Limits { max_side: 100, max_pixels: 10_000 };
    for FileCase { name, file, output } in cases("files") {
        let found = decode(&bytes(&file), &limits).unwrap().pixels;
        let (largest, _) = difference(&found, &output.0, &name);
        let bound = if name == "PNG" { 0 } else { 5 };
        assert!(largest <= bound, "{name}: differs by up to {largest}");
    }
}

#[test]
fn formats_decode_as_with_pillow() {
    #[derive(Deserialize)]
    struct FormatCase {
        name: String,
        file: String,
        range16: Option<[u16; 2]>,
        output: Image,
    }
    let limits = Limits { max_side: 100, max_pixels: 10_000 };
    let read = |text: &str| serde_json::from_str::<Vec<FormatCase>>(text).unwrap();
    let mut all = read(include_str!("../tests/reference/formats.json"));
    all.extend(read(include_str!("../tests/reference/pnm.json")));
    assert!(all.len() > 100);
    let mut wrong = Vec::new();
    for FormatCase { name, file, range16, output } in all {
        let bytes = bytes(&file);
        let largest = match decode_in(&bytes, &limits, range16) {
            Ok(found) => difference(&found.pixels.into_channels(3), &output.0, &name).0,
            Err(error) => panic!("{name} {error}"),
        };
        if largest > 0 {
            wrong.push((name, largest));
        }
    }
    assert_eq!(wrong, []);
}
