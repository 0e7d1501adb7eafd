//! The class by its definition: one value after the other, NHWC, as `docs/numerics.md` says. Convolutions and linear
//! layers are those of the kernels, which have a definition of their own.

use convoy_kernels::activation::Activation;
use convoy_kernels::bf16::{self, Bf16, Blocks, PackedWeight, linear};
use convoy_kernels::conv::ConvShape;
use convoy_kernels::linear::LinearShape;
use convoy_kernels::pool::PoolShape;
use convoy_kernels::softmax;
use convoy_model::{Network, Op};

use crate::fusion::{Group, groups};
use crate::lowering::{blocks, conv_shape, linear_shape, pool_shape};
use crate::mode::{Mode, ShardAddress};
use crate::ops::DropoutMask;

/// What a value becomes in memory.
fn bf(value: f32) -> f32 {
    Bf16::from_f32(value).to_f32()
}

fn rounded(values: impl IntoIterator<Item = f32>) -> Vec<f32> {
    values.into_iter().map(bf).collect()
}

fn to_blocks(shape: Blocks, values: &[f32]) -> Vec<Bf16> {
    let mut to = vec![Bf16::ZERO; shape.len()];
    shape.from_nhwc(values, &mut to);
    to
}

fn from_blocks(shape: Blocks, values: &[Bf16]) -> Vec<f32> {
    let mut to = vec![0.0; shape.n * shape.h * shape.w * shape.c];
    shape.to_nhwc(values, &mut to);
    to
}

fn indices(shape: Blocks) -> impl Iterator<Item = [usize; 4]> {
    let Blocks { n, h, w, c } = shape;
    (0..n * h * w * c).map(move |i| [i / (h * w * c), i / (w * c) % h, i / c % w, i % c])
}

/// Both sums of each channel, of a and of a b: the rows of a group of images; in a row the positions and in each the
/// images, in f32 over as many positions as make 32 values with padding, those and the rows in f64.
fn sums(shape: Blocks, term: impl Fn([usize; 4]) -> [f32; 2]) -> Vec<[f64; 2]> {
    let (lanes, positions) = (shape.lanes(), 32 / shape.lanes());
    (0..shape.c)
        .map(|channel| {
            let mut all = [0.0f64; 2];
            for (group, y) in (0..shape.groups()).flat_map(|group| (0..shape.h).map(move |y| (group, y))) {
                let mut row = [0.0f64; 2];
                for first in (0..shape.w).step_by(positions) {
                    let mut near = [0.0f32; 2];
                    for x in first..shape.w.min(first + positions) {
                        for image in group * lanes..shape.n.min((group + 1) * lanes) {
                            let [a, b] = term([image, y, x, channel]);
                            near = [near[0] + a, a.mul_add(b, near[1])];
                        }
                    }
                    row = [row[0] + f64::from(near[0]), row[1] + f64::from(near[1])];
                }
                all = [all[0] + row[0], all[1] + row[1]];
            }
            all
        })
        .collect()
}

fn slope(activation: Option<Activation>, u: f32, dy: f32) -> f32 {
    let Some(activation) = activation else { return dy };
    let mut d = [0.0];
    activation.backward(&[u], &[value(Some(activation), u)], &[dy], &mut d);
    d[0]
}

fn value(activation: Option<Activation>, u: f32) -> f32 {
    let Some(activation) = activation else { return u };
    let mut y = [0.0];
    activation.forward(&[u], &mut y);
    y[0]
}

/// The positions of a window inside of the image, in order.
fn window(shape: PoolShape, [y, x]: [usize; 2]) -> Vec<[usize; 2]> {
    let inside = |axis: usize, output: usize, size: usize| {
        let first = (output * shape.stride[axis]) as isize - shape.padding[axis] as isize;
        (first..first + shape.kernel[axis] as isize).filter(move |p| (0..size as isize).contains(p))
    };
    inside(0, y, shape.h)
        .flat_map(|row| inside(1, x, shape.w).map(move |column| [row as usize, column as usize]))
        .collect()
}

/// Which position of a window wins: the first of the largest, or the first NaN.
fn winner(values: &[f32]) -> usize {
    let nan = values.iter().position(|value| value.is_nan());
    let largest = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    nan.unwrap_or_else(|| values.iter().position(|value| *value == largest).unwrap())
}

