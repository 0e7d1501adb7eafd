//! Convolutions with few channels a group, depthwise ones among them: their sums are one chain of multiply-adds, and
//! vectors run over the target's channels.

use std::ops::Range;

use super::Bf16;
use super::blocks::{BLOCK, Blocks};
use super::rounding::{self, Rounding, RoundingKernel};
use super::write::Rows;
use crate::conv::ConvShape;
use crate::conv::geometry::{self, Correlation};
use crate::cpu::{self, Kernel};

/// Where the source's channels lie that a block of target channels reads: for each term, for each target channel.
struct Channels {
    /// From the pixel's begin, in an image's lane.
    offsets: Vec<[usize; BLOCK]>,
    /// Whether each term's are side by side.
    together: bool,
}

impl Channels {
    fn new(of: &Correlation, first: usize, lanes: usize) -> Channels {
        let width = of.target_channels / of.groups;
        let offset = |term: usize, lane: usize| {
            let target = (first + lane).min(of.target_channels - 1);
            let channel = target / width * of.depth() + term;
            channel / BLOCK * lanes * BLOCK + channel % BLOCK
        };
        let offsets = (0..of.depth()).map(|term| std::array::from_fn(|lane| offset(term, lane))).collect();
        Channels { offsets, together: of.is_depthwise() }
    }
}

/// The sums of some rows of the target, with the bias, rounded.
pub(super) fn correlate(
    all: &[Correlation],
    packed: &[f32],
    source: &[Bf16],
    shape: Blocks,
    bias: Option<&[f32]>,
    rows: Range<usize>,
    to: &mut Rows<'_>,
) {
    let (lanes, pixel) = (shape.lanes(), shape.pixel_len());
    let mut taps: Vec<[usize; 2]> = Vec::new();
    let target = to.shape;
    for (images, rows) in target.rows_by_group(rows) {
        let values = &source[images * shape.h * shape.row_len()..][..shape.h * shape.row_len()];
        let mut packed = packed;
        for of in all {
            let grid = |row: usize| row.saturating_sub(of.rows.first).div_ceil(of.rows.target_step).min(of.rows.grid);
            for first in (0..of.target_channels).step_by(BLOCK) {
                let channels = Channels::new(of, first, lanes);
                let (weights, rest) = packed.split_at(of.terms() * BLOCK);
                packed = rest;
                let width = BLOCK.min(of.target_channels - first);
                let mut added = [0.0; BLOCK];
                if let Some(bias) = bias {
                    added[..width].copy_from_slice(&bias[first..][..width]);
                }
                for row in grid(rows.start)..grid(rows.end) {
                    for column in 0..of.cols.grid {
                        taps.clear();
                        inside(of, row, column, |tap, y, x| taps.push([(y * shape.w + x) * pixel, tap]));
                        let to = to.pixel(images, of, row, column, first);
                        let images = shape.images(images);
                        let source = values;
                        let (taps, added) = (&taps[..], &added);
                        let channels = &channels;
                        rounding::dispatch(Chains { source, taps, channels, weights, added, width, images, to });
                    }
                }
            }
        }
    }
}

/// Calls `f(tap, row, column)` for the taps of a position that are inside of the source, raster.
#[inline(always)]
fn inside(of: &Correlation, row: usize, column: usize, mut f: impl FnMut(usize, usize, usize)) {
    let taps = of.rows.taps.iter().flat_map(|down| of.cols.taps.iter().map(move |right| (down, right)));
    for (tap, (down, right)) in taps.enumerate() {
        let y = (row * of.rows.step) as isize + down.offset;
        let x = (column * of.cols.step) as isize + right.offset;
        if (0..of.rows.source as isize).contains(&y) && (0..of.cols.source as isize).contains(&x) {
            f(tap, y as usize, x as usize);
        }
    }
}

/// 32 channels of a pixel of all lanes.
struct Chains<'a> {
    source: &'a [Bf16],
    /// Where each tap's pixel begins, and which tap it is.
    taps: &'a [[usize; 2]],
    channels: &'a Channels,
    weights: &'a [f32],
    added: &'a [f32; BLOCK],
    width: usize,
    images: usize,
    to: &'a mut [Bf16],
}

impl RoundingKernel for Chains<'_> {
    #[inline(always)]
    fn run<R: Rounding>(mut self, rounding: R) {
        let lanes = self.to.len() / BLOCK;
        let mut lane = 0;
        while lane + 4 <= lanes {
            self.lanes::<4>(lane, rounding);
            lane += 4;
        }
        for lane in lane..lanes {
            self.lanes::<1>(lane, rounding);
        }
    }
}

