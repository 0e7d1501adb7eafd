//! Batch norm with what follows it.

use std::fmt;
use std::ops::Range;

use convoy_kernels::activation::Activation;
use convoy_kernels::bf16::elementwise::{self, GradientOf, NormGroup};
use convoy_kernels::bf16::{Bf16, Blocks};
use convoy_kernels::norm::{Affine, Stats};
use convoy_kernels::norm_block::AffineGradients;
use convoy_kernels::pool::PoolShape;
use convoy_model::Op;

use super::buffers::HalfBuffers;
use super::rows::{HalfLayer, fill_rows, part, row_sums, tensor_of_rows};
use crate::ComputeError;
use crate::lowering::pool_shape;
use crate::ops::{Follows, Keeps, Operation, Ports, Wanted, window, write_running};
use crate::thread_team::ranges;
use crate::values::{Statistics, Values};

/// A batch norm, the activation after it, and a residual or a pooling.
pub(super) struct HalfNorm {
    /// Of x.
    shape: Blocks,
    input: usize,
    /// Whether the statistics are those of x over the shard; running ones otherwise.
    of_shard: bool,
    eps: f32,
    activation: Option<Activation>,
    /// Indices of scale and shift in the network.
    affine: [usize; 2],
    /// Indices of the running mean and the running variance.
    running: [usize; 2],
    follows: Follows,
}

impl HalfNorm {
    /// For the layer's group.
    ///
    /// # Errors
    /// When a shard has one value for each channel, whose variance says nothing.
    ///
    /// # Panics
    /// If the layer is no batch norm.
    pub fn resolve(layer: &HalfLayer<'_>) -> Result<Self, ComputeError> {
        let (network, node, shape) = (layer.network, layer.node(), layer.input()?);
        let Op::BatchNorm { eps, weight, bias, running_mean, running_var, .. } = node.op else {
            unreachable!("called for batch norms only")
        };
        let of_shard = layer.kind.mode.measures_shard();
        if of_shard && shape.n * shape.h * shape.w < 2 {
            return Err(ComputeError::SingleValue { layer: node.name.clone() });
        }
        let activation = layer.group.activation.map(|index| match network.nodes[index].op {
            Op::Activation(activation) => activation,
            _ => unreachable!("a group's activation is one"),
        });
        let follows = match (layer.group.residual, layer.group.pool) {
            (Some(_), _) => Follows::Residual,
            (None, Some(pool)) => Follows::Pooling(pool_shape(network, &network.nodes[pool], layer.kind.images)?),
            (None, None) => Follows::Nothing,
        };
        let (affine, running) = ([weight, bias], [running_mean, running_var]);
        Ok(HalfNorm { shape, input: node.inputs[0], of_shard, eps, activation, affine, running, follows })
    }

    /// Its group, with what is known of x.
    ///
    /// # Panics
    /// If statistics are those of the shard and were not measured yet.
    pub fn group<'a>(&self, values: &'a Values<Bf16>) -> NormGroup<'a> {
        let [gamma, beta] = self.affine.map(|index| values.weight(index));
        let stats = if self.of_shard {
            let statistics = values.statistics(self.input).expect("the forward pass measures first");
            Stats { mean: &statistics.mean, var: &statistics.variance }
        } else {
            let [mean, var] = self.running.map(|index| values.weight(index));
            Stats { mean, var }
        };
        NormGroup::new(self.shape, stats, Affine { gamma, beta }, self.eps, self.activation)
    }

    /// Measures the shard, and writes what running statistics take of it.
    fn measure(&self, buffers: &mut HalfBuffers) {
        let shape = self.shape;
        if buffers.values.statistics(self.input).is_none() {
            let x = buffers.values.output(self.input);
            let sums = row_sums(&buffers.team, shape, |rows, sums| {
                elementwise::statistics_rows(shape, x, rows, sums);
            });
            let statistics = statistics(shape, x, &sums);
            buffers.values.set_statistics(self.input, statistics);
        }
        let statistics = buffers.values.statistics(self.input).expect("it has been measured");
        let rows = shape.n * shape.h * shape.w;
        write_running(&mut buffers.shard_gradient, self.running, statistics, shape.n, rows);
    }

    /// The gradient that [`NormGroup::sum_rows`] and dx are computed from, of some rows.
    fn gradient_of<'a>(&self, d: &'a [Bf16]) -> GradientOf<'a> {
        match self.follows {
            Follows::Residual => GradientOf::Sum(d),
            Follows::Nothing | Follows::Pooling(_) => GradientOf::Output(d),
        }
    }

    /// The sums of the backward pass, by rows of the gradient `d`.
    fn sums(&self, group: &NormGroup<'_>, buffers: &HalfBuffers, d: &[Bf16]) -> Vec<f64> {
        let shape = self.target();
        row_sums(&buffers.team, shape, |rows, sums| {
            self.sum_part(group, &buffers.values, rows.clone(), part(d, &shape, &rows), sums);
        })
    }

    /// The same of some rows, whose gradient is `d`.
    pub fn sum_part(
        &self,
        group: &NormGroup<'_>,
        values: &Values<Bf16>,
        rows: Range<usize>,
        d: &[Bf16],
        sums: &mut [f64],
    ) {
        let x = values.output(self.input);
        match self.follows {
            Follows::Pooling(pool) => group.sum_pooled_rows(pool, rows, x, d, sums),
            _ => group.sum_rows(rows.clone(), part(x, &self.shape, &rows), self.gradient_of(d), sums),
        }
    }

    /// What the group puts out.
    fn target(&self) -> Blocks {
        match self.follows {
            Follows::Pooling(pool) => pool.y_blocks(),
            _ => self.shape,
        }
    }

    /// The gradient of the norm's output and the residual, from that of the group's output.
    fn residual_gradient(&self, buffers: &mut HalfBuffers, ports: &Ports, dy: &[Bf16]) -> Vec<Bf16> {
        let shape = self.shape;
        tensor_of_rows(buffers, shape, |buffers, rows, d| {
            let y = part(buffers.values.output(ports.output), &shape, &rows);
            self.group(&buffers.values).residual_gradient_rows(rows.clone(), y, part(dy, &shape, &rows), d);
        })
    }
}

