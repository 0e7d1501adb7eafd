//! Losses of a shard: each function returns the **sum** of its samples' losses and writes the gradient of that sum.
//! Dividing by the number of samples (or by the summed weight) is the root's business.
//!
//! Each loss is computed in f64 from the f32 inputs, classes or outputs in order, then samples in order; gradients
//! are rounded to f32 once.

use crate::shape::expect_len;
use thiserror::Error;

/// Why a loss could not be computed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum LossError {
    /// A label names a class that does not exist.
    #[error("sample {sample} of the shard has label {label}, but there are only {classes} classes (0 to {})", classes - 1)]
    Label {
        /// Index within the shard.
        sample: usize,
        /// The label.
        label: u32,
        /// Number of classes.
        classes: usize,
    },
}

/// A sum over samples, and what to divide it by for PyTorch's mean.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LossSum {
    /// Sum of the samples' losses.
    pub loss: f64,
    /// Sum of the weights of the samples' classes; the number of samples where there are no class weights.
    pub weight: f64,
}

/// Options of [`cross_entropy`]; the default is plain cross entropy.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CrossEntropy<'a> {
    /// Share of the target that is spread evenly over all classes, in [0, 1].
    pub label_smoothing: f32,
    /// Weight of each class.
    pub class_weights: Option<&'a [f32]>,
}

/// Softmax cross entropy as `torch.nn.functional.cross_entropy` with `reduction='sum'`: logits are
/// `[labels.len(), classes]`. Computed as log-sum-exp relative to the largest logit.
///
/// # Errors
/// If a label is not below `classes`; `dlogits` is then unspecified.
///
/// # Panics
/// If `classes` is 0 or a slice does not fit.
pub fn cross_entropy(
    logits: &[f32],
    labels: &[u32],
    classes: usize,
    options: CrossEntropy,
    dlogits: &mut [f32],
) -> Result<LossSum, LossError> {
    assert!(classes > 0, "cross entropy of 0 classes");
    expect_len("logits", logits.len(), labels.len() * classes);
    expect_len("dlogits", dlogits.len(), logits.len());
    if let Some(weights) = options.class_weights {
        expect_len("class_weights", weights.len(), classes);
    }
    let mut total = LossSum { loss: 0.0, weight: 0.0 };
    let rows = logits.chunks_exact(classes).zip(dlogits.chunks_exact_mut(classes));
    for (sample, ((logits, dlogits), &label)) in rows.zip(labels).enumerate() {
        if label as usize >= classes {
            return Err(LossError::Label { sample, label, classes });
        }
        let one = cross_entropy_of_sample(logits, label as usize, options, dlogits);
        total.loss += one.loss;
        total.weight += one.weight;
    }
    Ok(total)
}

/// With target t (the smoothed one-hot label times the class weights), the loss is sum over c of -t_c log p_c, and
/// its gradient p_c sum(t) - t_c.
fn cross_entropy_of_sample(logits: &[f32], label: usize, options: CrossEntropy, dlogits: &mut [f32]) -> LossSum {
    let weight = |class: usize| options.class_weights.map_or(1.0, |w| f64::from(w[class]));
    let smoothing = f64::from(options.label_smoothing);
    let spread = smoothing / logits.len() as f64;
    let target = |class: usize| weight(class) * (spread + if class == label { 1.0 - smoothing } else { 0.0 });

    let max = logits.iter().fold(f32::NEG_INFINITY, |max, &v| if v > max { v } else { max });
    let shifted = |logit: f32| f64::from(logit) - f64::from(max);
    let sum = logits.iter().fold(0.0, |sum, &logit| sum + libm::exp(shifted(logit)));
    let log_sum = libm::log(sum);
    let (mut loss, mut mass) = (0.0, 0.0);
    for (class, &logit) in logits.iter().enumerate() {
        let target = target(class);
        mass += target;
        if target != 0.0 {
            loss += target * (log_sum - shifted(logit));
        }
    }
    for (class, (dlogit, &logit)) in dlogits.iter_mut().zip(logits).enumerate() {
        *dlogit = (libm::exp(shifted(logit)) / sum * mass - target(class)) as f32;
    }
    LossSum { loss, weight: weight(label) }
}

