//! From the bytes of a picture's file to [`Pixels`]; a function of the bytes, the limits and the range of 16 bits.
//!
//! - The first bytes say what a file is: JPEG, PNG, WebP, BMP, GIF or TIFF. Of several pictures in a file, the first
//!   counts; of an animated PNG, the one that other programs show.
//! - Grey stays grey, everything else becomes RGB. Palettes are looked up; in a BMP or GIF, a palette of greys is grey.
//! - 1, 2 and 4 bits are scaled to 0..=255; of 16 bits the upper eight count, or their place in a range that was
//!   measured.
//! - Alpha is dropped, as Pillow's `convert("RGB")` drops it: colours behind it show as they are stored.
//! - CMYK and YCCK JPEG become RGB (Adobe's inverted convention); colour profiles and gamma are not applied.
//! - EXIF orientation is applied, wherever the format has it.
//! - A JPEG must follow the format up to its end marker, a PNG up to its end chunk, with right checksums of its
//!   critical chunks, and every other format as far as the picture goes. What other viewers would show half is broken
//!   here. What follows the end does not matter.
//!
//! JPEG decoding uses the decoder's portable arithmetic: its vector instructions are left out when it is built.

use std::panic::{AssertUnwindSafe, catch_unwind};

use convoy_common::panic_text;
use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;

use crate::decode_error::DecodeError;
use crate::exif::{WithExif, orientation_of};
use crate::formats::bmp::decode_bmp;
use crate::formats::gif::decode_gif;
use crate::formats::tiff::decode_tiff;
use crate::formats::webp::decode_webp;
use crate::formats::{Format, Stored, looks_like};
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

/// Decodes the picture of a whole file: JPEG, PNG, WebP, BMP, GIF or TIFF. Of 16 bits, the upper eight count.
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
        None => return Err(DecodeError::NotAnImage { looks: looks_like(bytes) }),
    };
    let orientation = stored.orientation.unwrap_or(1);
    Ok(Decoded { pixels: orient(stored.pixels, orientation), orientation, range16: stored.range16 })
}

fn decode_jpeg(bytes: &[u8], limits: &Limits) -> Result<WithExif, DecodeError> {
    use zune_jpeg::errors::DecodeErrors;
    let fail = |error: DecodeErrors| DecodeError::Jpeg {
        reason: match error {
            DecodeErrors::IoErrors(_) | DecodeErrors::ExhaustedData => "it ends too early".to_owned(),
            error => error.to_string(),
        },
    };
    let options = DecoderOptions::default()
        .set_strict_mode(true)
        .set_max_width(usize::from(u16::MAX))
        .set_max_height(usize::from(u16::MAX));
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(fail)?;
    let missing = || DecodeError::Jpeg { reason: "it has no frame header".to_owned() };
    let (width, height) = decoder.dimensions().ok_or_else(missing)?;
    limits.check(width as u64, height as u64)?;
    if !jpeg_is_complete(bytes) {
        return Err(DecodeError::Jpeg { reason: "it ends too early".to_owned() });
    }
    let grey = decoder.input_colorspace() == Some(ColorSpace::Luma);
    let colours = if grey { ColorSpace::Luma } else { ColorSpace::RGB };
    let exif = decoder.exif().cloned();
    decoder.set_options(decoder.options().jpeg_set_out_colorspace(colours));
    let data = decoder.decode().map_err(fail)?;
    let channels = if grey { 1 } else { 3 };
    if data.len() != width * height * channels {
        return Err(DecodeError::Jpeg { reason: format!("{} numbers for {width} x {height} pixels", data.len()) });
    }
    Ok((Pixels::new(width as u32, height as u32, channels as u32, data), exif))
}

/// Whether the marker segments lead to an end marker: the decoder itself cannot tell a few lost bytes from padding.
fn jpeg_is_complete(bytes: &[u8]) -> bool {
    const END: u8 = 0xD9;
    let mut at = 2;
    loop {
        // To the next marker: FF and neither FF (fill), 00 (a stuffed FF of a scan) nor a restart.
        while let Some(pair) = bytes.get(at..at + 2) {
            if pair[0] == 0xFF && !matches!(pair[1], 0x00 | 0xD0..=0xD7 | 0xFF) {
                break;
            }
            at += 1;
        }
        match bytes.get(at + 1) {
            None => return false,
            Some(&END) => return true,
            Some(_) => {}
        }
        let Some(length) = bytes.get(at + 2..at + 4) else { return false };
        // The data of a scan follows its segment and is passed over by the search for the next marker.
        at += 2 + usize::from(u16::from_be_bytes([length[0], length[1]]));
    }
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
