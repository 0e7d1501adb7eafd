//! Puts a network together node by node, checking shapes and giving each tensor its name and beginning. The methods
//! that add a layer, one for each operation, are in `layers.rs` beside this file.

mod layers;

use std::collections::BTreeSet;

use convoy_common::plan::Input;

use crate::error::{MAX_ELEMENTS, Problem};
use crate::{Init, Network, Node, Op, Role, Shape, Tensor};

pub(crate) use layers::{Conv, Window};

/// A layer that could not be added, and why.
#[derive(Debug)]
pub(crate) struct Fault {
    pub layer: String,
    pub problem: Problem,
}

/// A node's index, or why there is none.
pub(crate) type Added = Result<usize, Fault>;

/// How convolutions and fully connected layers begin. Batch norm begins at scale 1, shift 0 in each.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Scheme {
    /// `torch.nn`'s defaults: weights and biases uniform in ±1/sqrt(fan_in).
    Torch,
    /// torchvision's ResNet: convolutions normal with variance 2 / fan_out (He et al. 2015, section 2.2), the
    /// rest as [`Scheme::Torch`].
    Resnet,
    /// torchvision's VGG: convolutions as [`Scheme::Resnet`], fully connected normal with deviation 0.01,
    /// biases zero.
    Vgg,
}

/// A network under construction. Nodes and tensors appear in the order of the calls.
#[derive(Debug)]
pub(crate) struct Builder {
    input: Input,
    scheme: Scheme,
    nodes: Vec<Node>,
    tensors: Vec<Tensor>,
    names: BTreeSet<String>,
    elements: u64,
    dropouts: u32,
}

impl Builder {
    /// Begins with the input, node 0.
    pub fn new(input: Input, scheme: Scheme) -> Self {
        let output = Shape::Map { height: input.height, width: input.width, channels: input.channels };
        let nodes = vec![Node { name: "input".to_owned(), op: Op::Input, inputs: Vec::new(), output }];
        Builder { input, scheme, nodes, tensors: Vec::new(), names: BTreeSet::new(), elements: 0, dropouts: 0 }
    }

    /// What `node` puts out.
    pub fn shape(&self, node: usize) -> Shape {
        self.nodes[node].output
    }

    /// The node of this index.
    pub fn node(&self, node: usize) -> &Node {
        &self.nodes[node]
    }

    /// The node that was added last.
    pub fn last(&self) -> usize {
        self.nodes.len() - 1
    }

    /// Whether any layer so far has weights.
    pub fn is_trainable(&self) -> bool {
        !self.tensors.is_empty()
    }

    /// The finished network, whose output is the last node: tensors get their places, the last layer with
    /// weights becomes the head.
    pub fn finish(mut self) -> Network {
        let heads = self.nodes.iter().rev().find_map(|node| match node.op {
            Op::Conv { weight, bias, .. } | Op::Linear { weight, bias, .. } => Some([Some(weight), bias]),
            _ => None,
        });
        for index in heads.into_iter().flatten().flatten() {
            self.tensors[index].head = true;
        }
        let mut end = 0;
        let mut place = |tensors: &mut [Tensor], wanted: fn(&Role) -> bool| {
            for tensor in tensors.iter_mut().filter(|tensor| wanted(&tensor.role)) {
                tensor.offset = end;
                end += tensor.len();
            }
            end
        };
        let parameters = place(&mut self.tensors, |role| matches!(role, Role::Parameter { .. }));
        let all = place(&mut self.tensors, |role| matches!(role, Role::Buffer { .. }));
        let outputs = self.nodes.last().map_or(0, |node| node.output.channels());
        let (input, nodes, tensors) = (self.input, self.nodes, self.tensors);
        Network { input, nodes, tensors, parameters, buffers: all - parameters, outputs }
    }

    /// Adds a node, whose name must be new and of allowed characters.
    fn add(&mut self, name: &str, op: Op, inputs: Vec<usize>, output: Shape) -> Added {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
        check(name, (name.is_empty() || !name.chars().all(allowed)).then_some(Problem::BadName))?;
        check(name, (!self.names.insert(name.to_owned())).then_some(Problem::SameName))?;
        self.nodes.push(Node { name: name.to_owned(), op, inputs, output });
        Ok(self.nodes.len() - 1)
    }

    /// A parameter that decays, as weights do.
    fn parameter(&mut self, layer: &str, kind: &str, shape: &[u32], init: Init) -> Added {
        self.tensor(layer, kind, shape, Role::Parameter { decay: true }, init)
    }

    /// A parameter `[out]` that does not decay, if it is wanted.
    fn bias(&mut self, layer: &str, wanted: bool, out: u32, init: Init) -> Result<Option<usize>, Fault> {
        if !wanted {
            return Ok(None);
        }
        self.tensor(layer, "bias", &[out], Role::Parameter { decay: false }, init).map(Some)
    }

    /// Adds a tensor called `layer.kind`, unless the network would grow too large; its index.
    fn tensor(&mut self, layer: &str, kind: &str, shape: &[u32], role: Role, init: Init) -> Added {
        let count = shape.iter().try_fold(1u64, |count, side| count.checked_mul((*side).into()));
        let total = count.and_then(|count| count.checked_add(self.elements)).filter(|total| *total <= MAX_ELEMENTS);
        let Some(total) = total else {
            return fault(layer, Problem::TooLarge { what: "the network" });
        };
        self.elements = total;
        let shape = shape.iter().map(|side| *side as usize).collect();
        self.tensors.push(Tensor { name: format!("{layer}.{kind}"), shape, role, offset: 0, head: false, init });
        Ok(self.tensors.len() - 1)
    }

    /// Height, width and channels of what `node` puts out, which must be a map.
    fn map(&self, name: &str, node: usize) -> Result<(u32, u32, u32), Fault> {
        match self.shape(node) {
            Shape::Map { height, width, channels } => Ok((height, width, channels)),
            Shape::Features(input) => fault(name, Problem::NeedsMap { input }),
        }
    }

    /// Features of what `node` puts out, which must be a vector.
    fn features(&self, name: &str, node: usize) -> Result<u32, Fault> {
        match self.shape(node) {
            Shape::Features(features) => Ok(features),
            input @ Shape::Map { .. } => fault(name, Problem::NeedsFeatures { input }),
        }
    }
}

fn fault<T>(layer: &str, problem: Problem) -> Result<T, Fault> {
    Err(Fault { layer: layer.to_owned(), problem })
}

fn check(layer: &str, problem: Option<Problem>) -> Result<(), Fault> {
    problem.map_or(Ok(()), |problem| fault(layer, problem))
}
