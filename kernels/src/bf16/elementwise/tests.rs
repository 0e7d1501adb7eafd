//! Padding, levels, and parts of the rows. The values are compared with the definition where whole networks are, in
//! `nn/src/halves/tests.rs`.

use super::*;
use crate::norm::{Affine, Stats};
use crate::norm_block::AffineGradients;
use crate::pool::PoolShape;
use crate::test_support::{noise, on_every_level};

const SHAPES: [Blocks; 4] = [
    Blocks { n: 5, h: 4, w: 5, c: 37 },
    Blocks { n: 2, h: 5, w: 4, c: 3 },
    Blocks { n: 40, h: 3, w: 2, c: 32 },
    Blocks { n: 16, h: 2, w: 3, c: 70 },
];

fn tensor(shape: Blocks, seed: u64) -> Vec<Bf16> {
    let mut values = noise(seed, shape.n * shape.h * shape.w * shape.c);
    values.iter_mut().for_each(|value| *value *= 4.0);
    let mut tensor = vec![Bf16::ZERO; shape.len()];
    shape.from_nhwc(&values, &mut tensor);
    tensor
}

fn rows_of(tensor: &[Bf16], shape: Blocks, rows: &Range<usize>) -> Vec<Bf16> {
    tensor[rows.start * shape.row_len()..rows.end * shape.row_len()].to_vec()
}

/// Runs `fill` for all rows at once on every level and then for one row after the other, from memory full of NaN:
/// the bits must be the same, and the padding +0.0.
fn check(what: &str, shape: Blocks, fill: impl Fn(Range<usize>, &mut [Bf16])) -> Vec<Bf16> {
    let unwritten = Bf16::from_f32(f32::NAN);
    let bits = on_every_level(shape.len(), |bits| {
        let mut to = vec![unwritten; shape.len()];
        fill(0..shape.rows(), &mut to);
        crate::bf16::widen(&to, bits);
    });
    let mut whole = vec![Bf16::ZERO; bits.len()];
    crate::bf16::round(&bits, &mut whole);
    let mut one_by_one = vec![unwritten; shape.len()];
    for (row, to) in one_by_one.chunks_exact_mut(shape.row_len()).enumerate() {
        fill(row..row + 1, to);
    }
    assert!(whole == one_by_one, "{what} of {shape:?} by rows");
    let mut nhwc = vec![0.0; shape.n * shape.h * shape.w * shape.c];
    shape.to_nhwc(&whole, &mut nhwc);
    let mut padded = vec![unwritten; shape.len()];
    shape.from_nhwc(&nhwc, &mut padded);
    assert!(whole == padded, "{what} of {shape:?}: padding");
    whole
}

fn sums_of(shape: Blocks, fill: impl Fn(Range<usize>, &mut [f64])) -> Vec<f64> {
    let len = shape.row_sums_len();
    let mut whole = vec![f64::NAN; shape.rows() * len];
    fill(0..shape.rows(), &mut whole);
    let mut one_by_one = vec![f64::NAN; whole.len()];
    one_by_one.chunks_exact_mut(len).enumerate().for_each(|(row, sums)| fill(row..row + 1, sums));
    assert!(whole == one_by_one, "sums of {shape:?} by rows");
    whole
}

#[test]
fn padding_stays_zero_and_rows_may_be_cut_anywhere() {
    for (shape, seed) in SHAPES.into_iter().zip(0..) {
        let (x, other) = (tensor(shape, seed), tensor(shape, seed + 10));
        // Sigmoid and hard sigmoid of 0 are not 0.
        for activation in [Activation::Relu, Activation::Relu6, Activation::Sigmoid, Activation::Gelu] {
            check("activation", shape, |rows, y| {
                activation_rows(activation, shape, rows.clone(), &rows_of(&x, shape, &rows), y);
            });
            check("its gradient", shape, |rows, dx| {
                let [x, dy] = [&x, &other].map(|tensor| rows_of(tensor, shape, &rows));
                activation_gradient(activation, &x, &dy, dx);
            });
        }
        let pool = PoolShape {
            n: shape.n,
            h: shape.h,
            w: shape.w,
            c: shape.c,
            kernel: [2, 2],
            stride: [1, 2],
            padding: [1, 0],
        };
        let dy = tensor(pool.y_blocks(), seed + 20);
        for pooling in [PoolKind::Max, PoolKind::Average] {
            check("pooling", pool.y_blocks(), |rows, y| pool_rows(pooling, pool, rows, &x, y));
            check("its gradient", shape, |rows, dx| pool_gradient_rows(pooling, pool, rows, &x, &dy, dx));
        }
        let one = Blocks { h: 1, w: 1, ..shape };
        check("mean", one, |rows, y| {
            let mut whole = vec![Bf16::ZERO; one.len()];
            global_average(shape, &x, &mut whole);
            y.copy_from_slice(&rows_of(&whole, one, &rows));
        });
        check("its gradient", shape, |rows, dx| {
            global_average_gradient_rows(shape, rows, &tensor(one, seed + 30), dx);
        });
    }
}

