//! Whole networks against the definition of the class.

use std::sync::Arc;

use convoy_common::plan::Input;
use convoy_common::random::{Address, Purpose};
use convoy_common::spec::parse;
use convoy_kernels::cpu::{Level, with_level};
use convoy_model::Network;

use super::definition::Definition;
use super::*;
use crate::GradientTarget;
use crate::kernel_engine::KernelEngine;
use crate::mode::{Mode, ShardAddress, TrainingShard};
use crate::thread_team::Team;

/// Blocks of convolution, norm, activation and pooling.
const VGG: &str = r#"
    { type = "conv", out = 32, kernel = 3, padding = 1, bias = false }, { type = "batch_norm" }, { type = "relu" },
    { type = "conv", out = 40, kernel = 3, padding = 1, bias = false }, { type = "batch_norm" }, { type = "relu" },
    { type = "max_pool", kernel = 2 },
    { type = "conv", out = 64, kernel = 3, padding = 1 }, { type = "batch_norm" }, { type = "silu" },
    { type = "max_pool", kernel = 2 },
    { type = "flatten" }, { type = "dropout", p = 0.25 }, { type = "linear", out = 48 }, { type = "batch_norm" },
    { type = "relu6" }, { type = "linear", out = 5 }"#;

/// With a projection, and without.
const RESIDUAL: &str = r#"
    { type = "conv", out = 16, kernel = 3, padding = 1, bias = false }, { type = "batch_norm" }, { type = "relu" },
    { type = "max_pool", kernel = 3, stride = 2, padding = 1 },
    { type = "residual", layers = [
        { type = "conv", out = 48, kernel = 3, stride = 2, padding = 1, bias = false }, { type = "batch_norm" },
        { type = "relu" },
        { type = "conv", out = 48, kernel = 3, padding = 1, bias = false }, { type = "batch_norm" } ] },
    { type = "relu" },
    { type = "residual", layers = [
        { type = "conv", out = 48, kernel = 1, bias = false }, { type = "batch_norm" } ] },
    { type = "relu6" },
    { type = "residual", layers = [{ type = "conv", out = 48, kernel = 1 }, { type = "tanh" }] },
    { type = "global_avg_pool" }, { type = "flatten" }, { type = "linear", out = 5 }"#;

/// As MobileNetV2, and what the others do not have.
const DEPTHWISE: &str = r#"
    { type = "conv", out = 24, kernel = 1, bias = false }, { type = "batch_norm" }, { type = "relu6" },
    { type = "conv", out = 24, kernel = 3, stride = 2, padding = 1, groups = 24, bias = false },
    { type = "batch_norm" }, { type = "hard_swish" },
    { type = "conv", out = 34, kernel = 1, bias = false }, { type = "batch_norm" },
    { type = "avg_pool", kernel = 3, stride = 1, padding = 1 }, { type = "sigmoid" },
    { type = "conv", out = 34, kernel = 3, padding = 1, groups = 2 }, { type = "gelu" },
    { type = "dropout", p = 0.5 }, { type = "avg_pool", kernel = 2 },
    { type = "flatten" }, { type = "linear", out = 20 }, { type = "softmax" }, { type = "linear", out = 5 }"#;

struct Given {
    network: Arc<Network>,
    weights: Vec<f32>,
    x: Vec<f32>,
    mode: Mode,
    address: ShardAddress,
}

impl Given {
    fn new(layers: &str, [height, width]: [u32; 2], images: u32, mode: Mode) -> Self {
        let spec = parse(&format!("[network]\nlayers = [{layers}]\n[data]\ntrain = \"x\"\n"), &[]).unwrap();
        let network = Network::build(&spec.network, Input { height, width, channels: 3 }, 5).unwrap();
        let noise = |item: u32, len: usize, scale: f32| {
            let address = Address::new(5, Purpose::Augmentation, 0, item);
            (0..len as u32).map(move |i| scale * address.normal(i) as f32)
        };
        let mut weights = network.initial(3);
        weights.iter_mut().zip(noise(1, network.len(), 0.1)).for_each(|(weight, noise)| *weight += noise.abs());
        let x = noise(2, images as usize * network.nodes[0].output.len(), 1.0).collect();
        let address = ShardAddress { seed: 3, epoch: 1, samples: (0..images).collect() };
        Given { network: Arc::new(network), weights, x, mode, address }
    }

