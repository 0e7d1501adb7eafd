//! PNG files to pixels and back.

use std::io::Cursor;

use png::{BitDepth, ColorType, Decoder, DecodingError, Encoder, Transformations};

use crate::decode_error::DecodeError;
use crate::exif::orientation_of;
use crate::formats::{Stored, depth16};
use crate::limits::Limits;
use crate::pixels::Pixels;

/// Memory that ancillary chunks (profiles, texts) and rows may take while decoding, in bytes.
const SIDE_MEMORY: usize = 64 << 20;

/// Decodes a whole PNG file; of an animated one, the picture that other programs show.
/// Numbers of 16 bits become their place in `range`, where there is one.
pub(crate) fn decode_png(bytes: &[u8], limits: &Limits, range: Option<[u16; 2]>) -> Result<Stored, DecodeError> {
    let fail = |error: DecodingError| DecodeError::Png { reason: error.to_string() };
    if let Some(claim) = bytes.get(16..24) {
        let side = |at: usize| u64::from(u32::from_be_bytes([claim[at], claim[at + 1], claim[at + 2], claim[at + 3]]));
        limits.check(side(0), side(4))?;
    }
    if !is_complete(bytes) {
        return Err(DecodeError::Png { reason: "it ends too early".to_owned() });
    }
    let mut decoder = Decoder::new_with_limits(Cursor::new(bytes), png::Limits { bytes: SIDE_MEMORY });
    decoder.set_transformations(Transformations::EXPAND);
    let mut reader = decoder.read_info().map_err(fail)?;
    let (width, height) = reader.info().size();
    limits.check(width.into(), height.into())?;
    let orientation = reader.info().exif_metadata.as_ref().and_then(|exif| orientation_of(exif));
    let too_large = || DecodeError::Png { reason: format!("{width} x {height} pixels do not fit into memory") };
    let mut raw = vec![0; reader.output_buffer_size().ok_or_else(too_large)?];
    reader.next_frame(&mut raw).map_err(fail)?;
    let (channels, data, range16) = eight_bits(raw, reader.output_color_type(), range)?;
    Ok(Stored { pixels: Pixels::new(width, height, channels, data), orientation, range16 })
}

/// Channels, data and the range of numbers of 16 bits.
type EightBits = (u32, Vec<u8>, Option<[u16; 2]>);

/// Drops alpha and makes eight bits of 16, which lie in big-endian order; 1 or 3 channels are left.
fn eight_bits(raw: Vec<u8>, kind: (ColorType, BitDepth), range: Option<[u16; 2]>) -> Result<EightBits, DecodeError> {
    let (of, kept) = match kind.0 {
        ColorType::Grayscale => (1, 1),
        ColorType::GrayscaleAlpha => (2, 1),
        ColorType::Rgb => (3, 3),
        ColorType::Rgba => (4, 3),
        ColorType::Indexed => return Err(DecodeError::Png { reason: "its palette is missing".to_owned() }),
    };
    match kind.1 {
        BitDepth::Eight if of == kept => Ok((kept as u32, raw, None)),
        BitDepth::Eight => {
            // A vector that grows would take twice as much.
            let mut data = Vec::with_capacity(raw.len() / of * kept);
            data.extend(raw.chunks_exact(of).flat_map(|pixel| &pixel[..kept]));
            Ok((kept as u32, data, None))
        }
        BitDepth::Sixteen => {
            let mut values: Vec<u16> = Vec::with_capacity(raw.len() / (of * 2) * kept);
            let pixels = raw.chunks_exact(of * 2).map(|pixel| &pixel.as_chunks::<2>().0[..kept]);
            values.extend(pixels.flatten().map(|value| u16::from_be_bytes(*value)));
            drop(raw);
            Ok((kept as u32, depth16::narrow(&values, range), depth16::range_of(&values)))
        }
        depth => Err(DecodeError::Png { reason: format!("{depth:?} bits a channel are not known") }),
    }
}

/// Whether the chunks lead to an end chunk.
fn is_complete(bytes: &[u8]) -> bool {
    let mut at = 8usize;
    while let Some(&[a, b, c, d, ref kind @ ..]) = bytes.get(at..at.saturating_add(8)) {
        // Length, kind and checksum take 12 bytes.
        at = at.saturating_add(12).saturating_add(u32::from_be_bytes([a, b, c, d]) as usize);
        if kind == b"IEND" {
            return at <= bytes.len();
        }
    }
    false
}

impl Pixels {
    /// The bytes of a PNG file with this image: 8 bits, grey or RGB.
    ///
    /// # Panics
    /// If the image has no pixels.
    pub fn to_png(&self) -> Vec<u8> {
        let mut file = Vec::new();
        let mut encoder = Encoder::new(&mut file, self.width, self.height);
        encoder.set_color(if self.channels == 1 { ColorType::Grayscale } else { ColorType::Rgb });
        encoder.set_depth(BitDepth::Eight);
        let mut writer = encoder.write_header().expect("the image has pixels, and memory does not fail");
        writer.write_image_data(&self.data).expect("pixels are as many as their sides say");
        writer.finish().expect("memory does not fail");
        file
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::decode;

    #[test]
    fn an_image_comes_back_from_its_file() {
        for channels in [1, 3] {
            let data = (0..5 * 7 * channels).map(|index| (index * 37) as u8).collect();
            let image = Pixels::new(7, 5, channels, data);
            let limits = Limits { max_side: 7, max_pixels: 35 };
            assert_eq!(decode(&image.to_png(), &limits).expect("our own file").pixels, image);
        }
    }

    #[test]
    fn alpha_and_lower_bytes_are_dropped() {
        let raw: Vec<u8> = (1..=16).collect();
        let check = |kind, kept: (u32, &[u8])| {
            let (channels, data, _) = eight_bits(raw.clone(), kind, None).expect("a known kind");
            assert_eq!((channels, data), (kept.0, kept.1.to_vec()), "{kind:?}");
        };
        check((ColorType::Grayscale, BitDepth::Eight), (1, &raw));
        check((ColorType::GrayscaleAlpha, BitDepth::Eight), (1, &[1, 3, 5, 7, 9, 11, 13, 15]));
        check((ColorType::Rgba, BitDepth::Eight), (3, &[1, 2, 3, 5, 6, 7, 9, 10, 11, 13, 14, 15]));
        check((ColorType::Grayscale, BitDepth::Sixteen), (1, &[1, 3, 5, 7, 9, 11, 13, 15]));
        check((ColorType::GrayscaleAlpha, BitDepth::Sixteen), (1, &[1, 5, 9, 13]));
        check((ColorType::Rgba, BitDepth::Sixteen), (3, &[1, 3, 5, 9, 11, 13]));
    }
}
