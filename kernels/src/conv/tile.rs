//! The innermost loops: tiles of 6 rows by one panel of channels, held in registers while a sum is taken.
//!
//! 6 rows of two vectors are 12 accumulators: with the 2 vectors of the panel and one broadcast value they fill the
//! 16 registers of AVX2, and are more than enough to hide the latency of the multiply-add.

use std::ops::Range;

use super::band::{Position, Run};
use crate::cpu::{Kernel, prefetch};
use crate::lanes::copy_lanes;

pub(super) const ROWS: usize = 6;
/// Terms of a weight's gradient in a tile where there are 32 registers: each row of dy is read half as often.
pub(super) const TERMS: usize = 12;

/// Sums of products for one panel of target channels at many positions:
/// `target[position] = start + sum over terms of source[position, term] * weight[term]`, terms in order.
pub(super) struct Multiply<'a> {
    /// Begins with the panel's group, at the first channel.
    pub source: &'a [f32],
    pub runs: &'a [Run],
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
    fn run<const PANEL: usize>(mut self) {
        let weights = self.weights.as_chunks::<PANEL>().0;
        let mut start = [0.0; PANEL];
        if let Start::Values(values) = self.start {
            start[..self.width].copy_from_slice(values);
        }
        let (tiles, rest) = self.positions.as_chunks::<ROWS>();
        let lines = self.next.len().div_ceil(16).div_ceil(tiles.len().max(1));
        let mut next = self.next.start;
        for tile in tiles {
            for _ in 0..lines {
                prefetch::<16>(self.target, next);
                next += 16;
            }
            // One by one: a loop over the sums would keep them in memory.
            let [p0, p1, p2, p3, p4, p5] = tile.map(|position| position.target);
            let sums = match self.start {
                Start::Target => {
                    [self.read(p0), self.read(p1), self.read(p2), self.read(p3), self.read(p4), self.read(p5)]
                }
                _ => [start; ROWS],
            };
            let sums = add_terms(sums, self.source, tile.map(|position| position.source), self.runs, weights);
            let [s0, s1, s2, s3, s4, s5] = sums;
            self.write(p0, &s0);
            self.write(p1, &s1);
            self.write(p2, &s2);
            self.write(p3, &s3);
            self.write(p4, &s4);
            self.write(p5, &s5);
        }
        for position in rest {
            let sum = match self.start {
                Start::Target => self.read(position.target),
                _ => start,
            };
            let [sum] = add_terms([sum], self.source, [position.source], self.runs, weights);
            self.write(position.target, &sum);
        }
    }
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

/// The sums of a tile with the products of all runs. All loops are in one function, so that the sums stay in registers.
#[inline(always)]
fn add_terms<const R: usize, const PANEL: usize>(
    mut sums: [[f32; PANEL]; R],
    source: &[f32],
    at: [usize; R],
    runs: &[Run],
    mut weights: &[[f32; PANEL]],
) -> [[f32; PANEL]; R] {
    for run in runs {
        let (now, rest) = weights.split_at(run.len);
        weights = rest;
        add_rows(|row| &source[at[row] + run.offset..], now, &mut sums);
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
    pub runs: &'a [Run],
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
        for run in self.runs {
            let (now, rest) = sums.split_at_mut(run.len);
            sums = rest;
            let mut band = Band { source: &self.source[run.offset..], positions: self.positions, dy };
            // Only where there are registers for so many.
            let (twelves, now) = now.split_at_mut(if PANEL == 32 { now.len() / TERMS * TERMS } else { 0 });
            for tile in twelves.as_chunks_mut::<TERMS>().0 {
                band.accumulate(tile);
            }
            let (sixes, now) = now.as_chunks_mut::<ROWS>();
            for tile in sixes {
                band.accumulate(tile);
            }
            let (threes, now) = now.as_chunks_mut::<3>();
            for tile in threes {
                band.accumulate(tile);
            }
            for tile in now.as_chunks_mut::<1>().0 {
                band.accumulate(tile);
            }
        }
    }
}

/// What the tiles of one run share. `source` begins at the next tile's first term.
struct Band<'a, const PANEL: usize> {
    source: &'a [f32],
    positions: &'a [Position],
    dy: &'a [[f32; PANEL]],
}

impl<const PANEL: usize> Band<'_, PANEL> {
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
    const { assert!(R <= TERMS) };
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
