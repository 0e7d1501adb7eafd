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
    adam_elements(params, grad, m, v, step, Decay { penalty: step.weight_decay, shrink: 1.0 });
}

/// One step of `torch.optim.AdamW`: p *= 1 - lr weight_decay, then as [`adam`] without penalty.
///
/// # Panics
/// If the lengths differ.
pub fn adamw(params: &mut [f32], grad: &[f32], m: &mut [f32], v: &mut [f32], step: &AdamStep) {
    check(params, grad, m, v);
    let shrink = step.lr.mul_add(-step.weight_decay, 1.0);
    adam_elements(params, grad, m, v, step, Decay { penalty: 0.0, shrink });
}

fn check(params: &[f32], grad: &[f32], m: &[f32], v: &[f32]) {
    expect_len("grad", grad.len(), params.len());
    expect_len("m", m.len(), params.len());
    expect_len("v", v.len(), params.len());
}

/// How weights decay.
#[derive(Clone, Copy)]
struct Decay {
    /// Share of a parameter that is added to its gradient.
    penalty: f32,
    /// Factor of a parameter before it is stepped.
    shrink: f32,
}

simd! {
    fn adam_elements(params: &mut [f32], grad: &[f32], m: &mut [f32], v: &mut [f32], step: &AdamStep, decay: Decay) {
        let Decay { penalty, shrink } = decay;
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

/// Elements per block of [`global_norm_sq`]. It is part of the bits.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::{noise, on_every_level};

    const LEN: usize = 103;

    /// A step at time t, of parameters by gradients, with two states.
    type Step<'a> = &'a dyn Fn(u64, &mut [f32], &[f32], &mut [f32], &mut [f32]);
    type Adam = fn(&mut [f32], &[f32], &mut [f32], &mut [f32], &AdamStep);

    /// Three steps over parts of the elements; parameters and state one after the other.
    fn run(parts: &[usize], step: Step) -> Vec<f32> {
        on_every_level(3 * LEN, |all| {
            let (params, state) = all.split_at_mut(LEN);
            let (a, b) = state.split_at_mut(LEN);
            params.copy_from_slice(&noise(1, LEN));
            a.fill(0.0);
            b.fill(0.0);
            for t in 1..4 {
                let grad = noise(1 + t, LEN);
                for ends in parts.windows(2) {
                    let range = ends[0]..ends[1];
                    let (a, b) = (&mut a[range.clone()], &mut b[range.clone()]);
                    step(t, &mut params[range.clone()], &grad[range], a, b);
                }
            }
        })
    }

    #[test]
    fn chunks_change_nothing() {
        let sgd_with = |momentum, nesterov| {
            move |t: u64, p: &mut [f32], g: &[f32], a: &mut [f32], _: &mut [f32]| {
                let step = SgdStep { lr: 0.1, momentum, nesterov, weight_decay: 0.01, first_step: t == 1 };
                sgd(p, g, a, &step);
            }
        };
        let adam_with = |f: Adam| {
            move |t: u64, p: &mut [f32], g: &[f32], a: &mut [f32], b: &mut [f32]| {
                let step = AdamStep {
                    lr: 0.1,
                    beta1: 0.9,
                    beta2: 0.99,
                    eps: 1e-8,
                    weight_decay: 0.1,
                    correction1: bias_correction(0.9, t),
                    correction2: bias_correction(0.99, t),
                };
                f(p, g, a, b, &step);
            }
        };
        let steps: [Step; 5] =
            [&sgd_with(0.0, false), &sgd_with(0.9, false), &sgd_with(0.9, true), &adam_with(adam), &adam_with(adamw)];
        let mut results = Vec::new();
        for step in steps {
            let whole = run(&[0, LEN], step);
            assert_eq!(whole, run(&[0, 1, 30, 64, LEN], step));
            assert!(whole[..LEN] != noise(1, LEN)[..]);
            results.push(whole);
        }
        results.dedup();
        assert_eq!(results.len(), steps.len(), "two optimizers do the same");
    }

    #[test]
    fn the_norm_is_a_sum_of_blocks_in_order() {
        let values = noise(7, 3 * NORM_BLOCK + 5);
        let naive: f64 = values.iter().map(|&v| f64::from(v) * f64::from(v)).sum();
        assert!((global_norm_sq(&values) - naive).abs() < 1e-9 * naive);
        // A range that begins at a block's boundary goes on where the range before it ended.
        let (head, tail) = values.split_at(2 * NORM_BLOCK);
        let by_ranges = tail.chunks(NORM_BLOCK).fold(global_norm_sq(head), |sum, block| sum + norm_sq_block(block));
        assert_eq!(by_ranges.to_bits(), global_norm_sq(&values).to_bits());
        assert_eq!(global_norm_sq(&[3.0, 4.0]), 25.0);
    }

    #[test]
    fn bias_correction_is_that_of_adam() {
        assert_eq!(bias_correction(0.9, 1), 0.1);
        assert_eq!(bias_correction(0.5, 3), 0.875);
    }
}
