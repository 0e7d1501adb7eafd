//! Batch norm with what follows it: its statistics and its forward pass.

use std::ops::Range;

use super::curve::{BlockCurve, Values};
use super::row_sums::RowTerms;
use super::tiles::{BlockTile, block_at, padded, write_block};
use crate::activation::Activation;
use crate::bf16::Bf16;
use crate::bf16::blocks::{BLOCK, Blocks};
use crate::bf16::rounding::{self, Rounding, RoundingKernel};
use crate::cpu::{self, Kernel};
use crate::norm::{Affine, BatchSums, Normalize, RowSums, Stats};
use crate::norm_block::curves::by_curve;
use crate::pool::PoolShape;
use crate::shape::expect_len;
use crate::simd_lanes::chunk;

/// For [`statistics`]: the sums of some rows of x, of `x - x0` and of its square, where x0 is the first image's first
/// pixel. `sums` has [`Blocks::row_sums_len`] numbers for each of the rows, `x` all rows up to them or more.
///
/// # Panics
/// If a slice does not fit, or there are no such rows.
pub fn statistics_rows(shape: Blocks, x: &[Bf16], rows: Range<usize>, sums: &mut [f64]) {
    shape.expect_rows(&rows, &[]);
    expect_len("x", x.len(), x.len().clamp(rows.end * shape.row_len(), shape.len()));
    expect_len("sums", sums.len(), rows.len() * shape.row_sums_len());
    let first = padded(&first_pixel(shape, x));
    let x = &x[rows.start * shape.row_len()..];
    cpu::dispatch(StatisticsRows { shape, terms: FromFirst { x, first: &first }, rows, sums });
}

/// Mean and biased variance of each channel of x, `[channels]` each: from the sums of all rows, in f64, rounded once.
///
/// # Panics
/// If a slice does not fit.
pub fn statistics(shape: Blocks, x: &[Bf16], sums: &[f64], mean: &mut [f32], var: &mut [f32]) {
    expect_len("sums", sums.len(), shape.rows() * shape.row_sums_len());
    let sums = RowSums::of(shape.add_row_sums(sums));
    BatchSums::of(&first_pixel(shape, x), shape.n * shape.h * shape.w, sums).stats(mean, var);
}

fn first_pixel(shape: Blocks, x: &[Bf16]) -> Vec<f32> {
    (0..shape.c).map(|channel| x[shape.at(0, 0, 0, channel)].to_f32()).collect()
}

struct StatisticsRows<'a> {
    shape: Blocks,
    terms: FromFirst<'a>,
    rows: Range<usize>,
    sums: &'a mut [f64],
}

impl Kernel for StatisticsRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const PANEL: usize>(mut self) {
        self.shape.sum_rows(self.rows, &mut self.terms, self.sums);
    }
}

struct FromFirst<'a> {
    x: &'a [Bf16],
    first: &'a [f32],
}

impl RowTerms for FromFirst<'_> {
    #[inline(always)]
    fn add(&mut self, tile: BlockTile, [sums, squares]: &mut [Values; 2]) {
        let first: &Values = chunk(self.first, tile.block * BLOCK);
        for at in tile.images() {
            let x = block_at(self.x, at);
            for c in 0..BLOCK {
                let from_first = x[c] - first[c];
                sums[c] += from_first;
                squares[c] = from_first.mul_add(from_first, squares[c]);
            }
        }
    }
}

/// A batch norm and the activation that follows it, and perhaps between them the addition of a residual or after them a
/// max pooling whose windows neither overlap nor are padded: a group, all of which is computed in f32 and rounded once.
///
/// With r = 1 / sqrt(var + eps), `u = (x - mean) gamma r + beta` by a subtraction and a fused multiply-add, and
/// `y = f(u)`, `f(u + residual)`, or the largest f(u) of a window: the first of the largest, or the first NaN.
pub struct NormGroup<'a> {
    pub(super) shape: Blocks,
    pub(super) stats: Stats<'a>,
    pub(super) affine: Affine<'a>,
    pub(super) eps: f32,
    pub(super) activation: Option<Activation>,
    pub(super) scaling: BlockScaling,
}

/// What makes u of x, each with zeros to whole blocks.
pub(super) struct BlockScaling {
    pub mean: Vec<f32>,
    pub scale: Vec<f32>,
    pub beta: Vec<f32>,
}

impl BlockScaling {
    /// u of the block at `at`, of which block of channels.
    #[inline(always)]
    pub fn normalised(&self, x: &Values, block: usize) -> Values {
        let mean: &Values = chunk(&self.mean, block * BLOCK);
        let scale: &Values = chunk(&self.scale, block * BLOCK);
        let beta: &Values = chunk(&self.beta, block * BLOCK);
        let mut u = [0.0; BLOCK];
        for c in 0..BLOCK {
            u[c] = (x[c] - mean[c]).mul_add(scale[c], beta[c]);
        }
        u
    }
}

impl<'a> NormGroup<'a> {
    /// The group of x in `shape`, with the statistics of the shard or running ones.
    ///
    /// # Panics
    /// If a slice does not fit.
    pub fn new(shape: Blocks, stats: Stats<'a>, affine: Affine<'a>, eps: f32, activation: Option<Activation>) -> Self {
        expect_len("mean", stats.mean.len(), shape.c);
        let Normalize { mean, scale, beta } = Normalize::new(stats, affine, eps);
        let scaling = BlockScaling { mean: padded(mean), scale: padded(&scale), beta: padded(beta) };
        NormGroup { shape, stats, affine, eps, activation, scaling }
    }

