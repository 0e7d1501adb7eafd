//! Weights to products and back.

use super::super::ConvShape;
use super::transform::{Half, IN, LANES, PLANES, WeightGradientTransform, WeightTransform, both_sides};
use crate::cpu::simd;
use crate::scratch::scratch;
use crate::simd_lanes::{Lanes, chunk, chunk_mut, for_lanes};

const TAPS: usize = 9;
/// Source channels that are turned around at once, to stay in the first-level cache.
const BLOCK: usize = 16;

/// Target channels that are computed at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct TargetPanel {
    /// The first of them.
    pub first: usize,
    /// How many of them exist.
    pub width: usize,
    /// Lanes of a row: as many, or more.
    pub size: usize,
}

impl TargetPanel {
    /// The panel of `size` lanes that begins with channel `first` of `channels`.
    pub fn new(first: usize, size: usize, channels: usize) -> TargetPanel {
        TargetPanel { first, width: size.min(channels - first), size }
    }
}

/// How an OIHW weight lies in memory, seen from the output of a product.
#[derive(Clone, Copy, Debug)]
pub(super) struct WinogradLayout {
    /// Distance between target channels.
    lane: usize,
    /// Distance between source channels.
    depth: usize,
    /// Source channels.
    depths: usize,
    /// Whether the kernel is turned by half a circle.
    turned: bool,
}

impl WinogradLayout {
    /// For the forward pass and the weight gradient.
    pub fn forward(s: &ConvShape) -> WinogradLayout {
        WinogradLayout { lane: s.ci * TAPS, depth: TAPS, depths: s.ci, turned: false }
    }

    /// For the input gradient: dx is the target, and the kernel is turned.
    pub fn backward(s: &ConvShape) -> WinogradLayout {
        WinogradLayout { lane: TAPS, depth: s.ci * TAPS, depths: s.co, turned: true }
    }

    /// `G g G^T` for the channels of `panel`: in plane p, which begins at `p * plane_len`, a row of lanes for each
    /// source channel. Lanes beyond the panel's width hold whatever they may.
    pub fn transform(self, weight: &[f32], panel: TargetPanel, to: &mut [f32], plane_len: usize) {
        let TargetPanel { first, width, size } = panel;
        let mut by_tap = scratch(BLOCK * TAPS * size);
        for start in (0..self.depths).step_by(BLOCK) {
            let depths = BLOCK.min(self.depths - start);
            for (depth, to) in by_tap.chunks_exact_mut(TAPS * size).take(depths).enumerate() {
                let from = &weight[(start + depth) * self.depth + first * self.lane..];
                for lane in 0..width {
                    let from: &[f32; TAPS] = chunk(from, lane * self.lane);
                    for tap in 0..TAPS {
                        to[tap * size + lane] = from[if self.turned { TAPS - 1 - tap } else { tap }];
                    }
                }
            }
            transform(&by_tap[..depths * TAPS * size], size, &mut to[start * size..], plane_len);
        }
    }

    /// `G^T m G`, written to the channels of `panel` in the weight; m lies as in [`WinogradLayout::transform`].
    pub fn gradient(self, from: &[f32], plane_len: usize, panel: TargetPanel, weight: &mut [f32]) {
        let TargetPanel { first, width, size } = panel;
        let mut by_tap = scratch(BLOCK * TAPS * size);
        for start in (0..self.depths).step_by(BLOCK) {
            let depths = BLOCK.min(self.depths - start);
            gradient(&from[start * size..], plane_len, size, &mut by_tap[..depths * TAPS * size]);
            for (depth, from) in by_tap.chunks_exact(TAPS * size).take(depths).enumerate() {
                let to = &mut weight[(start + depth) * self.depth + first * self.lane..];
                for lane in 0..width {
                    let to: &mut [f32; TAPS] = chunk_mut(to, lane * self.lane);
                    for tap in 0..TAPS {
                        to[tap] = from[tap * size + lane];
                    }
                }
            }
        }
    }
}

simd! {
    /// Rows of `by_tap` are 9 taps of `size` lanes.
    fn transform(by_tap: &[f32], size: usize, to: &mut [f32], plane_len: usize) {
        let mut half = Box::new([0.0; PLANES * LANES]);
        for (depth, from) in by_tap.chunks_exact(TAPS * size).enumerate() {
            let mut work = Forth { half: &mut half, from, size, to: &mut to[depth * size..], plane_len };
            for_lanes::<LANES>(size, &mut work);
        }
    }
}

struct Forth<'a> {
    half: &'a mut Half,
    from: &'a [f32],
    size: usize,
    to: &'a mut [f32],
    plane_len: usize,
}

impl Lanes for Forth<'_> {
    #[inline(always)]
    fn block<const W: usize>(&mut self, first: usize) {
        both_sides::<WeightTransform, 3, IN, W>(
            self.half,
            |row, column| chunk(self.from, (row * 3 + column) * self.size + first),
            |row, column, done| *chunk_mut(self.to, (row * IN + column) * self.plane_len + first) = done,
        );
    }
}

simd! {
    /// Rows of `by_tap` are 9 taps of `size` lanes.
    fn gradient(from: &[f32], plane_len: usize, size: usize, by_tap: &mut [f32]) {
        let mut half = Box::new([0.0; PLANES * LANES]);
        for (depth, to) in by_tap.chunks_exact_mut(TAPS * size).enumerate() {
            let mut work = Back { half: &mut half, from: &from[depth * size..], plane_len, size, to };
            for_lanes::<LANES>(size, &mut work);
        }
    }
}

struct Back<'a> {
    half: &'a mut Half,
    from: &'a [f32],
    plane_len: usize,
    size: usize,
    to: &'a mut [f32],
}

impl Lanes for Back<'_> {
    #[inline(always)]
    fn block<const W: usize>(&mut self, first: usize) {
        both_sides::<WeightGradientTransform, IN, 3, W>(
            self.half,
            |row, column| chunk(self.from, (row * IN + column) * self.plane_len + first),
            |row, column, done| *chunk_mut(self.to, (row * 3 + column) * self.size + first) = done,
        );
    }
}
