//! Two-dimensional convolution, as `torch.nn.functional.conv2d`, of any geometry.

mod shape;

pub use shape::ConvShape;

use crate::norm::column_sums;
use crate::shape::expect_len;

fn check(shape: &ConvShape) {
    if let Err(error) = shape.checked() {
        panic!("{shape:?}: {error}");
    }
}

/// Calls `f(x index, y index, w index)` for every product of the convolution, for each output in the order
/// kernel row, kernel column, input channel.
#[inline(always)]
fn products(s: ConvShape, mut f: impl FnMut(usize, usize, usize)) {
    let (oh, ow, cig, cog) = (s.oh(), s.ow(), s.ci / s.groups, s.co / s.groups);
    for (n, oy, ox, co) in iter4([s.n, oh, ow, s.co]) {
        let y = ((n * oh + oy) * ow + ox) * s.co + co;
        for (_, ky, kx, ci) in iter4([1, s.kh, s.kw, cig]) {
            let iy = (oy * s.stride[0] + ky * s.dilation[0]).wrapping_sub(s.padding[0]);
            let ix = (ox * s.stride[1] + kx * s.dilation[1]).wrapping_sub(s.padding[1]);
            if iy < s.h && ix < s.w {
                let x = ((n * s.h + iy) * s.w + ix) * s.ci + co / cog * cig + ci;
                f(x, y, ((co * cig + ci) * s.kh + ky) * s.kw + kx);
            }
        }
    }
}

fn iter4(sizes: [usize; 4]) -> impl Iterator<Item = (usize, usize, usize, usize)> {
    let [a, b, c, d] = sizes;
    (0..a).flat_map(move |a| (0..b).flat_map(move |b| (0..c).flat_map(move |c| (0..d).map(move |d| (a, b, c, d)))))
}

/// `y = conv(x, w) + bias`. Each output starts from its bias (or 0) and takes the products in the order kernel row,
/// kernel column, input channel.
///
/// # Panics
/// If the shape makes no sense or a slice does not fit it.
pub fn forward(shape: ConvShape, x: &[f32], w_oihw: &[f32], bias: Option<&[f32]>, y: &mut [f32]) {
    check(&shape);
    expect_len("x", x.len(), shape.x_len());
    expect_len("w_oihw", w_oihw.len(), shape.w_len());
    expect_len("y", y.len(), shape.y_len());
    match bias {
        Some(bias) => {
            expect_len("bias", bias.len(), shape.co);
            y.chunks_exact_mut(shape.co).for_each(|pixel| pixel.copy_from_slice(bias));
        }
        None => y.fill(0.0),
    }
    products(shape, |i, o, k| y[o] = x[i].mul_add(w_oihw[k], y[o]));
}

/// `dx`, the gradient of the input.
///
/// # Panics
/// If the shape makes no sense or a slice does not fit it.
pub fn backward_data(shape: ConvShape, dy: &[f32], w_oihw: &[f32], dx: &mut [f32]) {
    check(&shape);
    expect_len("dy", dy.len(), shape.y_len());
    expect_len("w_oihw", w_oihw.len(), shape.w_len());
    expect_len("dx", dx.len(), shape.x_len());
    dx.fill(0.0);
    products(shape, |i, o, k| dx[i] = dy[o].mul_add(w_oihw[k], dx[i]));
}

/// `dw`, the gradient of the weight, summed over the images.
///
/// # Panics
/// If the shape makes no sense or a slice does not fit it.
pub fn backward_weight(shape: ConvShape, x: &[f32], dy: &[f32], dw_oihw: &mut [f32]) {
    check(&shape);
    expect_len("x", x.len(), shape.x_len());
    expect_len("dy", dy.len(), shape.y_len());
    expect_len("dw_oihw", dw_oihw.len(), shape.w_len());
    dw_oihw.fill(0.0);
    products(shape, |i, o, k| dw_oihw[k] = x[i].mul_add(dy[o], dw_oihw[k]));
}

/// `db`, the gradient of the bias: the sum over all pixels of all images, in order, in f64.
///
/// # Panics
/// If the shape makes no sense or a slice does not fit it.
pub fn backward_bias(shape: ConvShape, dy: &[f32], db: &mut [f32]) {
    check(&shape);
    expect_len("dy", dy.len(), shape.y_len());
    expect_len("db", db.len(), shape.co);
    column_sums(dy, db);
}