    /// Some rows of y, from the same rows of x and of the residual.
    ///
    /// # Panics
    /// If a slice does not fit, or there are no such rows.
    pub fn forward_rows(&self, rows: Range<usize>, x: &[Bf16], residual: Option<&[Bf16]>, y: &mut [Bf16]) {
        self.shape.expect_rows(&rows, &[("x", x.len()), ("y", y.len())]);
        if let Some(residual) = residual {
            self.shape.expect_rows(&rows, &[("residual", residual.len())]);
        }
        let of = self;
        by_curve!(
            self.activation,
            |curve| rounding::dispatch(GroupRows { of, curve, rows, x, residual, y }),
            |curve| { rounding::dispatch(GroupRows { of, curve, rows, x, residual, y }) }
        );
    }

    /// Some rows of the pooling's output, from all of x.
    ///
    /// # Panics
    /// If a slice does not fit, there are no such rows, or windows overlap or are padded.
    pub fn forward_pooled_rows(&self, pool: PoolShape, rows: Range<usize>, x: &[Bf16], y: &mut [Bf16]) {
        let windows = Windows::of(self.shape, pool);
        expect_len("x", x.len(), self.shape.len());
        windows.target.expect_rows(&rows, &[("y", y.len())]);
        let of = self;
        by_curve!(
            self.activation,
            |curve| rounding::dispatch(ForwardPooledRows { of, curve, windows, rows, x, y }),
            |curve| rounding::dispatch(ForwardPooledRows { of, curve, windows, rows, x, y })
        );
    }
}

struct GroupRows<'a, C> {
    of: &'a NormGroup<'a>,
    curve: C,
    rows: Range<usize>,
    x: &'a [Bf16],
    residual: Option<&'a [Bf16]>,
    y: &'a mut [Bf16],
}

impl<C: BlockCurve> RoundingKernel for GroupRows<'_, C> {
    #[inline(always)]
    fn run<R: Rounding>(self, rounding: R) {
        let shape = self.of.shape;
        for tile in shape.tiles(self.rows) {
            for at in tile.images() {
                let mut u = self.of.scaling.normalised(&block_at(self.x, at), tile.block);
                if let Some(residual) = self.residual {
                    let residual = block_at(residual, at);
                    for c in 0..BLOCK {
                        u[c] += residual[c];
                    }
                }
                write_block(rounding, &self.curve.values(&u), tile.width, self.y, at);
            }
            self.y[tile.padding(shape.lanes())].fill(Bf16::ZERO);
        }
    }
}

/// The windows of a pooling, which neither overlap nor are padded.
#[derive(Clone, Copy)]
pub(super) struct Windows {
    pub source: Blocks,
    pub target: Blocks,
    pub kernel: [usize; 2],
}

impl Windows {
    /// # Panics
    /// If they overlap or are padded, or x has another shape.
    #[track_caller]
    pub fn of(source: Blocks, pool: PoolShape) -> Self {
        assert!(pool.kernel == pool.stride && pool.padding == [0, 0], "{pool:?}: windows overlap or are padded");
        assert!(pool.x_blocks() == source, "{pool:?} is no pooling of {source:?}");
        Windows { source, target: pool.y_blocks(), kernel: pool.kernel }
    }

    /// The row and the column of the first position of a tile's window.
    #[inline(always)]
    pub fn corner(&self, tile: BlockTile) -> [usize; 2] {
        [self.first_row(tile.row), tile.column * self.kernel[1]]
    }

    /// The row of x in which the windows of a row begin.
    pub fn first_row(&self, row: usize) -> usize {
        row / self.target.h * self.source.h + row % self.target.h * self.kernel[0]
    }

    /// Where the block of an image lies in x: of a window's position, for the block of `tile` that begins at `at`.
    #[inline(always)]
    pub fn source_at(&self, tile: BlockTile, at: usize, position: [usize; 2]) -> usize {
        let pixel = position[0] * self.source.w + position[1];
        pixel * self.source.pixel_len() + tile.block * self.source.lanes() * BLOCK + (at - tile.at)
    }
}

struct ForwardPooledRows<'a, C> {
    of: &'a NormGroup<'a>,
    curve: C,
    windows: Windows,
    rows: Range<usize>,
    x: &'a [Bf16],
    y: &'a mut [Bf16],
}

impl<C: BlockCurve> RoundingKernel for ForwardPooledRows<'_, C> {
    #[inline(always)]
    fn run<R: Rounding>(self, rounding: R) {
        let (windows, [height, width]) = (self.windows, self.windows.kernel);
        for tile in windows.target.tiles(self.rows) {
            let [row, column] = windows.corner(tile);
            for at in tile.images() {
                let mut best = [0.0; BLOCK];
                for position in 0..height * width {
                    let position = [row + position / width, column + position % width];
                    let x = block_at(self.x, windows.source_at(tile, at, position));
                    let y = self.curve.values(&self.of.scaling.normalised(&x, tile.block));
                    let first = position == [row, column];
                    for c in 0..BLOCK {
                        best[c] = if first | wins(y[c], best[c]) { y[c] } else { best[c] };
                    }
                }
                write_block(rounding, &best, tile.width, self.y, at);
            }
            self.y[tile.padding(windows.target.lanes())].fill(Bf16::ZERO);
        }
    }
}

/// Whether a later value of a window is the largest so far: greater, or the first NaN.
#[inline(always)]
pub(super) fn wins(value: f32, best: f32) -> bool {
    (value > best) | (value.is_nan() & !best.is_nan())
}
