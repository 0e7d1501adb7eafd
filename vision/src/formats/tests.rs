//! Names and first bytes; good files of every format, damaged: Pillow's, from
//! `tests/reference/formats.py` and `tests/reference/pnm.py`.

use std::path::Path;

use proptest::prelude::*;

use super::{Format, is_picture_name, looks_like};

use crate::decode::{Decoded, decode, decode_in};
use crate::decode_error::DecodeError;
use crate::limits::Limits;

const LIMITS: Limits = Limits { max_side: 100, max_pixels: 5_000 };

/// Name and bytes of each file.
fn files() -> Vec<(String, Vec<u8>)> {
    let all = [include_str!("../../tests/reference/formats.json"), include_str!("../../tests/reference/pnm.json")];
    let read = |text: &str| serde_json::from_str::<Vec<serde_json::Value>>(text).unwrap();
    let all = all.map(read).concat();
    let bytes =
        |hex: &str| (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
    let text = |case: &serde_json::Value, key: &str| case[key].as_str().unwrap().to_owned();
    all.iter().map(|case| (text(case, "name"), bytes(&text(case, "file")))).collect()
}

fn decoded(bytes: &[u8]) -> Result<Decoded, DecodeError> {
    decode(bytes, &LIMITS)
}

#[test]
fn a_truncated_file_is_broken_or_lost_nothing_of_its_picture() {
    for (name, bytes) in files() {
        let whole = decoded(&bytes).unwrap();
        for length in 0..bytes.len() {
            match decoded(&bytes[..length]) {
                Ok(found) => assert_eq!(found.pixels, whole.pixels, "{name}, {length} bytes"),
                Err(error) => assert!(!matches!(error, DecodeError::Panic { .. }), "{name}, {length} bytes: {error}"),
            }
        }
        // The first of several pictures may be whole in a part of the file.
        if !name.contains("animated") {
            assert!(decoded(&bytes[..bytes.len() / 3]).is_err(), "{name}");
        }
    }
}

#[test]
fn claims_are_refused_before_memory_is_taken() {
    // Where each format claims its size, and a size that is too large.
    let claims: [(&str, usize, &[u8]); 7] = [
        ("P6 255", 3, b"9999 9 1\n"),
        ("P2 255", 3, b"9 9999 1\n"),
        ("BMP 24 bits", 18, &[0xFF, 0xFF, 0xFF, 0x7F, 0xFF, 0xFF, 0xFF, 0x7F]),
        ("BMP 24 bits", 22, &[0, 0, 0, 0x80]),
        ("GIF palette", 6, &[0xFF, 0xFF, 0xFF, 0xFF]),
        ("WebP lossless RGB", 21, &[0xFE, 0xBF, 0xFF, 0x0F]),
        ("WebP lossy RGB 30", 26, &[0xFF, 0x3F, 0xFF, 0x3F]),
    ];
    for (wanted, at, claim) in claims {
        let (_, mut bytes) = files().into_iter().find(|(name, _)| name == wanted).unwrap();
        bytes[at..at + claim.len()].copy_from_slice(claim);
        let error = decoded(&bytes).unwrap_err();
        assert!(matches!(error, DecodeError::TooLarge { .. }), "{wanted}: {error}");
    }
    for (magic, words) in
        [("P5 4 4 0\n", "largest number is 0"), ("P5 4 4 65536\n", "65536"), ("P6 0 4 255\n", "no pixels")]
    {
        let error = decoded(&[magic.as_bytes(), &[0; 64]].concat()).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
    assert!(decoded(b"P2 2 1 100\n5 101\n").unwrap_err().to_string().contains("the number 101"));
    let small = Limits { max_side: 10, max_pixels: 1000 };
    for (name, bytes) in files().into_iter().filter(|(name, _)| !name.ends_with(" bits") || name.contains("24")) {
        assert!(matches!(decode(&bytes, &small), Err(DecodeError::TooLarge { .. })), "{name}");
    }
}

#[test]
fn what_is_not_read_is_refused_in_words() {
    let (_, bytes) = files().into_iter().find(|(name, _)| name == "TIFF RGB plain").unwrap();
    let at = u32::from_le_bytes(bytes[4..8].try_into().unwrap()) as usize;
    let changed = |tag: u16, value: u16| {
        let mut bytes = bytes.clone();
        let entry = (at + 2..).step_by(12).find(|at| bytes[*at..*at + 2] == tag.to_le_bytes()).unwrap();
        bytes[entry + 8..entry + 10].copy_from_slice(&value.to_le_bytes());
        decoded(&bytes).unwrap_err().to_string()
    };
    for (tag, value, words) in
        [(259, 7, "JPEG compression"), (259, 9, "compression 9"), (262, 6, "YCbCr"), (262, 8, "Lab")]
    {
        let text = changed(tag, value);
        assert!(text.contains(words) && text.contains("save it"), "{text}");
    }
}

/// A grey TIFF file of one row of 64 pixels, in tiles of one column.
fn in_columns(rows_of_a_tile: u32) -> Vec<u8> {
    const WIDTH: u32 = 64;
    let end = 8 + 2 + 8 * 12 + 4;
    let pixels = end + 2 * 4 * WIDTH;
    let entries = [
        (256, 1, WIDTH),
        (257, 1, 1),
        (258, 1, 8),
        (262, 1, 1),
        (322, 1, 1),
        (323, 1, rows_of_a_tile),
        (324, WIDTH, end),
        (325, WIDTH, end + 4 * WIDTH),
    ];
    let mut file = b"II*\0\x08\0\0\0\x08\0".to_vec();
    for (tag, count, value) in entries {
        file.extend([u16::to_le_bytes(tag), 4u16.to_le_bytes()].concat());
        file.extend([u32::to_le_bytes(count), u32::to_le_bytes(value)].concat());
    }
    file.extend([0; 4]);
    file.extend((0..WIDTH).flat_map(|_| pixels.to_le_bytes()));
    file.extend((0..WIDTH).flat_map(|_| rows_of_a_tile.to_le_bytes()));
    file.extend(vec![7; rows_of_a_tile as usize]);
    file
}

#[test]
fn tiles_that_reach_far_beyond_the_picture_are_refused() {
    assert_eq!(decoded(&in_columns(16)).unwrap().pixels.width, 64);
    let error = decoded(&in_columns(100)).unwrap_err().to_string();
    assert!(error.contains("far larger"), "{error}");
}

#[test]
fn names_count_in_any_case_and_bytes_decide() {
    for name in ["a.pgm", "a.PPM", "a.pnm", "a.JPG", "a.jpe", "b.jfif", "c.d.TIFF", "x.Dib", "y.webp"] {
        assert!(is_picture_name(Path::new(name)), "{name}");
    }
    for name in ["a", ".png", "a.txt", "a.png.bak", "jpg", "a.svg"] {
        assert!(!is_picture_name(Path::new(name)), "{name}");
    }
    assert_eq!(Format::of(b"P6#\n 4 4 255\n"), Some(Format::Pnm));
    assert_eq!(Format::of(b"P6 is the name of a road"), None);
    assert_eq!(Format::of(b"GIF89a"), Some(Format::Gif));
    assert_eq!(Format::of(b"RIFF\0\0\0\0WAVE"), None);
    assert_eq!(Format::of(b"BM is how this text begins, so"), None);
    assert_eq!(looks_like(b"BM is how this text begins, so"), "looks like text");
}

proptest! {
    #[test]
    fn damage_never_panics_and_always_gets_the_same_answer(
        file: prop::sample::Index,
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), any::<bool>()), 1..8),
        cut: prop::sample::Index,
        cuts: bool,
    ) {
        let files = files();
        let mut bytes = files[file.index(files.len())].1.clone();
        for (place, value, early) in flips {
            // Headers decide more than pixels do.
            let place = place.index(if early { bytes.len().min(64) } else { bytes.len() });
            bytes[place] = value;
        }
        if cuts {
            bytes.truncate(cut.index(bytes.len()));
        }
        let found = decode_in(&bytes, &LIMITS, Some([100, 200]));
        prop_assert!(!matches!(found, Err(DecodeError::Panic { .. })), "{found:?}");
        prop_assert_eq!(&found, &decode_in(&bytes, &LIMITS, Some([100, 200])));
        if let Ok(decoded) = found {
            let image = decoded.pixels;
            prop_assert!(u64::from(image.width) * u64::from(image.height) <= LIMITS.max_pixels);
        }
    }
}
