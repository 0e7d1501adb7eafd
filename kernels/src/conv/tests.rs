use proptest::prelude::*;

use super::*;
use crate::naive::products;
use crate::test_support::{assert_close, noise, on_every_level};

/// Odd, non-square, strided, padded, dilated and grouped shapes.
fn shapes() -> impl Strategy<Value = ConvShape> {
    let image = (1usize..4, 1usize..12, 1usize..12);
    let kernel = (1usize..5, 1usize..5);
    let pair = |max: usize| [1..=max, 1..=max];
    let groups = prop_oneof![
        (1usize..8, 1usize..8, Just(1usize)),
        (1usize..40, 1usize..40, Just(1usize)),
        (1usize..4, 1usize..4, 2usize..4),
        (Just(1usize), Just(1usize), 2usize..40),
        (Just(1usize), 1usize..4, 2usize..6),
    ];
    (image, kernel, pair(3), [0usize..4, 0usize..4], pair(2), groups)
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

/// The sums in f64, and the sums of the terms' magnitudes, which bound the rounding error.
fn sums(len: usize, shape: ConvShape, term: impl Fn(usize, usize, usize) -> (usize, f64)) -> (Vec<f64>, Vec<f64>) {
    let (mut sums, mut bounds) = (vec![0.0; len], vec![0.0; len]);
    products(shape, |x, y, w| {
        let (to, product) = term(x, y, w);
        sums[to] += product;
        bounds[to] += product.abs();
    });
    (sums, bounds)
}

fn check_all(s: ConvShape, seed: u64) {
    let (x, w) = (noise(seed, s.x_len()), noise(seed + 1, s.w_len()));
    let (dy, bias) = (noise(seed + 2, s.y_len()), noise(seed + 3, s.co));
    let product = |a: &[f32], i: usize, b: &[f32], j: usize| f64::from(a[i]) * f64::from(b[j]);

    let y = on_every_level(s.y_len(), |y| forward(s, &x, &w, Some(&bias), y));
    let (mut sum, mut bound) = sums(s.y_len(), s, |i, o, k| (o, product(&x, i, &w, k)));
    for o in 0..s.y_len() {
        sum[o] += f64::from(bias[o % s.co]);
        bound[o] += f64::from(bias[o % s.co].abs());
    }
    assert_close("y", &y, &sum, &bound);

    let dx = on_every_level(s.x_len(), |dx| backward_data(s, &dy, &w, dx));
    let (sum, bound) = sums(s.x_len(), s, |i, o, k| (i, product(&dy, o, &w, k)));
    assert_close("dx", &dx, &sum, &bound);

    let dw = on_every_level(s.w_len(), |dw| backward_weight(s, &x, &dy, dw));
    let (sum, bound) = sums(s.w_len(), s, |i, o, k| (k, product(&x, i, &dy, o)));
    assert_close("dw", &dw, &sum, &bound);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn agrees_with_the_definition_on_every_level(shape in shapes(), seed in 0u64..1000) {
        check_all(shape, seed);
    }
}
