//! The innermost loops: tiles of 6 or 12 rows by one panel of channels, held in registers while a sum is taken.
//!
//! 6 rows of two vectors are 12 accumulators: with the 2 vectors of the panel and one broadcast value they fill the 16
//! registers of AVX2, and are more than enough to hide the latency of the multiply-add. AVX-512 has 32 registers, and
//! 12 rows read half as much of what they share.

use std::ops::Range;

use super::band::{Position, Span};
use crate::cpu::{Kernel, prefetch_far};
use crate::simd_lanes::copy_lanes;

/// Rows of a tile where there are 16 registers.
pub(super) const ROWS: usize = 6;
/// Rows of a tile where there are 32 registers, twice as many: what is read once for all of its rows is read half as
/// often.
pub(super) const TALL: usize = 12;

/// Sums of products for one panel of target channels at many positions:
/// `target[position] = start + sum over terms of source[position, term] * weight[term]`, terms in order.
pub(super) struct Multiply<'a> {
    /// Begins with the panel's group, at the first channel.
    pub source: &'a [f32],
    pub spans: &'a [Span],
    pub positions: &'a [Position],
    /// Packed: as many rows of a panel as there are terms.
    pub weights: &'a [f32],
    /// What the sums start from.
    pub start: Start<'a>,
    pub target: &'a mut [f32],
    /// The panel's first channel.
    pub channel: usize,
    /// How many channels of the panel exist.
    pub width: usize,
    /// What of the target will be written after this, to be asked for meanwhile.
    pub next: Range<usize>,
}

/// What sums start from.
#[derive(Clone, Copy)]
pub(super) enum Start<'a> {
    /// One value per channel that exists.
    Values(&'a [f32]),
    Zero,
    /// What stands in the target: the sums of the terms before.
    Target,
}

impl Kernel for Multiply<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const PANEL: usize>(self) {
        let mut start = [0.0; PANEL];
        if let Start::Values(values) = self.start {
            start[..self.width].copy_from_slice(values);
        }
        let (lines, count) = (self.next.len().div_ceil(16), self.positions.len().max(1));
        let shares = [TALL, ROWS, 3, 2, 1].map(|rows| (lines * rows).div_ceil(count));
        let next = self.next.start;
        let mut panel = PanelOf { weights: self.weights.as_chunks::<PANEL>().0, start, next, shares, all: self };
        let positions = panel.all.positions;
        let (twelves, rest) = positions.split_at(tall::<PANEL>(positions.len()));
        for tile in twelves.as_chunks().0 {
            panel.twelve(tile);
        }
        let (sixes, rest) = rest.as_chunks();
        for tile in sixes {
            panel.six(tile);
        }
        // At most five are left. One row takes as long as three, as each sum waits for the product before.
        let (threes, rest) = rest.as_chunks();
        for tile in threes {
            panel.three(tile);
        }
        match rest {
            [first, second] => panel.two(&[*first, *second]),
            [last] => panel.one(&[*last]),
            _ => {}
        }
    }
}

/// As many of `rows` as are computed in tiles of [`TALL`]: none where there are no 32 registers.
#[inline(always)]
pub(super) fn tall<const PANEL: usize>(rows: usize) -> usize {
    if PANEL == 32 { rows / TALL * TALL } else { 0 }
}

/// What the tiles of one panel share.
struct PanelOf<'a, const PANEL: usize> {
    all: Multiply<'a>,
    weights: &'a [[f32; PANEL]],
    start: [f32; PANEL],
    /// What is asked for next, and how many lines with each kind of tile.
    next: usize,
    shares: [usize; 5],
}

