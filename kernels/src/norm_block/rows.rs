//! Loops over rows that do everything for a value while it is in a register; the terms are those of
//! [`norm_block`](super). All slices are whole rows of `channels` values and of one length; `mean`, the sums and what
//! [`Normalize`] and [`Terms`] hold have one value for each channel.

use crate::activation::Curve;
use crate::cpu::{Kernel, prefetch};
use crate::norm::{Normalize, Terms};
use crate::simd_lanes::{Lanes, chunk, chunk_mut, for_lanes};

/// Values of whole rows that the blocks of channels pass over before the next rows: enough of them for each block to be
/// worth its start, few enough to lie in the nearer caches. What stands as many values ahead is asked for meanwhile,
/// for rows that lie far apart are no pattern that the hardware foresees.
#[inline(always)]
fn some_rows(channels: usize) -> usize {
    (4096 / channels).max(8) * channels
}

/// `y = f(u)`, or `f(u + residual)`.
pub(super) struct ForwardRows<'a, C> {
    pub norm: &'a Normalize<'a>,
    pub curve: C,
    pub x: &'a [f32],
    pub residual: Option<&'a [f32]>,
    pub y: &'a mut [f32],
}

impl<C: Curve> Kernel for ForwardRows<'_, C> {
    type Output = ();

    #[inline(always)]
    fn run<const PANEL: usize>(self) {
        let ForwardRows { norm, curve, .. } = self;
        let channels = norm.mean.len();
        let (len, step) = (self.x.len(), some_rows(channels));
        for first in (0..len).step_by(step) {
            let at = first..len.min(first + step);
            let (x, residual) = (&self.x[at.clone()], self.residual.map(|residual| &residual[at.clone()]));
            let y = &mut self.y[at];
            for_lanes::<PANEL>(channels, &mut ForwardRows { norm, curve, x, residual, y });
        }
    }
}

impl<C: Curve> Lanes for ForwardRows<'_, C> {
    #[inline(always)]
    fn block<const W: usize>(&mut self, first: usize) {
        let norm = ChannelNorm::<W>::of(self.norm, first);
        let channels = self.norm.mean.len();
        let ahead = first + some_rows(channels);
        let rows = self.x.chunks_exact(channels).zip(self.y.chunks_exact_mut(channels));
        match self.residual {
            Some(residual) => {
                for ((x, y), residual) in rows.zip(residual.chunks_exact(channels)) {
                    prefetch::<W>(x, ahead);
                    prefetch::<W>(residual, ahead);
                    prefetch::<W>(y, ahead);
                    let (x, residual): (&[f32; W], &[f32; W]) = (chunk(x, first), chunk(residual, first));
                    let mut done = [0.0; W];
                    for lane in 0..W {
                        done[lane] = self.curve.value(norm.apply(lane, x[lane]) + residual[lane]);
                    }
                    *chunk_mut(y, first) = done;
                }
            }
            None => {
                for (x, y) in rows {
                    prefetch::<W>(x, ahead);
                    prefetch::<W>(y, ahead);
                    let x: &[f32; W] = chunk(x, first);
                    let mut done = [0.0; W];
                    for lane in 0..W {
                        done[lane] = self.curve.value(norm.apply(lane, x[lane]));
                    }
                    *chunk_mut(y, first) = done;
                }
            }
        }
    }
}

/// Adds d and d (x - mean) to the sums of a chunk of at most [`BackwardSums::ROWS`](super::BackwardSums::ROWS) rows, in
/// row order.
pub(super) struct SumRows<'a, C> {
    pub norm: &'a Normalize<'a>,
    pub curve: C,
    pub x: &'a [f32],
    pub dy: &'a [f32],
    pub sums: [&'a mut [f32]; 2],
}

impl<C: Curve> Kernel for SumRows<'_, C> {
    type Output = ();

    #[inline(always)]
    fn run<const PANEL: usize>(self) {
        let SumRows { norm, curve, sums: [sums, products], .. } = self;
        let channels = norm.mean.len();
        let (len, step) = (self.x.len(), some_rows(channels));
        for first in (0..len).step_by(step) {
            let at = first..len.min(first + step);
            let (x, dy) = (&self.x[at.clone()], &self.dy[at]);
            for_lanes::<PANEL>(channels, &mut SumRows { norm, curve, x, dy, sums: [&mut *sums, &mut *products] });
        }
    }
}