/// Binary cross entropy with logits, as `torch.nn.functional.binary_cross_entropy_with_logits`: logits and targets
/// (in [0, 1]) are `[n, k]`; a sample's loss is the mean over its k labels. `pos_weight` (k values) multiplies the
/// positive part.
///
/// # Panics
/// If `k` is 0 or a slice does not fit.
pub fn binary_cross_entropy(
    logits: &[f32],
    targets: &[f32],
    k: usize,
    pos_weight: Option<&[f32]>,
    dlogits: &mut [f32],
) -> f64 {
    if let Some(weights) = pos_weight {
        expect_len("pos_weight", weights.len(), k);
    }
    elementwise(logits, targets, k, dlogits, |label, x, t| {
        let positive = t * pos_weight.map_or(1.0, |w| f64::from(w[label]));
        let negative = 1.0 - t;
        // softplus(-x) and softplus(x), whose exponentials never overflow
        let log1p = libm::log1p(libm::exp(-x.abs()));
        let (minus, plus) = if x > 0.0 { (log1p, x + log1p) } else { (log1p - x, log1p) };
        let p = 1.0 / (1.0 + libm::exp(-x));
        (positive * minus + negative * plus, negative * p - positive * (1.0 - p))
    })
}

/// Mean squared error, as `torch.nn.functional.mse_loss`: outputs and targets are `[n, k]`; a sample's loss is the
/// mean over its k outputs.
///
/// # Panics
/// If `k` is 0 or a slice does not fit.
pub fn mse(outputs: &[f32], targets: &[f32], k: usize, doutputs: &mut [f32]) -> f64 {
    elementwise(outputs, targets, k, doutputs, |_, x, t| ((x - t) * (x - t), 2.0 * (x - t)))
}

/// Mean absolute error, as `torch.nn.functional.l1_loss`, with gradient 0 where output and target are equal; shapes
/// as in [`mse`].
///
/// # Panics
/// If `k` is 0 or a slice does not fit.
pub fn mae(outputs: &[f32], targets: &[f32], k: usize, doutputs: &mut [f32]) -> f64 {
    elementwise(outputs, targets, k, doutputs, |_, x, t| ((x - t).abs(), sign(x - t)))
}

/// Huber loss, as `torch.nn.functional.huber_loss`: half the squared error up to `delta`, then
/// delta (|error| - delta / 2); shapes as in [`mse`].
///
/// # Panics
/// If `k` is 0 or a slice does not fit.
pub fn huber(outputs: &[f32], targets: &[f32], k: usize, delta: f32, doutputs: &mut [f32]) -> f64 {
    let delta = f64::from(delta);
    elementwise(outputs, targets, k, doutputs, |_, x, t| {
        let error = x - t;
        if error.abs() <= delta {
            (0.5 * error * error, error)
        } else {
            (delta * (error.abs() - 0.5 * delta), delta * sign(error))
        }
    })
}

fn sign(x: f64) -> f64 {
    if x == 0.0 || x.is_nan() { x } else { 1.0_f64.copysign(x) }
}

