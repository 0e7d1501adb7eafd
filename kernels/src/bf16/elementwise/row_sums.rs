//! Two sums for each channel, as everything that goes over positions and images takes them.
//!
//! A row's values are taken in its order, positions and then images, in f32 over each 32 of them with the padding
//! lanes: as many positions as there are images in 32 [`Blocks::lanes`], fewer at the end of the row. These chunks are
//! added in f64 from 0, and so are the rows, in their order. So rows may be summed apart from each other.

use std::ops::Range;

use super::curve::Values;
use super::tiles::BlockTile;
use crate::bf16::blocks::{BLOCK, Blocks};
use crate::simd_lanes::chunk_mut;

/// What is summed.
pub(super) trait RowTerms {
    /// Adds, in the order of the images, what the tile gives to both sums of its channels.
    fn add(&mut self, tile: BlockTile, sums: &mut [Values; 2]);
}

impl Blocks {
    /// Numbers that both sums of a row take: those of the one sum, then those of the other, with padding channels.
    pub fn row_sums_len(&self) -> usize {
        2 * self.channel_blocks() * BLOCK
    }

    /// Writes the sums of each of some rows. `BlockTile::at` counts from the first of them.
    #[inline(always)]
    pub(super) fn sum_rows(&self, rows: Range<usize>, terms: &mut impl RowTerms, sums: &mut [f64]) {
        let (blocks, lanes, row_len) = (self.channel_blocks(), self.lanes(), self.row_len());
        let positions = BLOCK / lanes;
        for (i, sums) in sums.chunks_exact_mut(self.row_sums_len()).enumerate() {
            sums.fill(0.0);
            let row = rows.start + i;
            let images = self.images(row / self.h);
            let (first_sums, second_sums) = sums.split_at_mut(blocks * BLOCK);
            for first in (0..self.w).step_by(positions) {
                for block in 0..blocks {
                    let mut near = [[0.0; BLOCK]; 2];
                    let width = BLOCK.min(self.c - block * BLOCK);
                    for column in first..self.w.min(first + positions) {
                        let at = i * row_len + (column * blocks + block) * lanes * BLOCK;
                        terms.add(BlockTile { at, row, column, block, width, images }, &mut near);
                    }
                    for (far, near) in [&mut *first_sums, &mut *second_sums].into_iter().zip(&near) {
                        let far: &mut [f64; BLOCK] = chunk_mut(far, block * BLOCK);
                        for c in 0..BLOCK {
                            far[c] += f64::from(near[c]);
                        }
                    }
                }
            }
        }
    }

    /// The sums over all rows, `[channels]` each, from those of each row.
    pub(super) fn add_row_sums(&self, rows: &[f64]) -> [Vec<f64>; 2] {
        let mut sums = [0, 1].map(|_| vec![0.0; self.c]);
        for row in rows.chunks_exact(self.row_sums_len()) {
            for (sums, row) in sums.iter_mut().zip(row.chunks_exact(row.len() / 2)) {
                sums.iter_mut().zip(row).for_each(|(sum, row)| *sum += row);
            }
        }
        sums
    }
}
