//! How tensors begin.

use convoy_common::random::{Address, Purpose};

use crate::{Init, Network, Tensor};

impl Network {
    /// The flat vector before the first step. Element i of tensor t is number i at the address (`seed`,
    /// initialisation, epoch 0, item t), so no tensor's numbers depend on another's shape.
    pub fn initial(&self, seed: u64) -> Vec<f32> {
        let mut flat = vec![0.0; self.len()];
        for (index, tensor) in self.tensors.iter().enumerate() {
            fill(tensor, seed, index as u32, &mut flat[tensor.range()]);
        }
        flat
    }
}

/// Fills `values`, the elements of `tensor`, which is number `index` of its network.
pub(crate) fn fill(tensor: &Tensor, seed: u64, index: u32, values: &mut [f32]) {
    let address = Address::new(seed, Purpose::Initialisation, 0, index);
    // A network has at most 2^31 elements, so that an element's number fits.
    let numbered = values.iter_mut().zip(0u32..);
    match tensor.init {
        Init::Zeros => values.fill(0.0),
        Init::Ones => values.fill(1.0),
        Init::Uniform { bound } => numbered.for_each(|(value, i)| *value = bound * (2.0 * address.uniform(i) - 1.0)),
        Init::Normal { std } => {
            numbered.for_each(|(value, i)| *value = (f64::from(std) * address.normal(i)) as f32);
        }
    }
}
