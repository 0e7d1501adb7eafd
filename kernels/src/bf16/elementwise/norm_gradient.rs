//! The backward pass of a batch norm with what follows it.

use std::ops::Range;

use super::curve::{BlockCurve, Values};
use super::norm::{BlockScaling, NormGroup, Windows, wins};
use super::row_sums::RowTerms;
use super::tiles::{BlockTile, block_at, padded, write_block};
use crate::activation::Activation;
use crate::bf16::Bf16;
use crate::bf16::blocks::{BLOCK, Blocks};
use crate::bf16::rounding::{self, Rounding, RoundingKernel};
use crate::cpu::{self, Kernel};
use crate::norm::{RowSums, Scaling, Terms};
use crate::norm_block::AffineGradients;
use crate::norm_block::curves::by_curve;
use crate::pool::PoolShape;
use crate::shape::expect_len;
use crate::simd_lanes::chunk;

/// Where the gradient of u comes from.
#[derive(Clone, Copy)]
pub enum GradientOf<'a> {
    /// That of y: d = dy f'(u). With all rows of x.
    Output(&'a [Bf16]),
    /// That of u itself, as [`NormGroup::residual_gradient_rows`] makes it.
    Sum(&'a [Bf16]),
}

impl<'a> NormGroup<'a> {
    /// The gradient of u + residual, and so of the residual, for some rows: dy f'(y) of the rounded output y, which an
    /// activation whose slope its output tells makes exact.
    ///
    /// # Panics
    /// If a slice does not fit, there are no such rows, or the output does not tell the slope.
    pub fn residual_gradient_rows(&self, rows: Range<usize>, y: &[Bf16], dy: &[Bf16], d: &mut [Bf16]) {
        self.shape.expect_rows(&rows, &[("y", y.len()), ("dy", dy.len()), ("d", d.len())]);
        assert!(self.activation.is_none_or(Activation::slope_of_output), "the output does not tell the slope");
        by_curve!(self.activation, |curve| rounding::dispatch(SlopeRows { curve, x: y, dy, dx: d }), |curve| {
            rounding::dispatch(SlopeRows { curve, x: y, dy, dx: d })
        });
    }

    /// For [`NormGroup::finish`]: the sums of some rows, of d and of d (x - mean). `sums` has [`Blocks::row_sums_len`]
    /// numbers for each of the rows; x and the gradient are those of these rows.
    ///
    /// # Panics
    /// If a slice does not fit, or there are no such rows.
    pub fn sum_rows(&self, rows: Range<usize>, x: &[Bf16], gradient: GradientOf<'_>, sums: &mut [f64]) {
        let shape = self.shape;
        let (GradientOf::Output(dy) | GradientOf::Sum(dy)) = gradient;
        shape.expect_rows(&rows, &[("x", x.len()), ("the gradient", dy.len())]);
        expect_len("sums", sums.len(), rows.len() * shape.row_sums_len());
        let scaling = &self.scaling;
        by_curve!(
            gradient.activation(self),
            |curve| cpu::dispatch(RowSumming { shape, terms: SlopeProducts { scaling, curve, x, dy }, rows, sums }),
            |curve| cpu::dispatch(RowSumming { shape, terms: SlopeProducts { scaling, curve, x, dy }, rows, sums })
        );
    }

    /// As [`NormGroup::sum_rows`] for some rows of the pooling's output: of each window the one term that is not 0. x
    /// is all of it.
    ///
    /// # Panics
    /// If a slice does not fit, there are no such rows, or windows overlap or are padded.
    pub fn sum_pooled_rows(&self, pool: PoolShape, rows: Range<usize>, x: &[Bf16], dy: &[Bf16], sums: &mut [f64]) {
        let windows = Windows::of(self.shape, pool);
        let shape = windows.target;
        expect_len("x", x.len(), self.shape.len());
        shape.expect_rows(&rows, &[("dy", dy.len())]);
        expect_len("sums", sums.len(), rows.len() * shape.row_sums_len());
        let scaling = &self.scaling;
        by_curve!(
            self.activation,
            |curve| cpu::dispatch(RowSumming { shape, terms: Winners { scaling, curve, windows, x, dy }, rows, sums }),
            |curve| cpu::dispatch(RowSumming { shape, terms: Winners { scaling, curve, windows, x, dy }, rows, sums })
        );
    }

    /// Writes the gradients of gamma and beta, and says what is left to do. `sums` are those of all rows of y.
    ///
    /// # Panics
    /// If a slice does not fit.
    pub fn finish(&self, sums: &[f64], to: AffineGradients<'_>) -> GroupGradient<'_> {
        let Blocks { n, h, w, .. } = self.shape;
        let by = Scaling { stats: self.stats, gamma: self.affine.gamma, eps: self.eps };
        let share = if to.training { 1.0 / (n * h * w) as f64 } else { 0.0 };
        let sums = RowSums::of(self.shape.add_row_sums(sums));
        let terms = Terms::new(sums, by, share, to.dgamma, to.dbeta);
        let [scale, slope, offset] = [&terms.scale, &terms.slope, &terms.offset].map(|term| padded(term));
        GroupGradient { of: self, scale, slope, offset }
    }
}

impl GradientOf<'_> {
    /// The activation whose slope is still to be taken.
    fn activation(self, of: &NormGroup<'_>) -> Option<Activation> {
        match self {
            GradientOf::Output(_) => of.activation,
            GradientOf::Sum(_) => None,
        }
    }
}

/// d = dy f'(x).
pub(super) struct SlopeRows<'a, C> {
    pub curve: C,
    pub x: &'a [Bf16],
    pub dy: &'a [Bf16],
    pub dx: &'a mut [Bf16],
}

