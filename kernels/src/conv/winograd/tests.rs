use proptest::prelude::*;

use super::*;
use crate::naive::{products, wide};
use crate::test_support::{noise, on_every_level};

/// A 3x3 kernel, one image.
const UNIT: ConvShape = ConvShape {
    n: 1,
    h: 1,
    w: 1,
    ci: 1,
    co: 1,
    kh: 3,
    kw: 3,
    stride: [1, 1],
    padding: [1, 1],
    dilation: [1, 1],
    groups: 1,
};

/// Sizes that end within tiles, paddings of all kinds.
fn shapes() -> impl Strategy<Value = ConvShape> {
    let channels = || prop_oneof![1usize..6, 1usize..50];
    ((1usize..4, 1usize..15, 1usize..15), [0usize..3, 0usize..3], channels(), channels())
        .prop_map(|((n, h, w), padding, ci, co)| ConvShape { n, h, w, ci, co, padding, ..UNIT })
        .prop_filter("kernel fits", |shape| shape.checked().is_ok())
}

/// Largest error that rounding explains, relative to the largest sum of the terms' magnitudes: errors spread over a
/// tile, so that a value with few terms has the error of its neighbours.
const BOUND: f64 = 4e-6;

/// Asserts that `actual` is the sum of the products that `term` places, in f64, plus `start`.
#[track_caller]
fn check_sums(
    what: &str,
    s: ConvShape,
    actual: &[f32],
    start: impl Fn(usize) -> f32,
    term: impl Fn(usize, usize, usize) -> (usize, [f32; 2]),
) {
    let mut sums: Vec<f64> = (0..actual.len()).map(|i| f64::from(start(i))).collect();
    let mut magnitudes: Vec<f64> = sums.iter().map(|sum| sum.abs()).collect();
    products(s, |x, y, w| {
        let (to, [a, b]) = term(x, y, w);
        let product = f64::from(a) * f64::from(b);
        sums[to] += product;
        magnitudes[to] += product.abs();
    });
    let scale = magnitudes.into_iter().fold(0.0, f64::max);
    for (i, (&actual, expected)) in actual.iter().zip(sums).enumerate() {
        let error = (f64::from(actual) - expected).abs() / scale;
        assert!(error <= BOUND, "{s:?}: {what}[{i}] is {actual:e}, should be {expected:e} (error {error:e} of scale)");
    }
}

struct Values {
    x: Vec<f32>,
    w: Vec<f32>,
    dy: Vec<f32>,
    bias: Vec<f32>,
}

impl Values {
    fn new(s: ConvShape, seed: u64) -> Values {
        let lens = [s.x_len(), s.w_len(), s.y_len(), s.co];
        let [x, w, dy, bias] = std::array::from_fn(|i| noise(seed + i as u64, lens[i]));
        Values { x, w, dy, bias }
    }
}

/// Against the definition, and bit for bit on every level.
fn check_all(s: ConvShape, seed: u64) {
    let Values { x, w, dy, bias } = Values::new(s, seed);
    let y = on_every_level(s.y_len(), |y| forward(s, &x, &w, Some(&bias), y));
    check_sums("y", s, &y, |o| bias[o % s.co], |i, o, k| (o, [x[i], w[k]]));
    let dx = on_every_level(s.x_len(), |dx| backward_data(s, &dy, &w, dx));
    check_sums("dx", s, &dx, |_| 0.0, |i, o, k| (i, [dy[o], w[k]]));
    let dw = on_every_level(s.w_len(), |dw| backward_weight(s, &x, &dy, dw));
    check_sums("dw", s, &dw, |_| 0.0, |i, o, k| (k, [x[i], dy[o]]));
    check_adjoint(s, &x, &w, &dy);
}

/// `<conv(x, w), dy> = <x, dx> = <w, dw>`.
fn check_adjoint(s: ConvShape, x: &[f32], w: &[f32], dy: &[f32]) {
    let (mut y, mut dx, mut dw) = (vec![0.0; dy.len()], vec![0.0; x.len()], vec![0.0; w.len()]);
    forward(s, x, w, None, &mut y);
    backward_data(s, dy, w, &mut dx);
    backward_weight(s, x, dy, &mut dw);
    let dot = |a: &[f32], b: &[f32]| wide(a).iter().zip(wide(b)).map(|(a, b)| a * b).sum::<f64>();
    let mut scale = 0.0;
    products(s, |i, o, k| scale += (f64::from(x[i]) * f64::from(dy[o]) * f64::from(w[k])).abs());
    let expected = dot(&y, dy);
    for (what, actual) in [("<x, dx>", dot(x, &dx)), ("<w, dw>", dot(w, &dw))] {
        let error = (actual - expected).abs() / scale;
        assert!(error <= BOUND, "{s:?}: {what} is {actual:e}, <y, dy> {expected:e} (error {error:e} of scale)");
    }
}

/// Each image has the bits that it has alone.
fn check_batch(s: ConvShape, seed: u64) {
    let Values { x, w, dy, bias } = Values::new(s, seed);
    let (mut y, mut dx) = (vec![0.0; s.y_len()], vec![0.0; s.x_len()]);
    forward(s, &x, &w, Some(&bias), &mut y);
    backward_data(s, &dy, &w, &mut dx);
    let alone = ConvShape { n: 1, ..s };
    let (x_len, y_len) = (alone.x_len(), alone.y_len());
    let (mut y_alone, mut dx_alone) = (vec![0.0; y_len], vec![0.0; x_len]);
    let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    for i in 0..s.n {
        let (of_x, of_y) = (i * x_len..(i + 1) * x_len, i * y_len..(i + 1) * y_len);
        forward(alone, &x[of_x.clone()], &w, Some(&bias), &mut y_alone);
        backward_data(alone, &dy[of_y.clone()], &w, &mut dx_alone);
        assert_eq!(bits(&y_alone), bits(&y[of_y]), "{s:?}: y of image {i}");
        assert_eq!(bits(&dx_alone), bits(&dx[of_x]), "{s:?}: dx of image {i}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn agrees_with_the_definition_on_every_level(shape in shapes(), seed in 0u64..1000) {
        check_all(shape, seed);
    }

    #[test]
    fn an_image_has_the_same_bits_alone_and_in_a_batch(shape in shapes(), seed in 0u64..1000) {
        check_batch(shape, seed);
    }
}

#[test]
fn odd_and_tiny_sizes_agree_with_the_definition() {
    for (h, w) in [(1, 1), (5, 7), (4, 4), (33, 17), (1, 9)] {
        for (ci, co) in [(1, 1), (3, 16), (16, 17), (17, 3), (33, 40)] {
            for padding in [[1, 1], [2, 1], [0, 2]] {
                let shape = ConvShape { h, w, ci, co, padding, ..UNIT };
                if shape.checked().is_ok() {
                    check_all(shape, 7);
                }
            }
        }
    }
}

#[test]
fn several_groups_of_tiles_and_panels_change_nothing() {
    for shape in [
        ConvShape { n: 5, h: 17, w: 18, ci: 5, co: 70, ..UNIT },
        ConvShape { n: 131, h: 3, w: 2, ci: 34, co: 33, ..UNIT },
    ] {
        check_all(shape, 3);
        check_batch(shape, 3);
    }
}
