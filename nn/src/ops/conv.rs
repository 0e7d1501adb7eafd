//! Convolution, as `torch.nn.functional.conv2d`.

use std::ops::Range;

use convoy_kernels::block::{BackwardSums, Block, InputGradient, Parameters};
use convoy_kernels::conv::{self, ConvShape, Input, WeightGradient, channel_ranges, winograd};
use convoy_kernels::norm::BatchSums;

use super::{Keeps, Normal, Operation, Ports, Wanted, norm};
use crate::flow::{Flow, Numbers};
use crate::team::{Lanes, cut, ranges};

/// x `(n, h, w, ci)`, weight `(co, ci / groups, kh, kw)` and perhaps bias `(co)`, to `(n, oh, ow, co)`.
pub(crate) struct Conv {
    /// Its geometry; must make sense ([`ConvShape::checked`]).
    pub shape: ConvShape,
    /// By Winograd's algorithm, for which the geometry must fit ([`winograd::fits`]).
    pub winograd: bool,
    /// Index of the weight in the network.
    pub weight: usize,
    /// Index of the bias.
    pub bias: Option<usize>,
    /// What x is computed from, if nobody wrote it; not with Winograd's algorithm.
    pub behind: Option<Behind>,
    /// Whether a norm will want the statistics of the output; not with Winograd's algorithm.
    pub measures: bool,
}

/// A norm whose output is computed where it is read.
#[derive(Clone)]
pub(crate) struct Behind {
    /// The norm.
    pub normal: Normal,
    /// The node whose output it normalises.
    pub node: usize,
}

impl Conv {
    fn x<'a>(&'a self, numbers: &'a Numbers, at: &Ports) -> Input<'a> {
        match &self.behind {
            Some(Behind { normal, node }) => Input::Block(normal.block(numbers, numbers.value(*node))),
            None => Input::Values(numbers.value(at.inputs[0])),
        }
    }
}

impl Operation for Conv {
    fn name(&self) -> &'static str {
        "conv"
    }

    fn keeps(&self) -> Keeps {
        Keeps { input: true, output: false }
    }

    fn forward(&self, flow: &mut Flow, at: &Ports) {
        let mut y = flow.memory.take(self.shape.y_len());
        let (n, numbers) = (self.shape.n, &flow.numbers);
        let (w, bias) = (numbers.weight(self.weight), self.bias.map(|bias| numbers.weight(bias)));
        let [x_len, y_len] = [self.shape.x_len() / n, self.shape.y_len() / n];
        let lanes = flow.team.lanes(y.len(), n);
        if self.measures && lanes.count() == 1 {
            let measured = forward_measured(self.shape, self.x(numbers, at), w, bias, &mut y);
            drop(lanes);
            flow.measured.insert(at.output, measured);
            return flow.set_value(at.output, y);
        }
        lanes.each(cut(&mut y, y_len, ranges(n, lanes.count())), |(images, y)| {
            let shape = ConvShape { n: images.len(), ..self.shape };
            let values = images.start * x_len..images.end * x_len;
            match self.winograd {
                true => winograd::forward(shape, &numbers.value(at.inputs[0])[values], w, bias, y),
                false => conv::forward(shape, part(self.x(numbers, at), values), w, bias, y),
            }
        });
        drop(lanes);
        flow.set_value(at.output, y);
    }

    fn backward(&self, flow: &mut Flow, at: &Ports, wanted: Wanted) {
        let mut dy = flow.take_gradient(at.output);
        let mut dx = wanted.inputs[0].then(|| flow.memory.take(self.shape.x_len()));
        let team = flow.team.clone();
        let lanes = team.lanes(dy.len(), self.shape.n);
        if self.winograd {
            self.by_winograd(flow, at, wanted, &dy, dx.as_deref_mut(), &lanes);
        } else {
            self.directly(flow, at, wanted, &mut dy, dx.as_deref_mut(), &lanes);
        }
        drop(lanes);
        if let Some(bias) = self.bias.filter(|_| wanted.parameters) {
            flow.sum.write(bias, |db| conv::backward_bias(self.shape, &dy, db));
        }
        if let Some(dx) = dx {
            flow.add_gradient(at.inputs[0], dx);
        }
        flow.memory.give(dy);
    }
}

