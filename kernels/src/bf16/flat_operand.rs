//! Operands of few channels and several taps, whose blocks take the terms of all taps.

use std::ops::Range;

use super::block_memory::{Memory, Operand};
use super::blocks::{BLOCK, Blocks};
use super::element::Element;
use super::images::{SourceImages, TermBlocks};
use super::step::Lies;
use super::{Bf16, Images};
use crate::conv::geometry::{Axis, Correlation};
use crate::cpu::{self, Kernel, prefetch};
use crate::scratch::scratch;
use crate::simd_lanes::{chunk, chunk_mut};

/// What the positions `rows` x `columns` of the grid read: the terms of all taps of a position side by side, zeros
/// where a tap is outside and for the terms beyond the last.
pub(super) fn flat_operand<'a, T: Element>(
    of: &Correlation,
    source: SourceImages<'_>,
    rows: Range<usize>,
    columns: Range<usize>,
    lies: Lies,
) -> Operand<'a, T> {
    let (lanes, blocks) = (source.shape.lanes(), TermBlocks::new(of).count);
    let (positions, pixel) = (BLOCK / lanes, lanes * BLOCK);
    let each = columns.len().next_multiple_of(positions) + positions;
    let block = each * pixel;
    let row = blocks * block;
    let mut values = scratch::<T>(rows.len() * row);
    let first_column = columns.start as isize;
    let window = Window::new(of, source, &rows, &columns);
    let mut lines = scratch::<Bf16>(window.lines_len());
    cpu::dispatch(CopyLines { window: &window, lines: &mut lines });
    cpu::dispatch(Flatten { of, window: &window, lines: &lines, lies, rows: rows.clone(), block, values: &mut values });
    let (values, residues, columns, column) = (Memory::Copied(values), 1, each, pixel);
    Operand { values, rows, blocks, positions, first_column, residues, columns, row, block, column }
}

/// The pixels that a band of positions reads, those outside among them.
///
/// Their channels are copied first, so that what taps side by side read of an image lies side by side: a *line* is a
/// row of an image, `[x][channel]`. Lines lie `[row][lane]`, and each has a block of room behind it, since whole blocks
/// are copied where fewer values are meant.
struct Window<'a> {
    source: SourceImages<'a>,
    rows: Range<isize>,
    columns: Range<isize>,
    /// Of the grid.
    positions: usize,
    /// From one position to the next, in the lines.
    step: usize,
    /// From one line to the next.
    line: usize,
}

impl<'a> Window<'a> {
    fn new(of: &Correlation, source: SourceImages<'a>, rows: &Range<usize>, columns: &Range<usize>) -> Window<'a> {
        let read = |axis: &Axis, range: &Range<usize>| {
            let (low, span) = axis.reach();
            let [first, last] = [range.start, range.end - 1].map(|position| (position * axis.step) as isize + low);
            first..last + span as isize
        };
        let (rows, read) = (read(&of.rows, rows), read(&of.cols, columns));
        let line = read.len() * source.depth + BLOCK;
        Window { source, rows, columns: read, positions: columns.len(), step: of.cols.step * source.depth, line }
    }

    fn lines_len(&self) -> usize {
        self.rows.len() * self.source.shape.lanes() * self.line
    }
}

/// How far before its turn a pixel is asked for.
const AHEAD: usize = 128 * BLOCK;

/// Writes the lines.
struct CopyLines<'a> {
    window: &'a Window<'a>,
    lines: &'a mut [Bf16],
}

impl Kernel for CopyLines<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const PANEL: usize>(self) {
        match self.window.source.values {
            Images::Blocks(values) => self.copy_blocks(values),
            Images::Nhwc(values) => self.copy_nhwc(values),
        }
    }
}

