//! Batch norm, as `torch.nn.functional.batch_norm`, with what follows it.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use convoy_kernels::activation::Activation;
use convoy_kernels::block::{BackwardSums, Block, Parameters};
use convoy_kernels::norm::{Affine, BatchSums, Stats};
use convoy_kernels::pool::PoolShape;

use super::{Keeps, Operation, Ports, Wanted};
use crate::flow::{Flow, Numbers, Unfinished};
use crate::team::{Lanes, cut, ranges, units};

/// Which statistics normalise.
#[derive(Clone)]
pub(crate) enum Statistics {
    /// The shard's own mean and biased variance, which the forward pass leaves here.
    Measured(Arc<OnceLock<[Vec<f32>; 2]>>),
    /// Running ones, which do not depend on x.
    Running,
}

/// A norm and the activation behind it, as whoever reads its output can compute it.
#[derive(Clone)]
pub(crate) struct Normal {
    /// Added to the variance.
    pub eps: f32,
    /// Which statistics normalise.
    pub statistics: Statistics,
    /// What follows; after a residual, one whose slope its output tells ([`Activation::slope_of_output`]).
    pub activation: Option<Activation>,
    /// Indices of scale and shift in the network.
    pub affine: [usize; 2],
    /// Indices of the running mean and the running variance.
    pub running: [usize; 2],
}

impl Normal {
    /// Whether the statistics are those of x.
    pub fn measures(&self) -> bool {
        matches!(self.statistics, Statistics::Measured(_))
    }

    /// The norm of `x`.
    ///
    /// # Panics
    /// If statistics are to be measured and were not yet.
    pub fn block<'a>(&'a self, numbers: &'a Numbers, x: &'a [f32]) -> Block<'a> {
        let [gamma, beta] = self.affine.map(|index| numbers.weight(index));
        let [mean, var] = match &self.statistics {
            Statistics::Measured(measured) => {
                measured.get().expect("the forward pass comes first").each_ref().map(Vec::as_slice)
            }
            Statistics::Running => self.running.map(|index| numbers.weight(index)),
        };
        let (stats, affine) = (Stats { mean, var }, Affine { gamma, beta });
        Block { x, stats, affine, eps: self.eps, activation: self.activation }
    }
}

/// What becomes of a norm's output.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Output {
    /// It is written.
    Written,
    /// Its maximum over windows that do not overlap, without padding, is; not with a residual.
    Pooled(PoolShape),
    /// The only one that reads it computes it; not with a residual.
    Deferred,
}

/// x with channels as its last axis, and perhaps a residual of the same shape, to the shape of x or of its pooling.
pub(crate) struct BatchNorm {
    /// Samples.
    pub count: usize,
    /// The norm.
    pub normal: Normal,
    /// Whether there is a second input, which is added to the norm's output.
    pub residual: bool,
    /// What becomes of the output.
    pub output: Output,
    /// Whether a convolution computes x for this alone, and can finish the backward pass; not with a residual or a pooling.
    pub unfinished: bool,
}

impl BatchNorm {
    /// Measures the shard, and writes what running statistics take of it: count times the mean, and count times the
    /// unbiased variance.
    fn measure(&self, flow: &mut Flow, at: &Ports, measured: &OnceLock<[Vec<f32>; 2]>) {
        let known = flow.measured.get(&at.inputs[0]).cloned();
        let x = flow.numbers.value(at.inputs[0]);
        let channels = flow.numbers.weight(self.normal.affine[0]).len();
        let [mean, var] = measured.get_or_init(|| {
            if let Some(known) = known {
                return known;
            }
            let (mut mean, mut var) = (vec![0.0; channels], vec![0.0; channels]);
            batch_sums(x, channels, &flow.team.lanes(x.len(), x.len() / channels)).stats(&mut mean, &mut var);
            [mean, var]
        });
        let rows = x.len() / channels;
        let unbiased = rows as f64 / (rows - 1) as f64;
        for (index, values, factor) in [(self.normal.running[0], mean, 1.0), (self.normal.running[1], var, unbiased)] {
            let factor = self.count as f64 * factor;
            flow.sum.write(index, |sum| {
                for (sum, value) in sum.iter_mut().zip(values) {
                    *sum = (f64::from(*value) * factor) as f32;
                }
            });
        }
    }
}