#[test]
fn norms_keep_padding_zero_and_may_be_cut_anywhere() {
    for (shape, seed) in SHAPES.into_iter().zip(100..) {
        let (x, other) = (tensor(shape, seed), tensor(shape, seed + 10));
        let sums = sums_of(shape, |rows, sums| statistics_rows(shape, &x, rows, sums));
        let (mut mean, mut var) = (vec![0.0; shape.c], vec![0.0; shape.c]);
        statistics(shape, &x, &sums, &mut mean, &mut var);
        let [gamma, beta] = [1, 2].map(|i| noise(seed + i, shape.c));
        let stats = Stats { mean: &mean, var: &var };
        for activation in [None, Some(Activation::Relu6), Some(Activation::Sigmoid)] {
            let group = NormGroup::new(shape, stats, Affine { gamma: &gamma, beta: &beta }, 1e-3, activation);
            let part = |tensor: &[Bf16], rows: &Range<usize>| rows_of(tensor, shape, rows);
            let y = check("norm", shape, |rows, y| {
                group.forward_rows(rows.clone(), &part(&x, &rows), Some(&part(&other, &rows)), y);
            });
            let [mut dgamma, mut dbeta] = [0, 1].map(|_| vec![0.0; shape.c]);
            let sums = sums_of(shape, |rows, sums| {
                group.sum_rows(rows.clone(), &part(&x, &rows), GradientOf::Output(&part(&other, &rows)), sums);
            });
            let rest = group.finish(&sums, AffineGradients { dgamma: &mut dgamma, dbeta: &mut dbeta, training: true });
            check("its gradient", shape, |rows, dx| {
                rest.rows(rows.clone(), &part(&x, &rows), GradientOf::Output(&part(&other, &rows)), dx);
            });
            if activation != Some(Activation::Sigmoid) {
                check("the residual's", shape, |rows, d| {
                    group.residual_gradient_rows(rows.clone(), &part(&y, &rows), &part(&other, &rows), d);
                });
            }
        }
    }
}

#[test]
fn a_pooling_after_a_norm_reaches_all_of_x() {
    for (shape, seed) in SHAPES.into_iter().zip(200..) {
        let Blocks { n, h, w, c } = shape;
        let pool = PoolShape { n, h, w, c, kernel: [2, 2], stride: [2, 2], padding: [0, 0] };
        let (x, dy) = (tensor(shape, seed), tensor(pool.y_blocks(), seed + 10));
        let (mean, var, gamma) = (noise(seed, c), vec![0.5; c], noise(seed + 1, c));
        let (stats, affine) = (Stats { mean: &mean, var: &var }, Affine { gamma: &gamma, beta: &mean });
        for activation in [None, Some(Activation::Relu), Some(Activation::Silu)] {
            let group = NormGroup::new(shape, stats, affine, 1e-3, activation);
            check("pooled norm", pool.y_blocks(), |rows, y| group.forward_pooled_rows(pool, rows, &x, y));
            let part = |rows: &Range<usize>| rows_of(&dy, pool.y_blocks(), rows);
            let sums = sums_of(pool.y_blocks(), |rows, sums| {
                group.sum_pooled_rows(pool, rows.clone(), &x, &part(&rows), sums);
            });
            let [mut dgamma, mut dbeta] = [0, 1].map(|_| vec![0.0; c]);
            let rest = group.finish(&sums, AffineGradients { dgamma: &mut dgamma, dbeta: &mut dbeta, training: true });
            let run = |cut: usize| {
                let mut dx = vec![Bf16::from_f32(f32::NAN); shape.len()];
                let mut left = &mut dx[..];
                for first in (0..pool.y_blocks().rows()).step_by(cut) {
                    let rows = first..pool.y_blocks().rows().min(first + cut);
                    let of_x = pooled_rows_of_x(pool, rows.clone());
                    let (piece, rest_of_x) = left.split_at_mut(of_x.len() * shape.row_len());
                    rest.pooled_rows(pool, rows.clone(), &x, &part(&rows), piece);
                    left = rest_of_x;
                }
                assert!(left.is_empty());
                dx
            };
            let whole = run(usize::MAX / 2);
            assert!(whole == run(1));
            let mut nhwc = vec![0.0; n * h * w * c];
            shape.to_nhwc(&whole, &mut nhwc);
            assert!(nhwc.iter().all(|value| value.is_finite()) && nhwc.iter().any(|value| *value != 0.0));
            let mut padded = vec![Bf16::from_f32(f32::NAN); shape.len()];
            shape.from_nhwc(&nhwc, &mut padded);
            assert!(whole == padded, "{shape:?}: padding");
        }
    }
}

