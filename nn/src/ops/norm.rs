//! Batch norm, as `torch.nn.functional.batch_norm`, with what follows it: its own part of the
//! [`handover`](crate::handover).

use std::fmt;
use std::sync::Arc;

use convoy_kernels::norm_block::{AffineGradients, BackwardSums, InputGradient, NormBlock};
use convoy_kernels::pool::PoolShape;

use super::norm_sums::{self, channels_and_rows};
use super::operation::{Keeps, Layer, Operation, Ports, Wanted};
use super::pool::window;
use crate::ComputeError;
use crate::handover::Norm;
use crate::lowering::pool_shape;
use crate::pass_buffers::PassBuffers;
use crate::shard_gradient::ShardGradient;
use crate::thread_team::{Team, Threads, cut, ranges};
use crate::values::Statistics;

/// x with channels as its last axis, and perhaps a residual of the same shape, to the shape of x or of its pooling.
pub(super) struct BatchNorm {
    /// Samples.
    pub samples: usize,
    /// The norm and its activation, with what is handed over.
    pub norm: Arc<Norm>,
    /// What follows beside the activation. If anything does, nothing is handed over but the measuring.
    pub follows: Follows,
}

/// What a batch norm does beside its activation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Follows {
    /// Nothing.
    Nothing,
    /// Before the activation, the second input is added to the norm's output.
    Residual,
    /// After the activation, the maximum over windows that do not overlap, without padding.
    Pooling(PoolShape),
}

impl BatchNorm {
    /// For the layer's group.
    ///
    /// # Errors
    /// When a shard has one value for each channel, whose variance says nothing.
    ///
    /// # Panics
    /// If the layer is no batch norm.
    pub fn resolve(layer: &Layer<'_>) -> Result<Self, ComputeError> {
        let node = layer.node();
        let norm = layer.norms.that_puts_out(layer.group.output).expect("called for batch norms only").clone();
        if norm.of_shard && layer.images * node.output.len() / (node.output.channels() as usize) < 2 {
            return Err(ComputeError::SingleValue { layer: node.name.clone() });
        }
        let follows = match (layer.group.residual, layer.group.pool) {
            (Some(_), _) => Follows::Residual,
            (None, Some(pool)) => {
                Follows::Pooling(pool_shape(layer.network, &layer.network.nodes[pool], layer.images)?)
            }
            (None, None) => Follows::Nothing,
        };
        Ok(BatchNorm { samples: layer.images, norm, follows })
    }

    /// Measures the shard if nobody has, and writes what running statistics take of it: count times the mean, and count
    /// times the unbiased variance.
    fn measure(&self, buffers: &mut PassBuffers) {
        let x = buffers.values.output(self.norm.input);
        let channels = buffers.values.weight(self.norm.affine[0]).len();
        let rows = x.len() / channels;
        if buffers.values.statistics(self.norm.input).is_none() {
            let statistics = norm_sums::statistics(x, channels, &buffers.team.threads(x.len(), rows));
            buffers.values.set_statistics(self.norm.input, statistics);
        }
        let statistics = buffers.values.statistics(self.norm.input).expect("it has been measured");
        write_running(&mut buffers.shard_gradient, self.norm.running, statistics, self.samples, rows);
    }

    /// y of all rows, with the output of node `residual`.
    fn forward_rows(&self, buffers: &mut PassBuffers, residual: Option<usize>) -> Vec<f32> {
        let block = self.norm.whole_block(&buffers.values);
        let residual = residual.map(|node| buffers.values.output(node));
        let (channels, rows) = channels_and_rows(&block);
        let mut y = buffers.pool.take(block.x.len());
        let threads = threads_for(&buffers.team, &block);
        threads.each(cut(&mut y, channels, ranges(rows, threads.count())), |(rows, y)| {
            let values = rows.start * channels..rows.end * channels;
            let block = NormBlock { x: &block.x[values.clone()], ..block };
            block.forward(residual.map(|residual| &residual[values]), y);
        });
        y
    }

