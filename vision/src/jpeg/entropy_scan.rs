//! From entropy-coded data to the samples of each component, as far as a window needs them.

use std::ops::Range;

use convoy_kernels::cpu::{Kernel, dispatch};

use super::bits::{Bits, Segments};
use super::header::Header;
use super::huffman::{AcTable, DcTable, read_block, skip_block};
use super::idct;
use crate::pixels::Window;

/// Samples of the MCUs that a window lies in.
pub(super) struct Planes {
    /// The pixel of the image that the first sample of the first component stands for.
    pub(super) x: usize,
    pub(super) y: usize,
    /// Pixels that a sample of the other components stands for.
    pub(super) across: usize,
    pub(super) down: usize,
    pub(super) components: Vec<Plane>,
}

/// The samples of one component.
pub(super) struct Plane {
    pub(super) width: usize,
    pub(super) samples: Vec<u8>,
}

impl Plane {
    /// A row of samples, the nearest where there is no such row.
    pub(super) fn row(&self, row: isize) -> &[u8] {
        let last = self.samples.len() / self.width - 1;
        &self.samples[row.clamp(0, last as isize) as usize * self.width..][..self.width]
    }
}

/// The samples that `window` needs; `None` where the data are irregular as far as they are read.
pub(super) fn decode(header: &Header, data: &[u8], window: Window) -> Option<Planes> {
    let segments = Segments::of(data)?;
    dispatch(Decode { header, segments: &segments, window })
}

/// The MCUs of `size` pixels a side, of `count`, that hold the pixels of a window and those beside it that upsampling
/// reads.
fn needed(start: u32, length: u32, size: usize, count: usize) -> Range<usize> {
    let margin = if size > 8 { 2 } else { 0 };
    let (start, end) = (start as usize, (start + length) as usize);
    start.saturating_sub(margin) / size..(end + margin).div_ceil(size).min(count)
}

struct Decode<'a> {
    header: &'a Header,
    segments: &'a Segments,
    window: Window,
}

/// A component while it is read.
struct Reading<'a> {
    tables: (&'a DcTable, &'a AcTable),
    quantization: &'a [i32; 64],
    across: usize,
    down: usize,
    predicted: i32,
    plane: Plane,
}

impl Kernel for Decode<'_> {
    type Output = Option<Planes>;

    #[inline(always)]
    fn run<const PANEL: usize>(self) -> Option<Planes> {
        let Decode { header, segments, window } = self;
        let first = header.components.first()?;
        let (width, height) = (8 * first.across, 8 * first.down);
        let (mcus_across, mcus_down) =
            ((header.width as usize).div_ceil(width), (header.height as usize).div_ceil(height));
        let columns = needed(window.x, window.width, width, mcus_across);
        let rows = needed(window.y, window.height, height, mcus_down);
        let mut components = Vec::with_capacity(3);
        for component in &header.components {
            let width = columns.len() * 8 * component.across;
            components.push(Reading {
                tables: (header.dc.get(component.dc)?.as_ref()?, header.ac.get(component.ac)?.as_ref()?),
                quantization: header.quantization.get(component.quantization)?.as_ref()?,
                across: component.across,
                down: component.down,
                predicted: 0,
                plane: Plane { width, samples: vec![0; width * rows.len() * 8 * component.down] },
            });
        }
        let mut bits = segments.bits(0)?;
        let (mut left, mut segment) = (header.restart, 0);
        let mut coefficients = [0; 64];
        for row in 0..rows.end {
            for column in 0..mcus_across {
                if header.restart > 0 && left == 0 {
                    segment += 1;
                    bits = segments.bits(segment)?;
                    left = header.restart;
                    components.iter_mut().for_each(|component| component.predicted = 0);
                }
                left = left.wrapping_sub(1);
                let wanted = rows.contains(&row) && columns.contains(&column);
                for component in &mut components {
                    if wanted {
                        component.read(&mut bits, row - rows.start, column - columns.start, &mut coefficients)?;
                    } else {
                        component.skip(&mut bits)?;
                    }
                }
            }
            if bits.overran() {
                return None;
            }
        }
        Some(Planes {
            x: columns.start * width,
            y: rows.start * height,
            across: first.across,
            down: first.down,
            components: components.into_iter().map(|component| component.plane).collect(),
        })
    }
}

impl Reading<'_> {
    /// Reads the blocks of an MCU into the plane.
    #[inline(always)]
    fn read(&mut self, bits: &mut Bits<'_>, row: usize, column: usize, coefficients: &mut [i32; 64]) -> Option<()> {
        for down in 0..self.down {
            for across in 0..self.across {
                *coefficients = [0; 64];
                let last = read_block(bits, self.tables, self.quantization, &mut self.predicted, coefficients)?;
                let (y, x) = ((row * self.down + down) * 8, (column * self.across + across) * 8);
                let out = self.plane.samples.get_mut(y * self.plane.width + x..)?;
                idct::block(coefficients, last, out, self.plane.width);
            }
        }
        Some(())
    }

    #[inline(always)]
    fn skip(&mut self, bits: &mut Bits<'_>) -> Option<()> {
        for _ in 0..self.down * self.across {
            skip_block(bits, self.tables, &mut self.predicted)?;
        }
        Some(())
    }
}