#[test]
fn features_stand_in_the_order_of_pytorch_and_come_back() {
    let shape = Blocks { n: 3, h: 2, w: 2, c: 35 };
    let x = tensor(shape, 1);
    let flat = Blocks { n: 3, h: 1, w: 1, c: 140 };
    let mut y = vec![Bf16::from_f32(f32::NAN); flat.len()];
    flatten(shape, &x, &mut y);
    assert_eq!(y[flat.at(2, 0, 0, 33 * 4 + 2)], x[shape.at(2, 1, 0, 33)]);
    let mut back = vec![Bf16::from_f32(f32::NAN); shape.len()];
    unflatten(shape, &y, &mut back);
    assert!(back == x);
}

/// Windows that overlap by several rows, or leave rows out, in one group of images and in two.
#[test]
fn gradients_of_poolings_are_those_of_f32_rounded() {
    for (n, [kernel, stride, padding]) in [2, 40]
        .into_iter()
        .flat_map(|n| [[5, 2, 2], [5, 1, 2], [3, 1, 1], [3, 2, 1], [2, 3, 0]].map(|pooling| (n, pooling)))
    {
        let pool = PoolShape { n, h: 7, w: 6, c: 33, kernel: [kernel; 2], stride: [stride; 2], padding: [padding; 2] };
        let (x_shape, y_shape) = (pool.x_blocks(), pool.y_blocks());
        let (x, dy) = (tensor(x_shape, 7), tensor(y_shape, 8));
        let [mut x_wide, mut dy_wide] = [pool.x_len(), pool.y_len()].map(|len| vec![0.0; len]);
        x_shape.to_nhwc(&x, &mut x_wide);
        y_shape.to_nhwc(&dy, &mut dy_wide);
        for kind in [PoolKind::Max, PoolKind::Average] {
            let mut expected = vec![0.0; pool.x_len()];
            match kind {
                PoolKind::Max => crate::pool::max_backward(pool, &x_wide, &dy_wide, &mut expected),
                PoolKind::Average => crate::pool::avg_backward(pool, &dy_wide, &mut expected),
            }
            let found = check("dx", x_shape, |rows, dx| pool_gradient_rows(kind, pool, rows, &x, &dy, dx));
            let mut rounded = vec![Bf16::ZERO; x_shape.len()];
            x_shape.from_nhwc(&expected, &mut rounded);
            assert!(found == rounded, "{kind:?} {pool:?}");
        }
    }
}

#[test]
fn the_first_nan_of_a_window_wins_and_takes_the_gradient() {
    let shape = PoolShape { n: 1, h: 1, w: 4, c: 1, kernel: [1, 4], stride: [1, 4], padding: [0, 0] };
    let pooled = |values: [f32; 4]| {
        let (x_blocks, y_blocks) = (shape.x_blocks(), shape.y_blocks());
        let (mut x, mut dy) = (vec![Bf16::ZERO; x_blocks.len()], vec![Bf16::ZERO; y_blocks.len()]);
        x_blocks.from_nhwc(&values, &mut x);
        y_blocks.from_nhwc(&[1.0], &mut dy);
        let (mut y, mut dx) = (dy.clone(), x.clone());
        pool_rows(PoolKind::Max, shape, 0..1, &x, &mut y);
        pool_gradient_rows(PoolKind::Max, shape, 0..1, &x, &dy, &mut dx);
        let mut gradient = [0.0; 4];
        x_blocks.to_nhwc(&dx, &mut gradient);
        (y[0].to_f32(), gradient)
    };
    let (largest, gradient) = pooled([1.0, f32::NAN, 3.0, f32::NAN]);
    assert!(largest.is_nan() && gradient == [0.0, 1.0, 0.0, 0.0]);
    assert_eq!(pooled([2.0, 3.0, 3.0, 1.0]), (3.0, [0.0, 1.0, 0.0, 0.0]));
    assert_eq!(pooled([f32::NEG_INFINITY; 4]), (f32::NEG_INFINITY, [1.0, 0.0, 0.0, 0.0]));
}
