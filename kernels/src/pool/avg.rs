use super::PoolShape;
use crate::cpu::simd;

/// Average pooling as `torch.nn.functional.avg_pool2d`: padding counts as zeros, so every window is divided by its
/// full size. Each sum takes its window in order.
///
/// # Panics
/// If the shape makes no sense or a slice does not fit it.
pub fn avg_forward(shape: PoolShape, x: &[f32], y: &mut [f32]) {
    shape.check(x, y);
    y.fill(0.0);
    add_windows(shape, x, y);
}

simd! {
    fn add_windows(shape: PoolShape, x: &[f32], y: &mut [f32]) {
        let c = shape.c;
        let size = (shape.kernel[0] * shape.kernel[1]) as f32;
        shape.windows(|out, window| {
            let y = &mut y[out * c..][..c];
            for pixel in window {
                for (y, x) in y.iter_mut().zip(&x[pixel * c..][..c]) {
                    *y += x;
                }
            }
            for y in y {
                *y /= size;
            }
        });
    }
}

/// Gradient of [`avg_forward`]: each window's dy / size, added to its pixels in the order of the outputs.
///
/// # Panics
/// If the shape makes no sense or a slice does not fit it.
pub fn avg_backward(shape: PoolShape, dy: &[f32], dx: &mut [f32]) {
    shape.check(dx, dy);
    dx.fill(0.0);
    spread(shape, dy, dx);
}

simd! {
    fn spread(shape: PoolShape, dy: &[f32], dx: &mut [f32]) {
        let c = shape.c;
        let size = (shape.kernel[0] * shape.kernel[1]) as f32;
        shape.windows(|out, window| {
            for pixel in window {
                for (dx, dy) in dx[pixel * c..][..c].iter_mut().zip(&dy[out * c..][..c]) {
                    *dx += dy / size;
                }
            }
        });
    }
}
