//! WebP files to pixels; of an animated one, the first picture on a black canvas.

use std::io::Cursor;

use image_webp::{DecodingError, WebPDecoder};

use super::stored::Stored;
use crate::decode_error::DecodeError;
use crate::exif::orientation_of;
use crate::limits::Limits;
use crate::pixels::Pixels;

/// A chunk: its name and its data.
type Chunk<'a> = ([u8; 4], &'a [u8]);

/// Decodes the first picture of a file. Only its colours are decoded: transparency is dropped in any case.
pub(crate) fn decode_webp(bytes: &[u8], limits: &Limits) -> Result<Stored, DecodeError> {
    let too_early = || damaged("it ends too early");
    let chunks = chunks(bytes.get(12..8 + length_at(bytes, 4).ok_or_else(too_early)?).ok_or_else(too_early)?)?;
    let named = |name: &[u8; 4]| chunks.iter().find(|(found, _)| found == name).map(|(_, data)| *data);
    let orientation = named(b"EXIF").and_then(orientation_of);
    let Some(frame) = named(b"ANMF") else {
        return Ok(Stored { pixels: picture(&chunks, limits)?, orientation, range16: None });
    };
    // Numbers of three bytes: corner (halved), width and height (less one) of the frame.
    let three = |data: &[u8], at: usize| match data.get(at..at + 3) {
        Some(&[a, b, c]) => Ok(u32::from_le_bytes([a, b, c, 0])),
        _ => Err(too_early()),
    };
    let header = named(b"VP8X").ok_or_else(|| damaged("it has no header of an animation"))?;
    let (width, height) = (three(header, 4)? + 1, three(header, 7)? + 1);
    limits.check(width.into(), height.into())?;
    let (left, top) = (2 * three(frame, 0)?, 2 * three(frame, 3)?);
    let first = picture(&self::chunks(frame.get(16..).ok_or_else(too_early)?)?, limits)?;
    if left + first.width > width || top + first.height > height {
        return Err(damaged("its first picture reaches beyond the canvas"));
    }
    let mut pixels = Pixels::filled(width, height, 3, 0);
    for (y, row) in (top..).zip(first.data.chunks_exact(first.width as usize * 3)) {
        let start = (y as usize * width as usize + left as usize) * 3;
        pixels.data[start..start + row.len()].copy_from_slice(row);
    }
    Ok(Stored { pixels, orientation, range16: None })
}

fn damaged(reason: &str) -> DecodeError {
    DecodeError::Damaged { format: "WebP", reason: reason.to_owned() }
}

fn length_at(bytes: &[u8], at: usize) -> Option<usize> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?) as usize)
}

fn chunks(mut rest: &[u8]) -> Result<Vec<Chunk<'_>>, DecodeError> {
    let mut found = Vec::new();
    while let Some(&[a, b, c, d]) = rest.get(..4) {
        let whole = length_at(rest, 4).and_then(|length| Some((length, rest.get(8..8 + length)?)));
        let (length, data) = whole.ok_or_else(|| damaged("it ends too early"))?;
        found.push(([a, b, c, d], data));
        // Chunks begin at even places.
        rest = rest.get(8 + length + length % 2..).unwrap_or_default();
    }
    Ok(found)
}

/// The colours of the bitstream among `chunks`, as a file of its own.
fn picture(chunks: &[Chunk<'_>], limits: &Limits) -> Result<Pixels, DecodeError> {
    let fail = |error: DecodingError| match error {
        DecodingError::IoError(_) => damaged("it ends too early"),
        error => damaged(&error.to_string()),
    };
    let bitstream = chunks.iter().find(|(name, _)| [*b"VP8 ", *b"VP8L"].contains(name));
    let (name, data) = bitstream.ok_or_else(|| damaged("it has no picture"))?;
    let mut file = b"RIFF".to_vec();
    file.extend((data.len() as u32 + data.len() as u32 % 2 + 12).to_le_bytes());
    file.extend(b"WEBP");
    file.extend(name);
    file.extend((data.len() as u32).to_le_bytes());
    file.extend(*data);
    file.resize(file.len() + data.len() % 2, 0);
    let mut decoder = WebPDecoder::new(Cursor::new(file)).map_err(fail)?;
    let (width, height) = decoder.dimensions();
    limits.check(width.into(), height.into())?;
    let size = decoder.output_buffer_size().ok_or_else(|| damaged("its pixels do not fit into memory"))?;
    let mut pixels = vec![0; size];
    decoder.read_image(&mut pixels).map_err(fail)?;
    if decoder.has_alpha() {
        pixels = pixels.as_chunks::<4>().0.iter().flat_map(|&[red, green, blue, _]| [red, green, blue]).collect();
    }
    Ok(Pixels::new(width, height, 3, pixels))
}
