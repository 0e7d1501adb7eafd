//! The numbers of one pass: what nodes put out, gradients on their way back, and the sums that a shard gives.

use std::collections::BTreeMap;
use std::sync::Arc;

use convoy_kernels::block::BackwardSums;
use convoy_kernels::finite::all_finite;
use convoy_kernels::tree::add_into;
use convoy_model::Network;

use crate::ops::Normal;
use crate::team::Team;

/// Everything that the operations of a pass read and write.
pub(crate) struct Flow {
    /// What the forward pass leaves.
    pub numbers: Numbers,
    /// The gradient of each node's output, from its first contribution until the node's backward pass.
    gradients: Vec<Option<Vec<f32>>>,
    /// By the node of a convolution's output: mean and biased variance, if they were measured on the way.
    pub measured: BTreeMap<usize, [Vec<f32>; 2]>,
    /// By the node of a deferred norm's output: the sums of its backward pass, taken while its gradient was computed.
    pub sums: BTreeMap<usize, BackwardSums>,
    /// By the node of a convolution's output: what is left to do of the norm's backward pass that its gradient comes from.
    pub unfinished: BTreeMap<usize, Unfinished>,
    /// What the shard gives; of no length in use.
    pub sum: Sum,
    /// Where buffers come from and go.
    pub memory: Memory,
    /// Who may help.
    pub team: Arc<Team>,
}

/// A gradient that is yet to be turned into that of a norm's input.
pub(crate) struct Unfinished {
    /// The norm.
    pub normal: Normal,
    /// The sums of its backward pass.
    pub sums: BackwardSums,
}

/// What operations only read.
pub(crate) struct Numbers {
    network: Arc<Network>,
    weights: Arc<Vec<f32>>,
    values: Vec<Option<Vec<f32>>>,
}

impl Numbers {
    /// What `node` puts out.
    ///
    /// # Panics
    /// If it was not computed, or was let go.
    pub fn value(&self, node: usize) -> &[f32] {
        self.values[node].as_deref().expect("a value is there until its last use")
    }

    /// The numbers of a parameter or buffer, by its index in the network.
    pub fn weight(&self, tensor: usize) -> &[f32] {
        &self.weights[self.network.tensors[tensor].range()]
    }
}

impl Flow {
    /// A pass of `network` with these weights, and where its sums go.
    pub fn new(network: Arc<Network>, weights: Arc<Vec<f32>>, sums: Sums, mut memory: Memory, team: Arc<Team>) -> Self {
        let nodes = network.nodes.len();
        let written = vec![false; network.tensors.len()];
        let longest = network.tensors.iter().map(|tensor| tensor.range().len()).max().unwrap_or(0);
        let (flat, aside) = match sums {
            Sums::Written(flat) => (flat, None),
            Sums::Added(flat) => (flat, Some(memory.take(longest))),
        };
        let sum = Sum { flat, written, finite: true, aside, network: network.clone() };
        let numbers = Numbers { network, weights, values: vec![None; nodes] };
        let (measured, sums, unfinished) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Flow { numbers, gradients: vec![None; nodes], measured, sums, unfinished, sum, memory, team }
    }

    /// Keeps what `node` puts out.
    pub fn set_value(&mut self, node: usize, value: Vec<f32>) {
        self.numbers.values[node] = Some(value);
    }

    /// Lets go what `node` put out.
    pub fn drop_value(&mut self, node: usize) {
        if let Some(value) = self.numbers.values[node].take() {
            self.memory.give(value);
        }
    }

    /// The gradient of what `node` put out. Nobody adds to it any more.
    ///
    /// # Panics
    /// If nothing contributed to it; the tape asks nodes only once something did.
    pub fn take_gradient(&mut self, node: usize) -> Vec<f32> {
        self.gradients[node].take().expect("the tape comes to a node after those that read it")
    }

