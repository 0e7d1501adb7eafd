//! Batch normalisation over the last axis, as `torch.nn.functional.batch_norm`.
//!
//! x is any number of rows (pixels of all images) of `channels` values, where `channels` is the length of the
//! statistics. Sums over the rows are taken in f64 in row order.

use crate::cpu::simd;
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
    let mut sums = vec![[0.0f64; 2]; mean.len()];
    pair_sums(x, &mut sums);
    for (([sum, squares], mean), var) in sums.into_iter().zip(mean).zip(var) {
        let m = sum / rows as f64;
        let v = squares / rows as f64 - m * m;
        *mean = m as f32;
        *var = if v < 0.0 { 0.0 } else { v as f32 };
    }
}

simd! {
    fn pair_sums(x: &[f32], sums: &mut [[f64; 2]]) {
        for row in x.chunks_exact(sums.len()) {
            for ([sum, squares], &x) in sums.iter_mut().zip(row) {
                let x = f64::from(x);
                *sum += x;
                *squares = x.mul_add(x, *squares);
            }
        }
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
    normalize(x, stats.mean, &scale, affine.beta, y);
}

simd! {
    fn normalize(x: &[f32], mean: &[f32], scale: &[f32], beta: &[f32], y: &mut [f32]) {
        let channels = mean.len();
        for (x, y) in x.chunks_exact(channels).zip(y.chunks_exact_mut(channels)) {
            for ((((y, x), mean), scale), beta) in y.iter_mut().zip(x).zip(mean).zip(scale).zip(beta) {
                *y = (x - mean).mul_add(*scale, *beta);
            }
        }
    }
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
    let mut sums = vec![[0.0f64; 2]; channels];
    gradient_sums(x, dy, stats.mean, &mut sums);
    // dx = scale dy - (x - mean) slope - offset
    let mut terms = Vec::with_capacity(channels);
    for (c, [sum, dot]) in sums.into_iter().enumerate() {
        let scale = f64::from(gamma[c]) * f64::from(inverse[c]);
        let dgamma = dot * f64::from(inverse[c]);
        grads.dbeta[c] = sum as f32;
        grads.dgamma[c] = dgamma as f32;
        let slope = scale * share * dgamma * f64::from(inverse[c]);
        terms.push([stats.mean[c], scale as f32, slope as f32, (scale * share * sum) as f32]);
    }
    input_gradient(x, dy, &terms, grads.dx);
}

simd! {
    fn gradient_sums(x: &[f32], dy: &[f32], mean: &[f32], sums: &mut [[f64; 2]]) {
        let channels = mean.len();
        for (x, dy) in x.chunks_exact(channels).zip(dy.chunks_exact(channels)) {
            for ((([sum, dot], x), dy), mean) in sums.iter_mut().zip(x).zip(dy).zip(mean) {
                let dy = f64::from(*dy);
                *sum += dy;
                *dot = dy.mul_add(f64::from(x - mean), *dot);
            }
        }
    }
}

simd! {
    fn input_gradient(x: &[f32], dy: &[f32], terms: &[[f32; 4]], dx: &mut [f32]) {
        let channels = terms.len();
        let rows = x.chunks_exact(channels).zip(dy.chunks_exact(channels)).zip(dx.chunks_exact_mut(channels));
        for ((x, dy), dx) in rows {
            for (((dx, x), dy), &[mean, scale, slope, offset]) in dx.iter_mut().zip(x).zip(dy).zip(terms) {
                *dx = (mean - x).mul_add(slope, scale.mul_add(*dy, -offset));
            }
        }
    }
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
    let mut wide = vec![0.0f64; sums.len()];
    for row in x.chunks_exact(sums.len()) {
        for (sum, &x) in wide.iter_mut().zip(row) {
            *sum += f64::from(x);
        }
    }
    for (sum, wide) in sums.iter_mut().zip(wide) {
        *sum = wide as f32;
    }
}
