use super::PoolShape;
use crate::cpu::simd;

/// Max pooling as `torch.nn.functional.max_pool2d`: padding is never the largest, a NaN always is.
///
/// # Panics
/// If the shape makes no sense or a slice does not fit it.
pub fn max_forward(shape: PoolShape, x: &[f32], y: &mut [f32]) {
    shape.check(x, y);
    largest(shape, x, y);
}

simd! {
    fn largest(shape: PoolShape, x: &[f32], y: &mut [f32]) {
        let c = shape.c;
        shape.windows(|out, window| {
            let y = &mut y[out * c..][..c];
            let (first, rest) = window.split_first().expect("padding is at most half the window");
            y.copy_from_slice(&x[first * c..][..c]);
            for pixel in rest {
                for (y, &x) in y.iter_mut().zip(&x[pixel * c..][..c]) {
                    *y = if x > *y || x.is_nan() { x } else { *y };
                }
            }
        });
    }
}

/// Gradient of [`max_forward`], from its input `x`: each dy goes to the largest value of its window, to the first in
/// window order if several are equal (to the last NaN if there is one). Added in the order of the outputs.
///
/// # Panics
/// If the shape makes no sense or a slice does not fit it.
pub fn max_backward(shape: PoolShape, x: &[f32], dy: &[f32], dx: &mut [f32]) {
    shape.check(x, dy);
    shape.check(dx, dy);
    dx.fill(0.0);
    scatter(shape, x, dy, dx);
}

simd! {
    fn scatter(shape: PoolShape, x: &[f32], dy: &[f32], dx: &mut [f32]) {
        let c = shape.c;
        let mut best = vec![0.0f32; c];
        let mut at = vec![0u32; c];
        shape.windows(|out, window| {
            best.fill(f32::NEG_INFINITY);
            at.fill(0);
            for (tap, pixel) in (0u32..).zip(window) {
                for ((best, at), &x) in best.iter_mut().zip(&mut at).zip(&x[pixel * c..][..c]) {
                    let better = x > *best || x.is_nan();
                    *best = if better { x } else { *best };
                    *at = if better { tap } else { *at };
                }
            }
            for (tap, pixel) in (0u32..).zip(window) {
                let dx = &mut dx[pixel * c..][..c];
                for ((dx, &dy), &at) in dx.iter_mut().zip(&dy[out * c..][..c]).zip(&at) {
                    *dx += if at == tap { dy } else { 0.0 };
                }
            }
        });
    }
}
