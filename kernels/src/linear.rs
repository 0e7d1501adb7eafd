//! Fully connected layers, as `torch.nn.functional.linear`: y = x wᵀ + b.
//!
//! A linear layer is a 1x1 convolution that takes each sample for a pixel, and has its sums and orders. The forward
//! pass and the weight gradient are computed the other way round, though, so that a weight, which is far larger than
//! the few samples of a shard, is read and written as it lies.

use crate::conv::matmul::{Outer, Product};
use crate::conv::{self, ConvShape};
use crate::cpu;
use crate::scratch::scratch;
use crate::shape::{ShapeError, countable, expect_len, positive};

/// Shape of a linear layer: x is `[samples, inputs]`, w `[outputs, inputs]`, y `[samples, outputs]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinearShape {
    /// Rows of x and y.
    pub samples: usize,
    /// Features of x.
    pub inputs: usize,
    /// Features of y.
    pub outputs: usize,
}

impl LinearShape {
    /// The same shape, if it makes sense: sizes of at least one, tensors of at most 2^32 - 1 elements.
    ///
    /// # Errors
    /// The first of these that does not hold.
    pub fn checked(self) -> Result<Self, ShapeError> {
        positive([("samples", self.samples), ("inputs", self.inputs), ("outputs", self.outputs)])?;
        countable("input", &[self.samples, self.inputs])?;
        countable("output", &[self.samples, self.outputs])?;
        countable("weight", &[self.outputs, self.inputs])?;
        Ok(self)
    }

    #[track_caller]
    fn check(&self, slices: &[(&str, usize, usize)]) {
        if let Err(error) = self.checked() {
            panic!("{self:?}: {error}");
        }
        slices.iter().for_each(|&(name, actual, expected)| expect_len(name, actual, expected));
    }

    fn as_conv(self) -> ConvShape {
        ConvShape {
            n: 1,
            h: 1,
            w: self.samples,
            ci: self.inputs,
            co: self.outputs,
            kh: 1,
            kw: 1,
            stride: [1, 1],
            padding: [0, 0],
            dilation: [1, 1],
            groups: 1,
        }
    }
}

/// `y = x wᵀ + bias`. Each output starts from its bias (or 0) and takes the inputs in order.
///
/// # Panics
/// If the shape makes no sense or a slice does not fit it.
pub fn forward(shape: LinearShape, x: &[f32], w: &[f32], bias: Option<&[f32]>, y: &mut [f32]) {
    shape.check(&[("x", x.len(), shape.samples * shape.inputs), ("w", w.len(), shape.outputs * shape.inputs)]);
    shape.check(&[("y", y.len(), shape.samples * shape.outputs)]);
    if let Some(bias) = bias {
        expect_len("bias", bias.len(), shape.outputs);
    }
    let size = cpu::panel();
    let LinearShape { inputs, outputs, .. } = shape;
    let (mut x_by_input, mut y_by_output) = (scratch(inputs * size), scratch(outputs * size));
    for (x, y) in x.chunks(size * inputs).zip(y.chunks_mut(size * outputs)) {
        turn(x, inputs, size, &mut x_by_input);
        for (output, sums) in y_by_output.chunks_exact_mut(size).enumerate() {
            sums.fill(bias.map_or(0.0, |bias| bias[output]));
        }
        // Inputs in pieces, so that those of all samples stay in the first-level cache.
        for first in (0..inputs).step_by(PIECE) {
            let depth = PIECE.min(inputs - first);
            cpu::dispatch(Product {
                a: &w[first..],
                a_row: inputs,
                rows: outputs,
                depth,
                b: &x_by_input[first * size..][..depth * size],
                c: &mut y_by_output,
                add: true,
                next: [&[]; 2],
            });
        }
        for (sample, y) in y.chunks_exact_mut(outputs).enumerate() {
            for (y, sums) in y.iter_mut().zip(y_by_output.chunks_exact(size)) {
                *y = sums[sample];
            }
        }
    }
}

/// Inputs whose values of all samples of a panel stay in the first-level cache.
const PIECE: usize = 256;

/// Rows of `x` to lanes of `to`, which has `size` lanes for each column. Other lanes stay as they are.
fn turn(x: &[f32], columns: usize, size: usize, to: &mut [f32]) {
    for (lane, x) in x.chunks_exact(columns).enumerate() {
        for (to, x) in to[lane..].iter_mut().step_by(size).zip(x) {
            *to = *x;
        }
    }
}

/// `dx = dy w`. Each sum takes the outputs in order.
///
/// # Panics
/// If the shape makes no sense or a slice does not fit it.
pub fn backward_data(shape: LinearShape, dy: &[f32], w: &[f32], dx: &mut [f32]) {
    conv::backward_data(shape.as_conv(), dy, w, dx);
}

