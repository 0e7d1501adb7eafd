//! The weights of convolutions and linear layers, packed once for all threads of a team.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use convoy_kernels::bf16::PackedWeight;
use convoy_kernels::bf16::linear::as_conv;
use convoy_kernels::conv::ConvShape;
use convoy_model::{Network, Node, Op};
use parking_lot::Mutex;

use crate::lowering::{conv_shape, linear_shape};

/// For the forward pass and for the input gradient.
type Passes<T> = [T; 2];

/// What a weight is packed for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wants {
    /// A forward pass, and no more.
    Forward,
    /// A forward pass, and the input gradient later where there is one.
    Training,
    InputGradient,
}

impl Wants {
    /// The pass that it is for first.
    fn pass(self) -> usize {
        usize::from(self == Wants::InputGradient)
    }
}

/// Parameters and buffers, and what is packed of them: by whoever needs it first. Who finds that another thread is at
/// it packs meanwhile what comes next.
pub(crate) struct PackedWeights {
    network: Arc<Network>,
    /// Flat, as [`Network`] says.
    flat: Arc<Vec<f32>>,
    /// Of each tensor that is a weight.
    packed: Vec<Passes<Slot>>,
    ways_back: Vec<bool>,
    spare: Arc<Spare>,
}

/// A weight for one of the passes.
#[derive(Default)]
struct Slot {
    packed: OnceLock<PackedWeight>,
    /// Whether somebody has begun.
    begun: AtomicBool,
}

/// Of each tensor the memory of packed weights that nobody reads any more.
#[derive(Default)]
struct Spare(Mutex<Vec<Passes<Option<PackedWeight>>>>);

impl PackedWeights {
    fn new(network: Arc<Network>, flat: Arc<Vec<f32>>, spare: Arc<Spare>) -> Self {
        let packed = network.tensors.iter().map(|_| Default::default()).collect();
        let ways_back = PackedWeights::ways_back(&network);
        PackedWeights { network, flat, packed, ways_back, spare }
    }

    /// Parameters and buffers, flat.
    pub fn flat(&self) -> &Arc<Vec<f32>> {
        &self.flat
    }

    /// The weight `tensor` for the forward pass of the convolution. In `training` it is packed for the way back, too.
    pub fn forward(&self, tensor: usize, shape: ConvShape, training: bool) -> &PackedWeight {
        self.get(tensor, if training { Wants::Training } else { Wants::Forward }, shape)
    }

    /// The weight `tensor` for the input gradient of the convolution.
    pub fn input_gradient(&self, tensor: usize, shape: ConvShape) -> &PackedWeight {
        self.get(tensor, Wants::InputGradient, shape)
    }

    fn get(&self, tensor: usize, wants: Wants, shape: ConvShape) -> &PackedWeight {
        let pass = wants.pass();
        let slot = &self.packed[tensor][pass];
        if slot.begun.swap(true, Ordering::Relaxed) && slot.packed.get().is_none() {
            for (next, shape) in self.following(tensor, pass) {
                if slot.packed.get().is_some() {
                    break;
                }
                if !self.packed[next][pass].begun.swap(true, Ordering::Relaxed) {
                    self.pack(next, wants, shape);
                }
            }
        }
        self.pack(tensor, wants, shape)
    }

    /// By tensor: whether something learns behind the input of the layer whose weight it is, so that the gradient of
    /// that input is wanted.
    fn ways_back(network: &Network) -> Vec<bool> {
        let (mut learns, mut ways_back) = (Vec::new(), vec![false; network.tensors.len()]);
        for node in &network.nodes {
            let behind = node.inputs.iter().any(|input| learns[*input]);
            if let Op::Conv { weight, .. } | Op::Linear { weight, .. } = node.op {
                ways_back[weight] = behind;
            }
            let own = matches!(node.op, Op::Conv { .. } | Op::Linear { .. } | Op::BatchNorm { .. });
            learns.push(behind || own);
        }
        ways_back
    }

    /// The weights that a pass needs after this one: backward those of earlier layers.
    fn following(&self, tensor: usize, pass: usize) -> Vec<(usize, ConvShape)> {
        let weight = |node: &Node| match node.op {
            Op::Conv { weight, .. } => Some((weight, conv_shape(&self.network, node, 1).ok()?)),
            Op::Linear { weight, .. } => Some((weight, as_conv(linear_shape(&self.network, node, 1).ok()?))),
            _ => None,
        };
        let mut all: Vec<_> = self.network.nodes.iter().filter_map(weight).collect();
        all.retain(|(weight, _)| pass == 0 || self.ways_back[*weight]);
        if pass == 1 {
            all.reverse();
        }
        all.into_iter().skip_while(|(other, _)| *other != tensor).skip(1).collect()
    }

