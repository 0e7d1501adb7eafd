//! One pass of a shard through a network's graph.

use std::sync::{Arc, OnceLock};

use candle_core::Tensor;
use convoy_common::spec::Pair;
use convoy_kernels::activation::Activation as Function;
use convoy_kernels::conv::{ConvShape, winograd};
use convoy_kernels::linear::LinearShape;
use convoy_kernels::pool::PoolShape;
use convoy_model::{Activation, Network, Node, Op, Shape};

use crate::ComputeError;
use crate::fusion::{Group, groups};
use crate::ops::{self, Behind, Normal, Operation, Output, Ports, Statistics};
use crate::tape::{Numbers, apply, constant, learned};
use crate::timed::{LayerTimes, Timed};

/// How layers that know training from use behave.
pub(crate) enum Mode<'a> {
    /// Dropout draws its masks.
    Train {
        /// Seed of the run.
        seed: u64,
        /// Epoch from 0.
        epoch: u32,
        /// Index of each sample in its split.
        samples: &'a [u32],
        /// Whether only the head learns: all other tensors stay off the tape, batch norms use running statistics.
        frozen: bool,
    },
    /// Running statistics, no dropout, no tape.
    Evaluate,
}

/// What norms leave to the convolutions beside them, by the nodes of the norms' outputs.
struct Shared {
    /// The output is not written: the convolution that is the only one to read it computes it from this node.
    deferred: Vec<Option<usize>>,
    /// The convolution that computes the norm's input, and nobody else's, finishes the backward pass.
    unfinished: Vec<bool>,
    /// By the convolution's node: it measures its output for a norm.
    measured: Vec<bool>,
}

/// A pass of `count` samples.
pub(crate) struct Pass<'a> {
    /// The graph.
    pub network: &'a Network,
    /// Samples in the shard.
    pub count: usize,
    /// Training or use.
    pub mode: Mode<'a>,
    /// Whether convolutions are computed by Winograd's algorithm where it pays.
    pub winograd: bool,
    /// Where the time of each layer is added, if it is measured.
    pub times: Option<&'a Arc<LayerTimes>>,
}