impl<C: Curve> Lanes for SumRows<'_, C> {
    #[inline(always)]
    fn block<const W: usize>(&mut self, first: usize) {
        let norm = ChannelNorm::<W>::of(self.norm, first);
        let channels = self.norm.mean.len();
        let mut sums = ChannelSums::<W>::of(&self.sums, first);
        let ahead = first + some_rows(channels);
        for (x, dy) in self.x.chunks_exact(channels).zip(self.dy.chunks_exact(channels)) {
            prefetch::<W>(x, ahead);
            prefetch::<W>(dy, ahead);
            let (x, dy): (&[f32; W], &[f32; W]) = (chunk(x, first), chunk(dy, first));
            let mut d = [0.0; W];
            for lane in 0..W {
                d[lane] = self.curve.slope(norm.apply(lane, x[lane]), dy[lane]);
            }
            sums.add(&d, x, &norm.mean);
        }
        sums.write(&mut self.sums, first);
    }
}

/// As [`SumRows`], with f'(u) from the output `y`, and writes d.
pub(super) struct SumRowsOfOutput<'a, C> {
    pub mean: &'a [f32],
    pub curve: C,
    pub x: &'a [f32],
    pub y: &'a [f32],
    pub dy: &'a [f32],
    pub d: &'a mut [f32],
    pub sums: [&'a mut [f32]; 2],
}

impl<C: Curve> Kernel for SumRowsOfOutput<'_, C> {
    type Output = ();

    #[inline(always)]
    fn run<const PANEL: usize>(self) {
        let SumRowsOfOutput { mean, curve, sums: [sums, products], .. } = self;
        let (len, step) = (self.x.len(), some_rows(mean.len()));
        for first in (0..len).step_by(step) {
            let at = first..len.min(first + step);
            let (x, y, dy) = (&self.x[at.clone()], &self.y[at.clone()], &self.dy[at.clone()]);
            let (d, sums) = (&mut self.d[at], [&mut *sums, &mut *products]);
            for_lanes::<PANEL>(mean.len(), &mut SumRowsOfOutput { mean, curve, x, y, dy, d, sums });
        }
    }
}

impl<C: Curve> Lanes for SumRowsOfOutput<'_, C> {
    #[inline(always)]
    fn block<const W: usize>(&mut self, first: usize) {
        let channels = self.mean.len();
        let mean: [f32; W] = *chunk(self.mean, first);
        let mut sums = ChannelSums::<W>::of(&self.sums, first);
        let inputs = self.x.chunks_exact(channels).zip(self.y.chunks_exact(channels));
        let gradients = self.dy.chunks_exact(channels).zip(self.d.chunks_exact_mut(channels));
        let ahead = first + some_rows(channels);
        for ((x, y), (dy, to)) in inputs.zip(gradients) {
            prefetch::<W>(x, ahead);
            prefetch::<W>(y, ahead);
            prefetch::<W>(dy, ahead);
            prefetch::<W>(to, ahead);
            let (x, y, dy): (&[f32; W], &[f32; W], &[f32; W]) = (chunk(x, first), chunk(y, first), chunk(dy, first));
            let mut d = [0.0; W];
            for lane in 0..W {
                d[lane] = self.curve.slope(y[lane], dy[lane]);
            }
            sums.add(&d, x, &mean);
            *chunk_mut(to, first) = d;
        }
        sums.write(&mut self.sums, first);
    }
}

/// `d` from dy to dx; dy stands in `from`, if that is given, else in `d`.
pub(super) struct InputGradientRows<'a, C> {
    pub norm: &'a Normalize<'a>,
    pub curve: C,
    pub terms: &'a Terms<'a>,
    pub x: &'a [f32],
    pub from: Option<&'a [f32]>,
    pub d: &'a mut [f32],
}

impl<C: Curve> Kernel for InputGradientRows<'_, C> {
    type Output = ();

    #[inline(always)]
    fn run<const PANEL: usize>(self) {
        let InputGradientRows { norm, curve, terms, .. } = self;
        let channels = norm.mean.len();
        let (len, step) = (self.x.len(), some_rows(channels));
        for first in (0..len).step_by(step) {
            let at = first..len.min(first + step);
            let (x, from) = (&self.x[at.clone()], self.from.map(|from| &from[at.clone()]));
            let d = &mut self.d[at];
            for_lanes::<PANEL>(channels, &mut InputGradientRows { norm, curve, terms, x, from, d });
        }
    }
}

