//! Decoding of good, damaged and hostile bytes.

mod common;

use convoy_vision::{DecodeError, Limits, decode};
use proptest::prelude::*;

const LIMITS: Limits = Limits { max_side: 1000, max_pixels: 100_000 };

/// The bytes of a PNG's header alone, claiming a size.
fn claiming(width: u32, height: u32) -> Vec<u8> {
    let mut file = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR".to_vec();
    file.extend(width.to_be_bytes());
    file.extend(height.to_be_bytes());
    file.extend([8, 2, 0, 0, 0, 1, 2, 3, 4]);
    file
}

#[test]
fn every_truncation_is_broken() {
    let (png, jpeg) = (common::png(20, 15, 1), common::jpeg(20, 15, 1));
    assert!(decode(&png, &LIMITS).is_ok() && decode(&jpeg, &LIMITS).is_ok());
    for length in 0..png.len() {
        assert!(decode(&png[..length], &LIMITS).is_err(), "PNG of {length} bytes");
    }
    for length in 0..jpeg.len() {
        assert!(decode(&jpeg[..length], &LIMITS).is_err(), "JPEG of {length} bytes");
    }
    // What follows the end does no harm, as in a photograph with a film behind it.
    let with_more = |file: &[u8]| decode(&[file, b"\xFF\xD8 more"].concat(), &LIMITS);
    assert_eq!(with_more(&png), decode(&png, &LIMITS));
    assert_eq!(with_more(&jpeg), decode(&jpeg, &LIMITS));
}

#[test]
fn claims_are_refused_before_memory_is_taken() {
    let side = |width, height| decode(&claiming(width, height), &LIMITS).unwrap_err();
    for (width, height) in [(100_000, 100_000), (1001, 1), (1, u32::MAX), (900, 900)] {
        let error = side(width, height);
        assert!(matches!(error, DecodeError::TooLarge { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains(&format!("{width} x {height}")) && text.contains("data.max_image_side"), "{text}");
    }
    // A JPEG's size stands behind its frame header, FF C0 or FF C2.
    let mut jpeg = common::jpeg(20, 15, 1);
    let frame = jpeg.windows(2).position(|pair| pair == [0xFF, 0xC0]).unwrap();
    jpeg[frame + 5..frame + 9].copy_from_slice(&[0xFF, 0xFF, 0xFF, 0xFF]);
    let error = decode(&jpeg, &LIMITS).unwrap_err();
    assert!(matches!(error, DecodeError::TooLarge { width: 65_535, height: 65_535, .. }), "{error}");
}

#[test]
fn other_files_are_named() {
    let check = |bytes: &[u8], expected: &str| {
        let text = decode(bytes, &LIMITS).unwrap_err().to_string();
        assert!(text.contains("not a JPEG, PNG, WebP") && text.contains(expected), "{text}");
    };
    check(b"", "empty");
    check(b"label,path\n", "text");
    check(b"MM\0+....", "BigTIFF");
    check(b"%PDF-\xFF", "PDF");
    check(b"\0\0\0\x18ftypheic", "HEIC");
    check(&[1, 2, 3], "first bytes");
}

proptest! {
    #[test]
    fn damaged_bytes_never_panic_and_always_get_the_same_answer(
        jpeg: bool, flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8), cut: prop::sample::Index,
    ) {
        let mut bytes = if jpeg { common::jpeg(20, 15, 1) } else { common::png(20, 15, 1) };
        for (place, value) in flips {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        let whole = decode(&bytes, &LIMITS);
        prop_assert!(!matches!(whole, Err(DecodeError::Panic { .. })), "{whole:?}");
        prop_assert_eq!(&whole, &decode(&bytes, &LIMITS));
        if let Ok(decoded) = whole {
            let image = decoded.pixels;
            prop_assert!(u64::from(image.width) * u64::from(image.height) <= LIMITS.max_pixels);
        }
        bytes.truncate(cut.index(bytes.len()));
        let truncated = decode(&bytes, &LIMITS);
        prop_assert!(!matches!(truncated, Err(DecodeError::Panic { .. })), "{truncated:?}");
    }
}