impl Pass<'_> {
    /// Computes all nodes in order from `x`, NHWC; the token of the last node's output, whose numbers `numbers` hold. A
    /// node's output is let go after its last use, unless the tape still needs it.
    pub fn forward(&self, numbers: &Numbers, x: Vec<f32>) -> Result<Tensor, ComputeError> {
        let groups = groups(self.network);
        let nodes = self.network.nodes.len();
        let shared = self.shared(&groups)?;
        let mut behind: Vec<Option<Behind>> = vec![None; nodes];
        let mut uses = vec![0usize; nodes];
        groups.iter().flat_map(|group| self.reads(group, &shared)).for_each(|input| uses[input] += 1);
        let mut tokens: Vec<Option<Tensor>> = vec![None; nodes];
        let mut kept = vec![false; nodes];
        tokens[0] = Some(constant()?);
        numbers.lock().set_value(0, x);
        for group in &groups {
            let operation = Timed::wrap(self.operation(group, &shared, &mut behind)?, self.times);
            let keeps = operation.keeps();
            let ports = Ports { inputs: self.inputs(group), output: group.output };
            let learned = self.learns(group).then(learned).transpose()?;
            let inputs: Vec<Tensor> = ports.inputs.iter().filter_map(|&input| tokens[input].clone()).collect();
            let inputs: Vec<&Tensor> = inputs.iter().collect();
            let token = apply(numbers, operation, ports.clone(), &inputs, learned.as_ref())?;
            kept[shared.deferred[ports.inputs[0]].unwrap_or(ports.inputs[0])] |= keeps.input && token.track_op();
            kept[group.output] |= keeps.output && token.track_op();
            tokens[group.output] = Some(token);
            for input in self.reads(group, &shared) {
                uses[input] -= 1;
                if uses[input] == 0 {
                    tokens[input] = None;
                    if !kept[input] {
                        numbers.lock().drop_value(input);
                    }
                }
            }
        }
        Ok(tokens.pop().flatten().expect("a network has nodes"))
    }

    fn inputs(&self, group: &Group) -> Vec<usize> {
        match group.residual {
            Some(residual) => vec![self.network.nodes[group.node].inputs[0], residual],
            None => self.network.nodes[group.node].inputs.clone(),
        }
    }

    /// The inputs, and what a deferred one is computed from.
    fn reads(&self, group: &Group, shared: &Shared) -> Vec<usize> {
        let mut reads = self.inputs(group);
        reads.extend(shared.deferred[reads[0]]);
        reads
    }

    /// Which norms and convolutions work hand in hand.
    fn shared(&self, groups: &[Group]) -> Result<Shared, ComputeError> {
        let nodes = &self.network.nodes;
        let mut readers: Vec<Vec<&Group>> = vec![Vec::new(); nodes.len()];
        for group in groups {
            self.inputs(group).into_iter().for_each(|input| readers[input].push(group));
        }
        let [unfinished, measured] = [0, 1].map(|_| vec![false; nodes.len()]);
        let mut shared = Shared { deferred: vec![None; nodes.len()], unfinished, measured };
        for group in groups.iter().filter(|group| matches!(nodes[group.node].op, Op::BatchNorm { .. })) {
            let input = nodes[group.node].inputs[0];
            shared.measured[input] = matches!(self.mode, Mode::Train { frozen: false, .. }) && self.in_parts(input)?;
            if group.residual.is_some() || group.pool.is_some() {
                continue;
            }
            shared.unfinished[group.output] = readers[input].len() == 1 && self.in_parts(input)?;
            let cheap = group.activation.is_none_or(|index| self.activation(index).slope_of_output());
            if let [reader] = readers[group.output][..]
                && cheap
                && self.in_parts(reader.node)?
            {
                shared.deferred[group.output] = Some(input);
            }
        }
        Ok(shared)
    }

    /// Whether a node is a convolution that is computed band by band.
    fn in_parts(&self, node: usize) -> Result<bool, ComputeError> {
        let node = &self.network.nodes[node];
        let Op::Conv { .. } = node.op else { return Ok(false) };
        Ok(!self.by_winograd(self.conv_shape(node, self.network.nodes[node.inputs[0]].output)?))
    }

    fn by_winograd(&self, shape: ConvShape) -> bool {
        self.winograd && winograd::pays(shape)
    }

    fn activation(&self, index: usize) -> Function {
        match self.network.nodes[index].op {
            Op::Activation(activation) => function(activation),
            _ => unreachable!("an activation is one"),
        }
    }

    /// The group's operation. A norm whose output is deferred leaves in `behind` what the one that reads it takes.
    fn operation(
        &self,
        group: &Group,
        shared: &Shared,
        behind: &mut [Option<Behind>],
    ) -> Result<Box<dyn Operation>, ComputeError> {
        let node = &self.network.nodes[group.node];
        let sees = self.network.nodes[node.inputs[0]].output;
        Ok(match &node.op {
            Op::Input => unreachable!("only the first node is the input"),
            &Op::Conv { weight, bias, .. } => {
                let shape = self.conv_shape(node, sees)?;
                let behind = behind[node.inputs[0]].take();
                let (winograd, measures) = (self.by_winograd(shape), shared.measured[group.output]);
                Box::new(ops::Conv { shape, winograd, weight, bias, behind, measures })
            }
            &Op::Linear { weight, bias, .. } => {
                let shape = LinearShape { samples: self.count, inputs: sees.len(), outputs: node.output.len() };
                let shape = shape.checked().map_err(|problem| layer(node, problem))?;
                Box::new(ops::Linear { shape, weight, bias })
            }
            Op::MaxPool { .. } => Box::new(ops::MaxPool(self.pool_shape(node)?)),
            Op::AvgPool { .. } => Box::new(ops::AvgPool(self.pool_shape(node)?)),
            Op::GlobalAvgPool => {
                let (pixels, c) = pixels_and_channels(sees);
                Box::new(ops::GlobalAvgPool { n: self.count, pixels, c })
            }
            Op::Flatten => {
                let (pixels, c) = pixels_and_channels(sees);
                Box::new(ops::Flatten { n: self.count, pixels, c })
            }
            Op::BatchNorm { .. } => {
                let norm = self.batch_norm(group, shared)?;
                behind[group.output] =
                    shared.deferred[group.output].map(|node| Behind { normal: norm.normal.clone(), node });
                Box::new(norm)
            }
            Op::Activation(activation) => Box::new(ops::Activate(function(*activation))),
            Op::Softmax => Box::new(ops::Softmax { classes: sees.channels() as usize }),
            Op::Dropout { p, stream } => match self.mode {
                Mode::Train { seed, epoch, samples, .. } => {
                    Box::new(ops::Dropout::new(*p, seed, epoch, *stream, samples, sees.len()))
                }
                Mode::Evaluate => Box::new(ops::Dropout::off(self.count * sees.len())),
            },
            Op::Add => Box::new(ops::Add),
        })
    }

    /// Whether the tape should ask for the gradients of the group's parameters.
    fn learns(&self, group: &Group) -> bool {
        let weight = match self.network.nodes[group.node].op {
            Op::Conv { weight, .. } | Op::Linear { weight, .. } | Op::BatchNorm { weight, .. } => weight,
            _ => return false,
        };
        match self.mode {
            Mode::Train { frozen, .. } => !frozen || self.network.tensors[weight].head,
            Mode::Evaluate => false,
        }
    }

    fn batch_norm(&self, group: &Group, shared: &Shared) -> Result<ops::BatchNorm, ComputeError> {
        let node = &self.network.nodes[group.node];
        let Op::BatchNorm { eps, weight, bias, running_mean, running_var, .. } = node.op else {
            unreachable!("called for batch norms only")
        };
        let statistics = match self.mode {
            Mode::Train { frozen: false, .. } => {
                if self.count * node.output.len() / (node.output.channels() as usize) < 2 {
                    return Err(ComputeError::SingleValue { layer: node.name.clone() });
                }
                Statistics::Measured(Arc::new(OnceLock::new()))
            }
            _ => Statistics::Running,
        };
        let output = match group.pool {
            Some(pool) => Output::Pooled(self.pool_shape(&self.network.nodes[pool])?),
            None if shared.deferred[group.output].is_some() => Output::Deferred,
            None => Output::Written,
        };
        let activation = group.activation.map(|index| self.activation(index));
        let (affine, running) = ([weight, bias], [running_mean, running_var]);
        let normal = Normal { eps, statistics, activation, affine, running };
        let (residual, unfinished) = (group.residual.is_some(), shared.unfinished[group.output]);
        Ok(ops::BatchNorm { count: self.count, normal, residual, output, unfinished })
    }

    fn conv_shape(&self, node: &Node, sees: Shape) -> Result<ConvShape, ComputeError> {
        let Op::Conv { kernel, stride, padding, dilation, groups, .. } = node.op else {
            unreachable!("called for convolutions only")
        };
        let (h, w, ci) = map(sees);
        let shape = ConvShape {
            n: self.count,
            h,
            w,
            ci,
            co: node.output.channels() as usize,
            kh: kernel.height as usize,
            kw: kernel.width as usize,
            stride: both(stride),
            padding: both(padding),
            dilation: both(dilation),
            groups: groups as usize,
        };
        shape.checked().map_err(|problem| layer(node, problem))
    }

    fn pool_shape(&self, node: &Node) -> Result<PoolShape, ComputeError> {
        let (Op::MaxPool { kernel, stride, padding } | Op::AvgPool { kernel, stride, padding }) = node.op else {
            unreachable!("called for poolings only")
        };
        let (h, w, c) = map(self.network.nodes[node.inputs[0]].output);
        let [kernel, stride, padding] = [kernel, stride, padding].map(both);
        let shape = PoolShape { n: self.count, h, w, c, kernel, stride, padding };
        shape.checked().map_err(|problem| layer(node, problem))
    }
}