/// A function that computes a tile. Its rows are written out: a loop over the sums would keep them in memory.
macro_rules! tile {
    ($name:ident, $rows:expr, $kind:literal, $($row:literal)*) => {
        #[inline(always)]
        fn $name(&mut self, tile: &[Position; $rows]) {
            for _ in 0..self.shares[$kind] {
                prefetch_far::<16>(self.all.target, self.next);
                self.next += 16;
            }
            let mut sums = [self.start; $rows];
            if let Start::Target = self.all.start {
                $(sums[$row] = self.all.read(tile[$row].target);)*
            }
            let (source, at) = (self.all.source, tile.map(|position| position.source));
            let sums = add_terms(sums, source, at, self.all.spans, self.weights);
            $(self.all.write(tile[$row].target, &sums[$row]);)*
        }
    };
}

impl<const PANEL: usize> PanelOf<'_, PANEL> {
    tile!(twelve, TALL, 0, 0 1 2 3 4 5 6 7 8 9 10 11);
    tile!(six, ROWS, 1, 0 1 2 3 4 5);
    tile!(three, 3, 2, 0 1 2);
    tile!(two, 2, 3, 0 1);
    tile!(one, 1, 4, 0);
}

impl Multiply<'_> {
    #[inline(always)]
    fn read<const PANEL: usize>(&self, target: usize) -> [f32; PANEL] {
        let target = &self.target[self.channel + target..];
        match target.first_chunk::<PANEL>() {
            Some(target) if self.width == PANEL => *target,
            _ => {
                let mut sums = [0.0; PANEL];
                copy_lanes(target, &mut sums, self.width);
                sums
            }
        }
    }

    #[inline(always)]
    fn write<const PANEL: usize>(&mut self, target: usize, sums: &[f32; PANEL]) {
        let target = &mut self.target[self.channel + target..];
        match target.first_chunk_mut::<PANEL>() {
            Some(target) if self.width == PANEL => *target = *sums,
            _ => copy_lanes(sums, target, self.width),
        }
    }
}

/// The sums of a tile with the products of all spans. All loops are in one function, so that the sums stay in
/// registers.
#[inline(always)]
fn add_terms<const R: usize, const PANEL: usize>(
    mut sums: [[f32; PANEL]; R],
    source: &[f32],
    at: [usize; R],
    spans: &[Span],
    mut weights: &[[f32; PANEL]],
) -> [[f32; PANEL]; R] {
    for span in spans {
        let (now, rest) = weights.split_at(span.len);
        weights = rest;
        add_rows(|row| &source[at[row] + span.offset..], now, &mut sums);
    }
    sums
}

/// `sums[row] += sum over k of row(row)[k] * b[k]`, k in order. Rows may be longer than `b`.
///
/// Iterators, and not indices, so that no bound is checked and each value is broadcast as it is loaded.
#[inline(always)]
pub(super) fn add_rows<'a, const R: usize, const PANEL: usize>(
    row: impl Fn(usize) -> &'a [f32],
    b: &[[f32; PANEL]],
    sums: &mut [[f32; PANEL]; R],
) {
    if R > ROWS {
        let [r0, r1, r2, r3, r4, r5, r6, r7, r8, r9, r10, r11] =
            std::array::from_fn(|i| row(i.min(R - 1))[..b.len()].iter());
        let firsts = b.iter().zip(r0).zip(r1).zip(r2).zip(r3).zip(r4).zip(r5);
        let all = firsts.zip(r6).zip(r7).zip(r8).zip(r9).zip(r10).zip(r11);
        for ((((((((((((b, a0), a1), a2), a3), a4), a5), a6), a7), a8), a9), a10), a11) in all {
            let a: [f32; TALL] = [*a0, *a1, *a2, *a3, *a4, *a5, *a6, *a7, *a8, *a9, *a10, *a11];
            add_products(&std::array::from_fn(|i| a[i]), b, sums);
        }
        return;
    }
    let [r0, r1, r2, r3, r4, r5] = std::array::from_fn(|i| row(i.min(R - 1))[..b.len()].iter());
    for ((((((b, a0), a1), a2), a3), a4), a5) in b.iter().zip(r0).zip(r1).zip(r2).zip(r3).zip(r4).zip(r5) {
        let a: [f32; ROWS] = [*a0, *a1, *a2, *a3, *a4, *a5];
        add_products(&std::array::from_fn(|i| a[i]), b, sums);
    }
}

