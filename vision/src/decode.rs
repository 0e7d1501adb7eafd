//! From the bytes of a JPEG or PNG file to [`Pixels`]; a function of the bytes and the limits alone.
//!
//! - Grey stays grey, everything else becomes RGB. Palettes are looked up.
//! - 1, 2 and 4 bits are scaled to 0..=255; of 16 bits the upper eight count.
//! - Alpha is dropped, as Pillow's `convert("RGB")` drops it: colours behind it show as they are stored.
//! - What the components of a JPEG stand for follows libjpeg's rule: JFIF's marker, else Adobe's, else their ids. CMYK
//!   and YCCK become RGB (Adobe's inverted convention); colour profiles and gamma are not applied.
//! - EXIF orientation is applied, to JPEG and PNG alike.
//! - A JPEG must have all its data up to its end marker, a PNG up to its end chunk, with right checksums of its
//!   critical chunks. What other viewers would show half is broken here. What follows the end does not matter.

use std::panic::{AssertUnwindSafe, catch_unwind};

use convoy_common::panic_text;

use crate::decode_error::DecodeError;
use crate::exif::orientation_of;
use crate::jpeg::decode_jpeg;
use crate::limits::Limits;
use crate::pixels::Pixels;
use crate::png::decode_png;

/// An image and how it lay in its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decoded {
    /// The upright image.
    pub pixels: Pixels,
    /// EXIF orientation 1..=8 that has been applied; 1 where the file says nothing.
    pub orientation: u8,
}

/// Decodes a whole JPEG or PNG file.
///
/// # Errors
/// When the bytes are neither, are damaged, or claim more than `limits` allow. Equal bytes get equal answers.
pub fn decode(bytes: &[u8], limits: &Limits) -> Result<Decoded, DecodeError> {
    catch_unwind(AssertUnwindSafe(|| decode_any(bytes, limits)))
        .unwrap_or_else(|panic| Err(DecodeError::Panic { reason: panic_text(panic.as_ref()).to_owned() }))
}

fn decode_any(bytes: &[u8], limits: &Limits) -> Result<Decoded, DecodeError> {
    let (pixels, exif) = if bytes.starts_with(&[0xFF, 0xD8, 0xFF]) {
        decode_jpeg(bytes, limits)?
    } else if bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
        decode_png(bytes, limits)?
    } else {
        return Err(DecodeError::NotAnImage { looks: looks_like(bytes) });
    };
    let orientation = exif.and_then(|exif| orientation_of(&exif)).unwrap_or(1);
    Ok(Decoded { pixels: orient(pixels, orientation), orientation })
}

/// Turns the image upright: 2 and 4 mirror, 3 turns by 180 degrees, 6 and 8 by 90 and 270 clockwise, 5 and 7
/// mirror along a diagonal (EXIF 2.3, tag 0x0112).
fn orient(pixels: Pixels, orientation: u8) -> Pixels {
    let (width, height) = (pixels.width, pixels.height);
    let source: fn(u32, u32, u32, u32) -> (u32, u32) = match orientation {
        2 => |x, y, width, _| (width - 1 - x, y),
        3 => |x, y, width, height| (width - 1 - x, height - 1 - y),
        4 => |x, y, _, height| (x, height - 1 - y),
        5 => |x, y, _, _| (y, x),
        6 => |x, y, _, height| (y, height - 1 - x),
        7 => |x, y, width, height| (width - 1 - y, height - 1 - x),
        8 => |x, y, width, _| (width - 1 - y, x),
        _ => return pixels,
    };
    let (new_width, new_height) = if orientation >= 5 { (height, width) } else { (width, height) };
    let mut data = Vec::with_capacity(pixels.data.len());
    for y in 0..new_height {
        for x in 0..new_width {
            let (from_x, from_y) = source(x, y, width, height);
            data.extend_from_slice(pixels.pixel(from_x, from_y));
        }
    }
    Pixels::new(new_width, new_height, pixels.channels, data)
}

/// A guess at the format of a file that is neither JPEG nor PNG.
fn looks_like(bytes: &[u8]) -> &'static str {
    let known: [(&[u8], &str); 6] = [
        (b"GIF8", "is a GIF; convert it to PNG"),
        (b"BM", "looks like a BMP; convert it to PNG"),
        (b"II*\0", "is a TIFF; convert it to PNG"),
        (b"MM\0*", "is a TIFF; convert it to PNG"),
        (b"%PDF", "is a PDF"),
        (b"PK\x03\x04", "is a ZIP archive"),
    ];
    if bytes.is_empty() {
        return "is empty";
    }
    if bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP") {
        return "is a WebP; convert it to JPEG or PNG";
    }
    if bytes.get(4..8) == Some(b"ftyp") {
        return "is a HEIC, AVIF or video file; convert it to JPEG";
    }
    if let Some((_, looks)) = known.iter().find(|(magic, _)| bytes.starts_with(magic)) {
        return looks;
    }
    let start = &bytes[..bytes.len().min(512)];
    let is_text = |byte: &u8| matches!(byte, b'\t' | b'\n' | b'\r' | 0x20..=0x7E);
    if start.iter().all(is_text) { "looks like text" } else { "has other first bytes" }
}
