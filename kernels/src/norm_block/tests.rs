use proptest::prelude::*;

use super::*;
use crate::activation::Activation;
use crate::norm::{self, Affine, Grads, Stats};
use crate::pool::{PoolShape, max_backward, max_forward};
use crate::test_support::{noise, on_every_level};
use crate::tree::add_into;

const EPS: f32 = 1e-3;

fn activations() -> impl Strategy<Value = Option<Activation>> {
    use Activation::*;
    let all = [Relu, Relu6, LeakyRelu(0.1), Sigmoid, Tanh, Silu, Gelu, HardSwish, HardSigmoid, Elu(0.7)];
    prop::option::of(prop::sample::select(all.to_vec()))
}

/// What the norm's functions need.
struct Given {
    x: Vec<f32>,
    channels: [Vec<f32>; 4],
}

impl Given {
    fn new(rows: usize, channels: usize, seed: u64) -> Self {
        let x: Vec<f32> = noise(seed, rows * channels).into_iter().map(|v| 3.0 * v + 1.0).collect();
        let (mut mean, mut var) = (vec![0.0; channels], vec![0.0; channels]);
        norm::batch_stats(&x, &mut mean, &mut var);
        Given { x, channels: [mean, var, noise(seed + 1, channels), noise(seed + 2, channels)] }
    }

    fn block(&self, activation: Option<Activation>) -> NormBlock<'_> {
        let [mean, var, gamma, beta] = &self.channels;
        NormBlock { x: &self.x, stats: Stats { mean, var }, affine: Affine { gamma, beta }, eps: EPS, activation }
    }
}

fn followed(activation: Option<Activation>, u: &[f32]) -> Vec<f32> {
    let mut y = u.to_vec();
    if let Some(activation) = activation {
        activation.forward(u, &mut y);
    }
    y
}

fn gradient(activation: Option<Activation>, u: &[f32], y: &[f32], dy: &[f32]) -> Vec<f32> {
    let mut du = dy.to_vec();
    if let Some(activation) = activation {
        activation.backward(u, y, dy, &mut du);
    }
    du
}

