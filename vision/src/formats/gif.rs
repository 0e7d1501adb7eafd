//! GIF files to pixels: the first picture, on the screen that it is part of.

use std::io::Cursor;
use std::num::NonZeroU64;

use gif::{ColorOutput, DecodeOptions, DecodingError, MemoryLimit};

use super::palette::Palette;
use super::stored::Stored;
use crate::decode_error::DecodeError;
use crate::limits::Limits;

/// Decodes the first picture. The screen around it has the transparent colour, else the first one, as with Pillow.
pub(crate) fn decode_gif(bytes: &[u8], limits: &Limits) -> Result<Stored, DecodeError> {
    let broken = |reason: String| DecodeError::Damaged { format: "GIF", reason };
    let fail = |error: DecodingError| broken(error.to_string());
    if let Some(&[a, b, c, d]) = bytes.get(6..10) {
        limits.check(u16::from_le_bytes([a, b]).into(), u16::from_le_bytes([c, d]).into())?;
    }
    let mut options = DecodeOptions::new();
    options.set_color_output(ColorOutput::Indexed);
    options.allow_unknown_blocks(true);
    options.set_memory_limit(NonZeroU64::new(limits.max_pixels).map_or(MemoryLimit::Unlimited, MemoryLimit::Bytes));
    let mut decoder = options.read_info(Cursor::new(bytes)).map_err(fail)?;
    let screen = (u32::from(decoder.width()), u32::from(decoder.height()));
    let frame = decoder.next_frame_info().map_err(fail)?.ok_or_else(|| broken("it has no picture".to_owned()))?;
    let (left, top) = (u32::from(frame.left), u32::from(frame.top));
    let (width, height) = (u32::from(frame.width), u32::from(frame.height));
    let around = frame.transparent.unwrap_or(0);
    // A picture that reaches beyond the screen makes it larger.
    let (full_width, full_height) = (screen.0.max(left + width), screen.1.max(top + height));
    limits.check(full_width.into(), full_height.into())?;
    if width == 0 || height == 0 {
        return Err(broken("its picture has no pixels".to_owned()));
    }
    let mut numbers = vec![0; width as usize * height as usize];
    decoder.read_into_buffer(&mut numbers).map_err(fail)?;
    let palette = Palette::new(decoder.palette().map_err(fail)?.as_chunks::<3>().0.iter().copied());
    let mut canvas = vec![around; full_width as usize * full_height as usize];
    for (row, line) in (top as usize..).zip(numbers.chunks_exact(width as usize)) {
        canvas[row * full_width as usize + left as usize..][..line.len()].copy_from_slice(line);
    }
    Ok(Stored { pixels: palette.paint(full_width, full_height, &canvas), orientation: None, range16: None })
}
