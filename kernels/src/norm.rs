//! Batch normalisation over the last axis, as `torch.nn.functional.batch_norm`.
//!
//! x is any number of rows (pixels of all images) of `channels` values, where `channels` is the length of the
//! statistics. Sums over the rows are taken in f64 in row order.

use crate::cpu::simd;
use crate::lanes::{Lanes, chunk, chunk_mut, for_lanes};
use crate::shape::expect_len;

/// Statistics per channel: of the batch in training, running ones in evaluation.
#[derive(Clone, Copy, Debug)]
pub struct Stats<'a> {
    /// Mean.
    pub mean: &'a [f32],
    /// Variance; of a batch the biased one (divided by the number of rows).
    pub var: &'a [f32],
}

/// Learned scale and shift per channel.
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
    /// Of x.
    pub dx: &'a mut [f32],
    /// Of gamma.
    pub dgamma: &'a mut [f32],
    /// Of beta.
    pub dbeta: &'a mut [f32],
}

/// Mean and biased variance of each channel, from the sums of x and of x², rounded once. The unbiased variance is
/// rows / (rows - 1) times the biased one.
///
/// # Panics
/// If a slice does not fit, or there are no rows.
pub fn batch_stats(x: &[f32], mean: &mut [f32], var: &mut [f32]) {
    let rows = rows(x, mean.len());
    expect_len("var", var.len(), mean.len());
    assert!(rows > 0, "statistics of no rows");
    let (sums, squares) = sums_and_products(x, x, &vec![0.0; mean.len()]);
    for (((sum, squares), mean), var) in sums.into_iter().zip(squares).zip(mean).zip(var) {
        let m = sum / rows as f64;
        let v = squares / rows as f64 - m * m;
        *mean = m as f32;
        *var = if v < 0.0 { 0.0 } else { v as f32 };
    }
}

/// `y = (x - mean) * (gamma / sqrt(var + eps)) + beta`: the forward pass of evaluation, with running statistics.
///
/// # Panics
/// If a slice does not fit.
pub fn forward_eval(x: &[f32], stats: Stats, affine: Affine, eps: f32, y: &mut [f32]) {
    rows(x, stats.mean.len());
    expect_len("y", y.len(), x.len());
    expect_len("beta", affine.beta.len(), stats.mean.len());
    let scale: Vec<f32> = inverse_deviation(stats, eps).zip(affine.gamma).map(|(i, g)| i * g).collect();
    expect_len("gamma", affine.gamma.len(), stats.mean.len());
    normalize(&Normalize { x, mean: stats.mean, scale: &scale, beta: affine.beta }, y);
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
    backward(x, dy, stats, gamma, eps, grads, 1.0 / rows);
}

/// The backward pass of a frozen layer, whose statistics don't depend on x:
/// dbeta = sum dy; dgamma = sum dy x̂; dx = gamma / sqrt(var + eps) * dy.
///
/// # Panics
/// If a slice does not fit.
pub fn backward_eval(x: &[f32], dy: &[f32], stats: Stats, gamma: &[f32], eps: f32, grads: Grads) {
    rows(x, stats.mean.len());
    backward(x, dy, stats, gamma, eps, grads, 0.0);
}

/// `share`: how much of the sums each row's dx gives back, 1 / rows or nothing.
fn backward(x: &[f32], dy: &[f32], stats: Stats, gamma: &[f32], eps: f32, grads: Grads, share: f64) {
    let channels = stats.mean.len();
    expect_len("dy", dy.len(), x.len());
    expect_len("dx", grads.dx.len(), x.len());
    expect_len("gamma", gamma.len(), channels);
    expect_len("dgamma", grads.dgamma.len(), channels);
    expect_len("dbeta", grads.dbeta.len(), channels);
    let inverse: Vec<f32> = inverse_deviation(stats, eps).collect();
    let (sums, dots) = sums_and_products(x, dy, stats.mean);
    // dx = scale dy - (x - mean) slope - offset
    let mut terms = Terms { mean: stats.mean, scale: vec![], slope: vec![], offset: vec![] };
    for (c, (sum, dot)) in sums.into_iter().zip(dots).enumerate() {
        let scale = f64::from(gamma[c]) * f64::from(inverse[c]);
        let dgamma = dot * f64::from(inverse[c]);
        grads.dbeta[c] = sum as f32;
        grads.dgamma[c] = dgamma as f32;
        terms.scale.push(scale as f32);
        terms.slope.push((scale * share * dgamma * f64::from(inverse[c])) as f32);
        terms.offset.push((scale * share * sum) as f32);
    }
    input_gradient(x, dy, &terms, grads.dx);
}

fn rows(x: &[f32], channels: usize) -> usize {
    assert!(channels > 0 && x.len().is_multiple_of(channels), "{} values are not rows of {channels}", x.len());
    x.len() / channels
}

fn inverse_deviation(stats: Stats<'_>, eps: f32) -> impl Iterator<Item = f32> {
    expect_len("var", stats.var.len(), stats.mean.len());
    stats.var.iter().map(move |&var| (1.0 / (f64::from(var) + f64::from(eps)).sqrt()) as f32)
}

