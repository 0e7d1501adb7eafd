use proptest::prelude::*;

use super::*;
use crate::activation::Activation;
use crate::naive::products;
use crate::norm::{Affine, Stats};
use crate::norm_block::NormBlock;
use crate::test_support::{UNIT, assert_close, conv_shapes, noise, on_every_level};

/// Odd, non-square, strided, padded, dilated and grouped shapes.
fn shapes() -> impl Strategy<Value = ConvShape> {
    let groups = prop_oneof![
        (1usize..8, 1usize..8, Just(1usize)),
        (1usize..40, 1usize..40, Just(1usize)),
        (1usize..4, 1usize..4, 2usize..4),
        (Just(1usize), Just(1usize), 2usize..40),
        (Just(1usize), 1usize..4, 2usize..6),
    ];
    conv_shapes(1usize..4, 1..12, 1..5, groups)
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
    let apart = on_every_level(s.w_len(), |dw| {
        let mut rest = dw;
        for channels in channel_ranges(s, 3) {
            let (now, later) = rest.split_at_mut(s.w_len() / s.co * channels.len());
            let mut gradient = WeightGradient::of(s, channels);
            gradient.add(s.n, x[..].into(), &dy);
            gradient.finish(now);
            rest = later;
        }
        assert!(rest.is_empty(), "{s:?}: ranges end early");
    });
    assert!(dw.iter().zip(&apart).all(|(a, b)| a.to_bits() == b.to_bits()), "{s:?}: {dw:?} apart {apart:?}");
}

/// The group and place of a term in its sum, and its factors.
type Term<K> = ((usize, K), [f32; 2]);

/// One f32 multiply-add after the other, in the order of `key`, the terms of each group (`key.0`) on their own.
fn in_order<K: Ord>(
    len: usize,
    shape: ConvShape,
    start: impl Fn(usize) -> f32,
    term: impl Fn(usize, usize, usize) -> (usize, Term<K>),
) -> Vec<f32> {
    let mut terms: Vec<Vec<Term<K>>> = (0..len).map(|_| vec![]).collect();
    products(shape, |x, y, w| {
        let (to, term) = term(x, y, w);
        terms[to].push(term);
    });
    let sum = |(to, mut terms): (usize, Vec<Term<K>>)| {
        terms.sort_by(|a, b| a.0.cmp(&b.0));
        let groups = terms.chunk_by(|a, b| a.0.0 == b.0.0);
        let mut sums = groups.map(|group| group.iter().fold(start(to), |sum, (_, [a, b])| a.mul_add(*b, sum)));
        let first = sums.next().unwrap_or(start(to));
        sums.fold(first, |sum, group| sum + group)
    };
    terms.into_iter().enumerate().map(sum).collect()
}

/// The orders that the documentation states, bit for bit (but for the sign of 0).
fn check_orders(s: ConvShape, seed: u64) {
    let (x, w) = (noise(seed, s.x_len()), noise(seed + 1, s.w_len()));
    let (dy, bias) = (noise(seed + 2, s.y_len()), noise(seed + 3, s.co));

    let mut y = vec![0.0; s.y_len()];
    forward(s, &x, &w, Some(&bias), &mut y);
    let taps = s.kh * s.kw;
    let term = |i, o, k: usize| (o, ((0, (k % taps, k / taps)), [x[i], w[k]]));
    assert_eq!(y, in_order(y.len(), s, |o| bias[o % s.co], term));

    let mut dx = vec![0.0; s.x_len()];
    backward_data(s, &dy, &w, &mut dx);
    let term = |i, o: usize, k: usize| (i, ((0, (taps - k % taps, o % s.co)), [dy[o], w[k]]));
    assert_eq!(dx, in_order(dx.len(), s, |_| 0.0, term));

    let mut dw = vec![0.0; s.w_len()];
    backward_weight(s, &x, &dy, &mut dw);
    let image = s.oh() * s.ow();
    let band = |pixel: usize| match 256 / image {
        0 => pixel / image * image + pixel % image / s.ow() / (256 / s.ow()).max(1),
        images => pixel / image / images,
    };
    let term = |i, o: usize, k| (k, ((band(o / s.co), o), [x[i], dy[o]]));
    assert_eq!(dw, in_order(dw.len(), s, |_| 0.0, term));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_weight_gradient_in_parts_has_the_same_bits(shape in shapes(), n in 1usize..90, seed in 0u64..1000) {
        let n = n.min(40_000 / shape.x_len().max(shape.y_len()) + 1);
        let shape = ConvShape { n, ..shape };
        let (x, dy) = (noise(seed, shape.x_len()), noise(seed + 1, shape.y_len()));
        let mut whole = vec![0.0; shape.w_len()];
        backward_weight(shape, &x, &dy, &mut whole);
        let images = WeightGradient::images(shape);
        let (x_len, y_len) = (images * shape.x_len() / n, images * shape.y_len() / n);
        let mut sums = WeightGradient::new(shape);
        for (x, dy) in x.chunks(x_len).zip(dy.chunks(y_len)) {
            sums.add(x.len() * n / shape.x_len(), x.into(), dy);
        }
        let mut parts = vec![0.0; shape.w_len()];
        sums.finish(&mut parts);
        prop_assert_eq!(parts, whole);
    }

    #[test]
    fn a_block_may_be_read_as_it_is_computed(shape in shapes(), relu: bool, seed in 0u64..1000) {
        let [x, w, dy] = [shape.x_len(), shape.w_len(), shape.y_len()].map(|len| noise(seed + len as u64, len));
        let [mean, beta, gamma] = [1, 2, 3].map(|i| noise(seed + i, shape.ci));
        let var = vec![0.7; shape.ci];
        let block = NormBlock {
            x: &x,
            stats: Stats { mean: &mean, var: &var },
            affine: Affine { gamma: &gamma, beta: &beta },
            eps: 1e-3,
            activation: relu.then_some(Activation::Relu6),
        };
        let mut written = vec![0.0; x.len()];
        block.forward(None, &mut written);
        let expected = on_every_level(dy.len(), |y| forward(shape, &written, &w, None, y));
        prop_assert_eq!(on_every_level(dy.len(), |y| forward(shape, Input::Block(block), &w, None, y)), expected);
        let expected = on_every_level(w.len(), |dw| backward_weight(shape, &written, &dy, dw));
        prop_assert_eq!(on_every_level(w.len(), |dw| backward_weight(shape, Input::Block(block), &dy, dw)), expected);
    }

    #[test]
    fn agrees_with_the_definition_on_every_level(shape in shapes(), seed in 0u64..1000) {
        check_all(shape, seed);
    }

    #[test]
    fn sums_have_the_stated_orders(shape in shapes(), seed in 0u64..1000) {
        check_orders(shape, seed);
    }
}

