//! The innermost loops: tiles of 6 rows by one panel of channels, held in registers while a sum is taken.
//!
//! 6 rows of two vectors are 12 accumulators: with the 2 vectors of the panel and one broadcast value they fill the
//! 16 registers of AVX2, and are more than enough to hide the latency of the multiply-add.

use super::band::{Position, Run};
use crate::cpu::Kernel;

const ROWS: usize = 6;

/// Sums of products for one panel of target channels at many positions:
/// `target[position] = start + sum over terms of source[position, term] * weight[term]`, terms in order.
pub(super) struct Multiply<'a> {
    /// Begins with the panel's group, at the first channel.
    pub source: &'a [f32],
    pub runs: &'a [Run],
    pub positions: &'a [Position],
    /// Packed: as many rows of a panel as there are terms.
    pub weights: &'a [f32],
    /// What each channel's sum starts from, one value per channel that exists.
    pub start: Option<&'a [f32]>,
    /// Begins at the panel's first channel.
    pub target: &'a mut [f32],
    /// How many channels of the panel exist.
    pub width: usize,
}

impl Kernel for Multiply<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const PANEL: usize>(self) {
        let weights = self.weights.as_chunks::<PANEL>().0;
        let mut start = [0.0; PANEL];
        if let Some(values) = self.start {
            start[..self.width].copy_from_slice(values);
        }
        // On the heap, and not among the locals: as memory like any other it is loaded into whole vectors.
        let mut sums = Box::new([start; ROWS]);
        for tile in self.positions.chunks(ROWS) {
            // A tile that is not full computes its last position several times.
            let at: [usize; ROWS] = std::array::from_fn(|i| tile[i.min(tile.len() - 1)].source);
            *sums = [start; ROWS];
            let mut weights = weights;
            for run in self.runs {
                let (now, rest) = weights.split_at(run.len);
                weights = rest;
                let rows = at.map(|at| &self.source[at + run.offset..][..now.len()]);
                multiply(rows, now, &mut sums);
            }
            for (position, sums) in tile.iter().zip(sums.iter()) {
                let target = &mut self.target[position.target..];
                match target.first_chunk_mut::<PANEL>() {
                    Some(target) if self.width == PANEL => *target = *sums,
                    _ => target[..self.width].copy_from_slice(&sums[..self.width]),
                }
            }
        }
    }
}

/// Adds the products of one run to a tile's sums.
#[inline(always)]
fn multiply<const PANEL: usize>(rows: [&[f32]; ROWS], weights: &[[f32; PANEL]], tile: &mut [[f32; PANEL]; ROWS]) {
    let mut sums = *tile;
    let [a, b, c, d, e, f] = rows.map(<[f32]>::iter);
    for ((((((weights, a), b), c), d), e), f) in weights.iter().zip(a).zip(b).zip(c).zip(d).zip(e).zip(f) {
        let x = [*a, *b, *c, *d, *e, *f];
        for i in 0..ROWS {
            for lane in 0..PANEL {
                sums[i][lane] = x[i].mul_add(weights[lane], sums[i][lane]);
            }
        }
    }
    *tile = sums;
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
            let (tiles, single) = now.as_chunks_mut::<ROWS>();
            for (i, tile) in tiles.iter_mut().enumerate() {
                accumulate(&self.source[run.offset + i * ROWS..], self.positions, dy, tile);
            }
            let done = run.len - single.len();
            let (threes, single) = single.as_chunks_mut::<3>();
            for tile in threes.iter_mut() {
                accumulate(&self.source[run.offset + done..], self.positions, dy, tile);
            }
            let done = run.len - single.len();
            for (i, tile) in single.as_chunks_mut::<1>().0.iter_mut().enumerate() {
                accumulate(&self.source[run.offset + done + i..], self.positions, dy, tile);
            }
        }
    }
}

#[inline(always)]
fn accumulate<const R: usize, const PANEL: usize>(
    source: &[f32],
    positions: &[Position],
    dy: &[[f32; PANEL]],
    tile: &mut [[f32; PANEL]; R],
) {
    let mut sums = [[0.0; PANEL]; R];
    for (position, dy) in positions.iter().zip(dy) {
        let x: &[f32; R] = source[position.source..].first_chunk().expect("every tap of a position is in the source");
        for i in 0..R {
            for lane in 0..PANEL {
                sums[i][lane] = x[i].mul_add(dy[lane], sums[i][lane]);
            }
        }
    }
    for i in 0..R {
        for lane in 0..PANEL {
            tile[i][lane] += sums[i][lane];
        }
    }
}
