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
        add_products(&[*a, *b, *c, *d, *e, *f], weights, &mut sums);
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
            let mut band = Band { source: &self.source[run.offset..], positions: self.positions, dy };
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
fn add_products<const R: usize, const PANEL: usize>(x: &[f32; R], y: &[f32; PANEL], sums: &mut [[f32; PANEL]; R]) {
    const { assert!(R <= ROWS) };
    add_row::<0, R, PANEL>(x, y, sums);
    add_row::<1, R, PANEL>(x, y, sums);
    add_row::<2, R, PANEL>(x, y, sums);
    add_row::<3, R, PANEL>(x, y, sums);
    add_row::<4, R, PANEL>(x, y, sums);
    add_row::<5, R, PANEL>(x, y, sums);
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