impl fmt::Display for HalfNorm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.of_shard { "batch norm" } else { "batch norm by running statistics" })?;
        if self.follows == Follows::Residual {
            f.write_str(", residual")?;
        }
        if let Some(activation) = self.activation {
            write!(f, ", {activation:?}")?;
        }
        match &self.follows {
            Follows::Pooling(pool) => write!(f, ", max pool {}", window(pool)),
            _ => Ok(()),
        }
    }
}

impl Operation<HalfBuffers> for HalfNorm {
    fn name(&self) -> &'static str {
        "batch norm"
    }

    fn keeps(&self) -> Keeps {
        Keeps { input: true, output: self.follows == Follows::Residual }
    }

    fn forward(&self, buffers: &mut HalfBuffers, ports: &Ports) {
        if self.of_shard {
            self.measure(buffers);
        }
        let (shape, target) = (self.shape, self.target());
        let mut y = buffers.pool.take(target.len());
        let (group, x) = (self.group(&buffers.values), buffers.values.output(self.input));
        let residual = (self.follows == Follows::Residual).then(|| buffers.values.output(ports.inputs[1]));
        fill_rows(&buffers.team, target, &mut y, |rows, y| match self.follows {
            Follows::Pooling(pool) => group.forward_pooled_rows(pool, rows, x, y),
            _ => {
                let residual = residual.map(|residual| part(residual, &shape, &rows));
                group.forward_rows(rows.clone(), part(x, &shape, &rows), residual, y);
            }
        });
        buffers.values.set_output(ports.output, y);
    }

    fn backward(&self, buffers: &mut HalfBuffers, ports: &Ports, wanted: Wanted) {
        let shape = self.shape;
        let mut d = buffers.gradients.take(ports.output);
        let sums_before = buffers.norm_sums[ports.output].take();
        if self.follows == Follows::Residual {
            let of_sum = self.residual_gradient(buffers, ports, &d);
            buffers.pool.give(std::mem::replace(&mut d, of_sum));
        }
        let mut dx = buffers.pool.take(shape.len());
        let group = self.group(&buffers.values);
        let sums = sums_before.unwrap_or_else(|| self.sums(&group, buffers, &d));
        let [mut dgamma, mut dbeta] = [0, 1].map(|_| vec![0.0; shape.c]);
        let to = AffineGradients { dgamma: &mut dgamma, dbeta: &mut dbeta, training: self.of_shard };
        let rest = group.finish(&sums, to);
        let x = buffers.values.output(self.input);
        match self.follows {
            _ if !wanted.inputs[0] => {}
            Follows::Pooling(pool) => write_pooled(buffers, pool, &mut dx, |rows, dx| {
                rest.pooled_rows(pool, rows.clone(), x, part(&d, &pool.y_blocks(), &rows), dx);
            }),
            _ => fill_rows(&buffers.team, shape, &mut dx, |rows, dx| {
                let d = self.gradient_of(part(&d, &shape, &rows));
                rest.rows(rows.clone(), part(x, &shape, &rows), d, dx);
            }),
        }
        if wanted.parameters {
            let [gamma, beta] = self.affine;
            buffers.shard_gradient.write(gamma, |place| place.copy_from_slice(&dgamma));
            buffers.shard_gradient.write(beta, |place| place.copy_from_slice(&dbeta));
        }
        match self.follows {
            Follows::Residual => buffers.pass_on(ports.inputs[1], d, wanted.inputs[1]),
            _ => buffers.pool.give(d),
        }
        buffers.pass_on(ports.inputs[0], dx, wanted.inputs[0]);
    }
}

/// Mean and variance of x, from the sums of its rows.
pub(super) fn statistics(shape: Blocks, x: &[Bf16], sums: &[f64]) -> Statistics {
    let mut statistics = Statistics { mean: vec![0.0; shape.c], variance: vec![0.0; shape.c] };
    elementwise::statistics(shape, x, sums, &mut statistics.mean, &mut statistics.variance);
    statistics
}

/// Has `fill` write all of dx, the rows of x that some rows of the pooling's output stand for at a time.
fn write_pooled(
    buffers: &HalfBuffers,
    pool: PoolShape,
    mut dx: &mut [Bf16],
    fill: impl Fn(Range<usize>, &mut [Bf16]) + Sync,
) {
    let (source, target) = (pool.x_blocks(), pool.y_blocks());
    let threads = buffers.team.threads(source.len(), target.rows());
    let pieces = ranges(target.rows(), threads.count()).map(|rows| {
        let of_x = elementwise::pooled_rows_of_x(pool, rows.clone());
        let (piece, rest) = std::mem::take(&mut dx).split_at_mut(of_x.len() * source.row_len());
        dx = rest;
        (rows, piece)
    });
    threads.each(pieces, |(rows, dx)| fill(rows, dx));
}
