//! Depthwise convolution, where each channel is a group of its own: vectors run over channels, which need no packing
//! beyond weights that lie tap by tap. The orders of the sums are those of the other convolutions.

use super::band::{Position, Run, Source, bands};
use super::correlate::BAND_VALUES;
use super::geometry::Correlation;
use super::weight::BAND_POSITIONS;
use crate::cpu::simd;
use crate::scratch::scratch;

/// As [`super::correlate::correlate`].
pub(super) fn correlate(of: &Correlation, source: &[f32], weight: &[f32], start: Option<&[f32]>, target: &mut [f32]) {
    let channels = of.groups;
    let mut by_tap = scratch(of.terms() * channels);
    for (to, from) in by_tap.chunks_exact_mut(channels).zip(taps(of)) {
        for (channel, to) in to.iter_mut().enumerate() {
            *to = weight[channel * from.per_channel + from.index];
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
    for (from, to) in by_tap.chunks_exact(channels).zip(taps(of)) {
        for (channel, from) in from.iter().enumerate() {
            dw[channel * to.per_channel + to.index] = *from;
        }
    }
}

/// Where a tap lies in the weight.
struct TapIndex {
    index: usize,
    per_channel: usize,
}

/// The taps in the order of the sums.
fn taps(of: &Correlation) -> impl Iterator<Item = TapIndex> {
    let [kh, kw] = of.kernel;
    let index = move |row: usize, col: usize| TapIndex { index: row * kw + col, per_channel: kh * kw };
    of.rows.taps.iter().flat_map(move |row| of.cols.taps.iter().map(move |col| index(row.index, col.index)))
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
        let channels = start.len();
        for position in positions {
            let work = At { source, at: position.source, runs, by_tap, start };
            let target = &mut target[position.target..][..channels];
            let (wide, rest) = target.as_chunks_mut::<PANEL>();
            let mut channel = 0;
            for target in wide {
                work.multiply(channel, target);
                channel += PANEL;
            }
            for target in rest.as_chunks_mut::<1>().0 {
                work.multiply(channel, target);
                channel += 1;
            }
        }
    }
}

/// What the channels of one position share.
struct At<'a> {
    source: &'a [f32],
    at: usize,
    runs: &'a [Run],
    by_tap: &'a [f32],
    start: &'a [f32],
}

impl At<'_> {
    /// Computes `W` channels from `channel` on.
    #[inline(always)]
    fn multiply<const W: usize>(&self, channel: usize, target: &mut [f32; W]) {
        let mut sums: [f32; W] = *chunk(self.start, channel);
        for (run, weights) in self.runs.iter().zip(self.by_tap.chunks_exact(self.start.len())) {
            let x: &[f32; W] = chunk(self.source, self.at + run.offset + channel);
            let weights: &[f32; W] = chunk(weights, channel);
            for lane in 0..W {
                sums[lane] = x[lane].mul_add(weights[lane], sums[lane]);
            }
        }
        *target = sums;
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
            let tap = Tap { source: &source[run.offset..], positions, dy };
            let (wide, rest) = sums.as_chunks_mut::<PANEL>();
            let mut channel = 0;
            for sums in wide {
                tap.accumulate(channel, sums);
                channel += PANEL;
            }
            for sums in rest.as_chunks_mut::<1>().0 {
                tap.accumulate(channel, sums);
                channel += 1;
            }
        }
    }
}

/// What the channels of one tap share.
struct Tap<'a> {
    source: &'a [f32],
    positions: &'a [Position],
    dy: &'a [f32],
}

impl Tap<'_> {
    /// Adds to the sums of `W` channels from `channel` on.
    #[inline(always)]
    fn accumulate<const W: usize>(&self, channel: usize, to: &mut [f32; W]) {
        let mut sums = [0.0; W];
        for position in self.positions {
            let x: &[f32; W] = chunk(self.source, position.source + channel);
            let dy: &[f32; W] = chunk(self.dy, position.target + channel);
            for lane in 0..W {
                sums[lane] = x[lane].mul_add(dy[lane], sums[lane]);
            }
        }
        for lane in 0..W {
            to[lane] += sums[lane];
        }
    }
}

#[inline(always)]
fn chunk<const W: usize>(values: &[f32], at: usize) -> &[f32; W] {
    values[at..].first_chunk().expect("positions, taps and channels are in their slices")
}
