use std::array::from_fn;

use proptest::prelude::*;

use super::super::channel_ranges;
use super::transform::Transform;
use super::*;
use crate::naive::{indices, products, wide};
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
/// tile, so that a value with few terms has the error of its neighbours. Measured, not proved: twice what thousands of
/// random shapes reach, about 5e-6, with sums of 9 terms.
const BOUND: f64 = 1e-5;

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
        let [x, w, dy, bias] = from_fn(|i| noise(seed + i as u64, lens[i]));
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
    let apart = on_every_level(s.w_len(), |dw| {
        let mut rest = dw;
        for channels in channel_ranges(s, 2) {
            let (now, later) = rest.split_at_mut(s.w_len() / s.co * channels.len());
            backward_weight_of(s, channels, &x, &dy, now);
            rest = later;
        }
        assert!(rest.is_empty(), "{s:?}: ranges end early");
    });
    assert!(dw.iter().zip(&apart).all(|(a, b)| a.to_bits() == b.to_bits()), "{s:?}: {dw:?} apart {apart:?}");
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

/// The transform by its columns, then by its rows.
fn square<T: Transform<FROM, TO>, const FROM: usize, const TO: usize>(x: [[f32; FROM]; FROM]) -> [[f32; TO]; TO] {
    let columns: [[f32; TO]; FROM] = from_fn(|column| T::apply(from_fn(|row| x[row][column])));
    from_fn(|row| T::apply(from_fn(|column| columns[column][row])))
}

/// A square of one channel of one image, zeros outside.
fn cut<const SIDE: usize>(
    values: &[f32],
    [h, w, c]: [usize; 3],
    [n, channel]: [usize; 2],
    corner: [isize; 2],
) -> [[f32; SIDE]; SIDE] {
    let at = |first: isize, i: usize, size: usize| usize::try_from(first + i as isize).ok().filter(|&at| at < size);
    from_fn(|row| {
        from_fn(|column| match (at(corner[0], row, h), at(corner[1], column, w)) {
            (Some(row), Some(column)) => values[((n * h + row) * w + column) * c + channel],
            _ => 0.0,
        })
    })
}

/// First image, row and column of each tile, in order.
fn corners(s: ConvShape) -> Vec<[usize; 3]> {
    let sizes = [s.n, s.oh().div_ceil(4), s.ow().div_ceil(4)];
    indices(sizes).map(|[n, row, column]| [n, row * 4, column * 4]).collect()
}

fn input_tile(s: ConvShape, x: &[f32], [n, row, column]: [usize; 3], channel: usize) -> [[f32; 6]; 6] {
    let corner = [row as isize - s.padding[0] as isize, column as isize - s.padding[1] as isize];
    square::<transform::InputTransform, 6, 6>(cut(x, [s.h, s.w, s.ci], [n, channel], corner))
}

/// [`forward`] one value at a time, in the order that its documentation states.
fn forward_in_order(s: ConvShape, x: &[f32], w: &[f32], bias: Option<&[f32]>) -> Vec<f32> {
    let mut y = vec![f32::NAN; s.y_len()];
    for at @ [n, row, column] in corners(s) {
        let inputs: Vec<_> = (0..s.ci).map(|channel| input_tile(s, x, at, channel)).collect();
        for co in 0..s.co {
            let mut sums = [[0.0; 6]; 6];
            for (ci, input) in inputs.iter().enumerate() {
                let kernel = |row, column| w[(co * s.ci + ci) * 9 + row * 3 + column];
                let weight =
                    square::<transform::WeightTransform, 3, 6>(from_fn(|row| from_fn(|column| kernel(row, column))));
                sums = from_fn(|i| from_fn(|j: usize| f32::mul_add(input[i][j], weight[i][j], sums[i][j])));
            }
            let tile = square::<transform::OutputTransform, 6, 4>(sums);
            for [i, j] in indices([4.min(s.oh() - row), 4.min(s.ow() - column)]) {
                let pixel = (n * s.oh() + row + i) * s.ow() + column + j;
                y[pixel * s.co + co] = tile[i][j] + bias.map_or(0.0, |bias| bias[co]);
            }
        }
    }
    y
}

