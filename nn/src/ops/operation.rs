//! What an operation of a pass is.

use std::fmt::Display;

use convoy_model::{Network, Node, Shape};

use crate::fusion::Group;
use crate::handover::Norms;
use crate::lowering;
use crate::mode::Mode;
use crate::pass_buffers::PassBuffers;

/// Which nodes an operation joins, by their index in the network.
#[derive(Debug, Clone)]
pub(crate) struct Ports {
    /// One, or two for a sum or a residual.
    pub inputs: Vec<usize>,
    /// What it computes.
    pub output: usize,
}

/// Which gradients the tape asks for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    /// Of the inputs; the second is false if there is none.
    pub inputs: [bool; 2],
    /// Of the parameters.
    pub parameters: bool,
}

/// What a backward pass reads of what the forward pass computed.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Keeps {
    /// The first input.
    pub input: bool,
    /// The output.
    pub output: bool,
}

/// An operation on the buffers of a pass, those of the kernels for f32 or others. It is resolved once for a plan,
/// which any number of passes share: what a pass leaves for its backward half lies in its buffers.
///
/// Shown, it says in a few words what it computes and what was decided about it.
pub(crate) trait Operation<B = PassBuffers>: Display + Send + Sync {
    /// What it is, in error messages of candle.
    fn name(&self) -> &'static str;

    /// What its backward pass will read.
    fn keeps(&self) -> Keeps {
        Keeps::default()
    }

    /// Computes the output's value from those of the inputs.
    fn forward(&self, buffers: &mut B, ports: &Ports);

    /// Takes the output's gradient, contributes to those of the inputs that are wanted, and writes the gradients of the
    /// parameters if they are.
    fn backward(&self, buffers: &mut B, ports: &Ports, wanted: Wanted);
}

/// A layer that an operation is resolved from, with what the plan knows about it.
pub(crate) struct Layer<'a> {
    /// The graph.
    pub network: &'a Network,
    /// Its nodes.
    pub group: &'a Group,
    /// Samples of the pass.
    pub images: usize,
    /// What the pass is for.
    pub mode: Mode,
    /// Of each node whether it is a convolution that is computed in bands.
    pub in_bands: &'a [bool],
    /// The batch norms, with what is handed over.
    pub norms: &'a Norms,
}

impl Layer<'_> {
    /// Its first node.
    pub fn node(&self) -> &Node {
        &self.network.nodes[self.group.node]
    }

    /// What its first input is.
    pub fn input(&self) -> Shape {
        lowering::input_of(self.network, self.node())
    }
}
