//! A band: a few images, or a few rows of one, small enough to stay in the cache while all kernels pass over it.

use std::ops::Range;

use super::geometry::Correlation;
use crate::norm_block::{NormBlock, NormReader};
use crate::scratch::{Scratch, scratch};

/// Positions per band of a weight gradient. It bounds the length of a plain sum, so it is part of the bits.
pub(super) const BAND_POSITIONS: usize = 256;

/// Consecutive grid rows of consecutive images. More than one image only with all of their rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Band {
    pub images: Range<usize>,
    pub rows: Range<usize>,
}

/// Whole images in a band of about `positions`, or 1 where an image is more.
pub(super) fn band_images(of: &Correlation, positions: usize) -> usize {
    (positions / of.positions()).max(1)
}

/// Cuts the grids of all images into bands of about `positions`.
pub(super) fn bands(of: &Correlation, positions: usize) -> Vec<Band> {
    let images = band_images(of, positions);
    let rows = (positions / of.cols.grid).clamp(1, of.rows.grid);
    let mut bands = Vec::new();
    for first in (0..of.n).step_by(images) {
        for row in (0..of.rows.grid).step_by(if images > 1 { of.rows.grid } else { rows }) {
            bands.push(Band {
                images: first..(first + images).min(of.n),
                rows: row..if images > 1 { of.rows.grid } else { (row + rows).min(of.rows.grid) },
            });
        }
    }
    bands
}

impl Correlation {
    /// Values of the target from the first to the last row of a band.
    pub(super) fn target_range(&self, band: &Band) -> Range<usize> {
        let row = |image: usize, row: usize| {
            let row = image * self.rows.target + self.rows.first + row * self.rows.target_step;
            row * self.cols.target * self.target_channels
        };
        row(band.images.start, band.rows.start)..row(band.images.end - 1, band.rows.end - 1) + row(0, 1) - row(0, 0)
    }
}

/// Where a grid position reads (its lowest tap, channel 0) and writes (channel 0).
#[derive(Clone, Copy, Debug)]
pub(super) struct Position {
    pub source: usize,
    pub target: usize,
}

/// Consecutive source values that meet consecutive terms of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    /// Relative to [`Position::source`].
    pub offset: usize,
    pub len: usize,
}

/// The source as the kernels see it: without edges, because bands are copied between zeros where taps reach outside.
pub(super) struct Source<'a> {
    of: &'a Correlation,
    input: Reader<'a>,
    /// Zeros left and right of each row.
    borders: [usize; 2],
    /// Whether taps reach outside.
    outside: bool,
    copy: Option<Scratch>,
}

/// What a convolution reads: numbers as they lie in memory, or what a block makes of them as they are read, so that it
/// is never written.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// As they lie, NHWC.
    Values(&'a [f32]),
    /// [`NormBlock::forward`] of its x, NHWC, without a residual.
    Block(NormBlock<'a>),
}

impl<'a, T: AsRef<[f32]> + ?Sized> From<&'a T> for Input<'a> {
    fn from(values: &'a T) -> Self {
        Input::Values(values.as_ref())
    }
}

impl Input<'_> {
    /// How many values it has, as many as the x that it is or is computed from.
    pub(super) fn len(&self) -> usize {
        match self {
            Input::Values(values) => values.len(),
            Input::Block(block) => block.x.len(),
        }
    }
}

enum Reader<'a> {
    Values(&'a [f32]),
    Block(NormReader<'a>),
}

impl Reader<'_> {
    /// Writes the values from `first` on, whole pixels.
    fn read(&self, first: usize, to: &mut [f32]) {
        match self {
            Reader::Values(values) => to.copy_from_slice(&values[first..][..to.len()]),
            Reader::Block(rows) => rows.read(first, to),
        }
    }
}

