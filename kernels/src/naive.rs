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
