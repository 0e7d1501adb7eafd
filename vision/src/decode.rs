//! From the bytes of a picture's file to [`Pixels`]; a function of the bytes, the limits and the range of 16 bits.
//!
//! - The first bytes say what a file is: JPEG, PNG, WebP, BMP, GIF, TIFF or PNM. Of several pictures in a file, the
//!   first counts; of an animated PNG, the one that other programs show.
//! - Grey stays grey, everything else becomes RGB. Palettes are looked up; in a BMP or GIF, a palette of greys is grey.
//! - 1, 2 and 4 bits are scaled to 0..=255; of 16 bits the upper eight count, or their place in a range that was
//!   measured.
//! - Alpha is dropped, as Pillow's `convert("RGB")` drops it: colours behind it show as they are stored.
//! - What the components of a JPEG stand for follows libjpeg's rule: JFIF's marker, else Adobe's, else their ids. CMYK
//!   and YCCK become RGB (Adobe's inverted convention); colour profiles and gamma are not applied.
//! - EXIF orientation is applied, wherever the format has it.
//! - A JPEG must have all its data up to its end marker, a PNG up to its end chunk, with right checksums of its
//!   critical chunks, and every other format as far as the picture goes. What other viewers would show half is broken
//!   here. What follows the end does not matter.

use std::panic::{AssertUnwindSafe, catch_unwind};

use convoy_common::panic_text;

use crate::decode_error::DecodeError;
use crate::exif::orientation_of;
use crate::formats::bmp::decode_bmp;
use crate::formats::gif::decode_gif;
use crate::formats::pnm::decode_pnm;
use crate::formats::tiff::decode_tiff;
use crate::formats::webp::decode_webp;
use crate::formats::{Format, Stored, looks_like};
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
    /// Least and largest number of a picture of 16 bits, as stored; none for eight bits.
    pub range16: Option<[u16; 2]>,
}

/// Decodes the picture of a whole file: JPEG, PNG, WebP, BMP, GIF, TIFF or PNM. Of 16 bits, the upper eight count.
///
/// # Errors
/// When the bytes are none of these, are damaged, or claim more than `limits` allow. Equal bytes get equal answers.
pub fn decode(bytes: &[u8], limits: &Limits) -> Result<Decoded, DecodeError> {
    decode_in(bytes, limits, None)
}

/// As [`decode()`]; numbers of 16 bits become their place in `range16`, where there is one: 0 at the lower end and
/// below, 255 at the upper end and above.
///
/// # Errors
/// As [`decode()`].
pub fn decode_in(bytes: &[u8], limits: &Limits, range16: Option<[u16; 2]>) -> Result<Decoded, DecodeError> {
    catch_unwind(AssertUnwindSafe(|| decode_any(bytes, limits, range16)))
        .unwrap_or_else(|panic| Err(DecodeError::Panic { reason: panic_text(panic.as_ref()).to_owned() }))
}

fn decode_any(bytes: &[u8], limits: &Limits, range: Option<[u16; 2]>) -> Result<Decoded, DecodeError> {
    let stored = match Format::of(bytes) {
        Some(Format::Jpeg) => {
            let (pixels, exif) = decode_jpeg(bytes, limits)?;
            Stored { pixels, orientation: exif.as_deref().and_then(orientation_of), range16: None }
        }
        Some(Format::Png) => decode_png(bytes, limits, range)?,
        Some(Format::WebP) => decode_webp(bytes, limits)?,
        Some(Format::Bmp) => decode_bmp(bytes, limits)?,
        Some(Format::Gif) => decode_gif(bytes, limits)?,
        Some(Format::Tiff) => decode_tiff(bytes, limits, range)?,
        Some(Format::Pnm) => decode_pnm(bytes, limits, range)?,
        None => return Err(DecodeError::NotAnImage { looks: looks_like(bytes) }),
    };
    let orientation = stored.orientation.unwrap_or(1);
    Ok(Decoded { pixels: orient(stored.pixels, orientation), orientation, range16: stored.range16 })
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
