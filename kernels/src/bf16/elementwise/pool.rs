//! Pooling of blocked tensors, alone: as [`crate::pool`], of rows that are computed apart from each other.

use std::ops::Range;

use super::norm::wins;
use super::tiles::{BlockTile, block_at, write_block};
use crate::bf16::Bf16;
use crate::bf16::blocks::{BLOCK, Blocks};
use crate::bf16::rounding::{self, Rounding, RoundingKernel};
use crate::pool::PoolShape;
use crate::shape::expect_len;
use crate::simd_lanes::{chunk, chunk_mut};

impl PoolShape {
    /// The input, in blocks.
    pub fn x_blocks(&self) -> Blocks {
        Blocks { n: self.n, h: self.h, w: self.w, c: self.c }
    }

    /// The output, in blocks.
    ///
    /// # Panics
    /// As [`PoolShape::oh`].
    pub fn y_blocks(&self) -> Blocks {
        Blocks { n: self.n, h: self.oh(), w: self.ow(), c: self.c }
    }
}

/// What a pooling does with a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolKind {
    /// The largest value; the gradient goes to the first of the largest, or to the first NaN.
    Max,
    /// The mean with zeros as padding: the sum in the order of the window, divided by its full size.
    Average,
}

/// Some rows of the pooling's output, from all of x.
///
/// # Panics
/// If the shape makes no sense, a slice does not fit it, or there are no such rows.
pub fn pool_rows(kind: PoolKind, shape: PoolShape, rows: Range<usize>, x: &[Bf16], y: &mut [Bf16]) {
    check(&shape);
    expect_len("x", x.len(), shape.x_blocks().len());
    shape.y_blocks().expect_rows(&rows, &[("y", y.len())]);
    rounding::dispatch(PoolRows { kind, shape, rows, x, y });
}

/// Some rows of dx, from all of dy and, for a maximum, of x: f32 sums over the windows in the order of the outputs,
/// each rounded once.
///
/// # Panics
/// If the shape makes no sense, a slice does not fit it, or there are no such rows.
pub fn pool_gradient_rows(
    kind: PoolKind,
    shape: PoolShape,
    rows: Range<usize>,
    x: &[Bf16],
    dy: &[Bf16],
    dx: &mut [Bf16],
) {
    check(&shape);
    if kind == PoolKind::Max {
        expect_len("x", x.len(), shape.x_blocks().len());
    }
    expect_len("dy", dy.len(), shape.y_blocks().len());
    shape.x_blocks().expect_rows(&rows, &[("dx", dx.len())]);
    // As many rows of windows as a row of x may lie in.
    let windows = if kind == PoolKind::Max { shape.kernel[0].div_ceil(shape.stride[0]) } else { 0 };
    let mut places = vec![0; windows * shape.y_blocks().row_len()];
    rounding::dispatch(PoolGradientRows { kind, shape, rows, x, dy, dx, places: &mut places });
}

fn check(shape: &PoolShape) {
    if let Err(error) = shape.checked() {
        panic!("{shape:?}: {error}");
    }
}

/// The positions of a window inside of the image.
#[inline(always)]
fn inside(shape: &PoolShape, axis: usize, output: usize) -> Range<usize> {
    let (start, size) = (output * shape.stride[axis], [shape.h, shape.w][axis]);
    start.saturating_sub(shape.padding[axis])..(start + shape.kernel[axis] - shape.padding[axis]).min(size)
}

/// Where the block of an image lies in x: at a row of all groups and a column, for the block of `tile` at `at`.
#[inline(always)]
fn source_at(source: &Blocks, tile: BlockTile, at: usize, row: usize, column: usize) -> usize {
    (row * source.w + column) * source.pixel_len() + tile.block * source.lanes() * BLOCK + (at - tile.at)
}

struct PoolRows<'a> {
    kind: PoolKind,
    shape: PoolShape,
    rows: Range<usize>,
    x: &'a [Bf16],
    y: &'a mut [Bf16],
}