#[test]
fn several_bands_and_panels_change_nothing() {
    let plain = ConvShape { h: 40, w: 33, ci: 3, co: 5, kh: 3, kw: 3, padding: [1, 1], ..UNIT };
    for shape in [
        plain,
        // more source values than one band of the forward pass holds, and weights of more than one panel
        ConvShape { n: 2, h: 21, w: 37, ci: 90, co: 34, kh: 1, kw: 2, ..plain },
        ConvShape { n: 30, h: 9, w: 7, ci: 70, co: 70, groups: 70, stride: [2, 1], ..plain },
        ConvShape { n: 300, ci: 300, co: 11, ..UNIT },
        ConvShape { h: 17, w: 20, ci: 520, co: 40, stride: [2, 1], ..UNIT },
        ConvShape { h: 2, w: 600, ci: 2, co: 3, ..UNIT },
    ] {
        check_all(shape, 1);
        check_orders(shape, 1);
    }
}

#[test]
fn not_a_number_in_a_weight_or_a_pixel_shows() {
    let shape = ConvShape { h: 2, w: 2, ..UNIT };
    let mut y = [0.0; 4];
    forward(shape, &[0.0, f32::NAN, 0.0, 0.0], &[1.0], None, &mut y);
    assert_eq!(y.map(f32::is_nan), [false, true, false, false]);
    forward(shape, &[0.0; 4], &[f32::INFINITY], None, &mut y);
    assert!(y.iter().all(|y| y.is_nan()));
}

#[test]
fn shapes_without_sense_are_refused() {
    let good = ConvShape { h: 4, w: 6, ci: 4, co: 6, kh: 3, kw: 3, groups: 2, ..UNIT };
    assert_eq!(good.checked(), Ok(good));
    let message = |shape: ConvShape| shape.checked().expect_err("no sense").to_string();
    assert_eq!(message(ConvShape { co: 0, ..good }), "output channels is 0; it must be at least 1");
    assert_eq!(
        message(ConvShape { groups: 4, ..good }),
        "6 output channels cannot be divided into 4 equal groups; choose groups that divide them"
    );
    assert_eq!(
        message(ConvShape { dilation: [2, 1], ..good }),
        "kernel spans 5 along height, but the input has 4 (+ 0 on each side); \
         use a smaller kernel or dilation, a larger input, or more padding"
    );
    assert_eq!(
        message(ConvShape { n: usize::MAX, ..good }),
        "the padded input would have more than 4294967295 elements; use smaller sizes"
    );
    assert!(ConvShape { padding: [usize::MAX, 0], ..good }.checked().is_err());
    assert!(ConvShape { dilation: [usize::MAX, 1], ..good }.checked().is_err());
}

#[test]
#[should_panic(expected = "`x` has 3 elements, its shape asks for 4")]
fn a_slice_that_does_not_fit_panics_and_is_named() {
    let shape = ConvShape { h: 2, w: 2, ..UNIT };
    forward(shape, &[0.0; 3], &[0.0], None, &mut [0.0; 4]);
}