/// [`backward_weight`] one value at a time, in the order that its documentation states.
fn backward_weight_in_order(s: ConvShape, x: &[f32], dy: &[f32]) -> Vec<f32> {
    let corners = corners(s);
    let kernel = |[co, ci]: [usize; 2]| {
        let mut sums = [[0.0; 6]; 6];
        for group in corners.chunks(64) {
            let mut own = [[0.0; 6]; 6];
            for &at in group {
                let corner = [at[1] as isize, at[2] as isize];
                let tile = cut(dy, [s.oh(), s.ow(), s.co], [at[0], co], corner);
                let (x, dy) = (input_tile(s, x, at, ci), square::<transform::OutputGradientTransform, 4, 6>(tile));
                own = from_fn(|i| from_fn(|j: usize| f32::mul_add(x[i][j], dy[i][j], own[i][j])));
            }
            sums = from_fn(|i| from_fn(|j: usize| sums[i][j] + own[i][j]));
        }
        square::<transform::WeightGradientTransform, 6, 3>(sums).into_iter().flatten()
    };
    indices([s.co, s.ci]).flat_map(kernel).collect()
}

/// The orders that the documentation states, bit for bit (but for the sign of 0).
fn check_orders(s: ConvShape, seed: u64) {
    let Values { x, w, dy, bias } = Values::new(s, seed);
    let (mut y, mut dx, mut dw) = (vec![0.0; s.y_len()], vec![0.0; s.x_len()], vec![0.0; s.w_len()]);
    forward(s, &x, &w, Some(&bias), &mut y);
    assert_eq!(y, forward_in_order(s, &x, &w, Some(&bias)), "{s:?}: y");
    backward_data(s, &dy, &w, &mut dx);
    let padding = s.padding.map(|padding| 2 - padding);
    let back = ConvShape { h: s.oh(), w: s.ow(), ci: s.co, co: s.ci, padding, ..s };
    let turned: Vec<f32> = indices([s.ci, s.co, 9]).map(|[ci, co, tap]| w[(co * s.ci + ci) * 9 + 8 - tap]).collect();
    assert_eq!(dx, forward_in_order(back, &dy, &turned, None), "{s:?}: dx");
    backward_weight(s, &x, &dy, &mut dw);
    assert_eq!(dw, backward_weight_in_order(s, &x, &dy), "{s:?}: dw");
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

    #[test]
    fn sums_have_the_stated_orders(shape in shapes(), seed in 0u64..1000) {
        check_orders(shape, seed);
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
        check_orders(shape, 3);
    }
}

#[test]
fn an_infinite_pixel_shows_in_all_that_it_meets() {
    let shape = ConvShape { h: 9, w: 9, ..UNIT };
    for bad in [f32::NAN, f32::INFINITY] {
        let mut x = [0.5; 81];
        x[4 * 9 + 4] = bad;
        let mut y = [0.0; 81];
        forward(shape, &x, &[0.25; 9], None, &mut y);
        for [row, column] in indices([3, 3]) {
            assert!(!y[(row + 3) * 9 + column + 3].is_finite());
        }
        assert!(y[0].is_finite() && y[80].is_finite());
    }
}

#[test]
fn it_fits_plain_3x3_kernels_and_pays_for_many_channels_and_full_tiles() {
    let good = ConvShape { n: 2, h: 8, w: 8, ci: 16, co: 16, ..UNIT };
    assert!(fits(good) && pays(good) && pays(ConvShape { n: 1, ..good }));
    for other in [
        ConvShape { stride: [1, 2], ..good },
        ConvShape { dilation: [2, 1], ..good },
        ConvShape { groups: 2, ..good },
        ConvShape { kw: 1, ..good },
        ConvShape { padding: [3, 1], ..good },
    ] {
        assert!(!fits(other) && !pays(other), "{other:?}");
    }
    for slow in [
        ConvShape { ci: 15, ..good },
        ConvShape { co: 3, ..good },
        ConvShape { h: 5, w: 5, ..good },
        ConvShape { h: 2, w: 2, ..good },
        ConvShape { h: 3, w: 3, padding: [0, 0], ..good },
    ] {
        assert!(fits(slow) && !pays(slow), "{slow:?}");
    }
}

#[test]
#[should_panic(expected = "Winograd convolution needs a 3x3 kernel")]
fn a_shape_that_does_not_fit_panics() {
    forward(ConvShape { h: 3, w: 3, stride: [2, 2], ..UNIT }, &[0.0; 9], &[0.0; 9], None, &mut [0.0; 4]);
}

#[test]
#[should_panic(expected = "`dw_oihw` has 8 elements, its shape asks for 9")]
fn a_slice_that_does_not_fit_panics_and_is_named() {
    backward_weight(UNIT, &[0.0], &[0.0], &mut [0.0; 8]);
}
