//! The naive twins: convolution by its definition, in f64.

use crate::conv::ConvShape;

/// Calls `f(x index, y index, w index)` for every product of the convolution.
pub(crate) fn products(s: ConvShape, mut f: impl FnMut(usize, usize, usize)) {
    let (oh, ow, depth, width) = (s.oh(), s.ow(), s.ci / s.groups, s.co / s.groups);
    for [n, oy, ox, co] in indices([s.n, oh, ow, s.co]) {
        for [ky, kx, ci] in indices([s.kh, s.kw, depth]) {
            let iy = (oy * s.stride[0] + ky * s.dilation[0]).wrapping_sub(s.padding[0]);
            let ix = (ox * s.stride[1] + kx * s.dilation[1]).wrapping_sub(s.padding[1]);
            if iy < s.h && ix < s.w {
                let x = ((n * s.h + iy) * s.w + ix) * s.ci + co / width * depth + ci;
                let y = ((n * oh + oy) * ow + ox) * s.co + co;
                f(x, y, ((co * depth + ci) * s.kh + ky) * s.kw + kx);
            }
        }
    }
}

/// All index tuples below `sizes`, the last running fastest.
pub(crate) fn indices<const N: usize>(sizes: [usize; N]) -> impl Iterator<Item = [usize; N]> {
    (0..sizes.iter().product()).map(move |mut i: usize| {
        let mut index = [0; N];
        for axis in (0..N).rev() {
            index[axis] = i % sizes[axis];
            i /= sizes[axis];
        }
        index
    })
}

/// Batch normalisation by its definition: each of `channels` columns by its own mean and biased variance, or by given
/// ones.
pub(crate) fn batch_norm(x: &[f64], gamma: &[f64], beta: &[f64], eps: f64, given: Option<[&[f64]; 2]>) -> Vec<f64> {
    let channels = gamma.len();
    let rows = (x.len() / channels) as f64;
    let mut y = vec![0.0; x.len()];
    for c in 0..channels {
        let column = || x.iter().skip(c).step_by(channels);
        let own_mean = column().sum::<f64>() / rows;
        let own_var = column().map(|x| (x - own_mean) * (x - own_mean)).sum::<f64>() / rows;
        let (mean, var) = given.map_or((own_mean, own_var), |[mean, var]| (mean[c], var[c]));
        for (y, x) in y.iter_mut().skip(c).step_by(channels).zip(column()) {
            *y = (x - mean) / (var + eps).sqrt() * gamma[c] + beta[c];
        }
    }
    y
}

/// Softmax of each row of `classes` values.
pub(crate) fn softmax(x: &[f64], classes: usize) -> Vec<f64> {
    let row = |row: &[f64]| {
        let sum: f64 = row.iter().map(|&v| libm::exp(v)).sum();
        row.iter().map(|&v| libm::exp(v) / sum).collect::<Vec<_>>()
    };
    x.chunks(classes).flat_map(row).collect()
}

/// `f32`s as `f64`s.
pub(crate) fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().copied().map(f64::from).collect()
}