/// Sum of each column of `x`, whose rows have the length of `sums`; rows in order, in f64.
pub(crate) fn column_sums(x: &[f32], sums: &mut [f32]) {
    let (wide, _) = sums_and_products(x, x, &vec![0.0; sums.len()]);
    for (sum, wide) in sums.iter_mut().zip(wide) {
        *sum = wide as f32;
    }
}

/// Per channel the sum of dy and the sum of dy (x - mean), rows in order, in f64.
fn sums_and_products(x: &[f32], dy: &[f32], mean: &[f32]) -> (Vec<f64>, Vec<f64>) {
    let mut of = (vec![0.0; mean.len()], vec![0.0; mean.len()]);
    add_sums_and_products(x, dy, mean, &mut of.0, &mut of.1);
    of
}

/// Rows at a time, so that they stay in the cache while the blocks of channels pass over them.
const ROWS: usize = 64;

simd! {
    fn add_sums_and_products(x: &[f32], dy: &[f32], mean: &[f32], sums: &mut [f64], products: &mut [f64]) {
        let len = ROWS * mean.len();
        for (x, dy) in x.chunks(len).zip(dy.chunks(len)) {
            for_lanes::<PANEL>(mean.len(), &mut Sums { x, dy, mean, sums, products });
        }
    }
}

struct Sums<'a> {
    x: &'a [f32],
    dy: &'a [f32],
    mean: &'a [f32],
    sums: &'a mut [f64],
    products: &'a mut [f64],
}

impl Lanes for Sums<'_> {
    #[inline(always)]
    fn block<const W: usize>(&mut self, first: usize) {
        let channels = self.mean.len();
        let mean: &[f32; W] = chunk(self.mean, first);
        let mut sums: [f64; W] = *chunk(self.sums, first);
        let mut products: [f64; W] = *chunk(self.products, first);
        for (x, dy) in self.x.chunks_exact(channels).zip(self.dy.chunks_exact(channels)) {
            let (x, dy): (&[f32; W], &[f32; W]) = (chunk(x, first), chunk(dy, first));
            for lane in 0..W {
                let dy = f64::from(dy[lane]);
                sums[lane] += dy;
                products[lane] = dy.mul_add(f64::from(x[lane] - mean[lane]), products[lane]);
            }
        }
        *chunk_mut(self.sums, first) = sums;
        *chunk_mut(self.products, first) = products;
    }
}

/// `y = (x - mean) * scale + beta`.
struct Normalize<'a> {
    x: &'a [f32],
    mean: &'a [f32],
    scale: &'a [f32],
    beta: &'a [f32],
}

simd! {
    fn normalize(of: &Normalize<'_>, y: &mut [f32]) {
        let channels = of.mean.len();
        for (x, y) in of.x.chunks_exact(channels).zip(y.chunks_exact_mut(channels)) {
            for_lanes::<PANEL>(channels, &mut NormalizeRow { of, x, y });
        }
    }
}

struct NormalizeRow<'a> {
    of: &'a Normalize<'a>,
    x: &'a [f32],
    y: &'a mut [f32],
}

impl Lanes for NormalizeRow<'_> {
    #[inline(always)]
    fn block<const W: usize>(&mut self, first: usize) {
        let x: &[f32; W] = chunk(self.x, first);
        let mean: &[f32; W] = chunk(self.of.mean, first);
        let scale: &[f32; W] = chunk(self.of.scale, first);
        let beta: &[f32; W] = chunk(self.of.beta, first);
        let y: &mut [f32; W] = chunk_mut(self.y, first);
        for lane in 0..W {
            y[lane] = (x[lane] - mean[lane]).mul_add(scale[lane], beta[lane]);
        }
    }
}

/// `dx = scale dy - (x - mean) slope - offset`.
struct Terms<'a> {
    mean: &'a [f32],
    scale: Vec<f32>,
    slope: Vec<f32>,
    offset: Vec<f32>,
}

simd! {
    fn input_gradient(x: &[f32], dy: &[f32], terms: &Terms<'_>, dx: &mut [f32]) {
        let channels = terms.mean.len();
        let rows = x.chunks_exact(channels).zip(dy.chunks_exact(channels)).zip(dx.chunks_exact_mut(channels));
        for ((x, dy), dx) in rows {
            for_lanes::<PANEL>(channels, &mut GradientRow { terms, x, dy, dx });
        }
    }
}

struct GradientRow<'a> {
    terms: &'a Terms<'a>,
    x: &'a [f32],
    dy: &'a [f32],
    dx: &'a mut [f32],
}

impl Lanes for GradientRow<'_> {
    #[inline(always)]
    fn block<const W: usize>(&mut self, first: usize) {
        let (x, dy): (&[f32; W], &[f32; W]) = (chunk(self.x, first), chunk(self.dy, first));
        let mean: &[f32; W] = chunk(self.terms.mean, first);
        let scale: &[f32; W] = chunk(&self.terms.scale, first);
        let slope: &[f32; W] = chunk(&self.terms.slope, first);
        let offset: &[f32; W] = chunk(&self.terms.offset, first);
        let dx: &mut [f32; W] = chunk_mut(self.dx, first);
        for lane in 0..W {
            dx[lane] = (mean[lane] - x[lane]).mul_add(slope[lane], scale[lane].mul_add(dy[lane], -offset[lane]));
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