/// `dw = dyᵀ x`, a sum over the samples in order.
///
/// # Panics
/// If the shape makes no sense or a slice does not fit it.
pub fn backward_weight(shape: LinearShape, x: &[f32], dy: &[f32], dw: &mut [f32]) {
    shape.check(&[("x", x.len(), shape.samples * shape.inputs), ("dw", dw.len(), shape.outputs * shape.inputs)]);
    shape.check(&[("dy", dy.len(), shape.samples * shape.outputs)]);
    let size = cpu::panel();
    let LinearShape { samples, inputs, outputs } = shape;
    let (mut part, mut sums) = (scratch(samples * size), scratch(outputs * size));
    for first in (0..inputs).step_by(size) {
        let width = size.min(inputs - first);
        for (to, x) in part.chunks_exact_mut(size).zip(x.chunks_exact(inputs)) {
            to[..width].copy_from_slice(&x[first..][..width]);
        }
        sums.fill(0.0);
        cpu::dispatch(Outer { a: dy, a_row: outputs, b: &part, sums: &mut sums });
        for (dw, sums) in dw.chunks_exact_mut(inputs).zip(sums.chunks_exact(size)) {
            dw[first..][..width].copy_from_slice(&sums[..width]);
        }
    }
}

/// `db` = sum of the rows of `dy`, in order, in f64.
///
/// # Panics
/// If the shape makes no sense or a slice does not fit it.
pub fn backward_bias(shape: LinearShape, dy: &[f32], db: &mut [f32]) {
    conv::backward_bias(shape.as_conv(), dy, db);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::naive::indices;
    use crate::test_support::{assert_close, noise, on_every_level};

    proptest! {
        #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn agrees_with_the_definition(
            samples in 1usize..20, inputs in 1usize..60, outputs in 1usize..60, seed in 0u64..1000
        ) {
            let s = LinearShape { samples, inputs, outputs };
            let (x, w, dy) = (noise(seed, samples * inputs), noise(seed + 1, outputs * inputs), noise(seed + 2, samples * outputs));
            let sums = |len: usize, term: &dyn Fn(usize, usize, usize) -> (usize, f32, f32)| {
                let mut sums = [vec![0.0; len], vec![0.0; len]];
                for [n, i, o] in indices([samples, inputs, outputs]) {
                    let (to, a, b) = term(n * inputs + i, n * outputs + o, o * inputs + i);
                    let product = f64::from(a) * f64::from(b);
                    sums[0][to] += product;
                    sums[1][to] += product.abs();
                }
                sums
            };
            let y = on_every_level(dy.len(), |y| forward(s, &x, &w, None, y));
            let [sum, bound] = sums(dy.len(), &|i, o, k| (o, x[i], w[k]));
            assert_close("y", &y, &sum, &bound);
            let dx = on_every_level(x.len(), |dx| backward_data(s, &dy, &w, dx));
            let [sum, bound] = sums(x.len(), &|i, o, k| (i, dy[o], w[k]));
            assert_close("dx", &dx, &sum, &bound);
            let dw = on_every_level(w.len(), |dw| backward_weight(s, &x, &dy, dw));
            let [sum, bound] = sums(w.len(), &|i, o, k| (k, x[i], dy[o]));
            assert_close("dw", &dw, &sum, &bound);
            let db = on_every_level(outputs, |db| backward_bias(s, &dy, db));
            let expected: Vec<f32> = (0..outputs)
                .map(|o| dy.iter().skip(o).step_by(outputs).map(|&v| f64::from(v)).sum::<f64>() as f32)
                .collect();
            prop_assert_eq!(db, expected);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn has_the_bits_of_a_convolution_of_one_pixel(
            samples in 1usize..80, inputs in 1usize..600, outputs in 1usize..50, bias: bool, seed in 0u64..1000
        ) {
            let s = LinearShape { samples, inputs, outputs };
            let (x, w, dy) = (noise(seed, samples * inputs), noise(seed + 1, outputs * inputs), noise(seed + 2, samples * outputs));
            let bias = bias.then(|| noise(seed + 3, outputs));
            let both = |len: usize, ours: &dyn Fn(&mut [f32]), other: &dyn Fn(&mut [f32])| {
                let (mut a, mut b) = (vec![f32::NAN; len], vec![f32::NAN; len]);
                ours(&mut a);
                other(&mut b);
                assert!(a.iter().zip(&b).all(|(a, b)| a.to_bits() == b.to_bits()));
            };
            both(
                dy.len(),
                &|y| forward(s, &x, &w, bias.as_deref(), y),
                &|y| conv::forward(s.as_conv(), &x, &w, bias.as_deref(), y),
            );
            both(
                w.len(),
                &|dw| backward_weight(s, &x, &dy, dw),
                &|dw| conv::backward_weight(s.as_conv(), &x, &dy, dw),
            );
        }
    }

    #[test]
    fn shapes_without_sense_are_refused() {
        let message = |samples, inputs, outputs| {
            LinearShape { samples, inputs, outputs }.checked().expect_err("no sense").to_string()
        };
        assert_eq!(message(1, 0, 1), "inputs is 0; it must be at least 1");
        assert_eq!(
            message(1, 1 << 20, 1 << 20),
            "the weight would have more than 4294967295 elements; use smaller sizes"
        );
    }
}
