//! TIFF files to pixels: the first picture, of whole numbers of up to 16 bits, in strips or tiles.
//!
//! Grey, colours, palettes and CMYK, packed with LZW, deflate, PackBits or not. What is not read is refused in words:
//! JPEG and fax compression, YCbCr, Lab, floating-point and signed numbers, 12 and 32 bits.

mod directory;
mod packing;

use directory::{Directory, Tag, damaged};
use packing::Packing;

use super::depth16;
use super::palette::{Palette, unpack};
use super::stored::Stored;
use crate::decode_error::DecodeError;
use crate::exif::orientation_of;
use crate::limits::Limits;
use crate::pixels::Pixels;

/// What the numbers of a pixel mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Photometric {
    /// White is the largest number, or 0.
    Grey {
        inverted: bool,
    },
    Rgb,
    Palette,
    Cmyk,
}

impl Photometric {
    fn of(photometric: u32) -> Result<Self, DecodeError> {
        Ok(match photometric {
            0 => Photometric::Grey { inverted: true },
            1 => Photometric::Grey { inverted: false },
            2 => Photometric::Rgb,
            3 => Photometric::Palette,
            5 => Photometric::Cmyk,
            6 => return Err(damaged("YCbCr colours are not read; save it as RGB")),
            8..=10 => return Err(damaged("Lab colours are not read; save it as RGB")),
            other => return Err(damaged(format!("colours of kind {other} are not read; save it as RGB"))),
        })
    }

    /// How many numbers a pixel has at least; those after them are transparency and the like.
    fn channels(self) -> usize {
        match self {
            Photometric::Grey { .. } | Photometric::Palette => 1,
            Photometric::Rgb => 3,
            Photometric::Cmyk => 4,
        }
    }
}

/// How the numbers lie in the file.
struct Layout<'a> {
    directory: Directory<'a>,
    width: usize,
    height: usize,
    bits: u32,
    /// Numbers of a pixel.
    samples: usize,
    /// Whether the channels lie one after the other.
    planar: bool,
    packing: Packing,
    /// Whether each number is the difference from the one before.
    differences: bool,
    /// Width and height of a strip or a tile.
    chunk: (usize, usize),
    /// Whether all chunks are of the same height, beyond the picture's end.
    tiles: bool,
}

/// Most numbers of a pixel that are read.
const MOST_SAMPLES: u32 = 8;

/// Decodes the first picture of a file. Numbers of 16 bits become their place in `range`, where there is one.
pub(crate) fn decode_tiff(bytes: &[u8], limits: &Limits, range: Option<[u16; 2]>) -> Result<Stored, DecodeError> {
    let directory = Directory::first(bytes)?;
    let meaning = Photometric::of(directory.number(Tag::Photometric, u32::MAX)?)?;
    let layout = Layout::read(directory, limits)?;
    if layout.samples < meaning.channels() {
        return Err(damaged(format!("{} numbers a pixel are too few for its colours", layout.samples)));
    }
    let premultiplied =
        meaning == Photometric::Rgb && layout.samples > 3 && layout.directory.number(Tag::ExtraSamples, 0)? == 1;
    let kept = meaning.channels() + usize::from(premultiplied);
    let (mut data, range16) = layout.numbers(bytes, kept, range)?;
    let most =
        if layout.bits < 8 && meaning != Photometric::Palette { 255 / ((1u16 << layout.bits) - 1) as u8 } else { 1 };
    data.iter_mut().for_each(|number| *number *= most);
    let (width, height) = (layout.width as u32, layout.height as u32);
    let pixels = match meaning {
        Photometric::Grey { inverted } => {
            data.iter_mut().filter(|_| inverted).for_each(|number| *number = 255 - *number);
            Pixels::new(width, height, 1, data)
        }
        Photometric::Rgb if premultiplied => {
            Pixels::new(width, height, 3, data.as_chunks::<4>().0.iter().flat_map(|pixel| divided(*pixel)).collect())
        }
        Photometric::Rgb => Pixels::new(width, height, 3, data),
        Photometric::Palette => colour_map(&layout)?.paint(width, height, &data).into_channels(3),
        Photometric::Cmyk => {
            Pixels::new(width, height, 3, data.as_chunks::<4>().0.iter().flat_map(|pixel| printed(*pixel)).collect())
        }
    };
    Ok(Stored { pixels, orientation: orientation_of(bytes), range16 })
}

/// The colour of a pixel whose colours were multiplied with its alpha.
fn divided([red, green, blue, alpha]: [u8; 4]) -> [u8; 3] {
    let divide = |colour: u8| (u32::from(colour) * 255).checked_div(alpha.into()).unwrap_or(0).min(255) as u8;
    [red, green, blue].map(divide)
}

