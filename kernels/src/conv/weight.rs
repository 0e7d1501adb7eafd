//! The weight gradient.

use std::ops::Range;

use super::ConvShape;
use super::band::{BAND_POSITIONS, Input, Position, Source, Span, band_images, bands};
use super::depthwise;
use super::geometry::{self, Correlation};
use super::pack::{Panel, WeightLayout, panels};
use super::tile::Accumulate;
use crate::cpu::{self, Kernel};
use crate::scratch::{Scratch, scratch};
use crate::shape::expect_len;
use crate::simd_lanes::copy_lanes;

/// The sums of a weight gradient, which take in some images after the others. Sums take the pixels of a band in order,
/// and then the bands, as [`super::backward_weight`] says.
pub struct WeightGradient {
    shape: ConvShape,
    channels: Range<usize>,
    /// Packed: for each panel a row for each term; of a depthwise convolution a row for each tap. [Turned](is_turned),
    /// for each panel of input channels a row for each output channel.
    sums: Scratch,
}

/// Whether x and dy change places, so that panels are of input channels: for a 1x1 kernel with more inputs than
/// outputs, where the outputs would fill panels badly, or the inputs of neighbouring positions lie so far apart that
/// they evict each other from the first-level cache. The products and their order are the same.
fn is_turned(of: &Correlation) -> bool {
    let (inputs, outputs) = (of.source_channels, of.target_channels);
    of.kernel == [1, 1] && of.groups == 1 && inputs > outputs && (inputs >= 512 || !outputs.is_multiple_of(32))
}

/// Output channels of a depthwise convolution that are not divided between two of [`channel_ranges`].
const DEPTHWISE_CHANNELS: usize = 16;

/// Cuts the output channels into at most `parts` ranges, whose weights' gradients can be computed apart from each
/// other.
///
/// # Panics
/// If the shape makes no sense, or `parts` is 0.
pub fn channel_ranges(shape: ConvShape, parts: usize) -> Vec<Range<usize>> {
    shape.expect_checked();
    let of = geometry::forward(&shape);
    let firsts: Vec<usize> = match of.is_depthwise() {
        true => (0..shape.co).step_by(DEPTHWISE_CHANNELS).collect(),
        false => panels(&of, cpu::panel()).iter().map(|panel| channel(&of, *panel)).collect(),
    };
    let share = firsts.len().div_ceil(parts);
    let ends = firsts.iter().copied().step_by(share).skip(1).chain([shape.co]);
    firsts.iter().copied().step_by(share).zip(ends).map(|(first, end)| first..end).collect()
}

impl WeightGradient {
    /// Sums of nothing for the weights of all output channels. `shape.n` is of no account.
    ///
    /// # Panics
    /// If the shape makes no sense.
    pub fn new(shape: ConvShape) -> Self {
        WeightGradient::of(shape, 0..shape.co)
    }

    /// Sums of nothing for the weights of the output channels `channels`: one of [`channel_ranges`], or several
    /// neighbours. [`WeightGradient::finish`] then writes `[channels.len(), ci / groups, kh, kw]`.
    ///
    /// # Panics
    /// If the shape makes no sense.
    pub fn of(shape: ConvShape, channels: Range<usize>) -> Self {
        shape.expect_checked();
        let of = geometry::forward(&shape);
        let len = if of.is_depthwise() {
            of.terms() * channels.len()
        } else if is_turned(&of) {
            of.source_channels.next_multiple_of(cpu::panel()) * channels.len()
        } else {
            panels_of(&of, &channels).len() * of.terms() * cpu::panel()
        };
        let mut sums = scratch(len);
        sums.fill(0.0);
        WeightGradient { shape, channels, sums }
    }

    /// How many images make a whole number of bands. Every call of [`WeightGradient::add`] but the last takes a
    /// multiple of it, or the sums' order would depend on how the images were divided.
    ///
    /// # Panics
    /// May panic if the shape makes no sense.
    pub fn images(shape: ConvShape) -> usize {
        band_images(&geometry::forward(&shape), BAND_POSITIONS)
    }

