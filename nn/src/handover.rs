//! The hand-over: which parts of a batch norm's work the convolutions beside it do, and what they pass to each other.
//!
//! A batch norm does a few operations for each number that it reads, so that it takes as long as memory does. A
//! convolution that is computed in bands (by its definition; Winograd's algorithm works on tiles of whole tensors)
//! passes over the same numbers a few images at a time, while they are in the caches. So it does for the norms beside
//! it what it can:
//!
//! ```text
//!     conv before ──x──> norm, activation ──y──> conv after
//! ```
//!
//! The terms are those of [`convoy_kernels::norm_block`]: with r = 1 / √(var + eps), x̂ = (x − mean) r, u = γ x̂ + β, y
//! = f(u), and d = dy f′(u), the backward pass is
//!
//! ```text
//!     dβ = Σ d        dγ = Σ d x̂        dx = γ r (d − mean(d) − x̂ mean(d x̂))
//! ```
//!
//! for each channel, and dx = γ r d where the statistics are running ones. x, y, dy and dx are NHWC; statistics, γ and
//! β have one number for each channel.
//!
//! # Who does what, in the order of time
//!
//! Forward:
//!
//! 1. The conv before **measures** mean and var of the images of x that it has just written, and leaves them as
//!    [`Values::statistics`] of x.
//! 2. The norm measures x itself if nobody has; writes what running statistics take of both to the shard's gradient;
//!    writes y, unless that is deferred.
//! 3. The conv after computes the **deferred** y from x as it loads a band. Nobody writes y.
//!
//! Backward:
//!
//! 1. The conv after computes its weight's gradient, for which it computes y once more, and dy. It takes each few
//!    images of dy into Σ d and Σ d (x − mean) at once, and leaves these
//!    (`PassBuffers::leave_norm_sums`). dy becomes the gradient of y.
//! 2. The norm takes both sums itself if nobody has; writes dγ and dβ to the shard's gradient. It makes dx of dy, as
//!    the gradient of x; or it leaves that to the conv before: then what lies as the gradient of x is still dy, and the
//!    sums are left once more.
//! 3. The conv before **finishes**: it turns a few images of dy into dx, in place, and computes its own gradients from
//!    these while they are in the caches.
//!
//! The parts in bold are the three that a convolution may do. [`Norms::resolve`] decides on each for every norm, once
//! for a plan. A norm is
//!
//! - *measured*, if the conv before is computed in bands and norms measure the shard. Other readers of x do not mind.
//! - *deferred*, if y's only reader is a convolution computed in bands, and the activation is cheap (none, relu,
//!   relu6), since it is computed three times then; not with a residual or a pooling.
//! - *finished*, if the conv before is computed in bands and the norm is x's only reader, so that the gradient of x is
//!   the norm's alone; not with a residual or a pooling, where d is written anyway, and not where there is no backward
//!   pass.
//!
//! `Executor::describe_training` tells what was decided for a network; the tests of `pass_plan.rs` show it for a chain,
//! a residual and a depthwise block.
//!
//! # Bits
//!
//! All bits are those of one operation after another, whether or not work is handed over: parts end between images,
//! sums of floats go on where they were ([`BackwardSums`](convoy_kernels::norm_block::BackwardSums) and
//! [`BatchSums`](convoy_kernels::norm::BatchSums) take rows in order, in f32 over each 32 rows and over those in f64),
//! and y is the same number each time that it is computed. Where several threads work on an operation, its parts are
//! whole chunks of 32 rows, whose sums are added in their order; the convolution then does one step after another for
//! all images, and leaves measuring to the norm.

use std::sync::Arc;

use convoy_kernels::activation::Activation;
use convoy_kernels::norm::{Affine, Stats};
use convoy_kernels::norm_block::NormBlock;
use convoy_model::{Network, Op};

use crate::fusion::Group;
use crate::mode::Mode;
use crate::values::Values;

/// A batch norm and the activation that follows it, resolved: what anybody needs to compute it or a part of it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Norm {
    /// The node that puts out x.
    pub input: usize,
    /// The node that puts out y, or what is made of it.
    pub output: usize,
    /// Whether the statistics are those of x over the shard; running ones otherwise, which do not depend on x.
    pub of_shard: bool,
    /// Added to the variance.
    pub eps: f32,
    /// What follows; after a residual, one whose slope its output tells ([`Activation::slope_of_output`]).
    pub activation: Option<Activation>,
    /// Indices of γ and β in the network.
    pub affine: [usize; 2],
    /// Indices of the running mean and the running variance.
    pub running: [usize; 2],
    /// Whether the convolution before measures x.
    pub measured: bool,
    /// Whether the convolution after computes y as it reads it.
    pub deferred: bool,
    /// Whether the convolution before finishes the backward pass.
    pub finished: bool,
}