    /// Contributes to the gradient of what `node` put out: the first contribution as it is, the others are added to it
    /// as they come.
    pub fn add_gradient(&mut self, node: usize, gradient: Vec<f32>) {
        match &mut self.gradients[node] {
            Some(sum) => {
                add_into(sum, &gradient);
                self.memory.give(gradient);
            }
            none => *none = Some(gradient),
        }
    }

    /// [`Flow::add_gradient`] of a copy.
    pub fn copy_gradient(&mut self, node: usize, gradient: &[f32]) {
        match &mut self.gradients[node] {
            Some(sum) => add_into(sum, gradient),
            none => {
                let mut copy = self.memory.take(gradient.len());
                copy.copy_from_slice(gradient);
                *none = Some(copy);
            }
        }
    }

    /// Gives back the sums and the memory.
    pub fn end(mut self) -> (Vec<f32>, Memory) {
        let left = self.numbers.values.into_iter().chain(self.gradients).flatten();
        left.chain(self.sum.aside).for_each(|buffer| self.memory.give(buffer));
        (self.sum.flat, self.memory)
    }
}

/// Where the sums of a shard go, flat as [`Network`] says.
pub(crate) enum Sums {
    /// Written over what stands there.
    Written(Vec<f32>),
    /// Added to what stands there.
    Added(Vec<f32>),
}

/// The flat sums of a shard, tensor by tensor.
pub(crate) struct Sum {
    network: Arc<Network>,
    flat: Vec<f32>,
    written: Vec<bool>,
    /// Whether everything written is finite.
    pub finite: bool,
    /// Where a tensor's sums are written before they are added to their place, if they are.
    aside: Option<Vec<f32>>,
}

impl Sum {
    /// Has `fill` write the sums of a parameter or buffer, all of them.
    pub fn write(&mut self, tensor: usize, fill: impl FnOnce(&mut [f32])) {
        let place = &mut self.flat[self.network.tensors[tensor].range()];
        match &mut self.aside {
            None => {
                fill(place);
                self.finite &= all_finite(place);
            }
            Some(aside) => {
                let aside = &mut aside[..place.len()];
                fill(aside);
                self.finite &= all_finite(aside);
                add_into(place, aside);
            }
        }
        self.written[tensor] = true;
    }

    /// The sums are 0 where nothing was written.
    pub fn fill_rest(&mut self) {
        for (tensor, written) in self.network.tensors.iter().zip(&self.written) {
            let place = &mut self.flat[tensor.range()];
            match self.aside {
                None if !written => place.fill(0.0),
                // Not without effect: -0 becomes 0.
                Some(_) if !written => place.iter_mut().for_each(|value| *value += 0.0),
                _ => {}
            }
        }
    }
}

/// Buffers that are kept from pass to pass, because fresh pages cost more than the arithmetic on them.
#[derive(Default)]
pub(crate) struct Memory {
    free: Vec<Vec<f32>>,
}

impl Memory {
    /// A buffer of `len` numbers, with unspecified contents.
    pub fn take(&mut self, len: usize) -> Vec<f32> {
        // Of the same length if possible, for what a buffer grows by is filled with zeros.
        let fits = |buffer: &Vec<f32>| (len..=2 * len).contains(&buffer.capacity());
        let tightest = self.free.iter().enumerate().filter(|(_, buffer)| fits(buffer));
        let tightest = tightest.min_by_key(|(_, buffer)| (buffer.len() != len, buffer.capacity()));
        let mut buffer = match tightest.map(|(index, _)| index) {
            Some(index) => self.free.swap_remove(index),
            None => Vec::with_capacity(len),
        };
        buffer.resize(len, 0.0);
        if cfg!(test) {
            buffer.fill(f32::NAN); // so that reading what was not written shows
        }
        buffer
    }

    /// Takes a buffer back.
    pub fn give(&mut self, buffer: Vec<f32>) {
        self.free.push(buffer);
    }
}