impl<C: BlockCurve> RoundingKernel for SlopeRows<'_, C> {
    // Where dy is padding it is 0, and so is dx.
    #[inline(always)]
    fn run<R: Rounding>(self, rounding: R) {
        for at in (0..self.dx.len()).step_by(BLOCK) {
            let d = self.curve.slopes(&block_at(self.x, at), &block_at(self.dy, at));
            write_block(rounding, &d, BLOCK, self.dx, at);
        }
    }
}

struct RowSumming<'a, T> {
    shape: Blocks,
    terms: T,
    rows: Range<usize>,
    sums: &'a mut [f64],
}

impl<T: RowTerms> Kernel for RowSumming<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<const PANEL: usize>(mut self) {
        self.shape.sum_rows(self.rows, &mut self.terms, self.sums);
    }
}

struct SlopeProducts<'a, C> {
    scaling: &'a BlockScaling,
    curve: C,
    x: &'a [Bf16],
    dy: &'a [Bf16],
}

impl<C: BlockCurve> RowTerms for SlopeProducts<'_, C> {
    #[inline(always)]
    fn add(&mut self, tile: BlockTile, sums: &mut [Values; 2]) {
        for at in tile.images() {
            let x = block_at(self.x, at);
            let u = self.scaling.normalised(&x, tile.block);
            let d = self.curve.slopes(&u, &block_at(self.dy, at));
            self.scaling.add_products(&x, &d, tile.block, sums);
        }
    }
}

impl BlockScaling {
    #[inline(always)]
    fn add_products(&self, x: &Values, d: &Values, block: usize, [sums, products]: &mut [Values; 2]) {
        let mean: &Values = chunk(&self.mean, block * BLOCK);
        for c in 0..BLOCK {
            sums[c] += d[c];
            products[c] = d[c].mul_add(x[c] - mean[c], products[c]);
        }
    }
}

/// The largest values of a window.
struct Winner {
    x: Values,
    u: Values,
    /// Which position of the window, in its order.
    position: [u32; BLOCK],
}

