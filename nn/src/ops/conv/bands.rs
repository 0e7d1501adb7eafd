//! Convolutions by their definition, band by band, and what they do for the norms beside them: their part of the
//! [`handover`](crate::handover).
//!
//! Alone, a thread takes a few images through all steps before the next ones, so that what one step writes is in the
//! caches when the next one reads it. Several threads do one step after another, each for some of the images or output
//! channels. The bits are the same.

use std::ops::Range;

use convoy_kernels::conv::{self, ConvShape, Input, WeightGradient, channel_ranges};
use convoy_kernels::norm::BatchSums;
use convoy_kernels::norm_block::{AffineGradients, BackwardSums, InputGradient, NormBlock};

use super::layer::{Backward, ConvLayer, image_lengths};
use crate::handover::{Norm, NormsBeside};
use crate::ops::norm_sums;
use crate::ops::operation::Ports;
use crate::pass_buffers::PassBuffers;
use crate::thread_team::{Threads, cut, ranges};
use crate::values::{Statistics, Values};

/// Values of a few images that pass through all steps of a pass before the next ones, to stay in the caches.
const PART: usize = 256 * 1024;

/// A multiple of `unit` images that have about [`PART`] values, if one has `len`. Each part packs the weight again: it
/// must be little of the work.
fn part_images(shape: ConvShape, len: usize, unit: usize) -> usize {
    (PART.max(32 * shape.w_len()) / len / unit).max(1) * unit
}

/// y, and its statistics if a norm wants them and this thread is alone.
pub(super) fn forward(layer: &ConvLayer, norms: &NormsBeside, buffers: &mut PassBuffers, ports: &Ports) {
    let mut y = buffers.pool.take(layer.shape.y_len());
    let shape = layer.shape;
    let (w, bias) = layer.weights(&buffers.values);
    let x = input(norms, &buffers.values, ports);
    let threads = buffers.team.threads(y.len(), shape.n);
    let mut measured = None;
    if norms.measures && threads.count() == 1 {
        measured = Some(forward_measured(shape, x, w, bias, &mut y));
    } else {
        let [x_len, y_len] = image_lengths(layer.shape);
        threads.each(cut(&mut y, y_len, ranges(shape.n, threads.count())), |(images, y)| {
            let shape = ConvShape { n: images.len(), ..shape };
            conv::forward(shape, some_images(x, images.start * x_len..images.end * x_len), w, bias, y);
        });
    }
    drop(threads);
    if let Some(statistics) = measured {
        buffers.values.set_statistics(ports.output, statistics);
    }
    buffers.values.set_output(ports.output, y);
}

/// Writes y, and measures each few images of it while they are in the caches.
fn forward_measured(shape: ConvShape, x: Input<'_>, w: &[f32], bias: Option<&[f32]>, y: &mut [f32]) -> Statistics {
    let [x_len, y_len] = image_lengths(shape);
    let images = part_images(shape, x_len + y_len, 1);
    let mut sums: Option<BatchSums<'_>> = None;
    for (i, y) in y.chunks_mut(images * y_len).enumerate() {
        let (first, n) = (i * images, y.len() / y_len);
        conv::forward(ConvShape { n, ..shape }, some_images(x, first * x_len..(first + n) * x_len), w, bias, y);
        let y = &*y;
        sums.get_or_insert_with(|| BatchSums::new(&y[..shape.co])).add(y);
    }
    norm_sums::finish_statistics(sums.expect("a shape has images"), shape.co)
}

/// dx of the norm after, from the gradient of its output; then the weight's gradient, the input's, and the sums of the
/// norm before.
pub(super) fn backward(layer: &ConvLayer, norms: &NormsBeside, buffers: &mut PassBuffers, backward: Backward<'_>) {
    let Backward { ports, wanted, dy, dx } = backward;
    let left = norms.after.as_ref().map(|norm| {
        let sums = buffers.take_norm_sums(norm.output).expect("the norm leaves its sums");
        (&**norm, sums)
    });
    let PassBuffers { values, shard_gradient, team, .. } = &mut *buffers;
    let threads = team.threads(dy.len(), layer.shape.n);
    let mut steps = BackwardSteps {
        shape: layer.shape,
        x: input(norms, values, ports),
        w: values.weight(layer.weight),
        finish: left.map(|(norm, sums)| rest_of(norm, sums, values)),
        sums: norms.before.as_ref().filter(|_| dx.is_some()).map(|_| BackwardSums::new(layer.shape.ci)),
    };
    let compute = |dw: Option<&mut [f32]>| match threads.count() {
        1 => steps.in_parts(dy, dw, dx),
        _ => steps.one_by_one(dy, dw, dx, &threads),
    };
    match wanted.parameters {
        true => shard_gradient.write(layer.weight, |dw| compute(Some(dw))),
        false => compute(None),
    }
    let sums = steps.sums;
    drop(threads);
    if let (Some(norm), Some(sums)) = (&norms.before, sums) {
        buffers.leave_norm_sums(norm.output, sums);
    }
}

/// What is left to do of the backward pass of a norm that has written the gradients of its parameters.
fn rest_of<'a>(norm: &'a Norm, sums: BackwardSums, values: &'a Values) -> InputGradient<'a> {
    let block = norm.whole_block(values);
    let [mut dgamma, mut dbeta] = [0, 1].map(|_| vec![0.0; block.stats.mean.len()]);
    block.finish(sums, AffineGradients { dgamma: &mut dgamma, dbeta: &mut dbeta, training: norm.of_shard })
}