    /// Packs it, if nobody has; waits for who is at it.
    fn pack(&self, tensor: usize, wants: Wants, shape: ConvShape) -> &PackedWeight {
        let w_oihw = &self.flat[self.network.tensors[tensor].range()];
        let spare = |pass: usize| self.spare.0.lock().get_mut(tensor).and_then(|spare| spare[pass].take());
        let slots = &self.packed[tensor];
        slots[wants.pass()].packed.get_or_init(|| {
            let both = wants == Wants::Training && self.ways_back[tensor];
            if both && !slots[1].begun.swap(true, Ordering::Relaxed) {
                let [forward, input_gradient] = PackedWeight::both([spare(0), spare(1)], shape, w_oihw);
                _ = slots[1].packed.set(input_gradient);
                return forward;
            }
            match spare(wants.pass()) {
                Some(mut packed) => {
                    packed.repack(w_oihw);
                    packed
                }
                None if wants.pass() == 0 => PackedWeight::forward(shape, w_oihw),
                None => PackedWeight::input_gradient(shape, w_oihw),
            }
        })
    }
}

impl Drop for PackedWeights {
    fn drop(&mut self) {
        let mut spare = self.spare.0.lock();
        spare.resize_with(self.packed.len(), Default::default);
        for (spare, packed) in spare.iter_mut().zip(&mut self.packed) {
            for (spare, packed) in spare.iter_mut().zip(packed) {
                *spare = packed.packed.take().or_else(|| spare.take());
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
    pub fn of(&self, network: &Arc<Network>, flat: &Arc<Vec<f32>>) -> Arc<PackedWeights> {
        let mut last = self.last.lock();
        if let Some(last) = last.as_ref().filter(|last| Arc::ptr_eq(&last.flat, flat)) {
            return last.clone();
        }
        last.insert(Arc::new(PackedWeights::new(network.clone(), flat.clone(), self.spare.clone()))).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lenet() -> Arc<Network> {
        let spec = convoy_common::spec::parse("[network]\nname = \"lenet5\"\n[data]\ntrain = \"x\"\n", &[]).unwrap();
        let input = convoy_common::plan::Input { height: 28, width: 28, channels: 1 };
        Arc::new(Network::build(&spec.network, input, 2).unwrap())
    }

    #[test]
    fn one_vector_is_packed_once() {
        let network = lenet();
        let shared = SharedWeights::default();
        let [a, b] = [0, 1].map(|_| Arc::new(network.initial(1)));
        let first = shared.of(&network, &a);
        assert!(Arc::ptr_eq(&first, &shared.of(&network, &a)));
        let second = shared.of(&network, &b);
        assert!(!Arc::ptr_eq(&first, &second));

        // Packed weights that are let go are the memory of the next ones.
        let shape = conv_shape(&network, &network.nodes[1], 1).unwrap();
        _ = first.forward(0, shape, false);
        drop(first);
        assert!(shared.spare.0.lock()[0][0].is_some());
        _ = second.forward(0, shape, false);
        assert!(shared.spare.0.lock()[0][0].is_none());
    }

    #[test]
    fn who_would_wait_packs_what_comes_next() {
        let network = lenet();
        let flat = Arc::new(network.initial(1));
        let weights = &PackedWeights::new(network.clone(), flat, Arc::default());
        let layers: Vec<usize> = network.nodes.iter().filter_map(weight_of).collect();
        let shape = conv_shape(&network, &network.nodes[1], 1).unwrap();
        // Another thread has begun with the first layer.
        weights.packed[layers[0]][0].begun.store(true, Ordering::Relaxed);
        _ = weights.forward(layers[0], shape, false);
        let packed =
            |pass: usize| layers.iter().filter(move |layer| weights.packed[**layer][pass].packed.get().is_some());
        assert_eq!((packed(0).count(), packed(1).count()), (layers.len(), 0));

        // And with the last one on the way back, where the first has no input gradient.
        let last = *layers.last().unwrap();
        let node = network.nodes.iter().rfind(|node| weight_of(node) == Some(last)).unwrap();
        weights.packed[last][1].begun.store(true, Ordering::Relaxed);
        _ = weights.input_gradient(last, as_conv(linear_shape(&network, node, 1).unwrap()));
        assert_eq!(packed(1).count(), layers.len() - 1);
    }

    #[test]
    fn in_training_weights_are_packed_for_the_way_back_as_well_where_there_is_one() {
        let network = lenet();
        let flat = Arc::new(network.initial(1));
        let weights = PackedWeights::new(network.clone(), flat, Arc::default());
        let layers: Vec<usize> = network.nodes.iter().filter_map(weight_of).collect();
        let shape = conv_shape(&network, &network.nodes[1], 1).unwrap();
        // Another thread has begun with the first layer, so that this one packs all that follow.
        weights.packed[layers[0]][0].begun.store(true, Ordering::Relaxed);
        _ = weights.forward(layers[0], shape, true);
        let packed = |pass: usize| -> Vec<bool> {
            layers.iter().map(|layer| weights.packed[*layer][pass].packed.get().is_some()).collect()
        };
        assert!(packed(0).iter().all(|packed| *packed));
        assert!(!packed(1)[0] && packed(1)[1..].iter().all(|packed| *packed));
    }

    fn weight_of(node: &Node) -> Option<usize> {
        match node.op {
            Op::Conv { weight, .. } | Op::Linear { weight, .. } => Some(weight),
            _ => None,
        }
    }
}