/// The colour of four inks, as Pillow has it.
fn printed([cyan, magenta, yellow, black]: [u8; 4]) -> [u8; 3] {
    let light = 255 - u32::from(black);
    let colour = |ink: u8| {
        let product = u32::from(ink) * light + 128;
        (light - (((product >> 8) + product) >> 8).min(light)) as u8
    };
    [cyan, magenta, yellow].map(colour)
}

/// The colours of a palette: all reds, all greens, all blues, of 16 bits.
fn colour_map(layout: &Layout<'_>) -> Result<Palette, DecodeError> {
    let colours = layout.directory.numbers(Tag::ColorMap)?;
    let count = 1usize << layout.bits.min(8);
    if colours.len() != 3 * count || layout.bits > 8 {
        return Err(damaged("its palette is missing or of another size"));
    }
    Ok(Palette::new((0..count).map(|at| [0, 1, 2].map(|channel| (colours[channel * count + at] >> 8) as u8))))
}

impl<'a> Layout<'a> {
    fn read(directory: Directory<'a>, limits: &Limits) -> Result<Self, DecodeError> {
        let number = |tag, default| directory.number(tag, default);
        let (width, height) = (number(Tag::Width, 0)?, number(Tag::Height, 0)?);
        limits.check(width.into(), height.into())?;
        if width == 0 || height == 0 {
            return Err(damaged("it has no pixels"));
        }
        let samples = number(Tag::SamplesPerPixel, 1)?;
        if !(1..=MOST_SAMPLES).contains(&samples) {
            return Err(damaged(format!("{samples} numbers a pixel are not read")));
        }
        let bits = directory.numbers(Tag::BitsPerSample)?;
        let first = bits.first().copied().unwrap_or(1);
        if bits.iter().any(|bits| *bits != first) || ![1, 2, 4, 8, 16].contains(&first) {
            return Err(damaged(format!("{bits:?} bits a number are not read; save it with 8 or 16")));
        }
        let formats = directory.numbers(Tag::SampleFormat)?;
        if formats.iter().any(|format| ![1, 4].contains(format)) {
            return Err(damaged("signed or floating-point numbers are not read; save it with 8 or 16 bits"));
        }
        let differences = match number(Tag::Predictor, 1)? {
            1 => false,
            2 if first >= 8 => true,
            other => return Err(damaged(format!("predictor {other} is not read; save it without"))),
        };
        let tiles = !directory.numbers(Tag::TileOffsets)?.is_empty();
        let chunk = match tiles {
            true => (number(Tag::TileWidth, 0)?, number(Tag::TileLength, 0)?),
            false => (width, number(Tag::RowsPerStrip, u32::MAX)?.min(height)),
        };
        if chunk.0 == 0 || chunk.1 == 0 {
            return Err(damaged("its strips or tiles have no pixels"));
        }
        if tiles {
            // Many that each reach far beyond the picture would be much work for a small file.
            let whole = |length: u32, tile: u32| u64::from(length.div_ceil(tile)) * u64::from(tile);
            if whole(width, chunk.0).saturating_mul(whole(height, chunk.1)) > limits.max_pixels {
                return Err(damaged("its tiles together are far larger than its picture"));
            }
        }
        Ok(Layout {
            width: width as usize,
            height: height as usize,
            bits: first,
            samples: samples as usize,
            planar: number(Tag::PlanarConfiguration, 1)? == 2 && samples > 1,
            packing: Packing::of(number(Tag::Compression, 1)?)?,
            differences,
            chunk: (chunk.0 as usize, chunk.1 as usize),
            tiles,
            directory,
        })
    }

    /// The first `kept` numbers of each pixel as they are stored, 16 bits made eight; and the range of those.
    fn numbers(
        &self,
        bytes: &[u8],
        kept: usize,
        range: Option<[u16; 2]>,
    ) -> Result<(Vec<u8>, Option<[u16; 2]>), DecodeError> {
        let mut data = vec![0; self.width * self.height * kept];
        let mut seen = None;
        let (across, down) = (self.width.div_ceil(self.chunk.0), self.height.div_ceil(self.chunk.1));
        let planes = if self.planar { kept } else { 1 };
        let chunks = Chunks::of(self, bytes, across * down * planes)?;
        for plane in 0..planes {
            for place in 0..across * down {
                let corner = (place % across * self.chunk.0, place / across * self.chunk.1);
                let rows = if self.tiles { self.chunk.1 } else { self.chunk.1.min(self.height - corner.1) };
                let chunk = chunks.numbers(self, plane * across * down + place, rows)?;
                let chunk = match chunk {
                    Numbers::Eight(numbers) => numbers,
                    Numbers::Sixteen(numbers) => {
                        seen = depth16::union(seen, depth16::range_of(&numbers));
                        depth16::narrow(&numbers, range)
                    }
                };
                self.place(&chunk, corner, plane, kept, &mut data);
            }
        }
        Ok((data, seen))
    }

