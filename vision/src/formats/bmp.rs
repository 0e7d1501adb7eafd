//! BMP files to pixels: Windows and OS/2 1.x bitmaps of 1 to 32 bits, packed by RLE or not.

use super::palette::{Palette, unpack};
use super::stored::Stored;
use crate::decode_error::DecodeError;
use crate::limits::Limits;
use crate::pixels::Pixels;

/// Lengths of the header after the file's header of 14 bytes.
pub(crate) const HEADERS: [u32; 7] = [12, 40, 52, 56, 64, 108, 124];

/// What the headers say.
struct BmpHeader {
    width: u32,
    height: u32,
    /// Whether rows lie from the top; usually they lie from the bottom.
    from_top: bool,
    bits: u32,
    compression: u32,
    /// Where the bits of red, green and blue lie in a pixel of 16 or 32 bits.
    masks: [u32; 3],
    palette: Vec<[u8; 3]>,
    /// Where the pixels begin.
    pixels: usize,
}

/// Values of the field `compression`.
const PLAIN: u32 = 0;
const RLE8: u32 = 1;
const RLE4: u32 = 2;
const MASKS: u32 = 3;

fn damaged(reason: impl Into<String>) -> DecodeError {
    DecodeError::Damaged { format: "BMP", reason: reason.into() }
}

/// Decodes a whole file.
pub(crate) fn decode_bmp(bytes: &[u8], limits: &Limits) -> Result<Stored, DecodeError> {
    let header = BmpHeader::read(bytes)?;
    limits.check(header.width.into(), header.height.into())?;
    if header.width == 0 || header.height == 0 {
        return Err(damaged("it has no pixels"));
    }
    let data = bytes.get(header.pixels..).unwrap_or_default();
    let mut pixels = match (header.compression, header.bits) {
        (RLE8, 8) | (RLE4, 4) => header.paint(&runs(&header, data)?),
        (PLAIN, 1 | 2 | 4 | 8) => {
            let (bits, width) = (header.bits, header.width as usize);
            let numbers: Vec<u8> = header.rows(data)?.flat_map(|row| unpack(row, bits, width)).collect();
            header.paint(&numbers)
        }
        (PLAIN, 24) => header.direct(header.rows(data)?.flat_map(|row| row.as_chunks::<3>().0), |bgr| {
            [bgr[2], bgr[1], bgr[0]] //
        }),
        (PLAIN | MASKS, 16) => {
            let channels = header.channels()?;
            header.direct(header.rows(data)?.flat_map(|row| row.as_chunks::<2>().0), |pixel| {
                channels.map(|channel| channel.of(u16::from_le_bytes(*pixel).into()))
            })
        }
        (PLAIN | MASKS, 32) => {
            let channels = header.channels()?;
            header.direct(header.rows(data)?.flat_map(|row| row.as_chunks::<4>().0), |pixel| {
                channels.map(|channel| channel.of(u32::from_le_bytes(*pixel)))
            })
        }
        (compression, bits) => {
            return Err(damaged(format!("{bits} bits a pixel with compression {compression} are not known")));
        }
    };
    if !header.from_top {
        pixels.flip_vertical();
    }
    Ok(Stored { pixels, orientation: None, range16: None })
}

impl BmpHeader {
    fn read(bytes: &[u8]) -> Result<BmpHeader, DecodeError> {
        let too_early = || damaged("it ends too early");
        let short = |at: usize| {
            Ok(u16::from_le_bytes(bytes.get(at..at + 2).ok_or_else(too_early)?.try_into().unwrap_or_default()))
        };
        let long = |at: usize| {
            Ok(u32::from_le_bytes(bytes.get(at..at + 4).ok_or_else(too_early)?.try_into().unwrap_or_default()))
        };
        let (pixels, length) = (long(10)? as usize, long(14)? as usize);
        let mut end = 14 + length;
        let (width, height, bits, compression, colours) = match length {
            12 => (u32::from(short(18)?), i32::from(short(20)?), short(24)?, PLAIN, 0),
            _ => (long(18)?, long(22)? as i32, short(28)?, long(30)?, long(46)?),
        };
        let mut masks = if bits == 16 { [0x7C00, 0x3E0, 0x1F] } else { [0xFF_0000, 0xFF00, 0xFF] };
        if compression == MASKS {
            // In the header, or between a short header and the pixels: at the same place.
            masks = [long(54)?, long(58)?, long(62)?];
            end = end.max(66);
        }
        let (size, most) = (if length == 12 { 3 } else { 4 }, if bits <= 8 { 1usize << bits } else { 0 });
        let colours = if colours == 0 { most } else { most.min(colours as usize) };
        let stored = bytes.get(end..).unwrap_or_default().chunks_exact(size).take(colours);
        Ok(BmpHeader {
            width,
            height: height.unsigned_abs(),
            from_top: height < 0,
            bits: bits.into(),
            compression,
            masks,
            palette: stored.map(|bgr| [bgr[2], bgr[1], bgr[0]]).collect(),
            pixels,
        })
    }

