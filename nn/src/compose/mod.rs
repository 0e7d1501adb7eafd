//! The second engine, for devices that Convoy's kernels do not run on: every operation as a composition of candle's
//! tensor operations, with candle's gradients. Numbers come and go as in the first: flat as [`Network`] says.
//!
//! Losses are computed by the kernels on the CPU, since the outputs, a few numbers for each sample, are wanted there
//! for the metrics in any case.

mod ops;
mod window;

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::{Device, Tensor, Var};
use convoy_common::spec::Pair;
use convoy_kernels::finite_check::all_finite;
use convoy_model::{Network, Node, Op, Shape};

use crate::liveness::last_reads;
use crate::mode::{Mode, ShardAddress, TrainingShard};
use crate::ops::DropoutMask;
use crate::{ComputeError, GradientTarget};
use window::Window;

/// A network on one of candle's devices.
pub(crate) struct Composed {
    network: Arc<Network>,
    device: Device,
    /// Each tensor of the network, in its shape.
    weights: Vec<Tensor>,
}

impl Composed {
    /// `network` on `device`, all numbers 0.
    ///
    /// # Errors
    /// When the device refuses, for instance for lack of memory.
    pub fn new(network: Arc<Network>, device: Device) -> Result<Self, ComputeError> {
        let mut composed = Composed { network, device, weights: Vec::new() };
        composed.load(&vec![0.0; composed.network.len()])?;
        Ok(composed)
    }

    /// Takes over parameters and buffers.
    ///
    /// # Errors
    /// As [`Composed::new`].
    pub fn load(&mut self, flat: &[f32]) -> Result<(), ComputeError> {
        let tensors = self.network.tensors.iter();
        let load = |tensor: &convoy_model::Tensor| {
            Tensor::from_slice(&flat[tensor.range()], tensor.shape.as_slice(), &self.device)
        };
        self.weights = tensors.map(load).collect::<Result<_, _>>()?;
        Ok(())
    }

    /// What the network puts out for `count` samples (NHWC), row after row.
    ///
    /// # Errors
    /// When an operation is refused.
    pub fn outputs(&self, x_nhwc: &[f32], count: usize) -> Result<Vec<f32>, ComputeError> {
        let outputs = ComposedPass::new(self, count, Mode::Evaluate, &ShardAddress::default()).forward(x_nhwc)?;
        Ok(host(&outputs)?)
    }

    /// Forward and backward: `loss` makes of the outputs the gradient with respect to them, and whatever else is wanted
    /// of them. The gradient goes to `target`, as [`Executor::train_shard`](crate::Executor::train_shard) says. Also
    /// returns whether it is finite.
    ///
    /// # Errors
    /// When an operation is refused; those of `loss`.
    pub fn train<R>(
        &self,
        shard: &TrainingShard<'_>,
        target: &mut GradientTarget<'_>,
        loss: impl FnOnce(&[f32]) -> Result<(R, Vec<f32>), ComputeError>,
    ) -> Result<(R, bool), ComputeError> {
        let mut pass = ComposedPass::new(self, shard.count(), shard.mode, &shard.address);
        let outputs = pass.forward(shard.x_nhwc)?;
        let (result, doutputs) = loss(&host(&outputs)?)?;
        let doutputs = Tensor::from_vec(doutputs, outputs.shape(), &self.device)?;
        let gradients = (outputs * doutputs)?.sum_all()?.backward()?;
        let gradient = target.flat();
        gradient.fill(0.0);
        let mut finite = true;
        let mut write = |tensor: usize, values: &Tensor, factor: f64| {
            let place = &mut gradient[self.network.tensors[tensor].range()];
            for (place, value) in place.iter_mut().zip(host(values)?) {
                *place = (f64::from(value) * factor) as f32;
            }
            finite &= all_finite(place);
            Ok::<_, ComputeError>(())
        };
        for (&tensor, learned) in &pass.learned {
            if let Some(gradient) = gradients.get(learned) {
                write(tensor, gradient, 1.0)?;
            }
        }
        for (tensor, values, factor) in &pass.measured {
            write(*tensor, values, *factor)?;
        }
        if let GradientTarget::Chunks(flat, taker) = target
            && finite
        {
            taker.take_all(flat);
        }
        Ok((result, finite))
    }
}

/// One pass through the graph.
struct ComposedPass<'a> {
    composed: &'a Composed,
    count: usize,
    mode: Mode,
    /// Where dropout draws its masks.
    address: &'a ShardAddress,
    /// Parameters that the tape tracks, by their index in the network.
    learned: BTreeMap<usize, Var>,
    /// Buffers by their index, what was measured for them, and its factor.
    measured: Vec<(usize, Tensor, f64)>,
}

impl<'a> ComposedPass<'a> {
    fn new(composed: &'a Composed, count: usize, mode: Mode, address: &'a ShardAddress) -> Self {
        ComposedPass { composed, count, mode, address, learned: BTreeMap::new(), measured: Vec::new() }
    }

