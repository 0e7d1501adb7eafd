//! Sums to values in memory, rounded once.

use super::Bf16;
use super::blocks::{BLOCK, Blocks};
use super::correlate::Place;
use super::rounding::{self, Rounding, RoundingKernel};
use super::step::Sums;
use crate::conv::geometry::Correlation;

/// Where sums are written: rows of a tensor.
pub(super) struct Rows<'a> {
    pub shape: Blocks,
    /// The first of the tensor's rows that are here.
    pub first: usize,
    pub values: &'a mut [Bf16],
}

impl Rows<'_> {
    /// Where the pixel of a position of the grid begins.
    fn at(&self, images: usize, of: &Correlation, row: usize, column: usize) -> usize {
        let row = of.rows.first + row * of.rows.target_step + images * self.shape.h - self.first;
        let column = of.cols.first + column * of.cols.target_step;
        (row * self.shape.w + column) * self.shape.pixel_len()
    }

    /// All lanes of the block of channels that begins with `channel`, at a position of the grid.
    pub fn pixel(&mut self, images: usize, of: &Correlation, row: usize, column: usize, channel: usize) -> &mut [Bf16] {
        let lanes = self.shape.lanes();
        let first = self.at(images, of, row, column) + channel * lanes;
        &mut self.values[first..][..lanes * BLOCK]
    }

    /// Writes the sums with the bias of each channel, rounded; zeros for what is padding.
    pub fn write(&mut self, sums: &Sums, place: &Place<'_>, bias: Option<&[f32]>) {
        let shape = self.shape;
        let mut added = [0.0; BLOCK];
        if let Some(bias) = bias {
            added[..place.width].copy_from_slice(&bias[place.channel..][..place.width]);
        }
        let of = place.of;
        let first = self.at(place.images, of, place.row, place.column);
        let to = &mut self.values[first..];
        let (step, lanes) = (of.cols.target_step * shape.pixel_len(), shape.lanes());
        let images = shape.images(place.images);
        let end = place.channel + place.width;
        if place.channel.is_multiple_of(BLOCK) && (place.width == BLOCK || end == shape.c) {
            let to = &mut to[place.channel * lanes..];
            let width = place.width;
            let added = bias.is_some().then_some(&added);
            let blocks = WriteBlocks { sums, added, width, columns: place.columns, lanes, images, step, to };
            return rounding::dispatch(blocks);
        }
        // The channels of a group begin within a block. Who writes the last one writes the padding, too.
        let padded = if end == shape.c { end.next_multiple_of(BLOCK) } else { end };
        for (column, lane) in (0..place.columns).flat_map(|column| (0..lanes).map(move |lane| (column, lane))) {
            for channel in place.channel..padded {
                let c = channel - place.channel;
                let value = match lane < images && c < place.width {
                    true => Bf16::from_f32(sums[column * lanes + lane][c] + added[c]),
                    false => Bf16::ZERO,
                };
                to[column * step + (channel / BLOCK * lanes + lane) * BLOCK + channel % BLOCK] = value;
            }
        }
    }
}

struct WriteBlocks<'a> {
    sums: &'a Sums,
    added: Option<&'a [f32; BLOCK]>,
    width: usize,
    columns: usize,
    lanes: usize,
    images: usize,
    /// From one column to the next.
    step: usize,
    to: &'a mut [Bf16],
}

impl RoundingKernel for WriteBlocks<'_> {
    #[inline(always)]
    fn run<R: Rounding>(self, rounding: R) {
        let columns = self.sums.chunks_exact(self.lanes).take(self.columns);
        for (sums, to) in columns.zip(self.to.chunks_mut(self.step)) {
            let to = to[..self.lanes * BLOCK].as_chunks_mut::<BLOCK>().0;
            for (to, sums) in to[..self.images].iter_mut().zip(sums) {
                match self.added {
                    None => rounding.round(sums, to),
                    Some(added) => {
                        let mut with = *sums;
                        for c in 0..BLOCK {
                            with[c] += added[c];
                        }
                        rounding.round(&with, to);
                    }
                }
                if self.width < BLOCK {
                    to[self.width..].fill(Bf16::ZERO);
                }
            }
            to[self.images..].fill([Bf16::ZERO; BLOCK]);
        }
    }
}