    /// Copies what is kept of a chunk whose upper left pixel is `corner` to its place in `data`.
    fn place(&self, chunk: &[u8], corner: (usize, usize), plane: usize, kept: usize, data: &mut [u8]) {
        let stride = self.stride();
        let columns = self.chunk.0.min(self.width - corner.0);
        let rows = chunk.chunks_exact(self.chunk.0 * stride).take(self.height - corner.1);
        for (row, y) in rows.zip(corner.1..) {
            let out = &mut data[(y * self.width + corner.0) * kept..][..columns * kept];
            for (pixel, out) in row.chunks_exact(stride).zip(out.chunks_exact_mut(kept)) {
                match self.planar {
                    true => out[plane] = pixel[0],
                    false => out.copy_from_slice(&pixel[..kept]),
                }
            }
        }
    }

    /// Numbers from one pixel of a chunk to the next.
    fn stride(&self) -> usize {
        if self.planar { 1 } else { self.samples }
    }
}

enum Numbers {
    Eight(Vec<u8>),
    Sixteen(Vec<u16>),
}

/// Where the strips or tiles lie.
struct Chunks<'a> {
    bytes: &'a [u8],
    offsets: Vec<u32>,
    lengths: Vec<u32>,
    /// Whether the lowest bit of a byte comes first.
    reversed: bool,
}

impl<'a> Chunks<'a> {
    fn of(layout: &Layout<'_>, bytes: &'a [u8], count: usize) -> Result<Self, DecodeError> {
        let tags = match layout.tiles {
            true => [Tag::TileOffsets, Tag::TileByteCounts],
            false => [Tag::StripOffsets, Tag::StripByteCounts],
        };
        let [offsets, mut lengths] = [layout.directory.numbers(tags[0])?, layout.directory.numbers(tags[1])?];
        if lengths.is_empty() && offsets.len() == 1 && layout.packing == Packing::Plain {
            // Old writers leave out the length of a single strip.
            lengths = vec![u32::MAX];
        }
        if offsets.len() < count || lengths.len() < count {
            return Err(damaged(format!("it has {} strips or tiles of {count}", offsets.len().min(lengths.len()))));
        }
        let reversed = layout.directory.number(Tag::FillOrder, 1)? == 2;
        Ok(Chunks { bytes, offsets, lengths, reversed })
    }

    /// The numbers of one strip or tile of `rows` rows, row by row without fill.
    fn numbers(&self, layout: &Layout<'_>, index: usize, rows: usize) -> Result<Numbers, DecodeError> {
        let (start, length) = (self.offsets[index] as usize, self.lengths[index] as usize);
        let packed = self.bytes.get(start..).ok_or_else(|| damaged("it ends too early"))?;
        let packed = &packed[..packed.len().min(length)];
        let row_numbers = layout.chunk.0 * layout.stride();
        let row_bytes = (row_numbers * layout.bits as usize).div_ceil(8);
        let unpacked = match self.reversed {
            true => {
                let turned: Vec<u8> = packed.iter().map(|byte| byte.reverse_bits()).collect();
                layout.packing.unpack(&turned, row_bytes * rows)?
            }
            false => layout.packing.unpack(packed, row_bytes * rows)?,
        };
        let stride = layout.stride();
        if layout.bits == 16 {
            let value = |pair: &[u8; 2]| match layout.directory.big_endian {
                true => u16::from_be_bytes(*pair),
                false => u16::from_le_bytes(*pair),
            };
            let mut numbers: Vec<u16> = unpacked.as_chunks::<2>().0.iter().map(value).collect();
            if layout.differences {
                numbers.chunks_exact_mut(row_numbers).for_each(|row| {
                    (stride..row_numbers).for_each(|at| row[at] = row[at].wrapping_add(row[at - stride]));
                });
            }
            return Ok(Numbers::Sixteen(numbers));
        }
        let unpack = |row| unpack(row, layout.bits, row_numbers);
        let mut numbers =
            if layout.bits == 8 { unpacked } else { unpacked.chunks_exact(row_bytes).flat_map(unpack).collect() };
        if layout.differences {
            numbers.chunks_exact_mut(row_numbers).for_each(|row| {
                (stride..row_numbers).for_each(|at| row[at] = row[at].wrapping_add(row[at - stride]));
            });
        }
        Ok(Numbers::Eight(numbers))
    }
}
