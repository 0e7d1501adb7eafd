//! Softmax over the last axis, as `torch.softmax(x, -1)`.

use crate::cpu::simd;
use crate::math::exp;
use crate::shape::expect_len;

/// `y[i] = e^(x[i] - max) / sum of them`, for each row of `classes` values. The sum runs over the classes in order,
/// in f64.
///
/// # Panics
/// If `classes` is 0, the lengths differ or are no multiple of `classes`.
pub fn forward(x: &[f32], classes: usize, y: &mut [f32]) {
    check(classes, x.len(), y.len());
    rows(x, classes, y);
}

simd! {
    fn rows(x: &[f32], classes: usize, y: &mut [f32]) {
        for (x, y) in x.chunks_exact(classes).zip(y.chunks_exact_mut(classes)) {
            let max = x.iter().fold(f32::NEG_INFINITY, |max, &v| if v > max { v } else { max });
            for (y, &x) in y.iter_mut().zip(x) {
                *y = exp(x - max);
            }
            let sum = y.iter().fold(0.0, |sum, &e| sum + f64::from(e)) as f32;
            for y in y {
                *y /= sum;
            }
        }
    }
}

/// `dx[i] = y[i] (dy[i] - sum of dy y)`, for each row of `classes` values, from the output `y`. The sum runs over the
/// classes in order, in f64.
///
/// # Panics
/// If `classes` is 0, the lengths differ or are no multiple of `classes`.
pub fn backward(y: &[f32], dy: &[f32], classes: usize, dx: &mut [f32]) {
    check(classes, y.len(), dy.len());
    check(classes, y.len(), dx.len());
    let rows = y.chunks_exact(classes).zip(dy.chunks_exact(classes)).zip(dx.chunks_exact_mut(classes));
    for ((y, dy), dx) in rows {
        let dot = y.iter().zip(dy).fold(0.0, |sum, (&y, &dy)| sum + f64::from(y) * f64::from(dy)) as f32;
        for ((dx, y), dy) in dx.iter_mut().zip(y).zip(dy) {
            *dx = y * (dy - dot);
        }
    }
}

fn check(classes: usize, x: usize, y: usize) {
    assert!(classes > 0 && x.is_multiple_of(classes), "{x} values are not rows of {classes} classes");
    expect_len("the other tensor", y, x);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::naive;
    use crate::test_support::{assert_gradient, dot, noise, on_every_level};

    #[test]
    fn agrees_with_the_definition() {
        for classes in [1, 2, 10, 37] {
            let x: Vec<f32> = noise(1, 5 * classes).into_iter().map(|v| 10.0 * v).collect();
            let dy = noise(2, x.len());
            let y = on_every_level(x.len(), |y| forward(&x, classes, y));
            for (y, expected) in y.iter().zip(naive::softmax(&naive::wide(&x), classes)) {
                assert!((f64::from(*y) - expected).abs() <= 3e-6 * expected, "{y} should be {expected}");
            }
            let dx = on_every_level(x.len(), |dx| backward(&y, &dy, classes, dx));
            assert_gradient("x", |x| dot(&naive::softmax(x, classes), &dy), &x, &dx);
        }
    }

    #[test]
    fn large_logits_do_not_overflow() {
        let mut y = [0.0; 3];
        forward(&[1e4, 1e4, -1e4], 3, &mut y);
        assert_eq!(y, [0.5, 0.5, 0.0]);
    }
}