/// The winners of the window of one image's block.
#[inline(always)]
fn winner<C: BlockCurve>(
    scaling: &BlockScaling,
    curve: C,
    windows: &Windows,
    x: &[Bf16],
    tile: BlockTile,
    at: usize,
) -> Winner {
    let [row, column] = windows.corner(tile);
    let [height, width] = windows.kernel;
    let mut winner = Winner { x: [0.0; BLOCK], u: [0.0; BLOCK], position: [0; BLOCK] };
    let mut best = [0.0; BLOCK];
    for position in 0..height * width {
        let place = [row + position / width, column + position % width];
        let values = block_at(x, windows.source_at(tile, at, place));
        let u = scaling.normalised(&values, tile.block);
        let y = curve.values(&u);
        for c in 0..BLOCK {
            let won = (position == 0) | wins(y[c], best[c]);
            best[c] = if won { y[c] } else { best[c] };
            winner.x[c] = if won { values[c] } else { winner.x[c] };
            winner.u[c] = if won { u[c] } else { winner.u[c] };
            winner.position[c] = if won { position as u32 } else { winner.position[c] };
        }
    }
    winner
}

struct Winners<'a, C> {
    scaling: &'a BlockScaling,
    curve: C,
    windows: Windows,
    x: &'a [Bf16],
    dy: &'a [Bf16],
}

impl<C: BlockCurve> RowTerms for Winners<'_, C> {
    #[inline(always)]
    fn add(&mut self, tile: BlockTile, sums: &mut [Values; 2]) {
        for at in tile.images() {
            let winner = winner(self.scaling, self.curve, &self.windows, self.x, tile, at);
            let d = self.curve.slopes(&winner.u, &block_at(self.dy, at));
            self.scaling.add_products(&winner.x, &d, tile.block, sums);
        }
    }
}

/// The rows of x that some rows of a pooling's output stand for: those of their windows, and those at the bottom of an
/// image that no window reaches.
///
/// # Panics
/// If windows overlap or are padded.
pub fn pooled_rows_of_x(pool: PoolShape, rows: Range<usize>) -> Range<usize> {
    let windows = Windows::of(pool.x_blocks(), pool);
    windows.first_row(rows.start)..windows.first_row(rows.end)
}

/// What is left of a backward pass when both sums are known: `dx = scale d - (x - mean) slope - offset` of each
/// channel, by two fused multiply-adds and rounded once; see [`crate::norm`].
pub struct GroupGradient<'a> {
    of: &'a NormGroup<'a>,
    scale: Vec<f32>,
    slope: Vec<f32>,
    offset: Vec<f32>,
}

impl GroupGradient<'_> {
    /// Some rows of dx, from the same rows of x and of the gradient.
    ///
    /// # Panics
    /// If a slice does not fit, or there are no such rows.
    pub fn rows(&self, rows: Range<usize>, x: &[Bf16], gradient: GradientOf<'_>, dx: &mut [Bf16]) {
        let (GradientOf::Output(dy) | GradientOf::Sum(dy)) = gradient;
        self.of.shape.expect_rows(&rows, &[("x", x.len()), ("the gradient", dy.len()), ("dx", dx.len())]);
        let of = self;
        by_curve!(
            gradient.activation(self.of),
            |curve| rounding::dispatch(DxRows { of, curve, rows, x, dy, dx }),
            |curve| rounding::dispatch(DxRows { of, curve, rows, x, dy, dx })
        );
    }

    /// The rows of dx that some rows of a pooling's output stand for ([`pooled_rows_of_x`]), from all of
    /// x and these rows of the gradient of the output.
    ///
    /// # Panics
    /// If a slice does not fit, there are no such rows, or windows overlap or are padded.
    pub fn pooled_rows(&self, pool: PoolShape, rows: Range<usize>, x: &[Bf16], dy: &[Bf16], dx: &mut [Bf16]) {
        let windows = Windows::of(self.of.shape, pool);
        expect_len("x", x.len(), windows.source.len());
        windows.target.expect_rows(&rows, &[("dy", dy.len())]);
        windows.source.expect_rows(&pooled_rows_of_x(pool, rows.clone()), &[("dx", dx.len())]);
        let of = self;
        by_curve!(
            self.of.activation,
            |curve| rounding::dispatch(GradientPooledRows { of, curve, windows, rows, x, dy, dx }),
            |curve| rounding::dispatch(GradientPooledRows { of, curve, windows, rows, x, dy, dx })
        );
    }

    /// dx of a block.
    #[inline(always)]
    fn of_block(&self, x: &Values, d: &Values, block: usize) -> Values {
        let [mean, scale, slope, offset]: [&Values; 4] =
            [&self.of.scaling.mean, &self.scale, &self.slope, &self.offset].map(|term| chunk(term, block * BLOCK));
        let mut dx = [0.0; BLOCK];
        for c in 0..BLOCK {
            dx[c] = (mean[c] - x[c]).mul_add(slope[c], scale[c].mul_add(d[c], -offset[c]));
        }
        dx
    }
}