/// dx, dgamma and dbeta of the norm alone, one after the other.
fn norm_gradients(block: &NormBlock<'_>, du: &[f32], training: bool) -> Vec<f32> {
    let (mut dx, c) = (vec![0.0; du.len()], block.stats.mean.len());
    let (mut dgamma, mut dbeta) = (vec![0.0; c], vec![0.0; c]);
    let backward = if training { norm::backward_train } else { norm::backward_eval };
    let grads = Grads { dx: &mut dx, dgamma: &mut dgamma, dbeta: &mut dbeta };
    backward(block.x, du, block.stats, block.affine.gamma, EPS, grads);
    [dx, dgamma, dbeta].concat()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn has_the_bits_of_one_function_after_another(
        rows in 2usize..150, channels in 1usize..70, activation in activations(), training: bool, seed in 0u64..1000,
    ) {
        let given = Given::new(rows, channels, seed);
        let (block, len) = (given.block(activation), given.x.len());
        let mut u = vec![0.0; len];
        norm::forward_eval(&given.x, block.stats, block.affine, EPS, &mut u);
        let y = on_every_level(len, |y| block.forward(None, y));
        prop_assert_eq!(bits(&y), bits(&followed(activation, &u)));

        let dy = noise(seed + 3, len);
        let du = gradient(activation, &u, &y, &dy);
        let all = on_every_level(len + 2 * channels, |all| {
            let (d, rest) = all.split_at_mut(len);
            let (dgamma, dbeta) = rest.split_at_mut(channels);
            d.copy_from_slice(&dy);
            block.backward(d, AffineGradients { dgamma, dbeta, training }).apply(d);
        });
        prop_assert_eq!(bits(&all), bits(&norm_gradients(&block, &du, training)));
    }

    #[test]
    fn backward_in_parts(
        rows in 2usize..150, channels in 1usize..70, part in 1usize..70, activation in activations(), seed in 0u64..1000,
    ) {
        let given = Given::new(rows, channels, seed);
        let block = given.block(activation);
        let (mut whole, mut parts) = (noise(seed + 3, given.x.len()), noise(seed + 3, given.x.len()));
        let [mut dgamma, mut dbeta] = [0, 1].map(|_| vec![0.0; channels]);
        block.backward(&whole, AffineGradients { dgamma: &mut dgamma, dbeta: &mut dbeta, training: true }).apply(&mut whole);

        let mut sums = BackwardSums::new(channels);
        for (x, dy) in given.x.chunks(part * channels).zip(parts.chunks(part * channels)) {
            sums.add(&NormBlock { x, ..block }, dy);
        }
        let mut appended = BackwardSums::new(channels);
        let chunks = part.div_ceil(8) * BackwardSums::ROWS * channels;
        for (x, dy) in given.x.chunks(chunks).zip(parts.chunks(chunks)) {
            let mut part = BackwardSums::part(channels);
            part.add(&NormBlock { x, ..block }, dy);
            appended.append(part);
        }
        prop_assert_eq!(appended.sums.take(), sums.clone().sums.take());
        let mut stats = norm::BatchSums::new(&given.x[..channels]);
        for x in given.x.chunks(chunks) {
            let mut part = norm::BatchSums::part(&given.x[..channels]);
            part.add(x);
            stats.append(part);
        }
        let [mut mean, mut var] = [0, 1].map(|_| vec![0.0; channels]);
        stats.stats(&mut mean, &mut var);
        prop_assert_eq!([&mean, &var], [&given.channels[0], &given.channels[1]]);
        let [mut same_dgamma, mut same_dbeta] = [0, 1].map(|_| vec![0.0; channels]);
        let to = AffineGradients { dgamma: &mut same_dgamma, dbeta: &mut same_dbeta, training: true };
        let rest = block.finish(sums, to);
        for (i, d) in parts.chunks_mut(part * channels).enumerate() {
            rest.apply_from(i * part * channels, d);
        }
        prop_assert_eq!(bits(&[parts, same_dgamma, same_dbeta].concat()), bits(&[whole, dgamma, dbeta].concat()));
    }

    #[test]
    fn with_a_residual(
        rows in 2usize..90, channels in 1usize..70,
        activation in prop::sample::select(vec![None, Some(Activation::Relu), Some(Activation::Relu6)]), seed in 0u64..1000,
    ) {
        let given = Given::new(rows, channels, seed);
        let (block, len, residual) = (given.block(activation), given.x.len(), noise(seed + 4, rows * channels));
        let mut u = vec![0.0; len];
        norm::forward_eval(&given.x, block.stats, block.affine, EPS, &mut u);
        add_into(&mut u, &residual);
        let y = on_every_level(len, |y| block.forward(Some(&residual), y));
        prop_assert_eq!(bits(&y), bits(&followed(activation, &u)));

        let dy = noise(seed + 3, len);
        let du = gradient(activation, &u, &y, &dy);
        let (mut dgamma, mut dbeta) = (vec![0.0; channels], vec![0.0; channels]);
        let (mut d, mut dx) = (vec![0.0; len], vec![0.0; len]);
        let to = AffineGradients { dgamma: &mut dgamma, dbeta: &mut dbeta, training: true };
        let mut sums = BackwardSums::new(channels);
        sums.add_residual(&block, &y, &dy, &mut d);
        let rest = block.finish(sums, to);
        prop_assert_eq!(bits(&d), bits(&du), "the residual's");
        rest.write_from(0, &d, &mut dx);
        prop_assert_eq!(bits(&[dx, dgamma, dbeta].concat()), bits(&norm_gradients(&block, &du, true)));
    }

    #[test]
    fn with_a_pooling(
        sizes in (1usize..4, 2usize..9, 2usize..9, 1usize..40), kernel in (1usize..4, 1usize..4),
        activation in activations(), seed in 0u64..1000,
    ) {
        let (n, h, w, c) = sizes;
        let kernel = [kernel.0.min(h), kernel.1.min(w)];
        let shape = PoolShape { n, h, w, c, kernel, stride: kernel, padding: [0, 0] };
        let given = Given::new(n * h * w, c, seed);
        let (block, len) = (given.block(activation), given.x.len());
        let mut u = vec![0.0; len];
        norm::forward_eval(&given.x, block.stats, block.affine, EPS, &mut u);
        let v = followed(activation, &u);
        let mut expected = vec![0.0; shape.y_len()];
        max_forward(shape, &v, &mut expected);
        let y = on_every_level(shape.y_len(), |y| block.forward_pooled(shape, y));
        prop_assert_eq!(bits(&y), bits(&expected));

        let dy = noise(seed + 3, y.len());
        let mut dv = vec![0.0; len];
        max_backward(shape, &v, &dy, &mut dv);
        let du = gradient(activation, &u, &v, &dv);
        let all = on_every_level(len + 2 * c, |all| {
            let (d, rest) = all.split_at_mut(len);
            let (dgamma, dbeta) = rest.split_at_mut(c);
            let mut sums = BackwardSums::new(c);
            sums.add_pooled(&block, shape, &dy, d);
            block.finish(sums, AffineGradients { dgamma, dbeta, training: true }).apply(d);
        });
        let expected = norm_gradients(&block, &du, true);
        for (i, (a, b)) in all.iter().zip(&expected).enumerate() {
            prop_assert!(a == b, "{i}: {a} should be {b}"); // 0 may have either sign
        }
    }
}

#[test]
#[should_panic(expected = "all rows are taken in by one function")]
fn rows_that_come_by_two_functions_are_refused() {
    let given = Given::new(4, 3, 1);
    let (block, dy) = (given.block(None), noise(4, given.x.len()));
    let mut sums = BackwardSums::new(3);
    sums.add(&block, &dy);
    sums.add_residual(&block, &given.x, &dy, &mut vec![0.0; dy.len()]);
}