impl RoundingKernel for PoolRows<'_> {
    #[inline(always)]
    fn run<R: Rounding>(self, rounding: R) {
        let (source, target) = (self.shape.x_blocks(), self.shape.y_blocks());
        let size = (self.shape.kernel[0] * self.shape.kernel[1]) as f32;
        for tile in target.tiles(self.rows) {
            let group = tile.row / target.h * source.h;
            let rows = inside(&self.shape, 0, tile.row % target.h);
            let columns = inside(&self.shape, 1, tile.column);
            for at in tile.images() {
                let mut best = match self.kind {
                    PoolKind::Max => [f32::NEG_INFINITY; BLOCK],
                    PoolKind::Average => [0.0; BLOCK],
                };
                for row in rows.clone() {
                    for column in columns.clone() {
                        let x = block_at(self.x, source_at(&source, tile, at, group + row, column));
                        match self.kind {
                            PoolKind::Max => {
                                for c in 0..BLOCK {
                                    best[c] = if wins(x[c], best[c]) { x[c] } else { best[c] };
                                }
                            }
                            PoolKind::Average => {
                                for c in 0..BLOCK {
                                    best[c] += x[c];
                                }
                            }
                        }
                    }
                }
                if self.kind == PoolKind::Average {
                    for best in &mut best {
                        *best /= size;
                    }
                }
                write_block(rounding, &best, tile.width, self.y, at);
            }
            self.y[tile.padding(target.lanes())].fill(Bf16::ZERO);
        }
    }
}

/// The windows that a position of x lies in.
#[inline(always)]
fn around(shape: &PoolShape, axis: usize, position: usize) -> Range<usize> {
    let (stride, outputs) = (shape.stride[axis], [shape.oh(), shape.ow()][axis]);
    let from_start = position + shape.padding[axis];
    let first = (from_start + 1).saturating_sub(shape.kernel[axis]).div_ceil(stride);
    first..(from_start / stride + 1).min(outputs)
}

struct PoolGradientRows<'a> {
    kind: PoolKind,
    shape: PoolShape,
    /// Of x.
    rows: Range<usize>,
    x: &'a [Bf16],
    dy: &'a [Bf16],
    dx: &'a mut [Bf16],
    /// For a maximum, the pixel of each window's winner, of the rows of windows that were last looked at.
    places: &'a mut [u32],
}

impl RoundingKernel for PoolGradientRows<'_> {
    #[inline(always)]
    fn run<R: Rounding>(self, rounding: R) {
        let PoolGradientRows { kind, shape, rows, x, dy, dx, places } = self;
        let (source, target) = (shape.x_blocks(), shape.y_blocks());
        let size = (shape.kernel[0] * shape.kernel[1]) as f32;
        let len = target.row_len();
        let mut seen = 0;
        for (row, dx) in rows.zip(dx.chunks_exact_mut(source.row_len())) {
            let first = row / source.h * target.h;
            let outputs = around(&shape, 0, row % source.h);
            let outputs = first + outputs.start..first + outputs.end;
            if kind == PoolKind::Max {
                for output in outputs.start.max(seen)..outputs.end {
                    let place = output % (places.len() / len) * len;
                    find_winners(&shape, output, x, &mut places[place..][..len]);
                    seen = output + 1;
                }
            }
            for tile in source.tiles(row..row + 1) {
                let columns = around(&shape, 1, tile.column);
                let pixel = (row % source.h * source.w + tile.column) as u32;
                for at in tile.images() {
                    let mut sums = [0.0; BLOCK];
                    for output in outputs.clone() {
                        for column in columns.clone() {
                            let dy = block_at(dy, source_at(&target, tile, at, output, column));
                            if kind == PoolKind::Average {
                                for c in 0..BLOCK {
                                    sums[c] += dy[c] / size;
                                }
                                continue;
                            }
                            let output = output % (places.len() / len);
                            let place: &[u32; BLOCK] = chunk(places, source_at(&target, tile, at, output, column));
                            for c in 0..BLOCK {
                                sums[c] += if place[c] == pixel { dy[c] } else { 0.0 };
                            }
                        }
                    }
                    write_block(rounding, &sums, tile.width, dx, at);
                }
                dx[tile.padding(source.lanes())].fill(Bf16::ZERO);
            }
        }
    }
}