/// Values of a few images that pass through all steps of a pass before the next ones, to stay in the caches.
const PART: usize = 256 * 1024;

/// A multiple of `unit` images that have about [`PART`] values, if one has `len`. Each part packs the weight again: it must
/// be little of the work.
fn part_images(shape: ConvShape, len: usize, unit: usize) -> usize {
    (PART.max(32 * shape.w_len()) / len / unit).max(1) * unit
}

/// Mean and biased variance of y, each channel's, measured while a few images of it are in the caches.
fn forward_measured(shape: ConvShape, x: Input<'_>, w: &[f32], bias: Option<&[f32]>, y: &mut [f32]) -> [Vec<f32>; 2] {
    let [x_len, y_len] = [shape.x_len() / shape.n, shape.y_len() / shape.n];
    let images = part_images(shape, x_len + y_len, 1);
    let mut sums: Option<BatchSums<'_>> = None;
    for (i, y) in y.chunks_mut(images * y_len).enumerate() {
        let (first, n) = (i * images, y.len() / y_len);
        conv::forward(ConvShape { n, ..shape }, part(x, first * x_len..(first + n) * x_len), w, bias, y);
        let y = &*y;
        sums.get_or_insert_with(|| BatchSums::new(&y[..shape.co])).add(y);
    }
    let [mut mean, mut var] = [0, 1].map(|_| vec![0.0; shape.co]);
    sums.expect("a shape has images").stats(&mut mean, &mut var);
    [mean, var]
}

impl Conv {
    fn by_winograd(
        &self,
        flow: &mut Flow,
        at: &Ports,
        wanted: Wanted,
        dy: &[f32],
        dx: Option<&mut [f32]>,
        lanes: &Lanes<'_>,
    ) {
        let Flow { numbers, sum, .. } = flow;
        if wanted.parameters {
            let x = numbers.value(at.inputs[0]);
            let channels = channel_ranges(self.shape, lanes.count());
            sum.write(self.weight, |dw| {
                lanes.each(cut(dw, self.shape.w_len() / self.shape.co, channels.into_iter()), |(channels, dw)| {
                    winograd::backward_weight_of(self.shape, channels, x, dy, dw);
                });
            });
        }
        if let Some(dx) = dx {
            let [x_len, y_len] = [self.shape.x_len(), self.shape.y_len()].map(|len| len / self.shape.n);
            lanes.each(cut(dx, x_len, ranges(self.shape.n, lanes.count())), |(images, dx)| {
                let shape = ConvShape { n: images.len(), ..self.shape };
                let dy = &dy[images.start * y_len..images.end * y_len];
                winograd::backward_data(shape, dy, numbers.weight(self.weight), dx);
            });
        }
    }

    /// What is left to do of the backward pass of the norm which reads the output; then the weight's gradient, the input's,
    /// and the sums of the norm behind the input.
    fn directly(
        &self,
        flow: &mut Flow,
        at: &Ports,
        wanted: Wanted,
        dy: &mut [f32],
        dx: Option<&mut [f32]>,
        lanes: &Lanes<'_>,
    ) {
        let unfinished = flow.unfinished.remove(&at.output);
        let Flow { numbers, sum, sums, .. } = flow;
        let rest = unfinished.as_ref().map(|unfinished| {
            let block = unfinished.normal.block(numbers, numbers.value(at.output));
            let [mut dgamma, mut dbeta] = [0, 1].map(|_| vec![0.0; self.shape.co]);
            let training = unfinished.normal.measures();
            block.rest(unfinished.sums.clone(), Parameters { dgamma: &mut dgamma, dbeta: &mut dbeta, training })
        });
        let behind = self.behind.as_ref().filter(|_| dx.is_some()).map(|_| BackwardSums::new(self.shape.ci));
        let w = numbers.weight(self.weight);
        let mut steps = Steps { shape: self.shape, x: self.x(numbers, at), w, rest, behind };
        let compute = |dw: Option<&mut [f32]>| match lanes.count() {
            1 => steps.in_parts(dy, dw, dx),
            _ => steps.in_lanes(dy, dw, dx, lanes),
        };
        match wanted.parameters {
            true => sum.write(self.weight, |dw| compute(Some(dw))),
            false => compute(None),
        }
        sums.extend(steps.behind.map(|behind| (at.inputs[0], behind)));
    }
}

