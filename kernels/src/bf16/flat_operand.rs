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
    let runs = term_runs(of);
    let window = Window::new(of, source, &runs, [&rows, &columns]);
    let mut lines = scratch::<Bf16>(window.lines_len());
    cpu::dispatch(CopyLines { window: &window, lines: &mut lines });
    let (band, values_to) = ([rows.clone(), columns.clone()], &mut values);
    cpu::dispatch(Flatten { of, runs: &runs, window: &window, lines: &lines, lies, band, block, values: values_to });
    let (values, residues, columns, column) = (Memory::Copied(values), 1, each, pixel);
    Operand { values, rows, blocks, positions, first_column, residues, columns, row, block, column }
}

/// The pixels that a band of positions reads, with zeros beside the image where some taps side by side may be outside.
///
/// Their channels are copied first, so that what taps side by side read of an image lies side by side: a *line* is a
/// row of an image, `[x][channel]`. Lines lie `[row][lane]`, and each has a block of room behind it, since whole blocks
/// are copied where fewer values are meant.
struct Window<'a> {
    source: SourceImages<'a>,
    rows: Range<usize>,
    columns: Range<isize>,
    /// From one line to the next.
    line: usize,
}

impl<'a> Window<'a> {
    fn new(
        of: &Correlation,
        source: SourceImages<'a>,
        runs: &[TermRun],
        [rows, columns]: [&Range<usize>; 2],
    ) -> Window<'a> {
        let read = |axis: &Axis, range: &Range<usize>, least: isize, most: isize| {
            let (low, span) = axis.reach();
            let [first, last] = [range.start, range.end - 1].map(|position| (position * axis.step) as isize + low);
            let first = first.clamp(least, most);
            first..(last + span as isize).clamp(first, most)
        };
        let Blocks { h, w, .. } = source.shape;
        let beside = runs.iter().map(|run| run.pixels).max().unwrap_or(0) as isize;
        let rows = read(&of.rows, rows, 0, h as isize);
        let columns = read(&of.cols, columns, -beside, w as isize + beside);
        let line = columns.len() * source.depth + BLOCK;
        Window { source, rows: rows.start as usize..rows.end as usize, columns, line }
    }

    fn lines_len(&self) -> usize {
        self.rows.len() * self.source.shape.lanes() * self.line
    }

    /// Where what a run reads of the first lane begins, for the position whose pixel this is. `None` where all of it is
    /// outside.
    #[inline(always)]
    fn place(&self, run: &TermRun, [row, column]: [usize; 2]) -> Option<usize> {
        let Blocks { h, w, .. } = self.source.shape;
        let (y, x) = (row as isize + run.down, column as isize + run.right);
        let inside = (0..h as isize).contains(&y) && (1 - run.pixels as isize..w as isize).contains(&x);
        inside.then(|| {
            let row = (y as usize - self.rows.start) * self.source.shape.lanes() * self.line;
            row + (x - self.columns.start) as usize * self.source.depth
        })
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
        let inside = [0, w as isize].map(|x| x.clamp(columns.start, columns.end));
        let [before, end] = inside.map(|x| (x - columns.start) as usize * c);
        // Where the image begins and ends for them; the same where all of them are outside.
        let [from, to] = inside.map(|x| x.clamp(0, w as isize) as usize * c);
        for (y, lines) in rows.clone().zip(self.lines.chunks_exact_mut(lanes * line)) {
            for (image, to_line) in lines.chunks_exact_mut(*line).enumerate() {
                match values.get((image * h + y) * w * c..).and_then(|values| values.get(..w * c)) {
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
        let (w, depth, line) = (source.shape.w, source.depth, *line);
        let (lanes, pixel_len) = (source.shape.lanes(), source.shape.pixel_len());
        let places = (source.channel..source.channel + depth).map(|c| c / BLOCK * lanes * BLOCK + c % BLOCK);
        let places: Vec<usize> = places.collect();
        // Four values are copied at once, which may be more than there are: what follows is written later, or is room.
        let in_a_block = source.channel % BLOCK + depth.next_multiple_of(4) <= BLOCK;
        for (y, lines) in rows.clone().zip(self.lines.chunks_exact_mut(lanes * line)) {
            let row = &values[y * w * pixel_len..][..w * pixel_len];
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
    /// Of how many pixels they are.
    pixels: usize,
    /// The first pixel, seen from the position's.
    down: isize,
    right: isize,
}

fn term_runs(of: &Correlation) -> Vec<TermRun> {
    let mut runs: Vec<TermRun> = Vec::new();
    let taps = of.rows.taps.iter().flat_map(|down| of.cols.taps.iter().map(|right| (down.offset, right.offset)));
    for ((down, right), term) in taps.zip((0..).step_by(of.depth())) {
        match runs.last_mut() {
            Some(run) if run.down == down && run.right + run.pixels as isize == right => run.pixels += 1,
            _ => runs.push(TermRun { term, pixels: 1, down, right }),
        }
    }
    runs
}

/// Writes the blocks of terms.
struct Flatten<'a, T> {
    of: &'a Correlation,
    runs: &'a [TermRun],
    window: &'a Window<'a>,
    lines: &'a [Bf16],
    lies: Lies,
    band: [Range<usize>; 2],
    block: usize,
    values: &'a mut [T],
}

impl<T: Element> Kernel for Flatten<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<const PANEL: usize>(self) {
        let Flatten { of, runs, window, lines, lies, band: [rows, columns], block, values } = self;
        let (lanes, line, depth) = (window.source.shape.lanes(), window.line, window.source.depth);
        let (pixel, blocks) = (lanes * BLOCK, TermBlocks::new(of).count);
        // Runs are copied in whole blocks: what is too much is overwritten by the next, or by zeros.
        let mut terms = vec![Bf16::ZERO; (blocks + 2) * BLOCK];
        let mut places = vec![None; runs.len()];
        for (row, to) in rows.zip(values.chunks_exact_mut(blocks * block)) {
            for to in to.chunks_exact_mut(block) {
                to[columns.len() * pixel..].fill(T::default());
            }
            for (position, column) in columns.clone().enumerate() {
                let at = [row * of.rows.step, column * of.cols.step];
                places.iter_mut().zip(runs).for_each(|(place, run)| *place = window.place(run, at));
                for lane in 0..lanes {
                    for (run, place) in runs.iter().zip(&places) {
                        let from = place.map(|place| &lines[place + lane * line..]);
                        for done in (0..run.pixels * depth).step_by(BLOCK) {
                            let to: &mut [Bf16; BLOCK] = chunk_mut(&mut terms, run.term + done);
                            *to = from.map_or([Bf16::ZERO; BLOCK], |from| *chunk(from, done));
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