/// Sums a loss over `[n, k]` values, `f(index in row, output, target)` being an element's loss and derivative.
fn elementwise(
    outputs: &[f32],
    targets: &[f32],
    k: usize,
    doutputs: &mut [f32],
    f: impl Fn(usize, f64, f64) -> (f64, f64),
) -> f64 {
    assert!(k > 0 && outputs.len().is_multiple_of(k), "{} outputs are not rows of {k}", outputs.len());
    expect_len("targets", targets.len(), outputs.len());
    expect_len("the gradient", doutputs.len(), outputs.len());
    let mut total = 0.0;
    let rows = outputs.chunks_exact(k).zip(targets.chunks_exact(k)).zip(doutputs.chunks_exact_mut(k));
    for ((outputs, targets), doutputs) in rows {
        let mut sum = 0.0;
        for (i, ((&x, &t), d)) in outputs.iter().zip(targets).zip(doutputs).enumerate() {
            let (loss, derivative) = f(i, f64::from(x), f64::from(t));
            sum += loss;
            *d = (derivative / k as f64) as f32;
        }
        total += sum / k as f64;
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::naive;
    use crate::test_support::{assert_gradient, noise};

    #[test]
    fn cross_entropy_has_the_gradient_of_its_definition() {
        let labels = [3u32, 0, 6, 6, 1];
        let weights = [0.5, 1.0, 2.0, 0.25, 1.0, 0.0, 3.0];
        for options in [
            CrossEntropy::default(),
            CrossEntropy { label_smoothing: 0.1, class_weights: None },
            CrossEntropy { label_smoothing: 0.3, class_weights: Some(&weights) },
        ] {
            let x: Vec<f32> = noise(1, 5 * 7).into_iter().map(|v| 5.0 * v).collect();
            let smoothing = f64::from(options.label_smoothing);
            let definition = |x: &[f64]| -> f64 {
                let p = naive::softmax(x, 7);
                let terms = naive::indices([5, 7]).map(|[sample, class]| {
                    let hard = if labels[sample] as usize == class { 1.0 - smoothing } else { 0.0 };
                    let weight = options.class_weights.map_or(1.0, |w| f64::from(w[class]));
                    -(hard + smoothing / 7.0) * weight * libm::log(p[sample * 7 + class])
                });
                terms.sum()
            };
            let mut dx = vec![0.0; x.len()];
            let sum = cross_entropy(&x, &labels, 7, options, &mut dx).expect("labels are classes");
            assert!((sum.loss - definition(&naive::wide(&x))).abs() < 1e-9);
            assert_eq!(sum.weight, options.class_weights.map_or(5.0, |_| 0.25 + 0.5 + 3.0 + 3.0 + 1.0));
            assert_gradient("logits", definition, &x, &dx);
        }
    }

    #[test]
    fn a_label_beyond_the_classes_is_an_error() {
        let error = cross_entropy(&[0.0; 6], &[1, 3], 3, CrossEntropy::default(), &mut [0.0; 6]);
        let message = error.expect_err("3 classes are 0, 1, 2").to_string();
        assert_eq!(message, "sample 1 of the shard has label 3, but there are only 3 classes (0 to 2)");
    }

    #[test]
    fn extreme_logits_stay_finite_and_nan_shows() {
        let mut d = [0.0; 2];
        let sum = cross_entropy(&[1e30, -1e30], &[1], 2, CrossEntropy::default(), &mut d).expect("a label");
        assert!(sum.loss.is_finite() && d == [1.0, -1.0]);
        assert!(binary_cross_entropy(&[1e30, -1e30], &[0.0, 1.0], 2, None, &mut d).is_finite());
        let nan = cross_entropy(&[f32::NAN, 0.0], &[1], 2, CrossEntropy::default(), &mut d).expect("a label");
        assert!(nan.loss.is_nan() && d[1].is_nan());
        for loss in [mse, mae, |x: &[f32], t: &[f32], k: usize, d: &mut [f32]| huber(x, t, k, 1.0, d)] {
            assert!(loss(&[f32::NAN, 0.0], &[0.0, 0.0], 2, &mut d).is_nan() && d[0].is_nan());
        }
    }

    #[test]
    fn elementwise_losses_have_the_gradients_of_their_values() {
        let x: Vec<f32> = noise(1, 12).into_iter().map(|v| 3.0 * v).collect();
        let t: Vec<f32> = noise(2, 12).into_iter().map(|v| 0.5 * v + 0.5).collect();
        let pos_weight = [2.0, 0.5, 1.0];
        type Loss<'a> = &'a dyn Fn(&[f32], &mut [f32]) -> f64;
        type Definition<'a> = &'a dyn Fn(&[f64]) -> f64;
        let error = |x: &[f64], f: &dyn Fn(f64) -> f64| -> f64 {
            x.iter().zip(&t).map(|(x, &t)| f(x - f64::from(t)) / 3.0).sum()
        };
        let bce = |x: &[f64]| -> f64 {
            let term = |(i, (x, &t)): (usize, (&f64, &f32))| {
                let (p, t) = (1.0 / (1.0 + libm::exp(-x)), f64::from(t));
                -(f64::from(pos_weight[i % 3]) * t * libm::log(p) + (1.0 - t) * libm::log(1.0 - p)) / 3.0
            };
            x.iter().zip(&t).enumerate().map(term).sum()
        };
        let huber_of = |e: f64| if e.abs() < 0.7 { e * e / 2.0 } else { 0.7 * (e.abs() - 0.35) };
        let cases: [(Loss, Definition); 4] = [
            (&|x, d| binary_cross_entropy(x, &t, 3, Some(&pos_weight), d), &bce),
            (&|x, d| mse(x, &t, 3, d), &|x| error(x, &|e| e * e)),
            (&|x, d| mae(x, &t, 3, d), &|x| error(x, &f64::abs)),
            (&|x, d| huber(x, &t, 3, 0.7, d), &|x| error(x, &huber_of)),
        ];
        for (loss, definition) in cases {
            let mut d = vec![0.0; 12];
            let value = loss(&x, &mut d);
            assert!((value - definition(&naive::wide(&x))).abs() < 1e-6);
            assert_gradient("outputs", definition, &x, &d);
        }
    }
}
