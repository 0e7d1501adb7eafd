//! Batch normalisation over the last axis, as `torch.nn.functional.batch_norm`.
//!
//! x is any number of rows (pixels of all images) of `channels` values, where `channels` is the length of the
//! statistics. Sums over the rows are taken in row order: in f32 over each [`CHUNK`] rows, and over those in f64.

mod sums;

pub use sums::BatchSums;
use sums::rows;
pub(crate) use sums::{CHUNK, RowSums};

use crate::cpu::simd;
use crate::shape::expect_len;
use crate::simd_lanes::{Lanes, chunk, chunk_mut, for_lanes};

/// Statistics, `[channels]` each: of the batch in training, running ones in evaluation.
#[derive(Clone, Copy, Debug)]
pub struct Stats<'a> {
    /// Mean.
    pub mean: &'a [f32],
    /// Variance; of a batch the biased one (divided by the number of rows).
    pub var: &'a [f32],
}

/// Learned scale and shift, `[channels]` each.
#[derive(Clone, Copy, Debug)]
pub struct Affine<'a> {
    /// Scale (`weight` in PyTorch).
    pub gamma: &'a [f32],
    /// Shift (`bias` in PyTorch).
    pub beta: &'a [f32],
}

/// Where a backward pass writes its gradients.
#[derive(Debug)]
pub struct Grads<'a> {
    /// Of x: as many rows as x.
    pub dx: &'a mut [f32],
    /// Of gamma, `[channels]`.
    pub dgamma: &'a mut [f32],
    /// Of beta, `[channels]`.
    pub dbeta: &'a mut [f32],
}

/// Mean and biased variance of each channel, from the sums of `x - x₀` and of its square, where x₀ is the first row;
/// rounded once. The unbiased variance is rows / (rows - 1) times the biased one.
///
/// # Panics
/// If a slice does not fit, or there are no rows.
pub fn batch_stats(x: &[f32], mean: &mut [f32], var: &mut [f32]) {
    assert!(rows(x, mean.len()) > 0, "statistics of no rows");
    let mut sums = BatchSums::new(&x[..mean.len()]);
    sums.add(x);
    sums.stats(mean, var);
}

/// `y = (x - mean) * (gamma / sqrt(var + eps)) + beta`: the forward pass of evaluation, with running statistics.
///
/// # Panics
/// If a slice does not fit.
pub fn forward_eval(x: &[f32], stats: Stats, affine: Affine, eps: f32, y: &mut [f32]) {
    rows(x, stats.mean.len());
    expect_len("y", y.len(), x.len());
    Normalize::new(stats, affine, eps).apply(x, y);
}

/// The forward pass of training: writes the batch's mean and biased variance, and `y` normalised by them.
///
/// # Panics
/// If a slice does not fit, or there are no rows.
pub fn forward_train(x: &[f32], affine: Affine, eps: f32, y: &mut [f32], mean: &mut [f32], var: &mut [f32]) {
    batch_stats(x, mean, var);
    forward_eval(x, Stats { mean, var }, affine, eps, y);
}

/// The backward pass of training, from the batch's own statistics:
/// dbeta = sum dy; dgamma = sum dy x̂; dx = gamma / sqrt(var + eps) * (dy - dbeta / rows - x̂ dgamma / rows),
/// where x̂ = (x - mean) / sqrt(var + eps).
///
/// # Panics
/// If a slice does not fit.
pub fn backward_train(x: &[f32], dy: &[f32], stats: Stats, gamma: &[f32], eps: f32, grads: Grads) {
    let rows = rows(x, stats.mean.len()) as f64;
    backward(x, dy, Scaling { stats, gamma, eps }, grads, 1.0 / rows);
}

/// The backward pass of a frozen layer, whose statistics don't depend on x:
/// dbeta = sum dy; dgamma = sum dy x̂; dx = gamma / sqrt(var + eps) * dy.
///
/// # Panics
/// If a slice does not fit.
pub fn backward_eval(x: &[f32], dy: &[f32], stats: Stats, gamma: &[f32], eps: f32, grads: Grads) {
    rows(x, stats.mean.len());
    backward(x, dy, Scaling { stats, gamma, eps }, grads, 0.0);
}