impl<C: Curve> Lanes for InputGradientRows<'_, C> {
    #[inline(always)]
    fn block<const W: usize>(&mut self, first: usize) {
        let channels = self.terms.mean.len();
        let (norm, terms) = (ChannelNorm::<W>::of(self.norm, first), ChannelTerms::<W>::of(self.terms, first));
        let ahead = first + some_rows(channels);
        let rows = self.x.chunks_exact(channels).zip(self.d.chunks_exact_mut(channels));
        match self.from {
            Some(from) => {
                for ((x, d), from) in rows.zip(from.chunks_exact(channels)) {
                    prefetch::<W>(x, ahead);
                    prefetch::<W>(from, ahead);
                    prefetch::<W>(d, ahead);
                    *chunk_mut(d, first) = terms.apply(self.curve, &norm, chunk(x, first), chunk(from, first));
                }
            }
            None => {
                for (x, d) in rows {
                    prefetch::<W>(x, ahead);
                    prefetch::<W>(d, ahead);
                    let from = *chunk(d, first);
                    *chunk_mut(d, first) = terms.apply(self.curve, &norm, chunk(x, first), &from);
                }
            }
        }
    }
}

/// `W` channels of [`Normalize`].
struct ChannelNorm<const W: usize> {
    mean: [f32; W],
    scale: [f32; W],
    beta: [f32; W],
}

impl<const W: usize> ChannelNorm<W> {
    #[inline(always)]
    fn of(norm: &Normalize<'_>, first: usize) -> Self {
        ChannelNorm {
            mean: *chunk(norm.mean, first),
            scale: *chunk(&norm.scale, first),
            beta: *chunk(norm.beta, first),
        }
    }

    #[inline(always)]
    fn apply(&self, lane: usize, x: f32) -> f32 {
        (x - self.mean[lane]).mul_add(self.scale[lane], self.beta[lane])
    }
}

/// `W` channels of [`Terms`].
struct ChannelTerms<const W: usize> {
    mean: [f32; W],
    scale: [f32; W],
    slope: [f32; W],
    offset: [f32; W],
}

impl<const W: usize> ChannelTerms<W> {
    #[inline(always)]
    fn of(terms: &Terms<'_>, first: usize) -> Self {
        ChannelTerms {
            mean: *chunk(terms.mean, first),
            scale: *chunk(&terms.scale, first),
            slope: *chunk(&terms.slope, first),
            offset: *chunk(&terms.offset, first),
        }
    }

    #[inline(always)]
    fn apply(&self, curve: impl Curve, norm: &ChannelNorm<W>, x: &[f32; W], dy: &[f32; W]) -> [f32; W] {
        let mut done = [0.0; W];
        for lane in 0..W {
            let d = curve.slope(norm.apply(lane, x[lane]), dy[lane]);
            let d = self.scale[lane].mul_add(d, -self.offset[lane]);
            done[lane] = (self.mean[lane] - x[lane]).mul_add(self.slope[lane], d);
        }
        done
    }
}

/// The sums of `W` channels of a chunk.
struct ChannelSums<const W: usize> {
    sums: [f32; W],
    products: [f32; W],
}

impl<const W: usize> ChannelSums<W> {
    #[inline(always)]
    fn of([sums, products]: &[&mut [f32]; 2], first: usize) -> Self {
        ChannelSums { sums: *chunk(sums, first), products: *chunk(products, first) }
    }

    #[inline(always)]
    fn add(&mut self, d: &[f32; W], x: &[f32; W], mean: &[f32; W]) {
        for lane in 0..W {
            self.sums[lane] += d[lane];
            self.products[lane] = d[lane].mul_add(x[lane] - mean[lane], self.products[lane]);
        }
    }

    #[inline(always)]
    fn write(self, [sums, products]: &mut [&mut [f32]; 2], first: usize) {
        *chunk_mut(sums, first) = self.sums;
        *chunk_mut(products, first) = self.products;
    }
}