impl Chains<'_> {
    #[inline(always)]
    fn lanes<const R: usize>(&mut self, first: usize, rounding: impl Rounding) {
        let weights = self.weights.as_chunks::<BLOCK>().0;
        let mut sums = [[0.0f32; BLOCK]; R];
        for &[pixel, tap] in self.taps {
            let terms = weights[tap * self.channels.offsets.len()..].iter().zip(&self.channels.offsets);
            for (w, offsets) in terms {
                let source = &self.source[pixel + first * BLOCK..];
                if self.channels.together {
                    let x = source[offsets[0]..].as_chunks::<BLOCK>().0;
                    let x: &[[Bf16; BLOCK]; R] = x.first_chunk().expect("all lanes are in the source");
                    add_products(&mut sums[0], &x[0], w);
                    if R == 4 {
                        add_products(&mut sums[1 % R], &x[1 % R], w);
                        add_products(&mut sums[2 % R], &x[2 % R], w);
                        add_products(&mut sums[3 % R], &x[3 % R], w);
                    }
                    continue;
                }
                for r in 0..R {
                    for c in 0..BLOCK {
                        sums[r][c] = source[r * BLOCK + offsets[c]].to_f32().mul_add(w[c], sums[r][c]);
                    }
                }
            }
        }
        let to = self.to.as_chunks_mut::<BLOCK>().0;
        for (lane, sums) in (first..).zip(&mut sums) {
            sums.iter_mut().zip(self.added).for_each(|(sum, added)| *sum += added);
            rounding.round(sums, &mut to[lane]);
            let kept = if lane < self.images { self.width } else { 0 };
            if kept < BLOCK {
                to[lane][kept..].fill(Bf16::ZERO);
            }
        }
    }
}

#[inline(always)]
fn add_products(sums: &mut [f32; BLOCK], x: &[Bf16; BLOCK], w: &[f32; BLOCK]) {
    let mut wide = [0.0; BLOCK];
    for c in 0..BLOCK {
        wide[c] = x[c].to_f32();
    }
    for c in 0..BLOCK {
        sums[c] = wide[c].mul_add(w[c], sums[c]);
    }
}

/// The gradient of the weights of the output channels `channels`, which begin a block: see [`super::backward_weight`].
pub(super) fn weight_gradient(shape: ConvShape, x: &[Bf16], dy: &[Bf16], channels: Range<usize>, dw_oihw: &mut [f32]) {
    let of = &geometry::forward(&shape);
    let (x_shape, y_shape) = (shape.x_blocks(), shape.y_blocks());
    let (lanes, kernel_len) = (x_shape.lanes(), of.kernel[0] * of.kernel[1]);
    let panels = dw_oihw.chunks_mut(BLOCK * of.terms());
    for (first, dw) in channels.clone().step_by(BLOCK).zip(panels) {
        let channels = Channels::new(of, first, lanes);
        let mut sums = vec![[0.0f32; BLOCK]; of.terms()];
        for (row, dy) in dy.chunks_exact(y_shape.row_len()).enumerate() {
            let (images, row) = (row / y_shape.h, row % y_shape.h);
            let x = &x[images * x_shape.h * x_shape.row_len()..];
            let dy = &dy[first * lanes..];
            cpu::dispatch(RowGradient {
                of,
                shape: &x_shape,
                step: y_shape.pixel_len(),
                row,
                x,
                dy,
                channels: &channels,
                sums: &mut sums,
            });
        }
        for (lane, dw) in dw.chunks_exact_mut(of.terms()).enumerate() {
            for (term, dw) in dw.chunks_exact_mut(kernel_len).enumerate() {
                for (tap, dw) in dw.iter_mut().enumerate() {
                    *dw = sums[tap * of.depth() + term][lane];
                }
            }
        }
    }
}

/// Adds the sums of a row of y.
struct RowGradient<'a> {
    of: &'a Correlation,
    shape: &'a Blocks,
    /// From one pixel of dy to the next.
    step: usize,
    row: usize,
    /// Of the group of images.
    x: &'a [Bf16],
    /// Of the row, from the block of channels on.
    dy: &'a [Bf16],
    channels: &'a Channels,
    /// For each tap and term.
    sums: &'a mut [[f32; BLOCK]],
}

impl Kernel for RowGradient<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const PANEL: usize>(self) {
        let (lanes, pixel, depth) = (self.shape.lanes(), self.shape.pixel_len(), self.of.depth());
        let mut row = vec![[0.0f32; BLOCK]; self.sums.len()];
        for column in 0..self.of.cols.grid {
            let dy = &self.dy[column * self.step..].as_chunks::<BLOCK>().0[..lanes];
            inside(self.of, self.row, column, |tap, y, x| {
                let x = &self.x[(y * self.shape.w + x) * pixel..][..pixel];
                for (sums, offsets) in row[tap * depth..].iter_mut().zip(&self.channels.offsets) {
                    let mut chain = *sums;
                    if self.channels.together {
                        let x = x[offsets[0]..].as_chunks::<BLOCK>().0;
                        for (x, dy) in x.iter().zip(dy) {
                            for c in 0..BLOCK {
                                chain[c] = x[c].to_f32().mul_add(dy[c].to_f32(), chain[c]);
                            }
                        }
                    } else {
                        for (lane, dy) in dy.iter().enumerate() {
                            for c in 0..BLOCK {
                                chain[c] = x[lane * BLOCK + offsets[c]].to_f32().mul_add(dy[c].to_f32(), chain[c]);
                            }
                        }
                    }
                    *sums = chain;
                }
            });
        }
        for (sums, row) in self.sums.iter_mut().zip(&row) {
            for c in 0..BLOCK {
                sums[c] += row[c];
            }
        }
    }
}