impl<'a> Source<'a> {
    /// The source of `of`; nothing is copied yet.
    pub fn new(of: &'a Correlation, input: Input<'a>) -> Self {
        let borders = of.cols.borders();
        let outside = borders != [0, 0] || of.rows.borders() != [0, 0];
        let (input, copied) = match input {
            Input::Values(values) => (Reader::Values(values), outside),
            Input::Block(block) => (Reader::Block(block.reader()), true),
        };
        Source { of, input, borders, outside, copy: copied.then(|| scratch(0)) }
    }

    fn row_len(&self) -> usize {
        (self.borders[0] + self.of.cols.source + self.borders[1]) * self.of.source_channels
    }

    /// The terms of the sums in their order, as offsets within the first group.
    pub fn spans(&self) -> Vec<Span> {
        let (of, row_len) = (self.of, self.row_len());
        let (low_row, low_col) = (of.rows.reach().0, of.cols.reach().0);
        let mut spans: Vec<Span> = Vec::new();
        for row in &of.rows.taps {
            for col in &of.cols.taps {
                let at = (row.offset - low_row) as usize * row_len;
                let offset = at + (col.offset - low_col) as usize * of.source_channels;
                match spans.last_mut() {
                    Some(span) if span.offset + span.len == offset => span.len += of.depth(),
                    _ => spans.push(Span { offset, len: of.depth() }),
                }
            }
        }
        spans
    }

    /// Makes the band's source values ready and lists its positions, images and rows in order.
    pub fn load(&mut self, band: &Band, positions: &mut Vec<Position>) -> &[f32] {
        let (of, row_len) = (self.of, self.row_len());
        let low_row = (band.rows.start * of.rows.step) as isize + of.rows.reach().0;
        let low_col = (self.borders[0] as isize + of.cols.reach().0) as usize;
        let rows_read = (band.rows.len() - 1) * of.rows.step + of.rows.reach().1;
        let (first_row, image_rows) = match self.copy {
            Some(_) => (0, rows_read),
            None => (band.images.start * of.rows.source + low_row as usize, of.rows.source),
        };
        positions.clear();
        for (i, image) in band.images.clone().enumerate() {
            for (j, row) in band.rows.clone().enumerate() {
                let source_row = first_row + i * image_rows + j * of.rows.step;
                let source = source_row * row_len + low_col * of.source_channels;
                let target_row = image * of.rows.target + of.rows.first + row * of.rows.target_step;
                let target = target_row * of.cols.target + of.cols.first;
                positions.extend((0..of.cols.grid).map(|col| Position {
                    source: source + col * of.cols.step * of.source_channels,
                    target: (target + col * of.cols.target_step) * of.target_channels,
                }));
            }
        }
        let Some(copy) = &mut self.copy else {
            return match self.input {
                Reader::Values(values) => values,
                Reader::Block(_) => unreachable!("what a block makes of its input is copied"),
            };
        };
        copy.resize(band.images.len() * rows_read * row_len);
        let inner = of.cols.source * of.source_channels;
        if !self.outside {
            let first = |image: usize| (image * of.rows.source + low_row as usize) * inner;
            let (images, rows) = match rows_read == of.rows.source {
                true => (1, band.images.len() * rows_read),
                false => (band.images.len(), rows_read),
            };
            for (i, to) in copy.chunks_exact_mut(rows * row_len).take(images).enumerate() {
                self.input.read(first(band.images.start + i), to);
            }
            return copy;
        }
        let left = self.borders[0] * of.source_channels;
        for (i, to) in copy.chunks_exact_mut(row_len).enumerate() {
            let image = band.images.start + i / rows_read;
            match usize::try_from(low_row + (i % rows_read) as isize) {
                Ok(row) if row < of.rows.source => {
                    to[..left].fill(0.0);
                    self.input.read((image * of.rows.source + row) * inner, &mut to[left..left + inner]);
                    to[left + inner..].fill(0.0);
                }
                _ => to.fill(0.0),
            }
        }
        copy
    }
}
