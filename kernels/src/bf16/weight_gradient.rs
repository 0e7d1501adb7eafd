//! The weight gradient.

use std::ops::Range;

use super::Bf16;
use super::block_memory::Operand;
use super::blocks::{BLOCK, Blocks};
use super::element::Element;
use super::operand::{SourceImages, TermBlocks, bands, operand};
use super::step::{BLOCK_LEN, Lies, Run, Sums};
use super::weights::is_small;
use crate::conv::ConvShape;
use crate::conv::geometry::{self, Axis, Correlation, Tap};
use crate::cpu::{self, Level};
use crate::scratch::scratch;

/// The gradient of the weights of the output channels `channels`, which begin a block of a group: see
/// [`super::backward_weight`].
pub(super) fn weight_gradient<T: Element>(
    shape: ConvShape,
    x: &[Bf16],
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
        group_gradient::<T>(&shape, &of, group, [x, dy], first..end, now);
    }
}

/// Of the output channels of one group of channels.
fn group_gradient<T: Element>(
    shape: &ConvShape,
    of: &Correlation,
    group: usize,
    [x, dy]: [&[Bf16]; 2],
    channels: Range<usize>,
    dw: &mut [f32],
) {
    let unit = T::unit();
    let small = cpu::level() != Level::Portable || [x, dy].iter().all(|v| v.iter().all(|v| is_small(v.to_f32())));
    let (x_shape, y_shape) = (shape.x_blocks(), shape.y_blocks());
    let blocks = TermBlocks::new(of);
    let [down, right] = blocks.taps(of);
    let panels = channels.len().div_ceil(BLOCK);
    let mut sums = scratch::<f32>(panels * blocks.count * down.len() * right.len() * BLOCK_LEN);
    sums.fill(0.0);
    let pixels = pixels(of, &y_shape);
    let mut runs = Vec::new();
    for images in 0..x_shape.groups() {
        let values = |tensor, shape: Blocks| -> &[Bf16] {
            let tensor: &[Bf16] = tensor;
            &tensor[images * shape.h * shape.row_len()..][..shape.h * shape.row_len()]
        };
        let x =
            SourceImages { values: values(x, x_shape), shape: x_shape, channel: group * of.depth(), depth: of.depth() };
        let (channel, depth) = (channels.start, channels.len());
        let dy = SourceImages { values: values(dy, y_shape), shape: y_shape, channel, depth };
        for band in bands::<T>(of, x_shape.lanes(), 0..of.rows.grid, panels * BLOCK * x_shape.lanes()) {
            let mut a = operand::<T>(of, x, &band, Lies::Term);
            let mut b = operand::<T>(&pixels, dy, &band, Lies::Term);
            // With one tap along the row, blocks begin where those of dy do.
            let every = if right.len() == 1 { a.positions } else { 1 };
            T::for_terms(&mut a, every, &mut b);
            let mut sums = sums.as_chunks_mut::<BLOCK>().0.as_chunks_mut::<BLOCK>().0.iter_mut();
            for panel in 0..panels {
                for block in 0..blocks.count {
                    for (down, right) in down.iter().flat_map(|down| right.iter().map(move |right| (down, right))) {
                        let band = Positions { of, blocks, band: &band, a: &a, b: &b, panel, block };
                        runs.clear();
                        band.runs(down, right, &mut runs);
                        let sums: &mut Sums = sums.next().expect("there are sums for each");
                        T::multiply_terms(&unit, sums, a.values(), b.values(), &runs, small);
                    }
                }
            }
        }
    }
    unpack(of, blocks, &sums, channels.len(), dw);
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

/// Writes the gradient from sums `[32 outputs][block][tap][32 inputs][32 outputs]`.
fn unpack(of: &Correlation, blocks: TermBlocks, sums: &[f32], width: usize, dw: &mut [f32]) {
    let kernel_len = of.kernel[0] * of.kernel[1];
    let depth = of.depth();
    let taps = if blocks.flattened { 1 } else { kernel_len };
    let sums = sums.as_chunks::<BLOCK>().0.as_chunks::<BLOCK>().0;
    let panels = dw.chunks_mut(BLOCK * depth * kernel_len).zip(sums.chunks_exact(blocks.count * taps));
    for ((dw, sums), first) in panels.zip((0..width).step_by(BLOCK)) {
        let lanes = (width - first).min(BLOCK);
        for (lane, dw) in dw.chunks_exact_mut(depth * kernel_len).enumerate().take(lanes) {
            for (channel, dw) in dw.chunks_exact_mut(kernel_len).enumerate() {
                for (tap, dw) in dw.iter_mut().enumerate() {
                    let (tap, term) = if blocks.flattened { (0, tap * depth + channel) } else { (tap, channel) };
                    *dw = sums[term / BLOCK * taps + tap][term % BLOCK][lane];
                }
            }
        }
    }
}