    /// The pooling of y, image by image.
    fn forward_pooled(&self, buffers: &mut PassBuffers, pool: PoolShape) -> Vec<f32> {
        let block = self.norm.whole_block(&buffers.values);
        let [x_len, y_len] = [pool.x_len(), pool.y_len()].map(|len| len / pool.n);
        let mut y = buffers.pool.take(pool.y_len());
        let threads = buffers.team.threads(block.x.len(), pool.n);
        threads.each(cut(&mut y, y_len, ranges(pool.n, threads.count())), |(images, y)| {
            let x = &block.x[images.start * x_len..images.end * x_len];
            NormBlock { x, ..block }.forward_pooled(PoolShape { n: images.len(), ..pool }, y);
        });
        y
    }

    /// dx from dy, in place, unless the convolution before finishes.
    fn backward_alone(&self, buffers: &mut PassBuffers, ports: &Ports, mut d: Vec<f32>, wanted: Wanted) {
        let taken = buffers.take_norm_sums(self.norm.output);
        let block = self.norm.whole_block(&buffers.values);
        let threads = threads_for(&buffers.team, &block);
        let sums = taken.unwrap_or_else(|| norm_sums::alone(&block, &d, &threads));
        let hands_over = self.norm.finished && wanted.inputs[0];
        let left = hands_over.then(|| sums.clone());
        let gradients = NormGradients::of(&self.norm, &block, sums);
        gradients.write(&self.norm, &mut buffers.shard_gradient, wanted);
        if wanted.inputs[0] && !hands_over {
            apply(&gradients.rest, &block, &mut d, &threads);
        }
        drop(threads);
        if let Some(sums) = left {
            buffers.leave_norm_sums(self.norm.output, sums);
        }
        pass_on(buffers, ports.inputs[0], d, wanted.inputs[0]);
    }

    /// The residual's gradient beside that of x.
    fn backward_residual(&self, buffers: &mut PassBuffers, ports: &Ports, mut dy: Vec<f32>, wanted: Wanted) {
        let mut residual = buffers.pool.take(dy.len());
        let block = self.norm.whole_block(&buffers.values);
        let threads = threads_for(&buffers.team, &block);
        let y = buffers.values.output(ports.output);
        let sums = norm_sums::with_residual(&block, y, &dy, &mut residual, &threads);
        let gradients = NormGradients::of(&self.norm, &block, sums);
        gradients.write(&self.norm, &mut buffers.shard_gradient, wanted);
        if wanted.inputs[0] {
            let (channels, rows) = channels_and_rows(&block);
            threads.each(cut(&mut dy, channels, ranges(rows, threads.count())), |(rows, dx)| {
                let first = rows.start * channels;
                gradients.rest.write_from(first, &residual[first..][..dx.len()], dx);
            });
        }
        drop(threads);
        pass_on(buffers, ports.inputs[1], residual, wanted.inputs[1]);
        pass_on(buffers, ports.inputs[0], dy, wanted.inputs[0]);
    }

    /// From the gradient of the pooling's output.
    fn backward_pooled(&self, buffers: &mut PassBuffers, ports: &Ports, dy: Vec<f32>, wanted: Wanted, pool: PoolShape) {
        let mut d = buffers.pool.take(pool.x_len());
        let block = self.norm.whole_block(&buffers.values);
        let threads = threads_for(&buffers.team, &block);
        let sums = norm_sums::with_pooling(&block, pool, &dy, &mut d, &threads);
        buffers.pool.give(dy);
        let gradients = NormGradients::of(&self.norm, &block, sums);
        gradients.write(&self.norm, &mut buffers.shard_gradient, wanted);
        if wanted.inputs[0] {
            apply(&gradients.rest, &block, &mut d, &threads);
        }
        drop(threads);
        pass_on(buffers, ports.inputs[0], d, wanted.inputs[0]);
    }
}

impl fmt::Display for BatchNorm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Norm { of_shard, activation, measured, deferred, finished, .. } = *self.norm;
        f.write_str(if of_shard { "batch norm" } else { "batch norm by running statistics" })?;
        if self.follows == Follows::Residual {
            f.write_str(", residual")?;
        }
        if let Some(activation) = activation {
            write!(f, ", {activation:?}")?;
        }
        if let Follows::Pooling(pool) = &self.follows {
            write!(f, ", max pool {}", window(pool))?;
        }
        for (handed, what) in [(measured, "measured"), (deferred, "deferred"), (finished, "finished")] {
            if handed {
                write!(f, "; {what}")?;
            }
        }
        Ok(())
    }
}