impl CopyLines<'_> {
    #[inline(always)]
    fn copy_nhwc(self, values: &[Bf16]) {
        let Window { source, rows, columns, line, .. } = self.window;
        let (Blocks { h, w, c, .. }, lanes) = (source.shape, source.shape.lanes());
        let inside = [columns.start, columns.end].map(|x| x.clamp(0, w as isize));
        let [before, end] = inside.map(|x| (x - columns.start) as usize * c);
        let [from, to] = inside.map(|x| x as usize * c);
        for (y, lines) in rows.clone().zip(self.lines.chunks_exact_mut(lanes * line)) {
            for (image, to_line) in lines.chunks_exact_mut(*line).enumerate() {
                let row = usize::try_from(y).ok().filter(|y| *y < h).map(|y| (image * h + y) * w * c);
                match row.and_then(|row| values.get(row..row + w * c)) {
                    Some(row) => {
                        to_line[..before].fill(Bf16::ZERO);
                        to_line[before..end].copy_from_slice(&row[from..to]);
                        to_line[end..].fill(Bf16::ZERO);
                    }
                    None => to_line.fill(Bf16::ZERO),
                }
            }
        }
    }

    #[inline(always)]
    fn copy_blocks(self, values: &[Bf16]) {
        let Window { source, rows, columns, line, .. } = self.window;
        let (Blocks { h, w, .. }, depth, line) = (source.shape, source.depth, *line);
        let (lanes, pixel_len) = (source.shape.lanes(), source.shape.pixel_len());
        let places = (source.channel..source.channel + depth).map(|c| c / BLOCK * lanes * BLOCK + c % BLOCK);
        let places: Vec<usize> = places.collect();
        // Four values are copied at once, which may be more than there are: what follows is written later, or is room.
        let in_a_block = source.channel % BLOCK + depth.next_multiple_of(4) <= BLOCK;
        for (y, lines) in rows.clone().zip(self.lines.chunks_exact_mut(lanes * line)) {
            if !(0..h as isize).contains(&y) {
                lines.fill(Bf16::ZERO);
                continue;
            }
            let row = &values[y as usize * w * pixel_len..][..w * pixel_len];
            for (at, x) in (0..).step_by(depth).zip(columns.clone()) {
                if !(0..w as isize).contains(&x) {
                    (0..lanes).for_each(|lane| lines[lane * line + at..][..depth].fill(Bf16::ZERO));
                    continue;
                }
                let pixel = &row[x as usize * pixel_len..][..pixel_len];
                if in_a_block {
                    for lane in 0..lanes {
                        prefetch::<4>(row, x as usize * pixel_len + places[0] + lane * BLOCK + AHEAD);
                        for four in (0..depth).step_by(4) {
                            let from: &[Bf16; 4] = chunk(pixel, places[0] + lane * BLOCK + four);
                            *chunk_mut(lines, lane * line + at + four) = *from;
                        }
                    }
                    continue;
                }
                for (at, place) in (at..).zip(&places) {
                    (0..lanes).for_each(|lane| lines[lane * line + at] = pixel[place + lane * BLOCK]);
                }
            }
        }
    }
}

/// Terms that lie side by side in a line: those of taps side by side.
struct TermRun {
    /// The first of them.
    term: usize,
    count: usize,
    /// Its row, from the first that the position reads.
    row: usize,
    /// Where it lies in the line, from the first pixel that the position reads.
    at: usize,
}

fn term_runs(of: &Correlation) -> Vec<TermRun> {
    let (depth, [(first_row, _), (first_column, _)]) = (of.depth(), [of.rows.reach(), of.cols.reach()]);
    let mut runs: Vec<TermRun> = Vec::new();
    let mut term = 0;
    for down in &of.rows.taps {
        let row = (down.offset - first_row) as usize;
        for right in &of.cols.taps {
            let at = (right.offset - first_column) as usize * depth;
            match runs.last_mut() {
                Some(run) if run.row == row && run.at + run.count == at => run.count += depth,
                _ => runs.push(TermRun { term, count: depth, row, at }),
            }
            term += depth;
        }
    }
    runs
}

/// Writes the blocks of terms.
struct Flatten<'a, T> {
    of: &'a Correlation,
    window: &'a Window<'a>,
    lines: &'a [Bf16],
    lies: Lies,
    rows: Range<usize>,
    block: usize,
    values: &'a mut [T],
}

impl<T: Element> Kernel for Flatten<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<const PANEL: usize>(self) {
        let Flatten { of, window, lines, lies, rows, block, values } = self;
        let (lanes, line) = (window.source.shape.lanes(), window.line);
        let (pixel, blocks) = (lanes * BLOCK, TermBlocks::new(of).count);
        let runs = term_runs(of);
        // Runs are copied in whole blocks: what is too much is overwritten by the next, or by zeros.
        let mut terms = vec![Bf16::ZERO; (blocks + 2) * BLOCK];
        for (row, to) in (0..rows.len()).zip(values.chunks_exact_mut(blocks * block)) {
            for to in to.chunks_exact_mut(block) {
                to[window.positions * pixel..].fill(T::default());
            }
            let lines = &lines[row * of.rows.step * lanes * line..];
            for position in 0..window.positions {
                for lane in 0..lanes {
                    let from = &lines[lane * line + position * window.step..];
                    for run in &runs {
                        let from = &from[run.row * lanes * line + run.at..];
                        for done in (0..run.count).step_by(BLOCK) {
                            let from: &[Bf16; BLOCK] = chunk(from, done);
                            *chunk_mut(&mut terms, run.term + done) = *from;
                        }
                    }
                    *chunk_mut(&mut terms, of.terms()) = [Bf16::ZERO; BLOCK];
                    for (from, to) in terms.as_chunks::<BLOCK>().0.iter().zip(to.chunks_exact_mut(block)) {
                        let to: &mut [T; BLOCK] = chunk_mut(to, position * pixel + lane * BLOCK);
                        T::copy(from, to, lies);
                    }
                }
            }
        }
    }
}