    /// The last node's output. Others are let go after their last use, unless the tape needs them.
    fn forward(&mut self, x_nhwc: &[f32]) -> Result<Tensor, ComputeError> {
        let nodes = &self.composed.network.nodes;
        let last_reads = last_reads(nodes.len(), nodes.iter().map(|node| &node.inputs[..]));
        let mut values: Vec<Option<Tensor>> = vec![None; nodes.len()];
        values[0] = Some(Tensor::from_slice(x_nhwc, self.dims(nodes[0].output), &self.composed.device)?);
        for (index, node) in nodes.iter().enumerate().skip(1) {
            let inputs: Vec<&Tensor> = node.inputs.iter().filter_map(|&input| values[input].as_ref()).collect();
            values[index] = Some(self.node(node, &inputs)?);
            last_reads[index].iter().for_each(|&input| values[input] = None);
        }
        Ok(values.pop().flatten().expect("a network has nodes"))
    }

    fn node(&mut self, node: &Node, inputs: &[&Tensor]) -> Result<Tensor, ComputeError> {
        let x = inputs[0];
        Ok(match node.op {
            Op::Input => unreachable!("only the first node is the input"),
            Op::Conv { kernel, stride, padding, dilation, groups, weight, bias } => {
                let window = window(node, kernel, stride, padding, dilation);
                let (weight, bias) = (self.weight(weight)?, bias.map(|bias| self.weight(bias)).transpose()?);
                ops::conv(x, &weight, bias.as_ref(), &window, groups as usize)?
            }
            Op::Linear { weight, bias, .. } => {
                let (weight, bias) = (self.weight(weight)?, bias.map(|bias| self.weight(bias)).transpose()?);
                ops::linear(x, &weight, bias.as_ref())?
            }
            Op::MaxPool { kernel, stride, padding } => {
                ops::max_pool(x, &window(node, kernel, stride, padding, Pair::square(1)))?
            }
            Op::AvgPool { kernel, stride, padding } => {
                ops::avg_pool(x, &window(node, kernel, stride, padding, Pair::square(1)))?
            }
            Op::GlobalAvgPool => ops::global_avg_pool(x)?,
            Op::Flatten => ops::flatten(x)?,
            Op::BatchNorm { eps, weight, bias, running_mean, running_var, .. } => {
                let statistics = self.statistics(node, x, [running_mean, running_var])?;
                let affine = [self.weight(weight)?, self.weight(bias)?];
                ops::norm(x, &statistics, &affine, eps)?
            }
            Op::Activation(function) => ops::activate(function, x)?,
            Op::Softmax => ops::softmax(x)?,
            Op::Dropout { p, stream } if self.mode.draws_masks() => {
                let mask = DropoutMask::draw(p, self.address, stream, node.output.len()).factors();
                (x * Tensor::from_vec(mask, x.shape(), &self.composed.device)?)?
            }
            Op::Dropout { .. } => x.clone(),
            Op::Add => (x + inputs[1])?,
        })
    }

    /// A parameter or buffer; on the tape if it learns.
    fn weight(&mut self, tensor: usize) -> Result<Tensor, ComputeError> {
        let value = &self.composed.weights[tensor];
        if !self.mode.learns(&self.composed.network.tensors[tensor]) {
            return Ok(value.clone());
        }
        let var = Var::from_tensor(value)?;
        let tracked = var.as_tensor().clone();
        self.learned.insert(tensor, var);
        Ok(tracked)
    }

    /// Mean and variance that normalise: in training the shard's own, which are noted as what running statistics take
    /// of them (count times the mean, and count times the unbiased variance); else the `running` ones.
    fn statistics(&mut self, node: &Node, x: &Tensor, running: [usize; 2]) -> Result<[Tensor; 2], ComputeError> {
        if !self.mode.measures_shard() {
            return Ok(running.map(|buffer| self.composed.weights[buffer].clone()));
        }
        let rows = self.count * node.output.len() / node.output.channels() as usize;
        if rows < 2 {
            return Err(ComputeError::SingleValue { layer: node.name.clone() });
        }
        let statistics = ops::statistics(x)?;
        let count = self.count as f64;
        let factors = [count, count * (rows as f64 / (rows - 1) as f64)];
        for ((buffer, values), factor) in running.into_iter().zip(&statistics).zip(factors) {
            self.measured.push((buffer, values.detach(), factor));
        }
        Ok(statistics)
    }

    fn dims(&self, shape: Shape) -> Vec<usize> {
        match shape {
            Shape::Map { height, width, channels } => {
                vec![self.count, height as usize, width as usize, channels as usize]
            }
            Shape::Features(features) => vec![self.count, features as usize],
        }
    }
}

/// The window of `node`, which puts out as many pixels as the window has places.
fn window(node: &Node, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair) -> Window {
    let both = |pair: Pair| [pair.height as usize, pair.width as usize];
    let places = match node.output {
        Shape::Map { height, width, .. } => [height as usize, width as usize],
        Shape::Features(_) => [1, 1],
    };
    let [kernel, stride, padding, dilation] = [kernel, stride, padding, dilation].map(both);
    Window { kernel, stride, padding, dilation, places }
}

/// The numbers of `tensor`, in memory order, on the host.
fn host(tensor: &Tensor) -> candle_core::Result<Vec<f32>> {
    tensor.flatten_all()?.to_vec1()
}