/// `share`: how much of the sums each row's dx gives back, 1 / rows or nothing.
fn backward(x: &[f32], dy: &[f32], by: Scaling<'_>, grads: Grads, share: f64) {
    expect_len("dy", dy.len(), x.len());
    expect_len("dx", grads.dx.len(), x.len());
    let mut sums = RowSums::new(by.stats.mean.len());
    sums.add(x, Some(dy), by.stats.mean);
    let terms = Terms::new(sums, by, share, grads.dgamma, grads.dbeta);
    grads.dx.copy_from_slice(dy);
    terms.apply(x, grads.dx);
}

/// Values of some whole rows, which stay in the first-level cache while the blocks of channels pass over them.
pub(crate) fn few_rows(channels: usize) -> usize {
    (2048 / channels.max(1)).max(1) * channels.max(1)
}

fn inverse_deviation(stats: Stats<'_>, eps: f32) -> impl Iterator<Item = f32> {
    expect_len("var", stats.var.len(), stats.mean.len());
    stats.var.iter().map(move |&var| (1.0 / (f64::from(var) + f64::from(eps)).sqrt()) as f32)
}

/// Sum of each column of `x`, whose rows have the length of `sums`; rows in order, in f64.
pub(crate) fn column_sums(x: &[f32], sums: &mut [f32]) {
    let mut wide = vec![0.0; sums.len()];
    add_columns(x, &mut wide);
    for (sum, wide) in sums.iter_mut().zip(wide) {
        *sum = wide as f32;
    }
}

simd! {
    fn add_columns(x: &[f32], sums: &mut [f64]) {
        for x in x.chunks(CHUNK * sums.len()) {
            for_lanes::<PANEL>(sums.len(), &mut Columns { x, sums });
        }
    }
}

struct Columns<'a> {
    x: &'a [f32],
    sums: &'a mut [f64],
}

impl Lanes for Columns<'_> {
    #[inline(always)]
    fn block<const W: usize>(&mut self, first: usize) {
        let mut sums: [f64; W] = *chunk(self.sums, first);
        for x in self.x.chunks_exact(self.sums.len()) {
            let x: &[f32; W] = chunk(x, first);
            for lane in 0..W {
                sums[lane] += f64::from(x[lane]);
            }
        }
        *chunk_mut(self.sums, first) = sums;
    }
}

/// `y = (x - mean) * scale + beta` of each channel, with `scale = gamma / sqrt(var + eps)`; by one subtraction and one
/// fused multiply-add.
pub(crate) struct Normalize<'a> {
    pub mean: &'a [f32],
    pub scale: Vec<f32>,
    pub beta: &'a [f32],
}

impl<'a> Normalize<'a> {
    /// Computes the scales: `1 / sqrt(var + eps)` in f64, rounded to f32, times gamma in f32.
    pub fn new(stats: Stats<'a>, affine: Affine<'a>, eps: f32) -> Self {
        expect_len("gamma", affine.gamma.len(), stats.mean.len());
        expect_len("beta", affine.beta.len(), stats.mean.len());
        let scale = inverse_deviation(stats, eps).zip(affine.gamma).map(|(i, g)| i * g).collect();
        Normalize { mean: stats.mean, scale, beta: affine.beta }
    }

    /// Writes y for whole rows x.
    pub fn apply(&self, x: &[f32], y: &mut [f32]) {
        normalize(self, x, y);
    }
}

simd! {
    fn normalize(of: &Normalize<'_>, x: &[f32], y: &mut [f32]) {
        let len = few_rows(of.mean.len());
        for (x, y) in x.chunks(len).zip(y.chunks_mut(len)) {
            for_lanes::<PANEL>(of.mean.len(), &mut NormalizeRows { of, x, y });
        }
    }
}

struct NormalizeRows<'a> {
    of: &'a Normalize<'a>,
    x: &'a [f32],
    y: &'a mut [f32],
}

impl Lanes for NormalizeRows<'_> {
    #[inline(always)]
    fn block<const W: usize>(&mut self, first: usize) {
        let channels = self.of.mean.len();
        let mean: [f32; W] = *chunk(self.of.mean, first);
        let scale: [f32; W] = *chunk(&self.of.scale, first);
        let beta: [f32; W] = *chunk(self.of.beta, first);
        for (x, to) in self.x.chunks_exact(channels).zip(self.y.chunks_exact_mut(channels)) {
            let x: &[f32; W] = chunk(x, first);
            let mut y = [0.0; W];
            for lane in 0..W {
                y[lane] = (x[lane] - mean[lane]).mul_add(scale[lane], beta[lane]);
            }
            *chunk_mut(to, first) = y;
        }
    }
}

