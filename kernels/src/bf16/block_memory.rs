//! Where blocks of 32 x 32 lie in memory.

use std::ops::Range;

use super::blocks::BLOCK;
use super::step::BLOCK_LEN;
use crate::cpu::prefetch;
use crate::scratch::{Pooled, Scratch, scratch};

/// Blocks in memory.
pub(super) struct Operand<'a, T: Pooled> {
    pub values: Memory<'a, T>,
    pub rows: Range<usize>,
    /// Blocks of terms at a position.
    pub blocks: usize,
    /// Positions of a block.
    pub positions: usize,
    pub first_column: isize,
    /// Columns lie by their residue modulo this.
    pub residues: usize,
    /// Columns of each residue.
    pub columns: usize,
    /// From one row to the next.
    pub row: usize,
    /// From one block of terms to the next.
    pub block: usize,
    /// From one column of a residue to the next.
    pub column: usize,
}

/// Memory of one's own, or of the tensor.
pub(super) enum Memory<'a, T: Pooled> {
    AsTheyLie(&'a [T]),
    /// Blocks of several positions that are yet to be put together.
    Pieces(Pieces<'a, T>),
    Copied(Scratch<T>),
}

/// How far before its turn a piece is asked for.
const AHEAD: usize = 2 * BLOCK_LEN;

/// Positions in a tensor, each a piece of a block.
pub(super) struct Pieces<'a, T> {
    /// All rows, from the first channel of the first block on.
    pub values: &'a [T],
    /// Pixels of a row, and the values of each.
    pub width: usize,
    pub pixel: usize,
    /// Values of a piece.
    pub len: usize,
}

impl<T: Pooled> Pieces<'_, T> {
    /// Puts a block together; zeros where a column is outside.
    #[inline(always)]
    fn gather(&self, row: usize, block: usize, columns: impl Iterator<Item = isize>, to: &mut [T; BLOCK_LEN]) {
        for (column, to) in columns.zip(to.chunks_exact_mut(self.len)) {
            match usize::try_from(column).ok().filter(|column| *column < self.width) {
                Some(column) => {
                    let first = (row * self.width + column) * self.pixel + block * self.len;
                    (0..self.len).step_by(BLOCK).for_each(|at| prefetch::<BLOCK>(self.values, first + AHEAD + at));
                    to.copy_from_slice(&self.values[first..][..self.len]);
                }
                None => to.fill(T::default()),
            }
        }
    }
}

impl<T: Pooled> Operand<'_, T> {
    /// All of the memory that blocks begin in.
    pub fn values(&self) -> &[T] {
        match &self.values {
            Memory::AsTheyLie(values) => values,
            Memory::Copied(values) => values,
            Memory::Pieces(_) => unreachable!("pieces are put together as blocks are turned"),
        }
    }

    /// Where the first block at a position of the source begins.
    #[inline(always)]
    pub fn at(&self, row: usize, column: isize) -> usize {
        let column = (column - self.first_column) as usize;
        let place =
            if self.residues == 1 { column } else { column % self.residues * self.columns + column / self.residues };
        (row - self.rows.start) * self.row + place * self.column
    }

    /// Replaces each block by one of other memory that `turn` writes. One begins at each column that is a multiple of
    /// `every`, which divides the number of columns.
    pub fn turn_blocks(&mut self, every: usize, mut turn: impl FnMut(&[T; BLOCK_LEN], &mut [T; BLOCK_LEN])) {
        let places = self.residues * self.columns;
        let column_at = |place: usize| {
            let (residue, index) = (place / self.columns, place % self.columns);
            self.first_column + (index * self.residues + residue) as isize
        };
        let mut gathered = [T::default(); BLOCK_LEN];
        let each = places / every;
        let mut turned = scratch::<T>(self.rows.len() * self.blocks * each * BLOCK_LEN);
        let to = turned.as_chunks_mut::<BLOCK_LEN>().0;
        for row in 0..self.rows.len() {
            // In the order of the tensor's memory.
            for (index, place) in (0..places).step_by(every).enumerate() {
                for block in 0..self.blocks {
                    let to = &mut to[(row * self.blocks + block) * each + index];
                    let from = match &self.values {
                        Memory::Pieces(pieces) => {
                            let columns = (place..place + self.positions).map(column_at);
                            pieces.gather(self.rows.start + row, block, columns, &mut gathered);
                            turn(&gathered, to);
                            continue;
                        }
                        Memory::AsTheyLie(values) => values,
                        Memory::Copied(values) => &values[..],
                    };
                    let first = row * self.row + block * self.block + place * self.column;
                    // Those that would end beyond the memory are asked for by nobody.
                    if let Some(from) = from.get(first..).and_then(<[T]>::first_chunk::<BLOCK_LEN>) {
                        prefetch::<BLOCK_LEN>(from, 2 * BLOCK_LEN);
                        turn(from, to);
                    }
                }
            }
        }
        self.column = BLOCK_LEN / every;
        self.block = each * BLOCK_LEN;
        self.row = self.blocks * self.block;
        self.values = Memory::Copied(turned);
    }
}
