//! What the tests of several modules share.

use std::ops::Range;

use proptest::prelude::*;

use crate::conv::ConvShape;
use crate::cpu::{Level, with_level};

/// One pixel, one channel.
pub(crate) const UNIT: ConvShape = ConvShape {
    n: 1,
    h: 1,
    w: 1,
    ci: 1,
    co: 1,
    kh: 1,
    kw: 1,
    stride: [1, 1],
    padding: [0, 0],
    dilation: [1, 1],
    groups: 1,
};

/// Shapes of so many images with such sides, kernels with such sides, and channels in and out of a group and how many
/// groups; with any stride up to 3, dilation up to 2, and padding that is less than the largest kernel.
pub(crate) fn conv_shapes(
    images: impl Strategy<Value = usize>,
    side: Range<usize>,
    kernel: Range<usize>,
    groups: impl Strategy<Value = (usize, usize, usize)>,
) -> impl Strategy<Value = ConvShape> {
    let pair = |max: usize| [1..=max, 1..=max];
    let padding = [0..kernel.end - 1, 0..kernel.end - 1];
    ((images, side.clone(), side), (kernel.clone(), kernel), pair(3), padding, pair(2), groups)
        .prop_map(|((n, h, w), (kh, kw), stride, padding, dilation, (ci, co, groups))| ConvShape {
            n,
            h,
            w,
            ci: ci * groups,
            co: co * groups,
            kh,
            kw,
            stride,
            padding,
            dilation,
            groups,
        })
        .prop_filter("kernel fits", |shape| shape.checked().is_ok())
}

/// Values between -1 and 1 that look random, the same for the same seed.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        // SplitMix64
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    (0..len).map(|_| (next() >> 40) as f32 / (1 << 23) as f32 - 1.0).collect()
}

/// Runs `f`, which fills a slice of `len` values, on every level this CPU has; asserts that the bits are the same.
#[track_caller]
pub(crate) fn on_every_level(len: usize, f: impl Fn(&mut [f32])) -> Vec<f32> {
    let run = |level| {
        let mut out = vec![f32::NAN; len];
        with_level(level, || f(&mut out)).map(|()| out)
    };
    let portable = run(Level::Portable).expect("every CPU has it");
    for (level, other) in Level::ALL.into_iter().skip(1).filter_map(|level| Some((level, run(level)?))) {
        for (i, (a, b)) in portable.iter().zip(&other).enumerate() {
            let same = a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
            assert!(same, "value {i} is {a:e} in portable code, {b:e} on {}", level.name());
        }
    }
    portable
}

/// Asserts that f32 sums differ from the f64 ones by no more than rounding explains: a few units in the last place of
/// the sum of the terms' magnitudes.
#[track_caller]
pub(crate) fn assert_close(what: &str, actual: &[f32], expected: &[f64], magnitudes: &[f64]) {
    assert_eq!(actual.len(), expected.len());
    for (i, ((&a, e), m)) in actual.iter().zip(expected).zip(magnitudes).enumerate() {
        let error = (f64::from(a) - e).abs();
        assert!(error <= 1e-6 * m + 1e-30, "{what}[{i}] is {a:e}, should be {e:e} (error {error:e}, scale {m:e})");
    }
}

/// Asserts that `gradient` is that of the f64 function `f` at `x`, by central differences.
#[track_caller]
pub(crate) fn assert_gradient(what: &str, f: impl Fn(&[f64]) -> f64, x: &[f32], gradient: &[f32]) {
    const STEP: f64 = 1e-6;
    assert_eq!(x.len(), gradient.len());
    let mut at: Vec<f64> = x.iter().copied().map(f64::from).collect();
    for i in 0..x.len() {
        let middle = at[i];
        at[i] = middle + STEP;
        let above = f(&at);
        at[i] = middle - STEP;
        let below = f(&at);
        at[i] = middle;
        let expected = (above - below) / (2.0 * STEP);
        let error = (f64::from(gradient[i]) - expected).abs();
        assert!(error <= 1e-5 * (1.0 + expected.abs()), "d{what}[{i}] is {:e}, should be {expected:e}", gradient[i]);
    }
}

/// Sum of the products of two slices: the function whose gradient by y is dy.
pub(crate) fn dot(y: &[f64], dy: &[f32]) -> f64 {
    y.iter().zip(dy).map(|(y, &dy)| y * f64::from(dy)).sum()
}