/// What the gradient of a norm's input depends on besides x and dy.
#[derive(Clone, Copy)]
pub(crate) struct Scaling<'a> {
    /// That normalised x.
    pub stats: Stats<'a>,
    /// `[channels]`.
    pub gamma: &'a [f32],
    /// Added to the variance.
    pub eps: f32,
}

/// The gradient of a norm's input as a function of dy and x: `dx = scale dy - (x - mean) slope - offset` of each
/// channel, by two fused multiply-adds.
///
/// With `r = 1 / sqrt(var + eps)`, `x̂ = (x - mean) r` and means over all rows, it is
///
/// ```text
/// dx = gamma r (dy - mean(dy) - x̂ mean(dy x̂))
/// ```
///
/// where x has its own statistics (Ioffe & Szegedy 2015, section 3). So `scale` is gamma r, `slope` is
/// gamma r r mean(dy x̂), and `offset` is gamma r mean(dy). Where the statistics are given, `slope` and `offset` are 0.
pub(crate) struct Terms<'a> {
    pub mean: &'a [f32],
    pub scale: Vec<f32>,
    pub slope: Vec<f32>,
    pub offset: Vec<f32>,
}

impl<'a> Terms<'a> {
    /// From the sums of dy and of dy (x - mean) over all rows; writes the gradients of gamma and beta, `[channels]`
    /// each. `share`: how much of the sums each row's dx gives back, 1 / rows or nothing. All in f64, rounded once.
    pub fn new(sums: RowSums, by: Scaling<'a>, share: f64, dgamma: &mut [f32], dbeta: &mut [f32]) -> Self {
        let Scaling { stats, gamma, eps } = by;
        let channels = stats.mean.len();
        expect_len("gamma", gamma.len(), channels);
        expect_len("dgamma", dgamma.len(), channels);
        expect_len("dbeta", dbeta.len(), channels);
        let inverse: Vec<f32> = inverse_deviation(stats, eps).collect();
        let (sums, dots) = sums.take();
        let mut terms = Terms { mean: stats.mean, scale: vec![], slope: vec![], offset: vec![] };
        for (c, (sum, dot)) in sums.into_iter().zip(dots).enumerate() {
            let scale = f64::from(gamma[c]) * f64::from(inverse[c]);
            let slope = dot * f64::from(inverse[c]);
            dbeta[c] = sum as f32;
            dgamma[c] = slope as f32;
            terms.scale.push(scale as f32);
            terms.slope.push((scale * share * slope * f64::from(inverse[c])) as f32);
            terms.offset.push((scale * share * sum) as f32);
        }
        terms
    }

    /// Turns `d`, which holds dy for the whole rows x, into dx.
    pub fn apply(&self, x: &[f32], d: &mut [f32]) {
        input_gradient(x, self, d);
    }
}

simd! {
    fn input_gradient(x: &[f32], terms: &Terms<'_>, d: &mut [f32]) {
        let len = few_rows(terms.mean.len());
        for (x, d) in x.chunks(len).zip(d.chunks_mut(len)) {
            for_lanes::<PANEL>(terms.mean.len(), &mut GradientRows { terms, x, d });
        }
    }
}

struct GradientRows<'a> {
    terms: &'a Terms<'a>,
    x: &'a [f32],
    d: &'a mut [f32],
}

