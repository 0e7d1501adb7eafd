//! Depthwise convolution, where each channel is a group of its own: vectors run over channels, which need no packing
//! beyond weights that lie tap by tap. The orders of the sums are those of the other convolutions.

use super::band::{Position, Run, Source, bands};
use super::correlate::BAND_VALUES;
use super::geometry::Correlation;
use super::weight::BAND_POSITIONS;
use crate::cpu::simd;
use crate::lanes::{Lanes, chunk, chunk_mut, for_lanes};
use crate::scratch::scratch;

/// As [`super::correlate::correlate`].
pub(super) fn correlate(of: &Correlation, source: &[f32], weight: &[f32], start: Option<&[f32]>, target: &mut [f32]) {
    let channels = of.groups;
    let mut by_tap = scratch(of.terms() * channels);
    for (to, tap) in by_tap.chunks_exact_mut(channels).zip(of.tap_indices()) {
        for (to, kernel) in to.iter_mut().zip(weight.chunks_exact(weight.len() / channels)) {
            *to = kernel[tap];
        }
    }
    let mut sums_from = scratch(channels);
    match start {
        Some(start) => sums_from.copy_from_slice(start),
        None => sums_from.fill(0.0),
    }
    let mut source = Source::new(of, source);
    let runs = source.runs();
    let mut positions = Vec::new();
    for band in &bands(of, (BAND_VALUES / channels).max(1)) {
        let source = source.load(band, &mut positions);
        multiply(source, &runs, &positions, &by_tap, &sums_from, target);
    }
}

/// As [`super::weight::weight_gradient`].
pub(super) fn weight_gradient(of: &Correlation, x: &[f32], dy: &[f32], dw: &mut [f32]) {
    let channels = of.groups;
    let mut by_tap = scratch(of.terms() * channels);
    by_tap.fill(0.0);
    let mut source = Source::new(of, x);
    let runs = source.runs();
    let mut positions = Vec::new();
    for band in &bands(of, BAND_POSITIONS) {
        let source = source.load(band, &mut positions);
        accumulate(source, &runs, &positions, dy, channels, &mut by_tap);
    }
    let kernel_len = dw.len() / channels;
    for (from, tap) in by_tap.chunks_exact(channels).zip(of.tap_indices()) {
        for (from, kernel) in from.iter().zip(dw.chunks_exact_mut(kernel_len)) {
            kernel[tap] = *from;
        }
    }
}

simd! {
    /// `target = start + sum over taps of source * weight`, at each position, for each channel.
    fn multiply(
        source: &[f32],
        runs: &[Run],
        positions: &[Position],
        by_tap: &[f32],
        start: &[f32],
        target: &mut [f32],
    ) {
        for position in positions {
            let target = &mut target[position.target..];
            let mut work = Multiply { source, at: position.source, runs, by_tap, start, target };
            for_lanes::<PANEL>(start.len(), &mut work);
        }
    }
}

struct Multiply<'a> {
    source: &'a [f32],
    at: usize,
    runs: &'a [Run],
    by_tap: &'a [f32],
    start: &'a [f32],
    target: &'a mut [f32],
}

impl Lanes for Multiply<'_> {
    #[inline(always)]
    fn block<const W: usize>(&mut self, first: usize) {
        let mut sums: [f32; W] = *chunk(self.start, first);
        for (run, weights) in self.runs.iter().zip(self.by_tap.chunks_exact(self.start.len())) {
            let x: &[f32; W] = chunk(self.source, self.at + run.offset + first);
            let weights: &[f32; W] = chunk(weights, first);
            for lane in 0..W {
                sums[lane] = x[lane].mul_add(weights[lane], sums[lane]);
            }
        }
        *chunk_mut(self.target, first) = sums;
    }
}

simd! {
    /// `sums[tap] += (sum over positions of source * dy)`, for each channel.
    fn accumulate(
        source: &[f32],
        runs: &[Run],
        positions: &[Position],
        dy: &[f32],
        channels: usize,
        sums: &mut [f32],
    ) {
        for (run, sums) in runs.iter().zip(sums.chunks_exact_mut(channels)) {
            for_lanes::<PANEL>(channels, &mut Accumulate { source, offset: run.offset, positions, dy, sums });
        }
    }
}

struct Accumulate<'a> {
    source: &'a [f32],
    offset: usize,
    positions: &'a [Position],
    dy: &'a [f32],
    sums: &'a mut [f32],
}

impl Lanes for Accumulate<'_> {
    #[inline(always)]
    fn block<const W: usize>(&mut self, first: usize) {
        let mut sums = [0.0; W];
        for position in self.positions {
            let x: &[f32; W] = chunk(self.source, position.source + self.offset + first);
            let dy: &[f32; W] = chunk(self.dy, position.target + first);
            for lane in 0..W {
                sums[lane] = x[lane].mul_add(dy[lane], sums[lane]);
            }
        }
        for (to, sum) in chunk_mut::<_, W>(self.sums, first).iter_mut().zip(sums) {
            *to += sum;
        }
    }
}