impl Operation for BatchNorm {
    fn name(&self) -> &'static str {
        "batch norm"
    }

    fn keeps(&self) -> Keeps {
        Keeps { input: true, output: self.residual }
    }

    fn forward(&self, flow: &mut Flow, at: &Ports) {
        if let Statistics::Measured(measured) = &self.normal.statistics {
            self.measure(flow, at, measured);
        }
        let x = flow.numbers.value(at.inputs[0]);
        let block = self.normal.block(&flow.numbers, x);
        let y = match self.output {
            Output::Deferred => return,
            Output::Pooled(pool) => {
                let mut y = flow.memory.take(pool.y_len());
                let [x_len, y_len] = [pool.x_len(), pool.y_len()].map(|len| len / pool.n);
                let lanes = flow.team.lanes(x.len(), pool.n);
                lanes.each(cut(&mut y, y_len, ranges(pool.n, lanes.count())), |(images, y)| {
                    let x = &x[images.start * x_len..images.end * x_len];
                    Block { x, ..block }.forward_pooled(PoolShape { n: images.len(), ..pool }, y);
                });
                y
            }
            Output::Written => {
                let mut y = flow.memory.take(x.len());
                let residual = self.residual.then(|| flow.numbers.value(at.inputs[1]));
                let (channels, rows) = rows(&block);
                let lanes = flow.team.lanes(x.len(), rows);
                lanes.each(cut(&mut y, channels, ranges(rows, lanes.count())), |(rows, y)| {
                    let values = rows.start * channels..rows.end * channels;
                    let block = Block { x: &x[values.clone()], ..block };
                    block.forward(residual.map(|residual| &residual[values]), y);
                });
                y
            }
        };
        flow.set_value(at.output, y);
    }

    fn backward(&self, flow: &mut Flow, at: &Ports, wanted: Wanted) {
        let dy = flow.take_gradient(at.output);
        let taken = flow.sums.remove(&at.output);
        let x = flow.numbers.value(at.inputs[0]);
        let block = self.normal.block(&flow.numbers, x);
        let (channels, rows) = rows(&block);
        let [mut dgamma, mut dbeta] = [0, 1].map(|_| vec![0.0; channels]);
        let to = Parameters { dgamma: &mut dgamma, dbeta: &mut dbeta, training: self.normal.measures() };
        let lanes = flow.team.lanes(x.len(), rows);
        let mut d = dy;
        let mut residual = None;
        let rest = match self.output {
            Output::Pooled(pool) => {
                let dy = std::mem::replace(&mut d, flow.memory.take(x.len()));
                let sums = pooled_sums(&block, pool, &dy, &mut d, &lanes);
                flow.memory.give(dy);
                block.rest_sloped(sums, to)
            }
            _ if self.residual => {
                let residual = residual.insert(flow.memory.take(x.len()));
                block.rest_sloped(residual_sums(&block, flow.numbers.value(at.output), &d, residual, &lanes), to)
            }
            _ => {
                let sums = taken.unwrap_or_else(|| sums(&block, &d, &lanes));
                if self.unfinished && wanted.inputs[0] {
                    let unfinished = Unfinished { normal: self.normal.clone(), sums: sums.clone() };
                    flow.unfinished.insert(at.inputs[0], unfinished);
                }
                block.rest(sums, to)
            }
        };
        if wanted.parameters {
            flow.sum.write(self.normal.affine[0], |place| place.copy_from_slice(&dgamma));
            flow.sum.write(self.normal.affine[1], |place| place.copy_from_slice(&dbeta));
        }
        if wanted.inputs[0] && !self.unfinished {
            lanes.each(cut(&mut d, channels, ranges(rows, lanes.count())), |(rows, d)| {
                let first = rows.start * channels;
                match &residual {
                    Some(residual) => rest.write_from(first, &residual[first..][..d.len()], d),
                    None => rest.apply_from(first, d),
                }
            });
        }
        drop(lanes);
        match residual {
            Some(residual) if wanted.inputs[1] => flow.add_gradient(at.inputs[1], residual),
            Some(unwanted) => flow.memory.give(unwanted),
            None => {}
        }
        if wanted.inputs[0] {
            flow.add_gradient(at.inputs[0], d);
        } else {
            flow.memory.give(d);
        }
    }
}

