//! Depthwise convolution, where each channel is a group of its own: vectors run over channels, which need no packing
//! beyond weights that lie tap by tap. The orders of the sums are those of the other convolutions.

use std::ops::Range;

use super::band::{BAND_POSITIONS, Band, Input, Position, Source, bands};
use super::correlate::BAND_VALUES;
use super::geometry::Correlation;
use crate::cpu::{self, Kernel, prefetch};
use crate::scratch::{Scratch, scratch};
use crate::simd_lanes::{Lanes, chunk, chunk_mut, for_lanes};
use crate::tree::add_into;

/// As [`super::correlate::correlate`], for correlations that together write the target: band by band, so that what they
/// write side by side is written close together.
pub(super) fn correlate(
    all: &[Correlation],
    source: Input<'_>,
    weight: &[f32],
    start: Option<&[f32]>,
    target: &mut [f32],
) {
    let channels = all[0].groups;
    let mut sums_from = scratch(channels);
    match start {
        Some(start) => sums_from.copy_from_slice(start),
        None => sums_from.fill(0.0),
    }
    let positions = (BAND_VALUES / channels / all.len()).max(1);
    let mut passes: Vec<Pass<'_>> = all.iter().map(|of| Pass::new(of, source, weight, positions)).collect();
    let mut positions = Vec::new();
    for band in 0..passes.iter().map(|pass| pass.bands.len()).max().unwrap_or(0) {
        for pass in &mut passes {
            let Some(band) = pass.bands.get(band) else { continue };
            let source = pass.source.load(band, &mut positions);
            cpu::dispatch(DepthwiseMultiply {
                source,
                offsets: &pass.offsets,
                positions: &positions,
                by_tap: &pass.by_tap,
                start: &sums_from,
                target,
            });
        }
    }
}

/// What one correlation needs for all of its bands.
struct Pass<'a> {
    bands: Vec<Band>,
    source: Source<'a>,
    offsets: Vec<usize>,
    /// The weight, tap by tap.
    by_tap: Scratch,
}

impl<'a> Pass<'a> {
    fn new(of: &'a Correlation, source: Input<'a>, weight: &[f32], positions: usize) -> Self {
        let channels = of.groups;
        let mut by_tap = scratch(of.terms() * channels);
        for (to, tap) in by_tap.chunks_exact_mut(channels).zip(of.tap_indices()) {
            for (to, kernel) in to.iter_mut().zip(weight.chunks_exact(weight.len() / channels)) {
                *to = kernel[tap];
            }
        }
        let source = Source::new(of, source);
        let offsets = source.spans().iter().map(|span| span.offset).collect();
        Pass { bands: bands(of, positions), source, offsets, by_tap }
    }
}

/// As [`super::weight::WeightGradient::add`], to sums that lie tap by tap.
pub(super) fn add_weight_gradient(
    of: &Correlation,
    x: Input<'_>,
    dy: &[f32],
    channels: Range<usize>,
    by_tap: &mut [f32],
) {
    let dy = &dy[channels.start..];
    let mut source = Source::new(of, x);
    let offsets: Vec<usize> = source.spans().iter().map(|span| span.offset).collect();
    let mut positions = Vec::new();
    let mut sums = scratch(by_tap.len());
    for band in &bands(of, BAND_POSITIONS) {
        let source = source.load(band, &mut positions);
        sums.fill(0.0);
        let source = &source[channels.start..];
        let (offsets, positions, channels) = (&offsets[..], &positions[..], channels.len());
        cpu::dispatch(DepthwiseAccumulate { source, offsets, positions, dy, channels, sums: &mut sums });
        add_into(by_tap, &sums);
    }
}

/// Writes the gradient of the weight, OIHW, from sums that lie tap by tap, `[taps, channels]`.
pub(super) fn write_weight_gradient(of: &Correlation, by_tap: &[f32], dw: &mut [f32]) {
    let kernel_len = of.kernel[0] * of.kernel[1];
    for (from, tap) in by_tap.chunks_exact(dw.len() / kernel_len).zip(of.tap_indices()) {
        for (from, kernel) in from.iter().zip(dw.chunks_exact_mut(kernel_len)) {
            kernel[tap] = *from;
        }
    }
}

/// Runs `$kernel::<TAPS>` for as many taps at a time as there is code for, and channels in blocks of one vector, so
/// that the weights or the sums of all these taps are in registers.
macro_rules! by_taps {
    ($offsets:expr, $channels:expr, |$first:ident, $taps:ident| $lanes:expr) => {{
        let mut $first = 0;
        while $first < $offsets.len() {
            macro_rules! run {
                ($n:literal) => {{
                    const $taps: usize = $n;
                    match PANEL {
                        32 => for_lanes::<16>($channels, &mut $lanes),
                        _ => for_lanes::<8>($channels, &mut $lanes),
                    }
                    $first += $n;
                }};
            }
            match $offsets.len() - $first {
                9.. => run!(9),
                4.. => run!(4),
                2.. => run!(2),
                _ => run!(1),
            }
        }
    }};
}

/// `$body` for each tap, written out: in a loop, each tap would check its bounds, and sums would not stay in registers.
macro_rules! each_tap {
    ($taps:expr, |$tap:ident| $body:expr) => {
        each_tap!(@ $taps, $tap, $body, 0 1 2 3 4 5 6 7 8)
    };
    (@ $taps:expr, $tap:ident, $body:expr, $($index:literal)*) => {
        $(
            if $index < $taps {
                #[allow(non_upper_case_globals)]
                const $tap: usize = $index;
                $body
            }
        )*
    };
}