/// The weight gradient of a band for one panel:
/// `sums[term] += (sum over positions of source[position, term] * dy[position])`, positions in order.
pub(super) struct Accumulate<'a> {
    /// Begins with the panel's group, at the first channel.
    pub source: &'a [f32],
    pub spans: &'a [Span],
    pub positions: &'a [Position],
    /// Packed: a row of a panel for each position.
    pub dy: &'a [f32],
    /// Packed: a row of a panel for each term.
    pub sums: &'a mut [f32],
}

impl Kernel for Accumulate<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const PANEL: usize>(self) {
        let dy = self.dy.as_chunks::<PANEL>().0;
        let mut sums = self.sums.as_chunks_mut::<PANEL>().0;
        for span in self.spans {
            let (now, rest) = sums.split_at_mut(span.len);
            sums = rest;
            let mut tiles = SpanTiles { source: &self.source[span.offset..], positions: self.positions, dy };
            let (twelves, now) = now.split_at_mut(tall::<PANEL>(now.len()));
            for tile in twelves.as_chunks_mut::<TALL>().0 {
                tiles.accumulate(tile);
            }
            let (sixes, now) = now.as_chunks_mut::<ROWS>();
            for tile in sixes {
                tiles.accumulate(tile);
            }
            let (threes, now) = now.as_chunks_mut::<3>();
            for tile in threes {
                tiles.accumulate(tile);
            }
            for tile in now.as_chunks_mut::<1>().0 {
                tiles.accumulate(tile);
            }
        }
    }
}

/// What the tiles of one span share. `source` begins at the next tile's first term.
struct SpanTiles<'a, const PANEL: usize> {
    source: &'a [f32],
    positions: &'a [Position],
    dy: &'a [[f32; PANEL]],
}

impl<const PANEL: usize> SpanTiles<'_, PANEL> {
    #[inline(always)]
    fn accumulate<const R: usize>(&mut self, tile: &mut [[f32; PANEL]; R]) {
        let mut sums = [[0.0; PANEL]; R];
        for (position, dy) in self.positions.iter().zip(self.dy) {
            let x: &[f32; R] = self.source[position.source..].first_chunk().expect("all taps are in the source");
            add_products(x, dy, &mut sums);
        }
        for i in 0..R {
            for lane in 0..PANEL {
                tile[i][lane] += sums[i][lane];
            }
        }
        self.source = &self.source[R..];
    }
}

/// `sums[i] += x[i] * y`, unrolled by hand: a loop over the rows is not always unrolled, and then the sums are not kept
/// in registers.
#[inline(always)]
pub(super) fn add_products<const R: usize, const PANEL: usize>(
    x: &[f32; R],
    y: &[f32; PANEL],
    sums: &mut [[f32; PANEL]; R],
) {
    const { assert!(R <= TALL) };
    add_row::<0, R, PANEL>(x, y, sums);
    add_row::<1, R, PANEL>(x, y, sums);
    add_row::<2, R, PANEL>(x, y, sums);
    add_row::<3, R, PANEL>(x, y, sums);
    add_row::<4, R, PANEL>(x, y, sums);
    add_row::<5, R, PANEL>(x, y, sums);
    add_row::<6, R, PANEL>(x, y, sums);
    add_row::<7, R, PANEL>(x, y, sums);
    add_row::<8, R, PANEL>(x, y, sums);
    add_row::<9, R, PANEL>(x, y, sums);
    add_row::<10, R, PANEL>(x, y, sums);
    add_row::<11, R, PANEL>(x, y, sums);
}

#[inline(always)]
fn add_row<const I: usize, const R: usize, const PANEL: usize>(
    x: &[f32; R],
    y: &[f32; PANEL],
    sums: &mut [[f32; PANEL]; R],
) {
    if I < R {
        for lane in 0..PANEL {
            sums[I][lane] = x[I].mul_add(y[lane], sums[I][lane]);
        }
    }
}
