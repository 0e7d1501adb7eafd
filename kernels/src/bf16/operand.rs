//! The pixels that a band of positions reads, as blocks of 32 x 32: a block is the lanes of as many neighbouring
//! positions as fill 32, and 32 channels.

use std::ops::Range;

use super::block_memory::{Memory, Operand, Pieces};
use super::blocks::{BLOCK, Blocks};
use super::element::Element;
use super::flat_operand::flat_operand;
use super::images::{SourceImages, TermBlocks};
use super::step::Lies;
use crate::conv::geometry::{Axis, Correlation};
use crate::cpu::{self, Kernel};
use crate::scratch::scratch;

/// Bytes of the operands of a band: about as many as stay in the second-level cache with the weights they meet.
pub(super) const BAND_BYTES: usize = 3 << 18;

/// The positions `rows` of a grid, in bands whose operands take about so many `bytes`, raster. `extra` values are read
/// of each position besides what the correlation reads.
pub(super) fn bands<T: Element>(
    of: &Correlation,
    lanes: usize,
    rows: Range<usize>,
    extra: usize,
    bytes: usize,
) -> Vec<[Range<usize>; 2]> {
    let (blocks, most) = (TermBlocks::new(of), bytes / size_of::<T>());
    let ([step_y, step_x], [reach_y, reach_x]) = match blocks.flattened {
        true => ([1, 1], [1, 1]),
        false => ([of.rows.step, of.cols.step], [of.rows.reach().1, of.cols.reach().1]),
    };
    let width = of.cols.grid;
    let column = blocks.count * lanes * BLOCK;
    let row = ((width - 1) * step_x + reach_x) * column;
    // The first row of a band reads more than each further one.
    let more = reach_y.saturating_sub(step_y) * row;
    let height = most.saturating_sub(more) / (step_y * row + extra * width);
    let columns = match height {
        0 => (most / (reach_y * step_x * column + extra)).next_multiple_of(BLOCK).max(BLOCK),
        _ => width,
    };
    let cut = |range: Range<usize>, size: usize| {
        range.clone().step_by(size).map(move |first| first..(first + size).min(range.end))
    };
    let rows = cut(rows, height.max(1));
    rows.flat_map(|rows| cut(0..width, columns).map(move |columns| [rows.clone(), columns])).collect()
}

/// What the positions `rows` x `columns` of the grid read.
pub(super) fn operand<'a, T: Element>(
    of: &Correlation,
    source: SourceImages<'a>,
    [rows, columns]: &[Range<usize>; 2],
    lies: Lies,
) -> Operand<'a, T> {
    let lanes = source.shape.lanes();
    let positions = BLOCK / lanes;
    let pixel = lanes * BLOCK;
    if TermBlocks::new(of).flattened {
        return flat_operand(of, source, rows.clone(), columns.clone(), lies);
    }
    let read = |axis: &Axis, range: &Range<usize>, beyond: usize| -> Range<isize> {
        let (low, span) = axis.reach();
        let first = (range.start * axis.step) as isize + low;
        first..((range.end - 1 + beyond) * axis.step + span) as isize + low
    };
    let inside = |range: Range<isize>, size: usize| -> Range<isize> {
        let first = range.start.clamp(0, size as isize);
        first..range.end.clamp(first, size as isize)
    };
    let rows = inside(read(&of.rows, rows, 0), of.rows.source);
    let rows = rows.start as usize..rows.end as usize;
    // Blocks of several positions reach over the border, where they find zeros.
    let mut columns = read(&of.cols, columns, positions - 1);
    if positions == 1 {
        columns = inside(columns, of.cols.source);
    }
    let blocks = source.depth.div_ceil(BLOCK);
    let first_column = columns.start;
    let as_it_lies = if source.is_aligned() { T::as_they_lie(source.values.blocks()) } else { None };
    if let (BLOCK, Some(values)) = (lanes, as_it_lies) {
        let column = source.shape.pixel_len();
        let row = source.shape.w * column;
        let first = rows.start * row + first_column as usize * column + source.channel / BLOCK * pixel;
        let values = Memory::AsTheyLie(&values[first.min(values.len())..]);
        let (residues, columns, block) = (1, columns.len(), pixel);
        return Operand { values, rows, blocks, positions, first_column, residues, columns, row, block, column };
    }
    let residues = if positions == 1 { 1 } else { of.cols.step };
    let each = columns.len().div_ceil(residues).next_multiple_of(positions);
    let block = residues * each * pixel;
    let row = blocks * block;
    let values = match as_it_lies {
        Some(values) if lies == Lies::Term => {
            let (values, width) = (&values[source.channel / BLOCK * pixel..], source.shape.w);
            Memory::Pieces(Pieces { values, width, pixel: source.shape.pixel_len(), len: pixel })
        }
        _ => {
            let mut values = scratch::<T>(rows.len() * row);
            let (rows, values_to) = (rows.clone(), &mut values);
            cpu::dispatch(CopyPixels { source, lies, rows, columns, residues, each, blocks, values: values_to });
            Memory::Copied(values)
        }
    };
    let (columns, column) = (each, pixel);
    Operand { values, rows, blocks, positions, first_column, residues, columns, row, block, column }
}

/// Where a term lies in a row of 32.
#[inline(always)]
fn place<T: Element>(lies: Lies, term: usize) -> usize {
    if lies == Lies::Row { T::place(term) } else { term }
}

/// Copies pixels, and zeros where there are none.
struct CopyPixels<'a, T> {
    source: SourceImages<'a>,
    lies: Lies,
    rows: Range<usize>,
    columns: Range<isize>,
    residues: usize,
    each: usize,
    blocks: usize,
    values: &'a mut [T],
}

impl<T: Element> Kernel for CopyPixels<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<const PANEL: usize>(self) {
        let Blocks { w, .. } = self.source.shape;
        let lanes = self.source.shape.lanes();
        let (pixel_len, pixel) = (self.source.shape.pixel_len(), lanes * BLOCK);
        let (aligned, values) = (self.source.is_aligned(), self.source.values.blocks());
        let mut all = self.values.chunks_exact_mut(pixel);
        for row in self.rows {
            for block in 0..self.blocks {
                let channel = self.source.channel + block * BLOCK;
                let depth = (self.source.depth - block * BLOCK).min(BLOCK);
                for residue in 0..self.residues {
                    for index in 0..self.each {
                        let to = all.next().expect("there is room for all");
                        let column = self.columns.start + (index * self.residues + residue) as isize;
                        if !(0..w as isize).contains(&column) {
                            to.fill(T::default());
                            continue;
                        }
                        let from = &values[(row * w + column as usize) * pixel_len..][..pixel_len];
                        if aligned {
                            let from = &from[channel / BLOCK * pixel..][..pixel];
                            T::copy(from, to, self.lies);
                            continue;
                        }
                        for (lane, to) in to.as_chunks_mut::<BLOCK>().0.iter_mut().enumerate() {
                            *to = [T::default(); BLOCK];
                            for (term, channel) in (0..depth).zip(channel..) {
                                let from = from[channel / BLOCK * pixel + lane * BLOCK + channel % BLOCK];
                                to[place::<T>(self.lies, term)] = T::of(from);
                            }
                        }
                    }
                }
            }
        }
    }
}
