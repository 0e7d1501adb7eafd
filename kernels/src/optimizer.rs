//! Optimizer steps over ranges of elements: `torch.optim.SGD`, `Adam` and `AdamW`.
//!
//! Every element stands alone, so a tensor may be stepped chunk by chunk, in any order. Elements that must not decay
//! (norms, biases) are stepped with `weight_decay` 0.

use crate::cpu::simd;
use crate::shape::expect_len;

/// What one step of SGD needs besides the tensors.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SgdStep {
    /// Learning rate.
    pub lr: f32,
    /// Momentum; 0 for none.
    pub momentum: f32,
    /// Nesterov's momentum instead of the classical.
    pub nesterov: bool,
    /// L2 penalty, added to the gradient.
    pub weight_decay: f32,
    /// The first step of all: the momentum buffer becomes the gradient, whatever it held.
    pub first_step: bool,
}

/// One step of `torch.optim.SGD` (dampening 0): g = grad + weight_decay p; v = momentum v + g; p -= lr v, with
/// Nesterov p -= lr (g + momentum v). `momentum_buf` is not read or written, and may be empty, where momentum is 0.
///
/// # Panics
/// If the lengths differ.
pub fn sgd(params: &mut [f32], grad: &[f32], momentum_buf: &mut [f32], step: &SgdStep) {
    expect_len("grad", grad.len(), params.len());
    if step.momentum == 0.0 {
        return sgd_plain(params, grad, step);
    }
    expect_len("momentum_buf", momentum_buf.len(), params.len());
    if step.first_step {
        momentum_buf.fill(0.0);
    }
    sgd_momentum(params, grad, momentum_buf, step);
}

simd! {
    fn sgd_plain(params: &mut [f32], grad: &[f32], step: &SgdStep) {
        let SgdStep { lr, weight_decay, .. } = *step;
        for (p, g) in params.iter_mut().zip(grad) {
            *p = (-lr).mul_add(weight_decay.mul_add(*p, *g), *p);
        }
    }
}

simd! {
    fn sgd_momentum(params: &mut [f32], grad: &[f32], momentum_buf: &mut [f32], step: &SgdStep) {
        let SgdStep { lr, momentum, nesterov, weight_decay, .. } = *step;
        for ((p, g), v) in params.iter_mut().zip(grad).zip(momentum_buf) {
            let g = weight_decay.mul_add(*p, *g);
            *v = momentum.mul_add(*v, g);
            let direction = if nesterov { momentum.mul_add(*v, g) } else { *v };
            *p = (-lr).mul_add(direction, *p);
        }
    }
}

/// What one step of Adam or AdamW needs besides the tensors.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamStep {
    /// Learning rate.
    pub lr: f32,
    /// Decay of the mean of gradients.
    pub beta1: f32,
    /// Decay of the mean of squared gradients.
    pub beta2: f32,
    /// Added to the denominator.
    pub eps: f32,
    /// L2 penalty (Adam) or decoupled decay (AdamW).
    pub weight_decay: f32,
    /// 1 - beta1^t, see [`bias_correction`].
    pub correction1: f32,
    /// 1 - beta2^t, see [`bias_correction`].
    pub correction2: f32,
}

/// 1 - beta^t, computed in f64, for step t = 1, 2, ...
pub fn bias_correction(beta: f64, t: u64) -> f32 {
    (1.0 - libm::pow(beta, t as f64)) as f32
}

/// One step of `torch.optim.Adam`: g = grad + weight_decay p; m += (1 - beta1)(g - m);
/// v = beta2 v + (1 - beta2) g^2; p -= lr / correction1 * m / (sqrt(v) / sqrt(correction2) + eps).
/// `m` and `v` start as zeros.
///
/// # Panics
/// If the lengths differ.
pub fn adam(params: &mut [f32], grad: &[f32], m: &mut [f32], v: &mut [f32], step: &AdamStep) {
    check(params, grad, m, v);
    adam_elements(params, grad, m, v, step, step.weight_decay, 1.0);
}

/// One step of `torch.optim.AdamW`: p *= 1 - lr weight_decay, then as [`adam`] without penalty.
///
/// # Panics
/// If the lengths differ.
pub fn adamw(params: &mut [f32], grad: &[f32], m: &mut [f32], v: &mut [f32], step: &AdamStep) {
    check(params, grad, m, v);
    adam_elements(params, grad, m, v, step, 0.0, step.lr.mul_add(-step.weight_decay, 1.0));
}

fn check(params: &[f32], grad: &[f32], m: &[f32], v: &[f32]) {
    expect_len("grad", grad.len(), params.len());
    expect_len("m", m.len(), params.len());
    expect_len("v", v.len(), params.len());
}

simd! {
    fn adam_elements(
        params: &mut [f32],
        grad: &[f32],
        m: &mut [f32],
        v: &mut [f32],
        step: &AdamStep,
        penalty: f32,
        shrink: f32,
    ) {
        let AdamStep { lr, beta1, beta2, eps, correction1, correction2, .. } = *step;
        let (step_size, root_correction2) = (lr / correction1, correction2.sqrt());
        for (((p, g), m), v) in params.iter_mut().zip(grad).zip(m).zip(v) {
            let g = penalty.mul_add(*p, *g);
            *m = (1.0 - beta1).mul_add(g - *m, *m);
            *v = beta2.mul_add(*v, (1.0 - beta2) * (g * g));
            let denominator = v.sqrt() / root_correction2 + eps;
            *p = (-step_size).mul_add(*m / denominator, *p * shrink);
        }
    }
}

/// Elements per block of [`global_norm_sq`].
pub const NORM_BLOCK: usize = 4096;

/// Sum of squares of at most [`NORM_BLOCK`] values, in f64: 8 sums of every eighth value, added as a binary tree.
///
/// # Panics
/// If there are more values than a block has.
pub fn norm_sq_block(values: &[f32]) -> f64 {
    assert!(values.len() <= NORM_BLOCK, "a block has at most {NORM_BLOCK} values, not {}", values.len());
    let mut sums = [0.0f64; 8];
    let (eights, rest) = values.as_chunks::<8>();
    for eight in eights {
        for (sum, &v) in sums.iter_mut().zip(eight) {
            *sum += f64::from(v) * f64::from(v);
        }
    }
    for (sum, &v) in sums.iter_mut().zip(rest) {
        *sum += f64::from(v) * f64::from(v);
    }
    let [a, b, c, d, e, f, g, h] = sums;
    ((a + b) + (c + d)) + ((e + f) + (g + h))
}

/// Sum of squares, in f64: the blocks' sums ([`norm_sq_block`] of each [`NORM_BLOCK`] values) added in order. For a
/// gradient of several tensors, add the blocks of all of them in order to one sum.
pub fn global_norm_sq(values: &[f32]) -> f64 {
    values.chunks(NORM_BLOCK).fold(0.0, |sum, block| sum + norm_sq_block(block))
}
