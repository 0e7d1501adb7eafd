//! The class by its definition, on plain NHWC: what the kernels must give to the bit.

use std::collections::BTreeMap;

use super::step::step_of_one;
use super::weight_steps::is_chain;
use super::{Bf16, Blocks};
use crate::conv::ConvShape;
use crate::naive::indices;

/// A rounded value.
pub(super) fn rounded(values: &[f32]) -> Vec<f32> {
    values.iter().map(|v| Bf16::from_f32(*v).to_f32()).collect()
}

/// The steps over terms, 32 at a time.
fn steps(terms: &[[f32; 2]], sum: f32) -> f32 {
    terms.chunks(32).fold(sum, |sum, terms| {
        let (mut a, mut b) = ([0.0; 32], [0.0; 32]);
        for (i, [x, y]) in terms.iter().enumerate() {
            (a[i], b[i]) = (*x, *y);
        }
        step_of_one(sum, &a, &b)
    })
}

/// Where a tap of a position reads along an axis.
fn tap(shape: &ConvShape, axis: usize, position: usize, tap: usize) -> Option<usize> {
    let at = (position * shape.stride[axis] + tap * shape.dilation[axis]).checked_sub(shape.padding[axis])?;
    (at < [shape.h, shape.w][axis]).then_some(at)
}

/// The sum over taps, each with its terms; `None` is outside.
fn over_taps(
    shape: &ConvShape,
    depth: usize,
    taps: &[Option<Vec<[f32; 2]>>],
    outside: impl Fn(usize, usize) -> f32,
) -> f32 {
    if is_chain(shape) {
        let terms = taps.iter().flatten().flatten();
        return terms.fold(0.0, |sum, [a, b]| libm::fmaf(*a, *b, sum));
    }
    if depth < 32 && taps.len() > 1 {
        let with_outside = taps.iter().enumerate().flat_map(|(i, terms)| match terms {
            Some(terms) => terms.clone(),
            None => (0..depth).map(|term| [0.0, outside(i, term)]).collect(),
        });
        return steps(&with_outside.collect::<Vec<_>>(), 0.0);
    }
    taps.iter().flatten().fold(0.0, |sum, terms| steps(terms, sum))
}

/// y without rounding, of rounded operands.
pub(super) fn forward(s: &ConvShape, x: &[f32], w: &[f32], bias: Option<&[f32]>) -> Vec<f32> {
    let (depth, width) = (s.ci / s.groups, s.co / s.groups);
    let weight = |o: usize, i: usize, ky: usize, kx: usize| w[((o * depth + i) * s.kh + ky) * s.kw + kx];
    indices([s.n, s.oh(), s.ow(), s.co])
        .map(|[n, oy, ox, o]| {
            let taps: Vec<[usize; 2]> = indices([s.kh, s.kw]).collect();
            let terms: Vec<_> = taps
                .iter()
                .map(|&[ky, kx]| {
                    let (y, x_at) = (tap(s, 0, oy, ky)?, tap(s, 1, ox, kx)?);
                    let pixel = ((n * s.h + y) * s.w + x_at) * s.ci + o / width * depth;
                    Some((0..depth).map(|i| [x[pixel + i], weight(o, i, ky, kx)]).collect())
                })
                .collect();
            let sum = over_taps(s, depth, &terms, |i, term| weight(o, term, taps[i][0], taps[i][1]));
            sum + bias.map_or(0.0, |bias| bias[o])
        })
        .collect()
}