fn layer(node: &Node, problem: convoy_kernels::ShapeError) -> ComputeError {
    ComputeError::Layer { layer: node.name.clone(), problem }
}

fn both(pair: Pair) -> [usize; 2] {
    [pair.height as usize, pair.width as usize]
}

/// Height, width and channels; features are one pixel.
fn map(shape: Shape) -> (usize, usize, usize) {
    match shape {
        Shape::Map { height, width, channels } => (height as usize, width as usize, channels as usize),
        Shape::Features(features) => (1, 1, features as usize),
    }
}

fn pixels_and_channels(shape: Shape) -> (usize, usize) {
    let (h, w, c) = map(shape);
    (h * w, c)
}

fn function(activation: Activation) -> Function {
    match activation {
        Activation::Relu => Function::Relu,
        Activation::Relu6 => Function::Relu6,
        Activation::LeakyRelu(slope) => Function::LeakyRelu(slope),
        Activation::Sigmoid => Function::Sigmoid,
        Activation::Tanh => Function::Tanh,
        Activation::Silu => Function::Silu,
        Activation::Gelu => Function::Gelu,
        Activation::HardSwish => Function::HardSwish,
        Activation::HardSigmoid => Function::HardSigmoid,
        Activation::Elu(alpha) => Function::Elu(alpha),
    }
}