struct DxRows<'a, C> {
    of: &'a GroupGradient<'a>,
    curve: C,
    rows: Range<usize>,
    x: &'a [Bf16],
    dy: &'a [Bf16],
    dx: &'a mut [Bf16],
}

impl<C: BlockCurve> RoundingKernel for DxRows<'_, C> {
    #[inline(always)]
    fn run<R: Rounding>(self, rounding: R) {
        let shape = self.of.of.shape;
        for tile in shape.tiles(self.rows) {
            for at in tile.images() {
                let x = block_at(self.x, at);
                let u = self.of.of.scaling.normalised(&x, tile.block);
                let d = self.curve.slopes(&u, &block_at(self.dy, at));
                write_block(rounding, &self.of.of_block(&x, &d, tile.block), tile.width, self.dx, at);
            }
            self.dx[tile.padding(shape.lanes())].fill(Bf16::ZERO);
        }
    }
}

struct GradientPooledRows<'a, C> {
    of: &'a GroupGradient<'a>,
    curve: C,
    windows: Windows,
    rows: Range<usize>,
    x: &'a [Bf16],
    dy: &'a [Bf16],
    dx: &'a mut [Bf16],
}

impl<C: BlockCurve> RoundingKernel for GradientPooledRows<'_, C> {
    #[inline(always)]
    fn run<R: Rounding>(self, rounding: R) {
        let windows = self.windows;
        let (source, [height, width]) = (windows.source, windows.kernel);
        let first = windows.first_row(self.rows.start);
        let before = first * source.row_len();
        // Where no window is, d is 0.
        let [covered_rows, covered_columns] = [windows.target.h * height, windows.target.w * width];
        let last = windows.first_row(self.rows.end);
        for tile in source.tiles(first..last) {
            if tile.row % source.h < covered_rows && tile.column < covered_columns {
                continue;
            }
            for at in tile.images() {
                let dx = self.of.of_block(&block_at(self.x, before + at), &[0.0; BLOCK], tile.block);
                write_block(rounding, &dx, tile.width, self.dx, at);
            }
            self.dx[tile.padding(source.lanes())].fill(Bf16::ZERO);
        }
        for tile in windows.target.tiles(self.rows) {
            let [row, column] = windows.corner(tile);
            let places = |position: usize| [row + position / width, column + position % width];
            for at in tile.images() {
                let winner = winner(&self.of.of.scaling, self.curve, &windows, self.x, tile, at);
                let won = self.curve.slopes(&winner.u, &block_at(self.dy, at));
                for position in 0..height * width {
                    let place = windows.source_at(tile, at, places(position));
                    let mut d = [0.0; BLOCK];
                    for c in 0..BLOCK {
                        d[c] = if winner.position[c] == position as u32 { won[c] } else { 0.0 };
                    }
                    let dx = self.of.of_block(&block_at(self.x, place), &d, tile.block);
                    write_block(rounding, &dx, tile.width, self.dx, place - before);
                }
            }
            for position in 0..height * width {
                let place = windows.source_at(tile, tile.at, places(position)) - before;
                self.dx[place + tile.images * BLOCK..place + source.lanes() * BLOCK].fill(Bf16::ZERO);
            }
        }
    }
}
