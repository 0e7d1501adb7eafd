//! The weights of convolutions and linear layers, packed once for all threads of a team.

use std::sync::{Arc, OnceLock};

use convoy_kernels::bf16::PackedWeight;
use convoy_kernels::conv::ConvShape;
use convoy_model::Network;
use parking_lot::Mutex;

/// For the forward pass and for the input gradient.
type Passes<T> = [T; 2];

/// Parameters and buffers, and what is packed of them: by whoever needs it first.
pub(crate) struct PackedWeights {
    /// Flat, as [`Network`] says.
    flat: Arc<Vec<f32>>,
    /// Of each tensor that is a weight.
    packed: Vec<Passes<OnceLock<PackedWeight>>>,
    spare: Arc<Spare>,
}

/// Of each tensor the memory of packed weights that nobody reads any more.
#[derive(Default)]
struct Spare(Mutex<Vec<Passes<Option<PackedWeight>>>>);

impl PackedWeights {
    fn new(network: &Network, flat: Arc<Vec<f32>>, spare: Arc<Spare>) -> Self {
        let packed = network.tensors.iter().map(|_| Default::default()).collect();
        PackedWeights { flat, packed, spare }
    }

    /// Parameters and buffers, flat.
    pub fn flat(&self) -> &Arc<Vec<f32>> {
        &self.flat
    }

    /// The weight `tensor`, whose values are `w_oihw`, for the forward pass of the convolution.
    pub fn forward(&self, tensor: usize, shape: ConvShape, w_oihw: &[f32]) -> &PackedWeight {
        self.get(tensor, 0, w_oihw, || PackedWeight::forward(shape, w_oihw))
    }

    /// The weight `tensor`, whose values are `w_oihw`, for the input gradient of the convolution.
    pub fn input_gradient(&self, tensor: usize, shape: ConvShape, w_oihw: &[f32]) -> &PackedWeight {
        self.get(tensor, 1, w_oihw, || PackedWeight::input_gradient(shape, w_oihw))
    }

    fn get(&self, tensor: usize, pass: usize, w_oihw: &[f32], new: impl FnOnce() -> PackedWeight) -> &PackedWeight {
        self.packed[tensor][pass].get_or_init(|| {
            let spare = self.spare.0.lock().get_mut(tensor).and_then(|spare| spare[pass].take());
            spare.map_or_else(new, |mut packed| {
                packed.repack(w_oihw);
                packed
            })
        })
    }
}

impl Drop for PackedWeights {
    fn drop(&mut self) {
        let mut spare = self.spare.0.lock();
        spare.resize_with(self.packed.len(), Default::default);
        for (spare, packed) in spare.iter_mut().zip(&mut self.packed) {
            for (spare, packed) in spare.iter_mut().zip(packed) {
                *spare = packed.take().or_else(|| spare.take());
            }
        }
    }
}

/// The weights that the executors of a team loaded last.
#[derive(Default)]
pub(crate) struct SharedWeights {
    last: Mutex<Option<Arc<PackedWeights>>>,
    spare: Arc<Spare>,
}

impl SharedWeights {
    /// The packed weights of `flat`: one and the same for all that come with the same vector.
    pub fn of(&self, network: &Network, flat: &Arc<Vec<f32>>) -> Arc<PackedWeights> {
        let mut last = self.last.lock();
        if let Some(last) = last.as_ref().filter(|last| Arc::ptr_eq(&last.flat, flat)) {
            return last.clone();
        }
        last.insert(Arc::new(PackedWeights::new(network, flat.clone(), self.spare.clone()))).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lowering::conv_shape;

    #[test]
    fn one_vector_is_packed_once() {
        let spec = convoy_common::spec::parse("[network]\nname = \"lenet5\"\n[data]\ntrain = \"x\"\n", &[]).unwrap();
        let input = convoy_common::plan::Input { height: 28, width: 28, channels: 1 };
        let network = Network::build(&spec.network, input, 2).unwrap();
        let shared = SharedWeights::default();
        let [a, b] = [0, 1].map(|_| Arc::new(network.initial(1)));
        let first = shared.of(&network, &a);
        assert!(Arc::ptr_eq(&first, &shared.of(&network, &a)));
        let second = shared.of(&network, &b);
        assert!(!Arc::ptr_eq(&first, &second));

        // Packed weights that are let go are the memory of the next ones.
        let (tensor, shape) = (0, conv_shape(&network, &network.nodes[1], 1).unwrap());
        let values = &a[network.tensors[tensor].range()];
        _ = first.forward(tensor, shape, values);
        drop(first);
        assert!(shared.spare.0.lock()[tensor][0].is_some());
        _ = second.forward(tensor, shape, values);
        assert!(shared.spare.0.lock()[tensor][0].is_none());
    }
}
