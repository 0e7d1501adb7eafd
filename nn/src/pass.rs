//! One pass of a shard through a network's graph.

use std::sync::{Arc, OnceLock};

use candle_core::{Tensor, Var};
use convoy_common::spec::Pair;
use convoy_kernels::activation::Activation as Function;
use convoy_kernels::conv::{ConvShape, winograd};
use convoy_kernels::linear::LinearShape;
use convoy_kernels::pool::PoolShape;
use convoy_model::{Activation, Network, Node, Op, Shape};

use crate::ComputeError;
use crate::ops::{self, BatchStatistics, Statistics};

/// How layers that know training from use behave.
pub enum Mode<'a> {
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

/// What the forward pass leaves.
pub struct Forward {
    /// What the last node puts out, `(samples, outputs)`.
    pub outputs: Tensor,
    /// Of each batch norm that measured its shard.
    pub measured: Vec<Measured>,
}

/// Statistics that a batch norm measured.
pub struct Measured {
    /// Index of the buffer of the running mean among the network's tensors.
    pub running_mean: usize,
    /// Index of the buffer of the running variance.
    pub running_var: usize,
    /// Values per channel.
    pub rows: usize,
    /// What it measured.
    pub statistics: Arc<OnceLock<BatchStatistics>>,
}

/// A pass of `count` samples.
pub struct Pass<'a> {
    /// The graph.
    pub network: &'a Network,
    /// Its tensors in network order.
    pub weights: &'a [Var],
    /// Samples in the shard.
    pub count: usize,
    /// Training or use.
    pub mode: Mode<'a>,
    /// Whether convolutions are computed by Winograd's algorithm where it pays.
    pub winograd: bool,
}

impl Pass<'_> {
    /// Computes all nodes in order from `x`, NHWC. A node's output is let go after its last use, unless the tape
    /// holds it.
    pub fn forward(&self, x: Tensor) -> Result<Forward, ComputeError> {
        let nodes = &self.network.nodes;
        let mut uses = vec![0usize; nodes.len()];
        nodes.iter().flat_map(|node| &node.inputs).for_each(|&input| uses[input] += 1);
        let mut outputs: Vec<Option<Tensor>> = vec![None; nodes.len()];
        let mut measured = Vec::new();
        outputs[0] = Some(x);
        for (index, node) in nodes.iter().enumerate().skip(1) {
            let y = {
                let inputs: Vec<&Tensor> = node
                    .inputs
                    .iter()
                    .map(|&input| outputs[input].as_ref().expect("nodes stand behind their inputs"))
                    .collect();
                self.node(node, &inputs, &mut measured)?
            };
            for &input in &node.inputs {
                uses[input] -= 1;
                if uses[input] == 0 {
                    outputs[input] = None;
                }
            }
            outputs[index] = Some(y);
        }
        let outputs = outputs.pop().flatten().expect("a network has nodes");
        Ok(Forward { outputs, measured })
    }

    fn node(&self, node: &Node, inputs: &[&Tensor], measured: &mut Vec<Measured>) -> Result<Tensor, ComputeError> {
        let x = inputs[0];
        let sees = self.network.nodes[node.inputs[0]].output;
        let y = match &node.op {
            Op::Input => unreachable!("only the first node is the input"),
            Op::Conv { weight, bias, .. } => {
                let shape = self.conv_shape(node, sees)?;
                let op = ops::Conv { shape, winograd: self.winograd && winograd::pays(shape) };
                match bias {
                    Some(bias) => x.apply_op3(&self.weight(*weight), &self.weight(*bias), op)?,
                    None => x.apply_op2(&self.weight(*weight), op)?,
                }
            }
            Op::Linear { weight, bias, .. } => {
                let shape = LinearShape { samples: self.count, inputs: sees.len(), outputs: node.output.len() };
                let op = ops::Linear(shape.checked().map_err(|problem| layer(node, problem))?);
                match bias {
                    Some(bias) => x.apply_op3(&self.weight(*weight), &self.weight(*bias), op)?,
                    None => x.apply_op2(&self.weight(*weight), op)?,
                }
            }
            Op::MaxPool { kernel, stride, padding } => {
                x.apply_op1(ops::MaxPool(self.pool_shape(node, sees, [*kernel, *stride, *padding])?))?
            }
            Op::AvgPool { kernel, stride, padding } => {
                x.apply_op1(ops::AvgPool(self.pool_shape(node, sees, [*kernel, *stride, *padding])?))?
            }
            Op::GlobalAvgPool => {
                let (pixels, c) = pixels_and_channels(sees);
                x.apply_op1(ops::GlobalAvgPool { n: self.count, pixels, c })?
            }
            Op::Flatten => {
                let (pixels, c) = pixels_and_channels(sees);
                x.apply_op1(ops::Flatten { n: self.count, pixels, c })?
            }
            Op::BatchNorm { .. } => self.batch_norm(node, x, measured)?,
            Op::Activation(activation) => x.apply_op1(ops::Activate(function(*activation)))?,
            Op::Softmax => x.apply_op1(ops::Softmax { classes: sees.channels() as usize })?,
            Op::Dropout { p, stream } => match self.mode {
                Mode::Train { seed, epoch, samples, .. } => {
                    x.apply_op1(ops::Dropout::new(*p, seed, epoch, *stream, samples, sees.len()))?
                }
                Mode::Evaluate => x.clone(),
            },
            Op::Add => (x + inputs[1])?,
        };
        Ok(y)
    }

    /// A weight as the tape should see it: tracked if it learns in this pass.
    fn weight(&self, index: usize) -> Tensor {
        let learns = match self.mode {
            Mode::Train { frozen, .. } => !frozen || self.network.tensors[index].head,
            Mode::Evaluate => false,
        };
        let var = self.weights[index].as_tensor();
        if learns { var.clone() } else { var.detach() }
    }

    fn batch_norm(&self, node: &Node, x: &Tensor, measured: &mut Vec<Measured>) -> Result<Tensor, ComputeError> {
        let Op::BatchNorm { eps, weight, bias, running_mean, running_var, .. } = node.op else {
            unreachable!("called for batch norms only")
        };
        let statistics = match self.mode {
            Mode::Train { frozen: false, .. } => {
                let rows = self.count * node.output.len() / node.output.channels() as usize;
                if rows < 2 {
                    return Err(ComputeError::SingleValue { layer: node.name.clone() });
                }
                let statistics = Arc::new(OnceLock::new());
                measured.push(Measured { running_mean, running_var, rows, statistics: statistics.clone() });
                Statistics::Measured(statistics)
            }
            _ => {
                let [mean, var] = [running_mean, running_var].map(|index| self.weights[index].as_tensor());
                ops::with_values([mean, var], |[mean, var]| {
                    Statistics::Given(BatchStatistics { mean: mean.to_vec(), var: var.to_vec() })
                })?
            }
        };
        Ok(x.apply_op3(&self.weight(weight), &self.weight(bias), ops::BatchNorm { eps, statistics })?)
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

    fn pool_shape(&self, node: &Node, sees: Shape, pairs: [Pair; 3]) -> Result<PoolShape, ComputeError> {
        let (h, w, c) = map(sees);
        let [kernel, stride, padding] = pairs.map(both);
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