/// The steps of a backward pass.
struct BackwardSteps<'a> {
    shape: ConvShape,
    x: Input<'a>,
    w: &'a [f32],
    /// What turns the gradient of the output of the norm after into that of y.
    finish: Option<InputGradient<'a>>,
    /// Of the norm before, whose output x is.
    sums: Option<BackwardSums>,
}

impl BackwardSteps<'_> {
    /// All steps for a few images, which stay in the caches, and then for the next ones.
    fn in_parts(&mut self, dy: &mut [f32], dw: Option<&mut [f32]>, mut dx: Option<&mut [f32]>) {
        let [x_len, y_len] = image_lengths(self.shape);
        let mut gradient = dw.as_ref().map(|_| WeightGradient::new(self.shape));
        let images = part_images(self.shape, 2 * (x_len + y_len), WeightGradient::images(self.shape));
        for first in (0..self.shape.n).step_by(images) {
            let last = self.shape.n.min(first + images);
            let (values, dy) = (first * x_len..last * x_len, &mut dy[first * y_len..last * y_len]);
            if let Some(finish) = &self.finish {
                finish.apply_from(first * y_len, dy);
            }
            let x = some_images(self.x, values.clone());
            if let Some(gradient) = &mut gradient {
                gradient.add(last - first, x, dy);
            }
            if let Some(dx) = dx.as_deref_mut() {
                let dx = &mut dx[values];
                conv::backward_data(ConvShape { n: last - first, ..self.shape }, dy, self.w, dx);
                if let (Some(sums), Input::Block(block)) = (&mut self.sums, x) {
                    sums.add(&block, dx);
                }
            }
        }
        if let (Some(gradient), Some(dw)) = (gradient, dw) {
            gradient.finish(dw);
        }
    }

    /// Each step on several threads.
    fn one_by_one(&mut self, dy: &mut [f32], dw: Option<&mut [f32]>, dx: Option<&mut [f32]>, threads: &Threads<'_>) {
        let shape = self.shape;
        let [x_len, y_len] = image_lengths(shape);
        let images = || ranges(shape.n, threads.count());
        if let Some(finish) = &self.finish {
            threads.each(cut(dy, y_len, images()), |(images, dy)| finish.apply_from(images.start * y_len, dy));
        }
        let dy = &*dy;
        if let Some(dw) = dw {
            let channels = channel_ranges(shape, threads.count());
            threads.each(cut(dw, shape.w_len() / shape.co, channels.into_iter()), |(channels, dw)| {
                let mut gradient = WeightGradient::of(shape, channels);
                gradient.add(shape.n, self.x, dy);
                gradient.finish(dw);
            });
        }
        if let Some(dx) = dx {
            threads.each(cut(dx, x_len, images()), |(images, dx)| {
                let dy = &dy[images.start * y_len..images.end * y_len];
                conv::backward_data(ConvShape { n: images.len(), ..shape }, dy, self.w, dx);
            });
            if let (Some(sums), Input::Block(block)) = (&mut self.sums, self.x) {
                *sums = norm_sums::alone(&block, dx, threads);
            }
        }
    }
}

/// What the convolution reads: x, or what it is computed from.
fn input<'a>(norms: &'a NormsBeside, values: &'a Values, ports: &Ports) -> Input<'a> {
    match &norms.before {
        Some(norm) => Input::Block(norm.whole_block(values)),
        None => Input::Values(values.output(ports.inputs[0])),
    }
}

/// Some whole images of x, by their values.
fn some_images(x: Input<'_>, values: Range<usize>) -> Input<'_> {
    match x {
        Input::Values(x) => Input::Values(&x[values]),
        Input::Block(block) => Input::Block(NormBlock { x: &block.x[values], ..block }),
    }
}

#[cfg(test)]
mod tests {
    use convoy_kernels::norm;

    use super::*;

    #[test]
    fn what_is_measured_on_the_way_has_the_bits_of_what_is_measured_afterwards() {
        let shape = ConvShape {
            n: 3,
            h: 64,
            w: 63,
            ci: 2,
            co: 40,
            kh: 3,
            kw: 1,
            stride: [1, 1],
            padding: [1, 0],
            dilation: [1, 1],
            groups: 1,
        };
        let values = |len: usize| (0..len).map(|i| (i * 7919 % 1013) as f32 / 506.5 - 0.3).collect::<Vec<_>>();
        let (x, w) = (values(shape.x_len()), values(shape.w_len()));
        assert_eq!(part_images(shape, (shape.x_len() + shape.y_len()) / 3, 1), 1);
        let [mut y, mut expected] = [0, 1].map(|_| vec![0.0; shape.y_len()]);
        let measured = forward_measured(shape, Input::Values(&x), &w, None, &mut y);
        conv::forward(shape, &x, &w, None, &mut expected);
        assert!(y == expected);
        let [mut mean, mut variance] = [0, 1].map(|_| vec![0.0; shape.co]);
        norm::batch_stats(&expected, &mut mean, &mut variance);
        assert_eq!(measured, Statistics { mean, variance });
    }
}