impl Norm {
    /// The norm of `x`, whole rows of the input's output.
    ///
    /// # Panics
    /// If statistics are those of the shard and were not measured yet.
    pub fn block<'a>(&self, values: &'a Values, x: &'a [f32]) -> NormBlock<'a> {
        let [gamma, beta] = self.affine.map(|index| values.weight(index));
        let stats = if self.of_shard {
            let statistics = values.statistics(self.input).expect("the forward pass measures first");
            Stats { mean: &statistics.mean, var: &statistics.variance }
        } else {
            let [mean, var] = self.running.map(|index| values.weight(index));
            Stats { mean, var }
        };
        NormBlock { x, stats, affine: Affine { gamma, beta }, eps: self.eps, activation: self.activation }
    }

    /// [`Norm::block`] of all of x.
    pub fn whole_block<'a>(&self, values: &'a Values) -> NormBlock<'a> {
        self.block(values, values.output(self.input))
    }
}

/// All batch norms of a network, by the node that each puts out.
pub(crate) struct Norms(Vec<Option<Arc<Norm>>>);

/// What a convolution that is computed in bands does for the norms beside it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct NormsBeside {
    /// The deferred norm whose output it computes as it reads it.
    pub before: Option<Arc<Norm>>,
    /// Whether it measures what it puts out.
    pub measures: bool,
    /// The norm whose backward pass it finishes.
    pub after: Option<Arc<Norm>>,
}

impl Norms {
    /// Decides for each norm of `network` what the convolutions beside it do. `in_bands` says of each node whether it
    /// is a convolution that is computed in bands.
    pub fn resolve(network: &Network, groups: &[Group], mode: Mode, in_bands: &[bool]) -> Self {
        let mut readers: Vec<Vec<&Group>> = vec![Vec::new(); network.nodes.len()];
        for group in groups {
            group.inputs(network).into_iter().for_each(|input| readers[input].push(group));
        }
        let mut norms = vec![None; network.nodes.len()];
        for group in groups {
            let Some(mut norm) = norm(network, group, mode) else { continue };
            norm.measured = norm.of_shard && in_bands[norm.input];
            if group.residual.is_none() && group.pool.is_none() {
                let cheap = norm.activation.is_none_or(Activation::slope_of_output);
                let read_in_bands = matches!(readers[norm.output][..], [reader] if in_bands[reader.node]);
                norm.deferred = cheap && read_in_bands;
                let alone = readers[norm.input].len() == 1;
                norm.finished = mode != Mode::Evaluate && in_bands[norm.input] && alone;
            }
            let output = norm.output;
            norms[output] = Some(Arc::new(norm));
        }
        Norms(norms)
    }

    /// The norm that puts out `node`.
    pub fn that_puts_out(&self, node: usize) -> Option<&Arc<Norm>> {
        self.0[node].as_ref()
    }

    /// What the convolution in bands that reads node `input` and puts out node `output` does for norms.
    pub fn beside(&self, input: usize, output: usize) -> NormsBeside {
        let after = || self.0.iter().flatten().filter(|norm| norm.input == output);
        NormsBeside {
            before: self.that_puts_out(input).filter(|norm| norm.deferred).cloned(),
            measures: after().any(|norm| norm.measured),
            after: after().find(|norm| norm.finished).cloned(),
        }
    }
}

/// The norm of a group that begins with one, with nothing handed over.
fn norm(network: &Network, group: &Group, mode: Mode) -> Option<Norm> {
    let node = &network.nodes[group.node];
    let Op::BatchNorm { eps, weight, bias, running_mean, running_var, .. } = node.op else { return None };
    Some(Norm {
        input: node.inputs[0],
        output: group.output,
        of_shard: mode.measures_shard(),
        eps,
        activation: group.activation.map(|index| function_of(network, index)),
        affine: [weight, bias],
        running: [running_mean, running_var],
        measured: false,
        deferred: false,
        finished: false,
    })
}

fn function_of(network: &Network, index: usize) -> Activation {
    match network.nodes[index].op {
        Op::Activation(activation) => activation,
        _ => unreachable!("a group's activation is one"),
    }
}
