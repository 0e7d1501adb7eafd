//! The weights of convolutions and linear layers, packed once for all threads of a team.

use std::sync::{Arc, OnceLock};

use convoy_kernels::bf16::PackedWeight;
use convoy_kernels::conv::ConvShape;
use convoy_model::Network;
use parking_lot::Mutex;

/// Parameters and buffers, and what is packed of them: by whoever needs it first.
pub(crate) struct PackedWeights {
    /// Flat, as [`Network`] says.
    flat: Arc<Vec<f32>>,
    /// Of each tensor that is a weight: for the forward pass and for the input gradient.
    packed: Vec<[OnceLock<PackedWeight>; 2]>,
}

impl PackedWeights {
    fn new(network: &Network, flat: Arc<Vec<f32>>) -> Self {
        let packed = network.tensors.iter().map(|_| [OnceLock::new(), OnceLock::new()]).collect();
        PackedWeights { flat, packed }
    }

    /// Parameters and buffers, flat.
    pub fn flat(&self) -> &Arc<Vec<f32>> {
        &self.flat
    }

    /// The weight `tensor`, whose values are `w_oihw`, for the forward pass of the convolution.
    pub fn forward(&self, tensor: usize, shape: ConvShape, w_oihw: &[f32]) -> &PackedWeight {
        self.packed[tensor][0].get_or_init(|| PackedWeight::forward(shape, w_oihw))
    }

    /// The weight `tensor`, whose values are `w_oihw`, for the input gradient of the convolution.
    pub fn input_gradient(&self, tensor: usize, shape: ConvShape, w_oihw: &[f32]) -> &PackedWeight {
        self.packed[tensor][1].get_or_init(|| PackedWeight::input_gradient(shape, w_oihw))
    }
}

/// The weights that the executors of a team loaded last.
#[derive(Default)]
pub(crate) struct SharedWeights(Mutex<Option<Arc<PackedWeights>>>);

impl SharedWeights {
    /// The packed weights of `flat`: one and the same for all that come with the same vector.
    pub fn of(&self, network: &Network, flat: &Arc<Vec<f32>>) -> Arc<PackedWeights> {
        let mut last = self.0.lock();
        if let Some(last) = last.as_ref().filter(|last| Arc::ptr_eq(&last.flat, flat)) {
            return last.clone();
        }
        last.insert(Arc::new(PackedWeights::new(network, flat.clone()))).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_vector_is_packed_once() {
        let spec = convoy_common::spec::parse("[network]\nname = \"lenet5\"\n[data]\ntrain = \"x\"\n", &[]).unwrap();
        let input = convoy_common::plan::Input { height: 28, width: 28, channels: 1 };
        let network = Network::build(&spec.network, input, 2).unwrap();
        let shared = SharedWeights::default();
        let [a, b] = [0, 1].map(|_| Arc::new(network.initial(1)));
        let first = shared.of(&network, &a);
        assert!(Arc::ptr_eq(&first, &shared.of(&network, &a)));
        assert!(!Arc::ptr_eq(&first, &shared.of(&network, &b)));
    }
}