impl Operation for BatchNorm {
    fn name(&self) -> &'static str {
        "batch norm"
    }

    fn keeps(&self) -> Keeps {
        Keeps { input: true, output: self.follows == Follows::Residual }
    }

    fn forward(&self, buffers: &mut PassBuffers, ports: &Ports) {
        if self.norm.of_shard {
            self.measure(buffers);
        }
        if self.norm.deferred {
            return;
        }
        let y = match self.follows {
            Follows::Nothing => self.forward_rows(buffers, None),
            Follows::Residual => self.forward_rows(buffers, Some(ports.inputs[1])),
            Follows::Pooling(pool) => self.forward_pooled(buffers, pool),
        };
        buffers.values.set_output(ports.output, y);
    }

    fn backward(&self, buffers: &mut PassBuffers, ports: &Ports, wanted: Wanted) {
        let dy = buffers.take_gradient(ports.output);
        match self.follows {
            Follows::Nothing => self.backward_alone(buffers, ports, dy, wanted),
            Follows::Residual => self.backward_residual(buffers, ports, dy, wanted),
            Follows::Pooling(pool) => self.backward_pooled(buffers, ports, dy, wanted, pool),
        }
    }
}

/// Writes what running mean and variance take of the statistics of so many samples and rows: count times the mean, and
/// count times the unbiased variance.
pub(crate) fn write_running(
    shard_gradient: &mut ShardGradient,
    [mean, variance]: [usize; 2],
    statistics: &Statistics,
    samples: usize,
    rows: usize,
) {
    let unbiased = rows as f64 / (rows - 1) as f64;
    for (index, values, factor) in [(mean, &statistics.mean, 1.0), (variance, &statistics.variance, unbiased)] {
        let factor = samples as f64 * factor;
        shard_gradient.write(index, |sum| {
            for (sum, value) in sum.iter_mut().zip(values) {
                *sum = (f64::from(*value) * factor) as f32;
            }
        });
    }
}

/// Gradients of scale and shift, one for each channel, and what is left to do.
struct NormGradients<'a> {
    dgamma: Vec<f32>,
    dbeta: Vec<f32>,
    rest: InputGradient<'a>,
}

impl<'a> NormGradients<'a> {
    /// From sums over all rows of the block.
    fn of(norm: &Norm, block: &NormBlock<'a>, sums: BackwardSums) -> Self {
        let channels = block.stats.mean.len();
        let (mut dgamma, mut dbeta) = (vec![0.0; channels], vec![0.0; channels]);
        let to = AffineGradients { dgamma: &mut dgamma, dbeta: &mut dbeta, training: norm.of_shard };
        let rest = block.finish(sums, to);
        NormGradients { dgamma, dbeta, rest }
    }

    /// Writes the parameters' gradients, if they are wanted.
    fn write(&self, norm: &Norm, shard_gradient: &mut ShardGradient, wanted: Wanted) {
        if wanted.parameters {
            let [gamma, beta] = norm.affine;
            shard_gradient.write(gamma, |place| place.copy_from_slice(&self.dgamma));
            shard_gradient.write(beta, |place| place.copy_from_slice(&self.dbeta));
        }
    }
}

fn threads_for<'a>(team: &'a Team, block: &NormBlock<'_>) -> Threads<'a> {
    team.threads(block.x.len(), channels_and_rows(block).1)
}

/// dx in place.
fn apply(rest: &InputGradient<'_>, block: &NormBlock<'_>, d: &mut [f32], threads: &Threads<'_>) {
    let (channels, rows) = channels_and_rows(block);
    threads.each(cut(d, channels, ranges(rows, threads.count())), |(rows, d)| {
        rest.apply_from(rows.start * channels, d);
    });
}

/// Contributes `gradient` to that of `node`, if it is wanted.
fn pass_on(buffers: &mut PassBuffers, node: usize, gradient: Vec<f32>, wanted: bool) {
    if wanted {
        buffers.add_gradient(node, gradient);
    } else {
        buffers.pool.give(gradient);
    }
}