    /// A gradient of the outputs, which depends on them.
    fn doutputs(outputs: &[f32]) -> Vec<f32> {
        let noise = Address::new(5, Purpose::Augmentation, 0, 3);
        outputs.iter().zip(0..).map(|(y, i)| 0.1 * y + noise.normal(i) as f32).collect()
    }

    /// Outputs and flat gradient as the engine computes them, with so many threads.
    fn computed(&self, threads: usize) -> (Vec<u32>, Vec<u32>) {
        let team = Arc::new(Team::new(threads).unwrap());
        let weights = SharedWeights::default().of(&self.network, &Arc::new(self.weights.clone()));
        let engine = KernelEngine::new(self.network.clone(), weights, resolve, team);
        let shard = TrainingShard { x_nhwc: &self.x, mode: self.mode, address: self.address.clone() };
        let mut flat = vec![f32::NAN; self.network.len()];
        let loss = |outputs: &[f32]| Ok((outputs.to_vec(), Given::doutputs(outputs)));
        // Twice, so that buffers are used again.
        _ = engine.train(&shard, &mut GradientTarget::Write(&mut flat), None, loss).unwrap();
        let (outputs, finite) = engine.train(&shard, &mut GradientTarget::Write(&mut flat), None, loss).unwrap();
        assert!(finite);
        (bits(&outputs), bits(&flat))
    }

    fn defined(&self) -> (Vec<u32>, Vec<u32>) {
        let definition = Definition {
            network: &self.network,
            weights: &self.weights,
            images: self.address.samples.len(),
            mode: self.mode,
            address: &self.address,
        };
        let (outputs, flat) = definition.run(&self.x, Given::doutputs);
        (bits(&outputs), bits(&flat))
    }

    /// Compares, and names the tensor of the first difference.
    fn check(&self, what: &str, computed: &(Vec<u32>, Vec<u32>), defined: &(Vec<u32>, Vec<u32>)) {
        assert!(computed.0 == defined.0, "{what}: outputs");
        for tensor in &self.network.tensors {
            let [a, b] = [&computed.1, &defined.1].map(|flat| &flat[tensor.range()]);
            let first = a.iter().zip(b).position(|(a, b)| a != b);
            let float = |bits: &[u32], i: usize| f32::from_bits(bits[i]);
            assert!(first.is_none(), "{what}: {} {:?}", tensor.name, first.map(|i| (i, float(a, i), float(b, i))));
        }
    }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

#[test]
fn networks_have_the_bits_of_the_definition_in_shards_of_any_size() {
    for (name, layers) in [("vgg", VGG), ("residual", RESIDUAL), ("depthwise", DEPTHWISE)] {
        for images in [2, 4, 8, 16, 20, 32, 64] {
            let given = Given::new(layers, [9, 8], images, Mode::Train);
            given.check(&format!("{name}, {images} images"), &given.computed(1), &given.defined());
        }
    }
}

#[test]
fn frozen_layers_have_the_bits_of_the_definition() {
    for (name, layers) in [("vgg", VGG), ("residual", RESIDUAL), ("depthwise", DEPTHWISE)] {
        let given = Given::new(layers, [8, 10], 6, Mode::TrainHead);
        let (computed, defined) = (given.computed(1), given.defined());
        assert!(computed.1.iter().any(|bits| *bits != 0));
        given.check(name, &computed, &defined);
    }
}

#[test]
fn every_level_and_any_number_of_threads_give_the_same_bits() {
    for (name, layers) in [("vgg", VGG), ("residual", RESIDUAL), ("depthwise", DEPTHWISE)] {
        let given = Given::new(layers, [16, 16], 40, Mode::Train);
        let expected = given.computed(1);
        for threads in [2, 3] {
            given.check(&format!("{name}, {threads} threads"), &given.computed(threads), &expected);
        }
        let given = Given::new(layers, [8, 8], 5, Mode::Train);
        let expected = given.computed(1);
        for level in Level::ALL {
            let computed = with_level(level, || given.computed(1));
            computed.into_iter().for_each(|computed| given.check(level.name(), &computed, &expected));
        }
    }
}
