//! What all loops over blocked tensors begin with.

use std::ops::Range;

use super::curve::Values;
use crate::bf16::Bf16;
use crate::bf16::blocks::{BLOCK, Blocks};
use crate::bf16::rounding::Rounding;
use crate::cpu::prefetch;
use crate::shape::expect_len;
use crate::simd_lanes::{chunk, chunk_mut};

/// The values of a block.
#[inline(always)]
pub(super) fn widened(from: &[Bf16; BLOCK]) -> Values {
    let mut to = [0.0; BLOCK];
    for c in 0..BLOCK {
        to[c] = from[c].to_f32();
    }
    to
}

/// How far before its turn a block is asked for where blocks are read in the order of the memory. Many hosts of virtual
/// machines leave too much of this to the program.
const AHEAD: usize = 64 * BLOCK;

/// The values of the block that begins at `at`.
#[inline(always)]
pub(super) fn block_at(tensor: &[Bf16], at: usize) -> Values {
    prefetch::<BLOCK>(tensor, at + AHEAD);
    widened(chunk(tensor, at))
}

/// Rounds the first `width` values to the block that begins at `at`, and writes the padding after them.
#[inline(always)]
pub(super) fn write_block(rounding: impl Rounding, values: &Values, width: usize, to: &mut [Bf16], at: usize) {
    let to: &mut [Bf16; BLOCK] = chunk_mut(to, at);
    rounding.round(values, to);
    if width < BLOCK {
        to[width..].fill(Bf16::ZERO);
    }
}

/// `[channels]` with zeros to whole blocks.
pub(super) fn padded(values: &[f32]) -> Vec<f32> {
    let mut values = values.to_vec();
    values.resize(values.len().next_multiple_of(BLOCK), 0.0);
    values
}

/// All lanes of a block of channels at one position.
#[derive(Clone, Copy, Debug)]
pub(super) struct BlockTile {
    /// Where it begins, from the first value of the rows.
    pub at: usize,
    /// Which of the tensor's rows.
    pub row: usize,
    /// Which position of the row.
    pub column: usize,
    /// Which block of channels.
    pub block: usize,
    /// Channels that are not padding.
    pub width: usize,
    /// Lanes that are not padding.
    pub images: usize,
}

impl BlockTile {
    /// Where each image's block begins.
    #[inline(always)]
    pub fn images(self) -> impl Iterator<Item = usize> {
        (0..self.images).map(move |lane| self.at + lane * BLOCK)
    }

    /// Where the blocks of lanes without an image are.
    #[inline(always)]
    pub fn padding(self, lanes: usize) -> Range<usize> {
        self.at + self.images * BLOCK..self.at + lanes * BLOCK
    }
}

impl Blocks {
    /// The tiles of some rows, in the order of the memory.
    #[inline(always)]
    pub(super) fn tiles(&self, rows: Range<usize>) -> impl Iterator<Item = BlockTile> {
        let shape = *self;
        let (blocks, len) = (shape.channel_blocks(), shape.lanes() * BLOCK);
        rows.clone().flat_map(move |row| {
            let (first, images) = ((row - rows.start) * shape.row_len(), shape.images(row / shape.h));
            (0..shape.w * blocks).map(move |tile| {
                let (column, block) = (tile / blocks, tile % blocks);
                let width = BLOCK.min(shape.c - block * BLOCK);
                BlockTile { at: first + tile * len, row, column, block, width, images }
            })
        })
    }

    /// Panics unless there are such rows and the slices have their length.
    #[track_caller]
    pub(super) fn expect_rows(&self, rows: &Range<usize>, slices: &[(&str, usize)]) {
        assert!(rows.start <= rows.end && rows.end <= self.rows(), "rows {rows:?} of {}", self.rows());
        slices.iter().for_each(|&(name, actual)| expect_len(name, actual, rows.len() * self.row_len()));
    }
}