/// dx without rounding, of rounded operands.
pub(super) fn backward_data(s: &ConvShape, dy: &[f32], w: &[f32]) -> Vec<f32> {
    let (depth, width, oh, ow) = (s.ci / s.groups, s.co / s.groups, s.oh(), s.ow());
    let weight = |o: usize, i: usize, ky: usize, kx: usize| w[((o * depth + i) * s.kh + ky) * s.kw + kx];
    // Taps that meet pixels of this one's residue, with the pixel of dy, by that pixel.
    let meeting = |axis: usize, at: usize, size: usize| -> Vec<(usize, Option<usize>)> {
        let kernel = [s.kh, s.kw][axis];
        let distance = |k: usize| (at + s.padding[axis]) as isize - (k * s.dilation[axis]) as isize;
        let stride = s.stride[axis] as isize;
        let meets = (0..kernel).rev().filter(|k| distance(*k).rem_euclid(stride) == 0);
        meets
            .map(|k| (k, usize::try_from(distance(k) / stride).ok().filter(|o| *o < size && distance(k) >= 0)))
            .collect()
    };
    indices([s.n, s.h, s.w, s.ci])
        .map(|[n, y, x, i]| {
            let (group, channel) = (i / depth, i % depth);
            let (rows, columns) = (meeting(0, y, oh), meeting(1, x, ow));
            let taps: Vec<_> = rows.iter().flat_map(|r| columns.iter().map(move |c| (r, c))).collect();
            let terms: Vec<_> = taps
                .iter()
                .map(|((ky, oy), (kx, ox))| {
                    let pixel = ((n * oh + (*oy)?) * ow + (*ox)?) * s.co + group * width;
                    let term = |o: usize| [dy[pixel + o], weight(group * width + o, channel, *ky, *kx)];
                    Some((0..width).map(term).collect())
                })
                .collect();
            over_taps(s, width, &terms, |tap, o| weight(group * width + o, channel, taps[tap].0.0, taps[tap].1.0))
        })
        .collect()
}

/// dw of rounded operands.
pub(super) fn backward_weight(s: &ConvShape, x: &[f32], dy: &[f32]) -> Vec<f32> {
    let (depth, width, oh, ow) = (s.ci / s.groups, s.co / s.groups, s.oh(), s.ow());
    let lanes = Blocks { n: s.n, h: 1, w: 1, c: 1 }.lanes();
    let positions = 32 / lanes;
    let flattened = depth < 32 && s.kh * s.kw > 1 && !is_chain(s);
    let mut dw = BTreeMap::new();
    for [o, i, ky, kx] in indices([s.co, depth, s.kh, s.kw]) {
        let mut sum = 0.0f32;
        for group in 0..s.n.div_ceil(lanes) {
            for oy in 0..oh {
                let y = tap(s, 0, oy, ky);
                if y.is_none() && !flattened {
                    continue;
                }
                let inside = |ox: usize| tap(s, 1, ox, kx).is_some();
                let images = || (group * lanes..).take(lanes);
                // Beyond the images both are zero, beyond the row dy is.
                let term = |ox: usize, n: usize| {
                    let x_at = y.zip(tap(s, 1, ox, kx)).filter(|_| n < s.n && (ox < ow || !flattened));
                    let x = x_at.map_or(0.0, |(y, at)| x[((n * s.h + y) * s.w + at) * s.ci + o / width * depth + i]);
                    let dy = if n < s.n && ox < ow { dy[((n * oh + oy) * ow + ox) * s.co + o] } else { 0.0 };
                    [x, dy]
                };
                if is_chain(s) {
                    let chain = (0..ow).filter(|ox| inside(*ox)).flat_map(|ox| images().map(move |n| (ox, n)));
                    sum += chain.map(|(ox, n)| term(ox, n)).fold(0.0, |sum, [a, b]| libm::fmaf(a, b, sum));
                    continue;
                }
                for first in (0..ow).step_by(positions) {
                    let block = first..first + positions;
                    if flattened || block.clone().filter(|ox| *ox < ow).any(inside) {
                        let terms: Vec<_> = block.flat_map(|ox| images().map(move |n| (ox, n))).collect();
                        sum = steps(&terms.iter().map(|(ox, n)| term(*ox, *n)).collect::<Vec<_>>(), sum);
                    }
                }
            }
        }
        dw.insert(((o * depth + i) * s.kh + ky) * s.kw + kx, sum);
    }
    dw.into_values().collect()
}