    /// Takes in the next `n` images: x is `[n, h, w, ci]`, dy `[n, oh, ow, co]` with all output channels, whichever
    /// channels the sums are of.
    ///
    /// # Panics
    /// If a slice does not fit.
    pub fn add(&mut self, n: usize, x: Input<'_>, dy: &[f32]) {
        let shape = ConvShape { n, ..self.shape };
        expect_len("x", x.len(), shape.x_len());
        expect_len("dy", dy.len(), shape.y_len());
        let of = &geometry::forward(&shape);
        if of.is_depthwise() {
            return depthwise::add_weight_gradient(of, x, dy, self.channels.clone(), &mut self.sums);
        }
        if is_turned(of) {
            return self.add_turned(of, x, dy);
        }
        let size = cpu::panel();
        let panels = panels_of(of, &self.channels);
        let panel_len = of.terms() * size;
        let mut packed = scratch(0);
        let mut source = Source::new(of, x);
        let spans = source.spans();
        let mut positions = Vec::new();
        for band in &bands(of, BAND_POSITIONS) {
            let source = source.load(band, &mut positions);
            packed.resize(positions.len() * size);
            for (&panel, sums) in panels.iter().zip(self.sums.chunks_exact_mut(panel_len)) {
                let (dy, positions) = (&dy[channel(of, panel)..], &positions[..]);
                cpu::dispatch(PackPositions { dy, positions, width: panel.width, packed: &mut packed });
                cpu::dispatch(Accumulate {
                    source: &source[panel.group * of.depth()..],
                    spans: &spans,
                    positions,
                    dy: &packed,
                    sums,
                });
            }
        }
    }

    fn add_turned(&mut self, of: &Correlation, x: Input<'_>, dy: &[f32]) {
        let (size, outputs) = (cpu::panel(), self.channels.len());
        let dy = &dy[self.channels.start..];
        let mut packed = scratch(0);
        let mut source = Source::new(of, x);
        let (mut positions, mut turned) = (Vec::new(), Vec::new());
        for band in &bands(of, BAND_POSITIONS) {
            let source = source.load(band, &mut positions);
            let turn = |position: &Position| Position { source: position.target, target: position.source };
            turned.clear();
            turned.extend(positions.iter().map(turn));
            packed.resize(turned.len() * size);
            for (first, sums) in (0..of.source_channels).step_by(size).zip(self.sums.chunks_exact_mut(outputs * size)) {
                let width = size.min(of.source_channels - first);
                cpu::dispatch(PackPositions { dy: &source[first..], positions: &turned, width, packed: &mut packed });
                let spans = &[Span { offset: 0, len: outputs }];
                cpu::dispatch(Accumulate { source: dy, spans, positions: &turned, dy: &packed, sums });
            }
        }
    }

    /// Writes the gradient of the weights of the channels, OIHW.
    ///
    /// # Panics
    /// If its length is not that of these weights.
    pub fn finish(self, dw_oihw: &mut [f32]) {
        expect_len("dw_oihw", dw_oihw.len(), self.shape.w_len() / self.shape.co * self.channels.len());
        let (of, layout, size) = (&geometry::forward(&self.shape), WeightLayout::forward(&self.shape), cpu::panel());
        if of.is_depthwise() {
            return depthwise::write_weight_gradient(of, &self.sums, dw_oihw);
        }
        if is_turned(of) {
            let firsts = (0..of.source_channels).step_by(size);
            for (first, sums) in firsts.zip(self.sums.chunks_exact(self.channels.len() * size)) {
                let width = size.min(of.source_channels - first);
                for (to, sums) in dw_oihw.chunks_exact_mut(of.source_channels).zip(sums.chunks_exact(size)) {
                    to[first..first + width].copy_from_slice(&sums[..width]);
                }
            }
            return;
        }
        for (&panel, sums) in panels_of(of, &self.channels).iter().zip(self.sums.chunks_exact(of.terms() * size)) {
            let first = channel(of, panel) - self.channels.start;
            layout.unpack(of, Panel { group: 0, first, ..panel }, sums, dw_oihw);
        }
    }
}

/// The panels of `channels`.
fn panels_of(of: &Correlation, channels: &Range<usize>) -> Vec<Panel> {
    panels(of, cpu::panel()).into_iter().filter(|panel| channels.contains(&channel(of, *panel))).collect()
}

/// The first channel of a panel, counted over all groups.
fn channel(of: &Correlation, panel: Panel) -> usize {
    panel.group * (of.target_channels / of.groups) + panel.first
}

/// The panel's channels of dy at all positions, side by side.
struct PackPositions<'a> {
    /// Begins with the panel's first channel.
    dy: &'a [f32],
    positions: &'a [Position],
    width: usize,
    packed: &'a mut [f32],
}

impl Kernel for PackPositions<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const PANEL: usize>(self) {
        for (to, position) in self.packed.as_chunks_mut::<PANEL>().0.iter_mut().zip(self.positions) {
            let from = &self.dy[position.target..];
            match from.first_chunk::<PANEL>() {
                Some(from) if self.width == PANEL => *to = *from,
                _ => copy_lanes(from, to, self.width),
            }
        }
    }
}
