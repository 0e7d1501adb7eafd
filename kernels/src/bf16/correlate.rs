//! The forward pass and the input gradient.

use std::ops::Range;

use super::Images;
use super::block_memory::Operand;
use super::blocks::{BLOCK, Blocks};
use super::element::Element;
use super::images::{SourceImages, TermBlocks};
use super::operand::{BAND_BYTES, bands, operand};
use super::step::{Lies, Run, Sums};
use super::weights::{PackedWeight, blocks_of_group, is_small};
use crate::conv::geometry::{Axis, Correlation, Tap};
use crate::cpu::{self, Level};

/// Which sums of the target a block holds: lanes of neighbouring positions of the grid, and channels.
pub(super) struct Place<'a> {
    pub of: &'a Correlation,
    /// Group of images.
    pub images: usize,
    /// Row and first column of the grid.
    pub row: usize,
    pub column: usize,
    /// How many columns.
    pub columns: usize,
    /// First channel, and how many.
    pub channel: usize,
    pub width: usize,
}

/// Computes the sums of `rows` of the target, all groups of images counted, and hands out each block once.
pub(super) fn correlate<T: Element>(
    weight: &PackedWeight,
    packed: &[T],
    source: Images<'_>,
    shape: Blocks,
    rows: Range<usize>,
    target_height: usize,
    emit: &mut dyn FnMut(&Sums, &Place<'_>),
) {
    let unit = T::unit();
    // Only code without an instruction for multiply-adds asks.
    let small =
        cpu::level() != Level::Portable || (weight.small && source.values().iter().all(|x| is_small(x.to_f32())));
    let targets = Blocks { h: target_height, ..shape };
    for (images, rows) in targets.rows_by_group(rows) {
        let values = source.of_group(&shape, images);
        let mut first_block = 0;
        for of in &weight.of {
            let grid = |row: usize| row.saturating_sub(of.rows.first).div_ceil(of.rows.target_step).min(of.rows.grid);
            let rows = grid(rows.start)..grid(rows.end);
            for group in 0..of.groups {
                let source = SourceImages { values, shape, channel: group * of.depth(), depth: of.depth() };
                let pass = GroupPass { unit: &unit, of, images, group, source, packed, first_block, small };
                for band in bands::<T>(of, shape.lanes(), rows.clone(), 0, BAND_BYTES) {
                    pass.band(&band, weight.finite, emit);
                }
                first_block += blocks_of_group(of);
            }
        }
    }
}

/// What the bands of one group of channels and one group of images share.
struct GroupPass<'a, T: Element> {
    unit: &'a T::Unit,
    of: &'a Correlation,
    images: usize,
    group: usize,
    source: SourceImages<'a>,
    packed: &'a [T],
    first_block: usize,
    small: bool,
}

impl<T: Element> GroupPass<'_, T> {
    fn band(&self, band: &[Range<usize>; 2], finite: bool, emit: &mut dyn FnMut(&Sums, &Place<'_>)) {
        let (of, [rows, columns]) = (self.of, band);
        let blocks = TermBlocks::new(of);
        let a = operand::<T>(of, self.source, band, Lies::Row);
        let positions = BLOCK / self.source.shape.lanes();
        // Where positions of a block differ in which taps are outside, a zero is multiplied instead of left out.
        let at_once = if finite || blocks.flattened { positions } else { 1 };
        let [down, right] = blocks.taps(of);
        let width = of.target_channels / of.groups;
        let mut runs = Vec::new();
        let mut sums = LineAligned([[0.0; BLOCK]; BLOCK]);
        for (panel, first) in (0..width).step_by(BLOCK).enumerate() {
            let b = self.first_block + panel * down.len() * right.len() * blocks.count;
            for row in rows.clone() {
                for column in columns.clone().step_by(at_once) {
                    let count = at_once.min(columns.end - column);
                    runs.clear();
                    Taps { of, a: &a, blocks, down, right, b }.runs(row, column, count, &mut runs);
                    T::multiply(self.unit, &mut sums.0, a.values(), self.packed, &runs, self.small);
                    let channel = self.group * width + first;
                    let (images, width) = (self.images, BLOCK.min(width - first));
                    emit(&sums.0, &Place { of, images, row, column, columns: count, channel, width });
                }
            }
        }
    }
}

/// Sums that begin with a cache line, so that no row of a tile lies in two.
#[repr(align(64))]
struct LineAligned(Sums);

/// The taps of a band's positions, for one panel of target channels, whose weights begin with block `b`.
struct Taps<'a, T: Element> {
    of: &'a Correlation,
    a: &'a Operand<'a, T>,
    blocks: TermBlocks,
    down: &'a [Tap],
    right: &'a [Tap],
    b: usize,
}

impl<T: Element> Taps<'_, T> {
    /// The taps of which one of these positions is inside.
    #[inline(always)]
    fn runs(&self, row: usize, column: usize, count: usize, runs: &mut Vec<Run>) {
        let at = |axis: &Axis, position: usize, tap: &Tap| match self.blocks.flattened {
            true => position as isize,
            false => (position * axis.step) as isize + tap.offset,
        };
        let (of, blocks) = (self.of, self.blocks.count);
        for (i, down) in self.down.iter().enumerate() {
            let b = self.b + i * self.right.len() * blocks;
            let y = at(&of.rows, row, down);
            if !self.blocks.flattened && !(0..of.rows.source as isize).contains(&y) {
                continue;
            }
            for (right, b) in self.right.iter().zip((b..).step_by(blocks)) {
                let x = at(&of.cols, column, right);
                let inside =
                    |position: usize| (0..of.cols.source as isize).contains(&(x + (position * of.cols.step) as isize));
                if !self.blocks.flattened && !(0..count).any(inside) {
                    continue;
                }
                let run = Run { a: self.a.at(y as usize, x), a_step: self.a.block, b, count: blocks };
                match runs.last_mut() {
                    Some(last) if last.goes_on_in(&run) => last.count += blocks,
                    _ => runs.push(run),
                }
            }
        }
    }
}