/// Channels and rows of what a block normalises.
fn rows(block: &Block<'_>) -> (usize, usize) {
    let channels = block.stats.mean.len();
    (channels, block.x.len() / channels)
}

/// The sums of a batch's statistics.
fn batch_sums<'a>(x: &'a [f32], channels: usize, lanes: &Lanes<'_>) -> BatchSums<'a> {
    let mut sums = BatchSums::new(&x[..channels]);
    if lanes.count() == 1 {
        sums.add(x);
        return sums;
    }
    let part = |rows: Range<usize>| {
        let mut part = BatchSums::part(&x[..channels]);
        part.add(&x[rows.start * channels..rows.end * channels]);
        part
    };
    lanes.map(units(x.len() / channels, BatchSums::ROWS, lanes.count()), part).for_each(|part| sums.append(part));
    sums
}

/// The sums of a backward pass with neither residual nor pooling.
pub(super) fn sums(block: &Block<'_>, dy: &[f32], lanes: &Lanes<'_>) -> BackwardSums {
    let (channels, rows) = rows(block);
    let cuts = units(rows, BackwardSums::ROWS, lanes.count());
    in_order(channels, lanes, cuts, |rows, sums| {
        let values = rows.start * channels..rows.end * channels;
        sums.add(&Block { x: &block.x[values.clone()], ..*block }, &dy[values]);
    })
}

/// With a residual, whose gradient is written to `d`.
fn residual_sums(block: &Block<'_>, y: &[f32], dy: &[f32], d: &mut [f32], lanes: &Lanes<'_>) -> BackwardSums {
    let (channels, rows) = rows(block);
    let cuts = cut(d, channels, units(rows, BackwardSums::ROWS, lanes.count()));
    in_order(channels, lanes, cuts, |(rows, d), sums| {
        let values = rows.start * channels..rows.end * channels;
        let block = Block { x: &block.x[values.clone()], ..*block };
        sums.add_residual(&block, &y[values.clone()], &dy[values], d);
    })
}

/// With a pooling; the gradient of the norm's output is written to `d`.
fn pooled_sums(block: &Block<'_>, pool: PoolShape, dy: &[f32], d: &mut [f32], lanes: &Lanes<'_>) -> BackwardSums {
    let [x_len, y_len] = [pool.x_len(), pool.y_len()].map(|len| len / pool.n);
    let pixels = pool.h * pool.w;
    // So many images are whole chunks of rows.
    let unit = (1..=BackwardSums::ROWS).find(|images| (images * pixels).is_multiple_of(BackwardSums::ROWS));
    let cuts = cut(d, x_len, units(pool.n, unit.expect("a multiple of any number"), lanes.count()));
    in_order(pool.c, lanes, cuts, |(images, d), sums| {
        let block = Block { x: &block.x[images.start * x_len..images.end * x_len], ..*block };
        let dy = &dy[images.start * y_len..images.end * y_len];
        sums.add_pooled(&block, PoolShape { n: images.len(), ..pool }, dy, d);
    })
}

/// Sums that take in `cuts` by `add`, with the bits of one after the other.
fn in_order<T: Send>(
    channels: usize,
    lanes: &Lanes<'_>,
    cuts: impl Iterator<Item = T> + Send,
    add: impl Fn(T, &mut BackwardSums) + Sync,
) -> BackwardSums {
    let mut sums = BackwardSums::new(channels);
    if lanes.count() == 1 {
        cuts.for_each(|cut| add(cut, &mut sums));
        return sums;
    }
    let part = |cut| {
        let mut part = BackwardSums::part(channels);
        add(cut, &mut part);
        part
    };
    lanes.map(cuts, part).for_each(|part| sums.append(part));
    sums
}
