//! What the operations of a pass read.

use std::sync::Arc;

use convoy_model::Network;

/// Weights, outputs of nodes and what was measured of them. Operations add to it and never change what is there.
pub(crate) struct Values<T = f32> {
    network: Arc<Network>,
    /// Parameters and buffers, flat as [`Network`] says.
    weights: Arc<Vec<f32>>,
    /// Of each node, from its forward pass to its last use.
    outputs: Vec<Option<Vec<T>>>,
    /// Of each node that a batch norm measures, from then on.
    statistics: Vec<Option<Statistics>>,
}

/// Mean and biased variance of each channel of a node's output over the shard.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Statistics {
    /// As many as there are channels.
    pub mean: Vec<f32>,
    /// As many as there are channels.
    pub variance: Vec<f32>,
}

impl<T: Clone> Values<T> {
    /// Nothing but the weights of `network`, flat.
    pub fn new(network: Arc<Network>, weights: Arc<Vec<f32>>) -> Self {
        let nodes = network.nodes.len();
        Values { network, weights, outputs: vec![None; nodes], statistics: vec![None; nodes] }
    }

    /// What `node` puts out, in the layout of the class.
    ///
    /// # Panics
    /// If it was not computed, or was let go.
    pub fn output(&self, node: usize) -> &[T] {
        self.outputs[node].as_deref().expect("a value is there until its last use")
    }

    /// Keeps what `node` puts out.
    pub fn set_output(&mut self, node: usize, output: Vec<T>) {
        self.outputs[node] = Some(output);
    }

    /// Lets go what `node` put out, if it is there: its buffer.
    pub fn take_output(&mut self, node: usize) -> Option<Vec<T>> {
        self.outputs[node].take()
    }

    /// The values of a parameter or buffer, by its index in the network; in the layout that it has in files (OIHW and
    /// the like).
    pub fn weight(&self, tensor: usize) -> &[f32] {
        &self.weights[self.network.tensors[tensor].range()]
    }

    /// What was measured of the output of `node`, if it was.
    pub fn statistics(&self, node: usize) -> Option<&Statistics> {
        self.statistics[node].as_ref()
    }

    /// Keeps what was measured of the output of `node`.
    pub fn set_statistics(&mut self, node: usize, statistics: Statistics) {
        self.statistics[node] = Some(statistics);
    }

    /// The buffers of all outputs that are still there.
    pub fn into_buffers(self) -> impl Iterator<Item = Vec<T>> {
        self.outputs.into_iter().flatten()
    }
}
