//! The weight gradient.

use std::ops::Range;

use super::block_memory::Operand;
use super::blocks::{BLOCK, Blocks};
use super::element::Element;
use super::images::{SourceImages, TermBlocks};
use super::operand::{BAND_BYTES, bands, operand};
use super::step::{BLOCK_LEN, Lies, Run, Slide, Sums};
use super::weights::is_small;
use super::{Bf16, Images};
use crate::conv::ConvShape;
use crate::conv::geometry::{self, Axis, Correlation, Tap};
use crate::cpu::{self, Level};
use crate::scratch::scratch;

/// The gradient of the weights of the output channels `channels`, which begin a block of a group: see
/// [`super::backward_weight`].
pub(super) fn weight_gradient<T: Element>(
    shape: ConvShape,
    x: Images<'_>,
    dy: &[Bf16],
    channels: Range<usize>,
    dw_oihw: &mut [f32],
) {
    let of = geometry::forward(&shape);
    let width = shape.co / shape.groups;
    let kernel_len = shape.w_len() / shape.co;
    let mut rest = dw_oihw;
    for group in 0..shape.groups {
        let (first, end) = (channels.start.max(group * width), channels.end.min((group + 1) * width));
        if first >= end {
            continue;
        }
        let (now, later) = rest.split_at_mut((end - first) * kernel_len);
        rest = later;
        group_gradient::<T>(&shape, &of, group, [x, dy.into()], first..end, now);
    }
}

/// Of the output channels of one group of channels.
fn group_gradient<T: Element>(
    shape: &ConvShape,
    of: &Correlation,
    group: usize,
    [x, dy]: [Images<'_>; 2],
    channels: Range<usize>,
    dw: &mut [f32],
) {
    let unit = T::unit();
    let small =
        cpu::level() != Level::Portable || [x, dy].iter().all(|v| v.values().iter().all(|v| is_small(v.to_f32())));
    let (x_shape, y_shape) = (shape.x_blocks(), shape.y_blocks());
    let blocks = TermBlocks::new(of);
    let [down, right] = blocks.taps(of);
    let panels = channels.len().div_ceil(BLOCK);
    let pixels = pixels(of, &y_shape);
    let (squares, taps) = (panels * blocks.count, down.len() * right.len());
    // Sums that are read and written once for each band should not be read and written often.
    let band_bytes = BAND_BYTES.max(squares * taps * size_of::<Sums>());
    let extra = panels * BLOCK * x_shape.lanes();
    let bands = bands::<T>(of, x_shape.lanes(), 0..of.rows.grid, extra, band_bytes);
    let last = x_shape.groups() * bands.len() - 1;
    // Where one band is all, the sums of one square after the other are enough.
    let kept = if last == 0 { 1 } else { squares };
    let mut memory = scratch::<f32>(kept * taps * BLOCK_LEN);
    let sums = memory.as_chunks_mut::<BLOCK>().0.as_chunks_mut::<BLOCK>().0;
    let mut runs = Vec::new();
    for (step, (images, band)) in
        (0..x_shape.groups()).flat_map(|images| bands.iter().map(move |band| (images, band))).enumerate()
    {
        let (values, channel) = (x.of_group(&x_shape, images), group * of.depth());
        let x = SourceImages { values, shape: x_shape, channel, depth: of.depth() };
        let (channel, depth) = (channels.start, channels.len());
        let dy = SourceImages { values: dy.of_group(&y_shape, images), shape: y_shape, channel, depth };
        let mut a = operand::<T>(of, x, band, Lies::Term);
        let mut b = operand::<T>(&pixels, dy, band, Lies::Term);
        // With one tap along the row, blocks begin where those of dy do.
        let every = if right.len() == 1 { a.positions } else { 1 };
        T::for_terms(&mut a, every, &mut b);
        for square in 0..squares {
            let (panel, block) = (square / blocks.count, square % blocks.count);
            let sums = &mut sums[square % kept * taps..][..taps];
            if step == 0 {
                sums.fill([[0.0; BLOCK]; BLOCK]);
            }
            let band = Positions { of, blocks, band, a: &a, b: &b, panel, block };
            band.add(&unit, [down, right], sums, &mut runs, small);
            if step == last {
                let dw = &mut dw[panel * BLOCK * depth_len(of)..];
                unpack(of, blocks, block, sums, BLOCK.min(channels.len() - panel * BLOCK), dw);
            }
        }
    }
}

/// Weights of one output channel.
fn depth_len(of: &Correlation) -> usize {
    of.depth() * of.kernel[0] * of.kernel[1]
}

/// The pixels of y as what is read of it: each position reads its own.
fn pixels(of: &Correlation, y: &Blocks) -> Correlation {
    let axis = |size| Axis {
        source: size,
        target: size,
        grid: size,
        step: 1,
        first: 0,
        target_step: 1,
        taps: vec![Tap { offset: 0, index: 0 }],
    };
    Correlation { rows: axis(y.h), cols: axis(y.w), source_channels: y.c, kernel: [1, 1], ..of.clone() }
}

/// A band's positions, for a block of the sums.
struct Positions<'a, T: Element> {
    of: &'a Correlation,
    blocks: TermBlocks,
    band: &'a [Range<usize>; 2],
    a: &'a Operand<'a, T>,
    b: &'a Operand<'a, T>,
    panel: usize,
    block: usize,
}