/// The pixel of the winner of each window of a row of all groups.
#[inline(always)]
fn find_winners(shape: &PoolShape, output: usize, x: &[Bf16], places: &mut [u32]) {
    let (source, target) = (shape.x_blocks(), shape.y_blocks());
    let group = output / target.h * source.h;
    let rows = inside(shape, 0, output % target.h);
    for tile in target.tiles(output..output + 1) {
        let columns = inside(shape, 1, tile.column);
        for at in tile.images() {
            let (mut best, mut place) = ([0.0; BLOCK], [0; BLOCK]);
            for y in rows.clone() {
                for column in columns.clone() {
                    let pixel = (y * source.w + column) as u32;
                    let x = block_at(x, source_at(&source, tile, at, group + y, column));
                    let first = (y == rows.start) & (column == columns.start);
                    for c in 0..BLOCK {
                        let won = first | wins(x[c], best[c]);
                        best[c] = if won { x[c] } else { best[c] };
                        place[c] = if won { pixel } else { place[c] };
                    }
                }
            }
            *chunk_mut(places, at) = place;
        }
    }
}

/// Mean over all pixels of each image: y is `Blocks { n, h: 1, w: 1, c }`. Sums take the pixels in order, in f64.
///
/// # Panics
/// If a slice does not fit.
pub fn global_average(shape: Blocks, x: &[Bf16], y: &mut [Bf16]) {
    let target = Blocks { h: 1, w: 1, ..shape };
    expect_len("x", x.len(), shape.len());
    expect_len("y", y.len(), target.len());
    rounding::dispatch(GlobalAverage { shape, target, x, y });
}

struct GlobalAverage<'a> {
    shape: Blocks,
    target: Blocks,
    x: &'a [Bf16],
    y: &'a mut [Bf16],
}

impl RoundingKernel for GlobalAverage<'_> {
    #[inline(always)]
    fn run<R: Rounding>(self, rounding: R) {
        let pixels = self.shape.h * self.shape.w;
        for tile in self.target.tiles(0..self.target.rows()) {
            for at in tile.images() {
                let mut sums = [0.0f64; BLOCK];
                for pixel in 0..pixels {
                    let x = block_at(
                        self.x,
                        (tile.row * pixels + pixel) * self.shape.pixel_len() + at % self.target.pixel_len(),
                    );
                    for c in 0..BLOCK {
                        sums[c] += f64::from(x[c]);
                    }
                }
                write_block(rounding, &sums.map(|sum| (sum / pixels as f64) as f32), tile.width, self.y, at);
            }
            self.y[tile.padding(self.target.lanes())].fill(Bf16::ZERO);
        }
    }
}

/// Some rows of the gradient of [`global_average`]: dy / pixels for each pixel.
///
/// # Panics
/// If a slice does not fit, or there are no such rows.
pub fn global_average_gradient_rows(shape: Blocks, rows: Range<usize>, dy: &[Bf16], dx: &mut [Bf16]) {
    expect_len("dy", dy.len(), Blocks { h: 1, w: 1, ..shape }.len());
    shape.expect_rows(&rows, &[("dx", dx.len())]);
    let pixels = (shape.h * shape.w) as f32;
    let mut share = vec![Bf16::ZERO; dy.len()];
    for (share, dy) in share.iter_mut().zip(dy) {
        *share = Bf16::from_f32(dy.to_f32() / pixels);
    }
    let len = shape.pixel_len();
    for (row, dx) in rows.zip(dx.chunks_exact_mut(shape.row_len())) {
        let share = &share[row / shape.h * len..][..len];
        dx.chunks_exact_mut(len).for_each(|dx| dx.copy_from_slice(share));
    }
}