/// The steps of a backward pass that is not by Winograd's algorithm.
struct Steps<'a> {
    shape: ConvShape,
    x: Input<'a>,
    w: &'a [f32],
    /// What turns the gradient of a norm's output into that of the convolution's.
    rest: Option<InputGradient<'a>>,
    /// Of the norm that x is computed from.
    behind: Option<BackwardSums>,
}

impl Steps<'_> {
    /// All steps for a few images, which stay in the caches, and then for the next ones.
    fn in_parts(&mut self, dy: &mut [f32], dw: Option<&mut [f32]>, mut dx: Option<&mut [f32]>) {
        let [x_len, y_len] = self.lengths();
        let mut gradient = dw.as_ref().map(|_| WeightGradient::new(self.shape));
        let images = part_images(self.shape, 2 * (x_len + y_len), WeightGradient::images(self.shape));
        for first in (0..self.shape.n).step_by(images) {
            let last = self.shape.n.min(first + images);
            let (values, dy) = (first * x_len..last * x_len, &mut dy[first * y_len..last * y_len]);
            if let Some(rest) = &self.rest {
                rest.apply_from(first * y_len, dy);
            }
            let x = part(self.x, values.clone());
            if let Some(gradient) = &mut gradient {
                gradient.add(last - first, x, dy);
            }
            if let Some(dx) = dx.as_deref_mut() {
                let dx = &mut dx[values];
                conv::backward_data(ConvShape { n: last - first, ..self.shape }, dy, self.w, dx);
                if let (Some(sums), Input::Block(block)) = (&mut self.behind, x) {
                    sums.add(&block, dx);
                }
            }
        }
        if let (Some(gradient), Some(dw)) = (gradient, dw) {
            gradient.finish(dw);
        }
    }

    /// Each step on several threads.
    fn in_lanes(&mut self, dy: &mut [f32], dw: Option<&mut [f32]>, dx: Option<&mut [f32]>, lanes: &Lanes<'_>) {
        let ([x_len, y_len], shape) = (self.lengths(), self.shape);
        let images = || ranges(shape.n, lanes.count());
        if let Some(rest) = &self.rest {
            lanes.each(cut(dy, y_len, images()), |(images, dy)| rest.apply_from(images.start * y_len, dy));
        }
        let dy = &*dy;
        if let Some(dw) = dw {
            let channels = channel_ranges(shape, lanes.count());
            lanes.each(cut(dw, shape.w_len() / shape.co, channels.into_iter()), |(channels, dw)| {
                let mut gradient = WeightGradient::of(shape, channels);
                gradient.add(shape.n, self.x, dy);
                gradient.finish(dw);
            });
        }
        if let Some(dx) = dx {
            lanes.each(cut(dx, x_len, images()), |(images, dx)| {
                let dy = &dy[images.start * y_len..images.end * y_len];
                conv::backward_data(ConvShape { n: images.len(), ..shape }, dy, self.w, dx);
            });
            if let (Some(sums), Input::Block(block)) = (&mut self.behind, self.x) {
                *sums = norm::sums(&block, dx, lanes);
            }
        }
    }

    /// Values of one image of x and of y.
    fn lengths(&self) -> [usize; 2] {
        [self.shape.x_len(), self.shape.y_len()].map(|len| len / self.shape.n)
    }
}

/// Some whole images of x.
fn part(x: Input<'_>, values: Range<usize>) -> Input<'_> {
    match x {
        Input::Values(x) => Input::Values(&x[values]),
        Input::Block(block) => Input::Block(Block { x: &block.x[values], ..block }),
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
        let [mut mean, mut var] = [0, 1].map(|_| vec![0.0; shape.co]);
        norm::batch_stats(&expected, &mut mean, &mut var);
        assert_eq!(measured, [mean, var]);
    }
}