impl<T: Element> Positions<'_, T> {
    /// Adds what the band gives to the sums of each tap.
    fn add(&self, unit: &T::Unit, [down, right]: [&[Tap]; 2], sums: &mut [Sums], runs: &mut Vec<Run>, small: bool) {
        let (a, b) = (self.a.values(), self.b.values());
        for (down, sums) in down.iter().zip(sums.chunks_exact_mut(right.len())) {
            if let ([left, middle, beyond], true) = (&mut *sums, self.are_neighbours(right)) {
                T::multiply_neighbours(unit, [left, middle, beyond], a, b, &self.slides(down), small);
                continue;
            }
            for (right, sums) in right.iter().zip(sums) {
                runs.clear();
                self.runs(down, right, runs);
                T::multiply_terms(unit, sums, a, b, runs, small);
            }
        }
    }

    /// Whether the taps of a row read before, at and after each position, which is a block.
    fn are_neighbours(&self, right: &[Tap]) -> bool {
        let side_by_side = right.len() == 3 && right.iter().zip(-1..).all(|(tap, offset)| tap.offset == offset);
        !self.blocks.flattened && self.of.cols.step == 1 && self.b.positions == 1 && side_by_side
    }

    /// The rows of positions whose row of taps is inside.
    fn slides(&self, down: &Tap) -> Vec<Slide> {
        let (of, [rows, columns]) = (self.of, self.band);
        let inside = |row: usize| {
            let y = (row * of.rows.step) as isize + down.offset;
            (0..of.rows.source as isize).contains(&y).then_some((row, y as usize))
        };
        let slide = |(row, y)| {
            let a = self.a.at(y, columns.start as isize) + self.block * self.a.block;
            let b = (self.b.at(row, columns.start as isize) + self.panel * self.b.block) / BLOCK_LEN;
            let (before, after) = (columns.start > 0, columns.end < of.cols.source);
            Slide::new([a, self.a.column, b], columns.len(), before, after)
        };
        rows.clone().filter_map(inside).map(slide).collect()
    }

    /// The blocks of positions of which one has the tap inside, raster.
    fn runs(&self, down: &Tap, right: &Tap, runs: &mut Vec<Run>) {
        let (of, [rows, columns]) = (self.of, self.band);
        let flat = self.blocks.flattened;
        let step_x = if flat { 1 } else { of.cols.step };
        let at_once = self.b.positions;
        let inside = |column: &usize| {
            let x = (column * step_x) as isize + right.offset;
            flat || (0..of.cols.source as isize).contains(&x)
        };
        let block = |first: &usize| (*first..(first + at_once).min(columns.end)).any(|column| inside(&column));
        let mut firsts = columns.clone().step_by(at_once).filter(block);
        let Some(first) = firsts.next() else { return };
        let count = 1 + firsts.count();
        for row in rows.clone() {
            let y = if flat { row as isize } else { (row * of.rows.step) as isize + down.offset };
            if !flat && !(0..of.rows.source as isize).contains(&y) {
                continue;
            }
            let x = (first * step_x) as isize + right.offset;
            let a = self.a.at(y as usize, x) + self.block * self.a.block;
            let a_step = self.a.column * if at_once == 1 { step_x } else { at_once };
            let b = (self.b.at(row, first as isize) + self.panel * self.b.block) / BLOCK_LEN;
            runs.push(Run { a, a_step, b, count });
        }
    }
}

/// Writes the gradient of one block of terms, `[output][..]`, from sums `[tap][32 terms][32 outputs]`.
fn unpack(of: &Correlation, blocks: TermBlocks, block: usize, sums: &[Sums], width: usize, dw: &mut [f32]) {
    let (depth, kernel_len) = (of.depth(), of.kernel[0] * of.kernel[1]);
    if blocks.flattened {
        for (lane, dw) in dw.chunks_exact_mut(depth * kernel_len).enumerate().take(width) {
            for (row, term) in sums[0].iter().zip(block * BLOCK..depth * kernel_len) {
                dw[term % depth * kernel_len + term / depth] = row[lane];
            }
        }
        return;
    }
    let (first, len) = (block * BLOCK * kernel_len, BLOCK.min(depth - block * BLOCK) * kernel_len);
    let outputs = dw.chunks_mut(depth * kernel_len).take(width).map(|dw| &mut dw[first..][..len]);
    for (lane, dw) in outputs.enumerate() {
        match kernel_len {
            1 => interleave::<1>(sums, lane, dw),
            9 => interleave::<9>(sums, lane, dw),
            _ => {
                for (term, dw) in dw.chunks_exact_mut(kernel_len).enumerate() {
                    dw.iter_mut().zip(sums).for_each(|(dw, sums)| *dw = sums[term][lane]);
                }
            }
        }
    }
}

/// Writes the weights of one output, `[term][tap]`.
fn interleave<const TAPS: usize>(sums: &[Sums], lane: usize, dw: &mut [f32]) {
    let sums: &[Sums; TAPS] = sums.first_chunk().expect("there are sums for each tap");
    for (term, dw) in dw.as_chunks_mut::<TAPS>().0.iter_mut().take(BLOCK).enumerate() {
        for tap in 0..TAPS {
            dw[tap] = sums[tap][term][lane % BLOCK];
        }
    }
}
