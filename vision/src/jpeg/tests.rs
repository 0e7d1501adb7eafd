//! Against zune-jpeg, against the definition of the transform, and on every level of the CPU.

use std::collections::BTreeMap;

use convoy_kernels::cpu::{Level, with_level};
use proptest::prelude::*;
use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;

use super::*;
use crate::decode::decode;

const LIMITS: Limits = Limits { max_side: 4000, max_pixels: 1 << 24 };

/// Files of `tests/reference/jpeg.py`.
fn files(group: &str) -> BTreeMap<String, Vec<u8>> {
    let all: serde_json::Value = serde_json::from_str(include_str!("../../tests/reference/jpeg.json")).unwrap();
    let files: BTreeMap<String, String> = serde_json::from_value(all[group].clone()).unwrap();
    let bytes =
        |hex: &str| (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
    files.into_iter().map(|(name, hex)| (name, bytes(&hex))).collect()
}

/// Windows in each corner, of one pixel, and around the edges of blocks.
fn windows(width: u32, height: u32) -> impl Iterator<Item = Window> {
    let spans = |side: u32| {
        [
            (0, side),
            (0, 1),
            (side - 1, 1),
            (side - 9, 9),
            (7, 1),
            (8, 9),
            (15, 3),
            (16, side - 16),
            (31, 2),
            (side / 3, side / 2),
        ]
    };
    let columns = spans(width).into_iter();
    columns.flat_map(move |(x, width)| spans(height).map(|(y, height)| Window { x, y, width, height }))
}

/// What zune-jpeg makes of a file, as far as it can be trusted.
fn by_zune(bytes: &[u8]) -> Result<Pixels, String> {
    let options = DecoderOptions::default().set_strict_mode(true);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(|error| error.to_string())?;
    let grey = decoder.input_colorspace() == Some(ColorSpace::Luma);
    let colours = if grey { ColorSpace::Luma } else { ColorSpace::RGB };
    decoder.set_options(decoder.options().jpeg_set_out_colorspace(colours));
    let data = decoder.decode().map_err(|error| error.to_string())?;
    let (width, height) = decoder.dimensions().unwrap();
    Ok(Pixels::new(width as u32, height as u32, if grey { 1 } else { 3 }, data))
}

#[test]
fn whole_files_are_those_of_another_decoder_on_every_level() {
    for (name, bytes) in files("files").into_iter().chain(files("left")) {
        let expected = by_zune(&bytes).unwrap();
        for level in Level::ALL {
            if let Some(found) = with_level(level, || decode_jpeg(&bytes, &LIMITS)) {
                assert!(found.unwrap().0 == expected, "{name}, {level:?}");
            }
        }
    }
}

#[test]
fn a_scan_names_components_in_the_order_of_the_frame() {
    let colours = |bytes: Vec<u8>| Some((bytes.windows(5).position(|at| at == [0xFF, 0xDA, 0, 12, 3])?, bytes));
    let (at, mut bytes) = files("files").into_values().find_map(colours).unwrap();
    decode(&bytes, &LIMITS).unwrap();
    bytes[at + 7..at + 11].rotate_left(2);
    let error = decode(&bytes, &LIMITS).unwrap_err().to_string();
    assert!(error.contains("one of its scan headers is damaged"), "as Pillow refuses it: {error}");
    assert!(Baseline::open(bytes, &LIMITS).is_err());
}

#[test]
fn segments_of_a_jpeg_inside_another_file_are_not_that_file() {
    for (name, inner) in files("files") {
        for start in [&b"RIFF\0\0\0\0WEBPEXIF"[..], b"II*\0\x08\0\0\0", b"GIF89a", b"BM"] {
            assert!(Baseline::open([start, &inner[2..]].concat(), &LIMITS).is_err(), "{name} in {start:?}");
        }
    }
}

#[test]
fn windows_are_crops_of_the_whole_on_every_level() {
    for (name, bytes) in files("files") {
        let whole = decode(&bytes, &LIMITS).unwrap().pixels;
        let file = Baseline::open(bytes, &LIMITS).expect("in one sequential scan");
        assert_eq!((file.size(), file.channels()), ((whole.width, whole.height), whole.channels), "{name}");
        for window in windows(whole.width, whole.height) {
            for level in Level::ALL {
                if let Some(part) = with_level(level, || file.window(window)) {
                    assert!(part == Some(whole.crop(window)), "{name}, {window:?}, {level:?}");
                }
            }
        }
    }
}

#[test]
fn what_has_no_windows_is_decoded_whole() {
    for (name, bytes) in files("left") {
        assert!(decode(&bytes, &LIMITS).is_ok(), "{name}");
        if ["progressive", "turned"].contains(&name.as_str()) {
            assert_eq!(Baseline::open(bytes.clone(), &LIMITS).err(), Some(bytes), "{name}");
        }
    }
    let small = Limits { max_side: 82, ..LIMITS };
    assert!(Baseline::open(files("files")["4:4:4"].clone(), &small).is_err());
}

#[test]
fn truncated_data_are_irregular() {
    let (width, height) = (83, 61);
    let last = Window { x: width - 1, y: height - 1, width: 1, height: 1 };
    for (name, bytes) in files("files") {
        for length in 0..bytes.len() {
            let window = Baseline::open(bytes[..length].to_vec(), &LIMITS).map(|file| file.window(last));
            assert!(matches!(window, Err(_) | Ok(None)), "{name}: {length} bytes");
        }
        // Bits are missing before the marker at the end.
        let missing = [&bytes[..bytes.len() - 12], &[0xFF, 0xD9]].concat();
        assert!(decode(&missing, &LIMITS).is_err(), "{name}");
        assert_eq!(Baseline::open(missing, &LIMITS).map(|file| file.window(last)), Ok(None), "{name}");
    }
}

#[test]
fn every_piece_between_restart_markers_must_be_whole() {
    let file = files("files")["4:2:0, restarts"].clone();
    let markers = file.windows(2).enumerate().filter(|(_, pair)| pair[0] == 0xFF && matches!(pair[1], 0xD0..=0xD7));
    let places: Vec<usize> = markers.map(|(at, _)| at).collect();
    assert!(places.len() > 3);
    for at in places {
        let bytes = [&file[..at - 2], &file[at..]].concat();
        assert!(decode(&bytes, &LIMITS).is_err(), "two bytes before byte {at}");
    }
}

#[test]
fn pictures_of_motion_jpeg_may_leave_out_their_huffman_tables() {
    let file = files("files")["4:2:2"].clone();
    let (mut without, mut at) = (file[..2].to_vec(), 2);
    while file[at + 1] != 0xDA {
        let end = at + 2 + usize::from(u16::from_be_bytes([file[at + 2], file[at + 3]]));
        if file[at + 1] != 0xC4 {
            without.extend(&file[at..end]);
        }
        at = end;
    }
    without.extend(&file[at..]);
    assert!(without.len() < file.len() - 400);
    let pixels = |bytes: &[u8]| decode(bytes, &LIMITS).unwrap().pixels;
    assert_eq!(pixels(&without), pixels(&file));
    let window = Window { x: 5, y: 6, width: 30, height: 20 };
    assert_eq!(Baseline::open(without, &LIMITS).unwrap().window(window), Some(pixels(&file).crop(window)));
}

#[test]
fn a_file_of_too_many_scans_is_refused() {
    let file = files("left")["progressive"].clone();
    let scan = file.windows(2).position(|pair| pair == [0xFF, 0xDA]).unwrap();
    let next = scan + 2 + file[scan + 2..].windows(2).position(|pair| pair[0] == 0xFF && pair[1] > 0).unwrap();
    for (times, words) in [(500, "last scans are missing"), (501, "more than 500 scans")] {
        let bytes = [&file[..scan], &file[scan..next].repeat(times), &[0xFF, 0xD9]].concat();
        let error = decode(&bytes, &LIMITS).unwrap_err().to_string();
        assert!(error.contains(words), "{times}: {error}");
    }
}

/// The inverse transform by its definition (ITU T.81 A.3.3), in f64.
fn definition(coefficients: &[i32; 64], row: usize, column: usize) -> f64 {
    let scale = |place: usize| if place == 0 { 0.5f64.sqrt() } else { 1.0 };
    let wave = |place: usize, at: usize| {
        scale(place) * libm::cos((2 * at + 1) as f64 * place as f64 * std::f64::consts::PI / 16.0)
    };
    let term = |at: usize| f64::from(coefficients[at]) * wave(at / 8, row) * wave(at % 8, column);
    ((0..64).map(term).sum::<f64>() / 4.0 + 128.0).clamp(0.0, 255.0)
}

proptest! {
    #[test]
    fn the_transform_is_its_definition_within_one(
        dc in -1024i32..1024, ac in prop::collection::vec((1usize..64, -300i32..300), 0..12),
    ) {
        let mut coefficients = [0; 64];
        coefficients[0] = dc;
        ac.iter().for_each(|(place, value)| coefficients[usize::from(huffman::NATURAL[*place])] = *value);
        let last = ac.iter().map(|(place, _)| *place).max().unwrap_or(0);
        let mut out = [0; 64];
        idct::block(&coefficients, last, &mut out, 8);
        for (at, pixel) in out.iter().enumerate() {
            let exact = definition(&coefficients, at / 8, at % 8);
            prop_assert!((f64::from(*pixel) - exact).abs() <= 1.0, "{}: {}, not {}", at, pixel, exact);
        }
    }

    /// Whatever damaged bytes decode to, a window is a crop of the whole.
    #[test]
    fn damage_is_no_panic_and_no_other_image(
        which in 0usize..11, at in any::<prop::sample::Index>(), value: u8, corner in (0u32..60, 0u32..40),
    ) {
        let mut bytes = files("files").into_iter().chain(files("left")).nth(which).unwrap().1;
        let at = at.index(bytes.len());
        bytes[at] = value;
        let whole = decode(&bytes, &LIMITS);
        prop_assert!(!matches!(whole, Err(DecodeError::Panic { .. })), "byte {} is {}: {:?}", at, value, whole);
        if let Ok(file) = Baseline::open(bytes.clone(), &LIMITS) {
            let (width, height) = file.size();
            let window = Window { x: corner.0.min(width - 1), y: corner.1.min(height - 1), width: 1, height: 1 };
            if let (Some(part), Ok(whole)) = (file.window(window), whole) {
                prop_assert_eq!(part, whole.pixels.crop(window), "byte {} is {}", at, value);
            }
        }
    }
}
