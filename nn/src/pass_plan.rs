//! What a pass of a network does, resolved once for all passes of one kind.

use std::fmt::Write;
use std::sync::Arc;

use convoy_model::Network;
use parking_lot::Mutex;

use crate::ComputeError;
use crate::fusion::{Group, groups};
use crate::handover::Norms;
use crate::liveness::last_reads;
use crate::mode::Mode;
use crate::ops::{self, Layer, Operation, Ports};
use crate::pass_buffers::PassBuffers;

/// What tells the passes of one network apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PassKind {
    /// What they are for.
    pub mode: Mode,
    /// Samples of each.
    pub images: usize,
}

/// The operations of a pass in their order, with everything that does not depend on the numbers: shapes and algorithms,
/// which nodes are computed together ([`groups`]), what norms and convolutions hand over to each other
/// ([`handover`](crate::handover)), what the backward pass needs, and how long values live.
pub(crate) struct PassPlan<B = PassBuffers> {
    /// One for each group of nodes, in the order of [`groups`].
    pub steps: Vec<Step<B>>,
    /// Nodes of the network.
    pub nodes: usize,
}

/// One operation of a pass.
pub(crate) struct Step<B = PassBuffers> {
    /// What is computed.
    pub operation: Box<dyn Operation<B>>,
    /// Of which nodes.
    pub ports: Ports,
    /// Whether the tape asks for the gradients of its parameters.
    pub learns: bool,
    /// Nodes whose output nobody needs after this step's forward pass: no later step reads it, and no backward pass.
    pub last_reads: Vec<usize>,
}

impl PassPlan {
    /// The plan for passes of `network` of one kind. `winograd` says whether convolutions are computed by Winograd's
    /// algorithm where it pays.
    ///
    /// # Errors
    /// When a layer does not fit its input, or a batch norm would normalise by a single value.
    pub fn resolve(network: &Network, kind: PassKind, winograd: bool) -> Result<Self, ComputeError> {
        let groups = groups(network);
        let in_bands = in_bands(network, kind, winograd)?;
        let norms = Norms::resolve(network, &groups, kind.mode, &in_bands);
        PassPlan::of(network, kind, &groups, &in_bands, &norms)
    }

    /// The plan for these groups, with what is handed over decided.
    fn of(
        network: &Network,
        kind: PassKind,
        groups: &[Group],
        in_bands: &[bool],
        norms: &Norms,
    ) -> Result<Self, ComputeError> {
        let PassKind { mode, images } = kind;
        let resolve = |group: &Group| ops::resolve(&Layer { network, group, images, mode, in_bands, norms });
        PassPlan::by(network, kind.mode, groups, |input| source(input, norms), resolve)
    }
}

impl<B> PassPlan<B> {
    /// The plan for these groups, whose operations `resolve` gives. Where a node is an input, the output of `source` of
    /// it is read.
    pub fn by(
        network: &Network,
        mode: Mode,
        groups: &[Group],
        source: impl Fn(usize) -> usize,
        resolve: impl Fn(&Group) -> Result<Box<dyn Operation<B>>, ComputeError>,
    ) -> Result<Self, ComputeError> {
        let nodes = network.nodes.len();
        let reads = |group: &Group| group.inputs(network).into_iter().map(&source).collect();
        let reads: Vec<Vec<usize>> = groups.iter().map(reads).collect();
        // What is on the tape, and which outputs backward passes read.
        let (mut tracked, mut kept) = (vec![false; nodes], vec![false; nodes]);
        let mut steps = Vec::with_capacity(groups.len());
        for (group, last_reads) in groups.iter().zip(last_reads(nodes, reads.iter().map(Vec::as_slice))) {
            let operation = resolve(group)?;
            let ports = Ports { inputs: group.inputs(network), output: group.output };
            let mut tensors = network.nodes[group.node].op.tensors().into_iter();
            let learns = tensors.any(|tensor| mode.learns(&network.tensors[tensor]));
            tracked[ports.output] = learns || ports.inputs.iter().any(|&input| tracked[input]);
            if tracked[ports.output] {
                let keeps = operation.keeps();
                kept[source(ports.inputs[0])] |= keeps.input;
                kept[ports.output] |= keeps.output;
            }
            // Whoever keeps an output is its producer or a reader, and comes no later than the last reader.
            let last_reads = last_reads.into_iter().filter(|&node| !kept[node]).collect();
            steps.push(Step { operation, ports, learns, last_reads });
        }
        Ok(PassPlan { steps, nodes })
    }

    /// A line for each step, for people: which node is made of which by what, and whose outputs are let go then.
    pub fn describe(&self, network: &Network) -> String {
        let names = |nodes: &[usize]| {
            let name = |&node: &usize| format!("{node} {}", network.nodes[node].name);
            nodes.iter().map(name).collect::<Vec<_>>().join(", ")
        };
        let mut text = String::new();
        for Step { operation, ports, learns, last_reads } in &self.steps {
            let (output, inputs) = (names(&[ports.output]), names(&ports.inputs));
            write!(text, "{output} <- {inputs}: {operation}").expect("a string takes all");
            text += if *learns { "; learns" } else { "" };
            if !last_reads.is_empty() {
                write!(text, "; drops {}", names(last_reads)).expect("a string takes all");
            }
            text.push('\n');
        }
        text
    }
}

/// Of each node whether it is a convolution that is computed in bands.
fn in_bands(network: &Network, kind: PassKind, winograd: bool) -> Result<Vec<bool>, ComputeError> {
    (0..network.nodes.len()).map(|node| ops::computed_in_bands(network, node, kind.images, winograd)).collect()
}

/// The node whose output is read where `node` is an input: of a deferred norm, what that is computed from.
fn source(node: usize, norms: &Norms) -> usize {
    norms.that_puts_out(node).filter(|norm| norm.deferred).map_or(node, |norm| norm.input)
}

/// The plans that passes have asked for, of one network, the most recently used ones first.
///
/// A training run has shards of one size and perhaps a smaller last one, in two modes; evaluation has as many again.
/// Whoever predicts chooses sizes as they come, so that there is a bound.
pub(crate) struct PlanCache<B = PassBuffers>(Mutex<Vec<(PassKind, Arc<PassPlan<B>>)>>);

impl<B> Default for PlanCache<B> {
    fn default() -> Self {
        PlanCache(Mutex::default())
    }
}

impl<B> PlanCache<B> {
    /// Plans that are kept.
    const LIMIT: usize = 8;

    /// The plan for `kind`, by `resolve` if it is not there.
    ///
    /// # Errors
    /// Those of `resolve`.
    pub fn get(
        &self,
        kind: PassKind,
        resolve: impl FnOnce() -> Result<PassPlan<B>, ComputeError>,
    ) -> Result<Arc<PassPlan<B>>, ComputeError> {
        let mut plans = self.0.lock();
        if let Some(known) = plans.iter().position(|(of, _)| *of == kind) {
            plans[..=known].rotate_right(1);
            return Ok(plans[0].1.clone());
        }
        let plan = Arc::new(resolve()?);
        plans.truncate(Self::LIMIT - 1);
        plans.insert(0, (kind, plan.clone()));
        Ok(plan)
    }
}

#[cfg(test)]
mod tests;
