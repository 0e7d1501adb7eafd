use crate::shape::expect_len;

/// Mean over all pixels of each image, as `torch.nn.functional.adaptive_avg_pool2d(x, 1)`: x is
/// `[n, pixels, c]`, y `[n, c]`. Sums take the pixels in order, in f64.
///
/// # Panics
/// If a size is 0 or a slice does not fit.
pub fn global_avg_forward(n: usize, pixels: usize, c: usize, x: &[f32], y: &mut [f32]) {
    check(n, pixels, c, x, y);
    let mut sums = vec![0.0f64; c];
    for (image, y) in x.chunks_exact(pixels * c).zip(y.chunks_exact_mut(c)) {
        sums.fill(0.0);
        for pixel in image.chunks_exact(c) {
            for (sum, &x) in sums.iter_mut().zip(pixel) {
                *sum += f64::from(x);
            }
        }
        for (y, sum) in y.iter_mut().zip(&sums) {
            *y = (sum / pixels as f64) as f32;
        }
    }
}

/// Gradient of [`global_avg_forward`]: every pixel gets dy / pixels.
///
/// # Panics
/// If a size is 0 or a slice does not fit.
pub fn global_avg_backward(n: usize, pixels: usize, c: usize, dy: &[f32], dx: &mut [f32]) {
    check(n, pixels, c, dx, dy);
    for (image, dy) in dx.chunks_exact_mut(pixels * c).zip(dy.chunks_exact(c)) {
        for pixel in image.chunks_exact_mut(c) {
            for (dx, dy) in pixel.iter_mut().zip(dy) {
                *dx = dy / pixels as f32;
            }
        }
    }
}

fn check(n: usize, pixels: usize, c: usize, x: &[f32], y: &[f32]) {
    assert!(n > 0 && pixels > 0 && c > 0, "global average pooling of {n} images, {pixels} pixels, {c} channels");
    expect_len("the input or its gradient", x.len(), n * pixels * c);
    expect_len("the output or its gradient", y.len(), n * c);
}