/// Values of all channels at some positions that the blocks of channels pass over before the next positions: few enough
/// for the first-level cache, and for what is written to be one stretch of memory.
const SOME_VALUES: usize = 16384;

/// `target = start + sum over taps of source * weight`, at each position, for each channel.
struct DepthwiseMultiply<'a> {
    source: &'a [f32],
    offsets: &'a [usize],
    positions: &'a [Position],
    by_tap: &'a [f32],
    start: &'a [f32],
    target: &'a mut [f32],
}

impl Kernel for DepthwiseMultiply<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const PANEL: usize>(self) {
        let channels = self.start.len();
        if self.offsets.is_empty() {
            for position in self.positions {
                self.target[position.target..][..channels].copy_from_slice(self.start);
            }
        }
        let some = (SOME_VALUES / channels).max(4);
        let ahead = match (self.positions.first(), self.positions.get(some)) {
            (Some(first), Some(next)) => next.target - first.target,
            _ => 0,
        };
        for positions in self.positions.chunks(some) {
            by_taps!(self.offsets, channels, |first, TAPS| MultiplyTaps::<TAPS> {
                source: self.source,
                offsets: self.offsets[first..].first_chunk().expect("so many are left"),
                positions,
                by_tap: &self.by_tap[first * channels..],
                start: (first == 0).then_some(self.start),
                channels,
                target: self.target,
                ahead,
            });
        }
    }
}

struct MultiplyTaps<'a, const TAPS: usize> {
    source: &'a [f32],
    offsets: &'a [usize; TAPS],
    positions: &'a [Position],
    by_tap: &'a [f32],
    /// What the sums start from; what stands in the target if there is none.
    start: Option<&'a [f32]>,
    channels: usize,
    target: &'a mut [f32],
    /// What of the target is asked for meanwhile, from where it is written.
    ahead: usize,
}

impl<const TAPS: usize> Lanes for MultiplyTaps<'_, TAPS> {
    #[inline(always)]
    fn block<const W: usize>(&mut self, first: usize) {
        let mut weights = [[0.0; W]; TAPS];
        for (weights, row) in weights.iter_mut().zip(self.by_tap.chunks_exact(self.channels)) {
            *weights = *chunk(row, first);
        }
        let mut from = [0.0; W];
        if let Some(start) = self.start {
            from = *chunk(start, first);
        }
        let sources = sources(self.source, self.offsets, first);
        let channels = &mut self.target[first..];
        for position in self.positions {
            prefetch::<W>(channels, position.target + self.ahead);
            let target = chunk_mut(channels, position.target);
            let mut sums = if self.start.is_some() { from } else { *target };
            each_tap!(TAPS, |tap| {
                let x: &[f32; W] = chunk(sources[tap], position.source);
                for lane in 0..W {
                    sums[lane] = x[lane].mul_add(weights[tap][lane], sums[lane]);
                }
            });
            *target = sums;
        }
    }
}

/// What each tap reads, from channel `first` on: all of one length, so that it is checked once that a position lies in
/// all of them.
#[inline(always)]
fn sources<'a, const TAPS: usize>(source: &'a [f32], offsets: &[usize; TAPS], first: usize) -> [&'a [f32]; TAPS] {
    let mut len = source.len();
    each_tap!(TAPS, |tap| len = len.min(source.len() - first - offsets[tap]));
    let mut sources = [source; TAPS];
    each_tap!(TAPS, |tap| sources[tap] = &source[first + offsets[tap]..][..len]);
    sources
}

/// `sums[tap] += (sum over positions of source * dy)`, for each channel.
struct DepthwiseAccumulate<'a> {
    source: &'a [f32],
    offsets: &'a [usize],
    positions: &'a [Position],
    dy: &'a [f32],
    channels: usize,
    sums: &'a mut [f32],
}

impl Kernel for DepthwiseAccumulate<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const PANEL: usize>(self) {
        let DepthwiseAccumulate { source, positions, dy, channels, .. } = self;
        by_taps!(self.offsets, channels, |first, TAPS| AccumulateTaps::<TAPS> {
            source,
            offsets: self.offsets[first..].first_chunk().expect("so many are left"),
            positions,
            dy,
            channels,
            sums: &mut self.sums[first * channels..],
        });
    }
}

struct AccumulateTaps<'a, const TAPS: usize> {
    source: &'a [f32],
    offsets: &'a [usize; TAPS],
    positions: &'a [Position],
    dy: &'a [f32],
    channels: usize,
    sums: &'a mut [f32],
}

impl<const TAPS: usize> Lanes for AccumulateTaps<'_, TAPS> {
    #[inline(always)]
    fn block<const W: usize>(&mut self, first: usize) {
        let mut sums = [[0.0; W]; TAPS];
        for (sums, row) in sums.iter_mut().zip(self.sums.chunks_exact(self.channels)) {
            *sums = *chunk(row, first);
        }
        let (sources, dy) = (sources(self.source, self.offsets, first), &self.dy[first..]);
        for position in self.positions {
            let dy: &[f32; W] = chunk(dy, position.target);
            let mut x = [dy; TAPS];
            each_tap!(TAPS, |tap| x[tap] = chunk(sources[tap], position.source));
            each_tap!(TAPS, |tap| {
                let (x, mut sum) = (x[tap], sums[tap]);
                for lane in 0..W {
                    sum[lane] = x[lane].mul_add(dy[lane], sum[lane]);
                }
                sums[tap] = sum;
            });
        }
        for (sums, row) in sums.iter().zip(self.sums.chunks_exact_mut(self.channels)) {
            *chunk_mut(row, first) = *sums;
        }
    }
}