/// A batch norm with what follows it.
struct NormOf {
    shape: Blocks,
    /// Of each channel.
    mean: Vec<f32>,
    inverse: Vec<f32>,
    gamma: Vec<f32>,
    beta: Vec<f32>,
    activation: Option<Activation>,
    pool: Option<PoolShape>,
    of_shard: bool,
}

impl NormOf {
    fn u(&self, x: &[f32], i: usize) -> f32 {
        let c = i % self.shape.c;
        (x[i] - self.mean[c]).mul_add(self.inverse[c] * self.gamma[c], self.beta[c])
    }

    fn at(&self, [image, y, x, c]: [usize; 4]) -> usize {
        ((image * self.shape.h + y) * self.shape.w + x) * self.shape.c + c
    }

    /// The places of a window's values.
    fn window(&self, pool: PoolShape, [image, y, x, c]: [usize; 4]) -> Vec<usize> {
        window(pool, [y, x]).into_iter().map(|[row, column]| self.at([image, row, column, c])).collect()
    }

    /// Of a window, the place of the winner.
    fn winner(&self, pool: PoolShape, x: &[f32], index: [usize; 4]) -> usize {
        let places = self.window(pool, index);
        let values: Vec<f32> = places.iter().map(|&i| value(self.activation, self.u(x, i))).collect();
        places[winner(&values)]
    }

    fn forward(&self, x: &[f32], residual: Option<&[f32]>) -> Vec<f32> {
        if let Some(pool) = self.pool {
            let target = Blocks { h: pool.oh(), w: pool.ow(), ..self.shape };
            return rounded(
                indices(target).map(|index| value(self.activation, self.u(x, self.winner(pool, x, index)))),
            );
        }
        let u = |i: usize| self.u(x, i) + residual.map_or(0.0, |residual| residual[i]);
        rounded((0..x.len()).map(|i| value(self.activation, if residual.is_some() { u(i) } else { self.u(x, i) })))
    }

    /// dx, d of the residual, and the gradients of gamma and beta.
    fn backward(&self, x: &[f32], y: Option<&[f32]>, dy: &[f32]) -> (Vec<f32>, Vec<f32>, Vec<f32>, Vec<f32>) {
        let shape = self.shape;
        let mut d = vec![0.0; x.len()];
        let sums = if let Some(pool) = self.pool {
            let target = Blocks { h: pool.oh(), w: pool.ow(), ..shape };
            let mut places = Vec::new();
            for (index, dy) in indices(target).zip(dy) {
                let place = self.winner(pool, x, index);
                d[place] = slope(self.activation, self.u(x, place), *dy);
                places.push(place);
            }
            sums(target, |[image, row, column, c]| {
                let place = places[((image * target.h + row) * target.w + column) * shape.c + c];
                [d[place], x[place] - self.mean[c]]
            })
        } else {
            for i in 0..x.len() {
                let u = y.map_or_else(|| self.u(x, i), |y| y[i]);
                d[i] = slope(self.activation, u, dy[i]);
            }
            sums(shape, |index| {
                let i = self.at(index);
                [d[i], x[i] - self.mean[i % shape.c]]
            })
        };
        let share = if self.of_shard { 1.0 / (shape.n * shape.h * shape.w) as f64 } else { 0.0 };
        let dx = rounded((0..x.len()).map(|i| {
            let c = i % shape.c;
            let inverse = f64::from(self.inverse[c]);
            let scale = f64::from(self.gamma[c]) * inverse;
            let dot = sums[c][1] * inverse;
            let (slope, offset) = ((scale * share * dot * inverse) as f32, (scale * share * sums[c][0]) as f32);
            (self.mean[c] - x[i]).mul_add(slope, (scale as f32).mul_add(d[i], -offset))
        }));
        let dgamma = sums.iter().zip(&self.inverse).map(|(sum, r)| (sum[1] * f64::from(*r)) as f32).collect();
        (dx, d, dgamma, sums.iter().map(|sum| sum[0] as f32).collect())
    }
}

/// A pass of a network in training on `images` samples: what the loss sees, and the flat gradient.
pub(super) struct Definition<'a> {
    pub network: &'a Network,
    pub weights: &'a [f32],
    pub images: usize,
    pub mode: Mode,
    pub address: &'a ShardAddress,
}