    /// The stored rows, without what fills them up to whole words.
    fn rows<'a>(&self, data: &'a [u8]) -> Result<impl Iterator<Item = &'a [u8]> + use<'a>, DecodeError> {
        let bits = self.width as usize * self.bits as usize;
        let (stride, used) = (bits.div_ceil(32) * 4, bits.div_ceil(8));
        // The last row may lack its fill.
        if data.len() < stride * (self.height as usize - 1) + used {
            return Err(damaged("it ends too early"));
        }
        Ok(data.chunks(stride).take(self.height as usize).map(move |row| &row[..used]))
    }

    fn paint(&self, numbers: &[u8]) -> Pixels {
        Palette::new(self.palette.iter().copied()).paint(self.width, self.height, numbers)
    }

    fn direct<T>(&self, pixels: impl Iterator<Item = T>, colour: impl Fn(T) -> [u8; 3]) -> Pixels {
        Pixels::new(self.width, self.height, 3, pixels.flat_map(colour).collect())
    }

    fn channels(&self) -> Result<[Channel; 3], DecodeError> {
        let masks = if self.masks == [0; 3] { [0xFF_0000, 0xFF00, 0xFF] } else { self.masks };
        let channel = |mask: u32| {
            let shift = mask.trailing_zeros().min(31);
            let most = mask >> shift;
            // One run of at most 16 bits.
            (mask != 0 && most & (most + 1) == 0 && most <= 0xFFFF).then_some(Channel { shift, most })
        };
        match masks.map(channel) {
            [Some(red), Some(green), Some(blue)] => Ok([red, green, blue]),
            _ => Err(damaged("its colour masks make no sense")),
        }
    }
}

/// Where the bits of a colour lie in a pixel.
#[derive(Clone, Copy)]
struct Channel {
    shift: u32,
    most: u32,
}

impl Channel {
    fn of(self, pixel: u32) -> u8 {
        ((pixel >> self.shift & self.most) * 255 / self.most) as u8
    }
}

/// The numbers of a picture packed by RLE, in the order of its rows; what no run reaches is 0.
fn runs(header: &BmpHeader, data: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let (width, height) = (header.width as usize, header.height as usize);
    let mut numbers = vec![0; width * height];
    let (mut x, mut y, mut at) = (0usize, 0usize, 0usize);
    let mut take = |count: usize| {
        at += count;
        data.get(at - count..at).ok_or_else(|| damaged("it ends too early"))
    };
    while y < height {
        let mut put = |number: u8| {
            // Runs beyond the end of a row are cut off.
            if x < width {
                numbers[y * width + x] = number;
            }
            x += 1;
        };
        match *take(2)? {
            [0, 0] => (x, y) = (0, y + 1),
            [0, 1] => break,
            [0, 2] => {
                let step = take(2)?;
                (x, y) = (x + usize::from(step[0]), y + usize::from(step[1]));
            }
            [0, count] => {
                let count = usize::from(count);
                let length = (count * header.bits as usize).div_ceil(8);
                unpack(take(length + length % 2)?, header.bits, count).for_each(put);
            }
            [count, packed] => match header.bits {
                4 => (0..count).for_each(|index| put(if index % 2 == 0 { packed >> 4 } else { packed & 15 })),
                _ => (0..count).for_each(|_| put(packed)),
            },
            _ => return Err(damaged("it ends too early")),
        }
    }
    Ok(numbers)
}