impl Lanes for GradientRows<'_> {
    #[inline(always)]
    fn block<const W: usize>(&mut self, first: usize) {
        let channels = self.terms.mean.len();
        let mean: [f32; W] = *chunk(self.terms.mean, first);
        let scale: [f32; W] = *chunk(&self.terms.scale, first);
        let slope: [f32; W] = *chunk(&self.terms.slope, first);
        let offset: [f32; W] = *chunk(&self.terms.offset, first);
        for (x, to) in self.x.chunks_exact(channels).zip(self.d.chunks_exact_mut(channels)) {
            let x: &[f32; W] = chunk(x, first);
            let mut d: [f32; W] = *chunk(to, first);
            for lane in 0..W {
                d[lane] = (mean[lane] - x[lane]).mul_add(slope[lane], scale[lane].mul_add(d[lane], -offset[lane]));
            }
            *chunk_mut(to, first) = d;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::naive::{batch_norm, wide};
    use crate::test_support::{assert_gradient, dot, noise, on_every_level};

    const EPS: f32 = 1e-3;

    /// Runs the backward pass and returns dx, dgamma and dbeta, one after the other.
    fn gradients(x: &[f32], dy: &[f32], stats: Stats, gamma: &[f32], training: bool) -> [Vec<f32>; 3] {
        let channels = gamma.len();
        let all = on_every_level(x.len() + 2 * channels, |all| {
            let (dx, rest) = all.split_at_mut(x.len());
            let (dgamma, dbeta) = rest.split_at_mut(channels);
            let backward = if training { backward_train } else { backward_eval };
            backward(x, dy, stats, gamma, EPS, Grads { dx, dgamma, dbeta });
        });
        let (dx, rest) = all.split_at(x.len());
        let (dgamma, dbeta) = rest.split_at(channels);
        [dx.to_vec(), dgamma.to_vec(), dbeta.to_vec()]
    }

    fn check(rows: usize, channels: usize, training: bool, seed: u64) {
        let x: Vec<f32> = noise(seed, rows * channels).into_iter().map(|v| 3.0 * v + 1.0).collect();
        let (dy, gamma, beta) = (noise(seed + 1, x.len()), noise(seed + 2, channels), noise(seed + 3, channels));
        let affine = Affine { gamma: &gamma, beta: &beta };
        let (mut mean, mut var) = (noise(seed + 4, channels), vec![0.7; channels]);
        if training {
            let all = on_every_level(2 * channels, |all| {
                let (mean, var) = all.split_at_mut(channels);
                batch_stats(&x, mean, var);
            });
            (mean, var) = (all[..channels].to_vec(), all[channels..].to_vec());
        }
        let stats = Stats { mean: &mean, var: &var };
        let given = [wide(&mean), wide(&var)];
        let (wide_gamma, wide_beta, eps) = (wide(&gamma), wide(&beta), f64::from(EPS));
        let f = |x: &[f64], gamma: &[f64], beta: &[f64]| {
            batch_norm(x, gamma, beta, eps, (!training).then_some([&given[0], &given[1]]))
        };
        let y = on_every_level(x.len(), |y| forward_eval(&x, stats, affine, EPS, y));
        for (actual, expected) in y.iter().zip(f(&wide(&x), &wide_gamma, &wide_beta)) {
            assert!((f64::from(*actual) - expected).abs() < 2e-5, "{actual} should be {expected}");
        }
        let [dx, dgamma, dbeta] = gradients(&x, &dy, stats, &gamma, training);
        assert_gradient("x", |x| dot(&f(x, &wide_gamma, &wide_beta), &dy), &x, &dx);
        assert_gradient("gamma", |gamma| dot(&f(&wide(&x), gamma, &wide_beta), &dy), &gamma, &dgamma);
        assert_gradient("beta", |beta| dot(&f(&wide(&x), &wide_gamma, beta), &dy), &beta, &dbeta);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn agrees_with_the_definition(rows in 4usize..80, channels in 1usize..40, training: bool, seed in 0u64..1000) {
            // the cost of central differences grows with the square of the size
            check(rows.min(800 / channels).max(4), channels, training, seed);
        }
    }

    #[test]
    fn a_large_mean_does_not_hide_a_small_variance() {
        let x: Vec<f32> = (0..1000).map(|i| 1000.0 + (i % 2) as f32 / 64.0).collect();
        let (mut mean, mut var) = ([0.0], [0.0]);
        batch_stats(&x, &mut mean, &mut var);
        assert_eq!(mean, [1000.0 + 1.0 / 128.0]);
        assert!((var[0] * 128.0 * 128.0 - 1.0).abs() < 1e-4, "{var:?}");
    }

    #[test]
    fn a_constant_channel_has_no_variance() {
        let (mut mean, mut var) = ([0.0], [0.0]);
        batch_stats(&[0.1; 777], &mut mean, &mut var);
        assert_eq!(mean, [0.1]);
        assert!((0.0..1e-15).contains(&var[0]), "{var:?}");
    }

    #[test]
    fn columns_are_summed_in_f64() {
        let mut sums = [0.0; 2];
        column_sums(&[1e8, 1.0, 1.0, 2.0, -1e8, 3.0], &mut sums);
        assert_eq!(sums, [1.0, 6.0]);
    }
}