impl Definition<'_> {
    fn shape(&self, node: usize) -> Blocks {
        blocks(self.network.nodes[node].output, self.images)
    }

    fn weight(&self, tensor: usize) -> &[f32] {
        &self.weights[self.network.tensors[tensor].range()]
    }

    fn last(&self) -> usize {
        self.network.nodes.len() - 1
    }

    /// Outputs of all nodes that are rounded, and the network's.
    pub fn run(&self, x: &[f32], doutputs: impl Fn(&[f32]) -> Vec<f32>) -> (Vec<f32>, Vec<f32>) {
        let groups = groups(self.network);
        let mut outputs = vec![Vec::new(); self.network.nodes.len()];
        let mut flat = vec![0.0; self.network.len()];
        outputs[0] = rounded(x.iter().copied());
        for group in &groups {
            outputs[group.output] = self.forward(group, &outputs, &mut flat);
        }
        let mut gradients: Vec<Option<Vec<f32>>> = vec![None; outputs.len()];
        gradients[self.last()] = Some(rounded(doutputs(&outputs[self.last()])));
        for group in groups.iter().rev() {
            let Some(dy) = gradients[group.output].take() else { continue };
            for (node, gradient) in self.backward(group, &outputs, &dy, &mut flat) {
                gradients[node] = Some(match gradients[node].take() {
                    None => gradient,
                    Some(sum) => rounded(sum.iter().zip(&gradient).map(|(a, b)| a + b)),
                });
            }
        }
        (outputs[self.last()].clone(), flat)
    }

    /// Mean and biased variance of each channel.
    fn measured(shape: Blocks, x: &[f32]) -> [Vec<f32>; 2] {
        let count = (shape.n * shape.h * shape.w) as f64;
        let at = |[image, row, column, c]: [usize; 4]| ((image * shape.h + row) * shape.w + column) * shape.c + c;
        let sums = sums(shape, |index| [x[at(index)] - x[index[3]]; 2]);
        let mean = sums.iter().zip(x).map(|(sums, first)| (f64::from(*first) + sums[0] / count) as f32).collect();
        let variance = |sums: &[f64; 2]| (sums[1] / count - (sums[0] / count) * (sums[0] / count)).max(0.0) as f32;
        [mean, sums.iter().map(variance).collect()]
    }

    fn norm(&self, group: &Group, x: &[f32]) -> NormOf {
        let Op::BatchNorm { eps, weight, bias, running_mean, running_var, .. } = self.network.nodes[group.node].op
        else {
            unreachable!("a batch norm")
        };
        let shape = self.shape(self.network.nodes[group.node].inputs[0]);
        let of_shard = self.mode == Mode::Train;
        let [mean, variance] = match of_shard {
            true => Self::measured(shape, x),
            false => [running_mean, running_var].map(|tensor| self.weight(tensor).to_vec()),
        };
        let inverse = variance.iter().map(|v| (1.0 / (f64::from(*v) + f64::from(eps)).sqrt()) as f32).collect();
        NormOf {
            shape,
            mean,
            inverse,
            gamma: self.weight(weight).to_vec(),
            beta: self.weight(bias).to_vec(),
            activation: group.activation.map(|node| activation(&self.network.nodes[node].op)),
            pool: group.pool.map(|node| pool_shape(self.network, &self.network.nodes[node], self.images).unwrap()),
            of_shard,
        }
    }

    /// What running statistics take.
    fn write_running(&self, group: &Group, x: &[f32], flat: &mut [f32]) {
        let Op::BatchNorm { running_mean, running_var, .. } = self.network.nodes[group.node].op else { return };
        let shape = self.shape(self.network.nodes[group.node].inputs[0]);
        let rows = (shape.n * shape.h * shape.w) as f64;
        let factors = [shape.n as f64, shape.n as f64 * (rows / (rows - 1.0))];
        for ((tensor, values), factor) in [running_mean, running_var].iter().zip(Self::measured(shape, x)).zip(factors)
        {
            let place = &mut flat[self.network.tensors[*tensor].range()];
            place.iter_mut().zip(values).for_each(|(place, value)| *place = (f64::from(value) * factor) as f32);
        }
    }

    fn mask(&self, node: usize) -> Option<Vec<f32>> {
        let Op::Dropout { p, stream } = self.network.nodes[node].op else { unreachable!("a dropout") };
        let len = self.network.nodes[node].output.len();
        self.mode.draws_masks().then(|| DropoutMask::draw(p, self.address, stream, len).factors())
    }

    fn forward(&self, group: &Group, outputs: &[Vec<f32>], flat: &mut [f32]) -> Vec<f32> {
        let node = &self.network.nodes[group.node];
        let (input, shape) = (node.inputs[0], self.shape(node.inputs[0]));
        let x = &outputs[input][..];
        let target = self.shape(group.node);
        match node.op {
            Op::Input => unreachable!("no group has it"),
            Op::Conv { weight, bias, .. } => {
                let conv = self.conv(group);
                let w = PackedWeight::forward(conv, self.weight(weight));
                let mut y = vec![Bf16::ZERO; target.len()];
                let bias = bias.map(|bias| self.weight(bias));
                bf16::forward(conv, &to_blocks(shape, x), &w, bias, &mut y);
                from_blocks(target, &y)
            }
            Op::Linear { weight, bias, .. } => {
                let of = self.linear(group);
                let w = PackedWeight::forward(linear::as_conv(of), self.weight(weight));
                let mut y = vec![0.0; of.samples * of.outputs];
                linear::forward(of, &to_blocks(shape, x), &w, bias.map(|bias| self.weight(bias)), &mut y);
                if group.output == self.last() { y } else { rounded(y) }
            }
            Op::BatchNorm { .. } => {
                if self.mode == Mode::Train {
                    self.write_running(group, x, flat);
                }
                self.norm(group, x).forward(x, group.residual.map(|node| &outputs[node][..]))
            }
            Op::MaxPool { .. } | Op::AvgPool { .. } => self.pooled(group, x),
            Op::GlobalAvgPool => {
                let pixels = shape.h * shape.w;
                rounded(indices(target).map(|[image, .., c]| {
                    let values = (0..pixels).map(|pixel| f64::from(x[(image * pixels + pixel) * shape.c + c]));
                    (values.fold(0.0, |a, b| a + b) / pixels as f64) as f32
                }))
            }
            Op::Flatten => {
                let pixels = shape.h * shape.w;
                indices(target).map(|[image, .., f]| x[(image * pixels + f % pixels) * shape.c + f / pixels]).collect()
            }
            Op::Activation(activation) => rounded(x.iter().map(|x| value(Some(activation), *x))),
            Op::Softmax => {
                let mut y = vec![0.0; x.len()];
                softmax::forward(x, shape.c, &mut y);
                rounded(y)
            }
            Op::Dropout { .. } => match self.mask(group.node) {
                Some(mask) => rounded(x.iter().zip(&mask).map(|(x, factor)| x * factor)),
                None => x.to_vec(),
            },
            Op::Add => rounded(x.iter().zip(&outputs[node.inputs[1]]).map(|(a, b)| a + b)),
        }
    }

    /// The places of a window's values.
    fn places(&self, pool: PoolShape, [image, row, column, c]: [usize; 4]) -> Vec<usize> {
        let place = |[y, x]: [usize; 2]| ((image * pool.h + y) * pool.w + x) * pool.c + c;
        window(pool, [row, column]).into_iter().map(place).collect()
    }

    fn pooled(&self, group: &Group, x: &[f32]) -> Vec<f32> {
        let node = &self.network.nodes[group.node];
        let pool = pool_shape(self.network, node, self.images).unwrap();
        rounded(indices(self.shape(group.node)).map(|index| {
            let values: Vec<f32> = self.places(pool, index).into_iter().map(|place| x[place]).collect();
            match node.op {
                Op::AvgPool { .. } => values.iter().fold(0.0, |a, b| a + b) / (pool.kernel[0] * pool.kernel[1]) as f32,
                _ => values[winner(&values)],
            }
        }))
    }

    fn pool_gradient(&self, group: &Group, x: &[f32], dy: &[f32]) -> Vec<f32> {
        let node = &self.network.nodes[group.node];
        let pool = pool_shape(self.network, node, self.images).unwrap();
        let mut sums = vec![0.0; x.len()];
        for (index, dy) in indices(self.shape(group.node)).zip(dy) {
            let places = self.places(pool, index);
            if matches!(node.op, Op::AvgPool { .. }) {
                let share = dy / (pool.kernel[0] * pool.kernel[1]) as f32;
                places.into_iter().for_each(|place| sums[place] += share);
            } else {
                sums[places[winner(&places.iter().map(|&i| x[i]).collect::<Vec<_>>())]] += dy;
            }
        }
        rounded(sums)
    }

    /// The input gradient of a convolution or a linear layer, and those of weight and bias.
    fn products(&self, group: &Group, x: &[f32], dy: &[f32]) -> (Vec<f32>, Vec<(usize, Vec<f32>)>) {
        let node = &self.network.nodes[group.node];
        let (conv, weight, bias) = match node.op {
            Op::Conv { weight, bias, .. } => (self.conv(group), weight, bias),
            Op::Linear { weight, bias, .. } => (linear::as_conv(self.linear(group)), weight, bias),
            _ => unreachable!("called for these only"),
        };
        let shape = self.shape(node.inputs[0]);
        let (x, dy) = (to_blocks(shape, x), to_blocks(self.shape(group.node), dy));
        let mut dw = vec![0.0; conv.w_len()];
        bf16::backward_weight(conv, &x, &dy, &mut dw);
        let mut gradients = vec![(weight, dw)];
        if let Some(bias) = bias {
            let mut db = vec![0.0; conv.co];
            bf16::backward_bias(conv, &dy, &mut db);
            gradients.push((bias, db));
        }
        let mut dx = vec![Bf16::ZERO; x.len()];
        let w = PackedWeight::input_gradient(conv, self.weight(weight));
        bf16::backward_data(conv, &dy, &w, &mut dx);
        (from_blocks(shape, &dx), gradients)
    }

    fn conv(&self, group: &Group) -> ConvShape {
        conv_shape(self.network, &self.network.nodes[group.node], self.images).unwrap()
    }

    fn linear(&self, group: &Group) -> LinearShape {
        linear_shape(self.network, &self.network.nodes[group.node], self.images).unwrap()
    }

    /// What a group sends to its inputs; gradients of parameters that learn go to `flat`.
    fn backward(&self, group: &Group, outputs: &[Vec<f32>], dy: &[f32], flat: &mut [f32]) -> Vec<(usize, Vec<f32>)> {
        let node = &self.network.nodes[group.node];
        let (input, shape) = (node.inputs[0], self.shape(node.inputs[0]));
        let x = &outputs[input][..];
        let target = self.shape(group.node);
        let mut learn = |tensor: usize, gradient: &[f32]| {
            let tensor = &self.network.tensors[tensor];
            if self.mode.learns(tensor) {
                flat[tensor.range()].copy_from_slice(gradient);
            }
        };
        let dx = match node.op {
            Op::Input => unreachable!("no group has it"),
            Op::Conv { .. } | Op::Linear { .. } => {
                let (dx, gradients) = self.products(group, x, dy);
                gradients.iter().for_each(|(tensor, gradient)| learn(*tensor, gradient));
                dx
            }
            Op::BatchNorm { weight, bias, .. } => {
                let y = group.residual.map(|_| &outputs[group.output][..]);
                let (dx, d, dgamma, dbeta) = self.norm(group, x).backward(x, y, dy);
                learn(weight, &dgamma);
                learn(bias, &dbeta);
                if let Some(residual) = group.residual {
                    return vec![(residual, d), (input, dx)];
                }
                dx
            }
            Op::MaxPool { .. } | Op::AvgPool { .. } => self.pool_gradient(group, x, dy),
            Op::GlobalAvgPool => {
                let pixels = shape.h * shape.w;
                rounded(indices(shape).map(|[image, .., c]| dy[image * shape.c + c] / pixels as f32))
            }
            Op::Flatten => {
                let pixels = shape.h * shape.w;
                let place =
                    |[image, row, column, c]: [usize; 4]| image * target.c + c * pixels + row * shape.w + column;
                indices(shape).map(|index| dy[place(index)]).collect()
            }
            Op::Activation(activation) => rounded(x.iter().zip(dy).map(|(x, dy)| slope(Some(activation), *x, *dy))),
            Op::Softmax => {
                let mut dx = vec![0.0; x.len()];
                softmax::backward(&outputs[group.output], dy, shape.c, &mut dx);
                rounded(dx)
            }
            Op::Dropout { .. } => {
                let mask = self.mask(group.node).expect("a backward pass draws masks");
                rounded(dy.iter().zip(&mask).map(|(dy, factor)| dy * factor))
            }
            Op::Add => return vec![(node.inputs[1], dy.to_vec()), (input, dy.to_vec())],
        };
        vec![(input, dx)]
    }
}

fn activation(op: &Op) -> Activation {
    match op {
        Op::Activation(activation) => *activation,
        _ => unreachable!("an activation"),
    }
}
