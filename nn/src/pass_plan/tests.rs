use std::cell::Cell;

use convoy_common::plan::Input;
use convoy_common::random::{Address, Purpose};
use convoy_common::spec::parse;
use expect_test::{Expect, expect};

use super::*;
use crate::buffer_pool::BufferPool;
use crate::mode::ShardAddress;
use crate::pass_buffers::PassBuffers;
use crate::pass_state::{PassState, ShardInput};
use crate::shard_gradient::ShardGradient;
use crate::tape::SharedPass;
use crate::thread_team::Team;

fn network(layers: &str, side: u32) -> Arc<Network> {
    let spec = parse(&format!("[network]\nlayers = [{layers}]\n[data]\ntrain = \"x\"\n"), &[]).unwrap();
    let input = Input { height: side, width: side, channels: 3 };
    Arc::new(Network::build(&spec.network, input, 4).unwrap())
}

const CHAIN: &str = r#"
    { name = "conv1", type = "conv", out = 8, kernel = 3, padding = 1, bias = false },
    { name = "bn1", type = "batch_norm" }, { name = "relu1", type = "relu" },
    { name = "conv2", type = "conv", out = 8, kernel = 1, bias = false },
    { name = "bn2", type = "batch_norm" }, { name = "silu2", type = "silu" },
    { name = "conv3", type = "conv", out = 16, kernel = 1, bias = false },
    { name = "bn3", type = "batch_norm" }, { name = "relu3", type = "relu" },
    { name = "pool", type = "max_pool", kernel = 2 },
    { name = "flat", type = "flatten" }, { name = "drop", type = "dropout", p = 0.25 },
    { name = "fc", type = "linear", out = 4 }"#;

const RESIDUAL: &str = r#"
    { name = "stem", type = "conv", out = 32, kernel = 3, padding = 1 },
    { name = "block", type = "residual", layers = [
        { name = "conv1", type = "conv", out = 32, kernel = 3, padding = 1, bias = false },
        { name = "bn1", type = "batch_norm" }, { name = "relu1", type = "relu" },
        { name = "conv2", type = "conv", out = 32, kernel = 3, stride = 2, padding = 1, bias = false },
        { name = "bn2", type = "batch_norm" } ] },
    { name = "relu", type = "relu" },
    { name = "pool", type = "global_avg_pool" }, { name = "flat", type = "flatten" },
    { name = "fc", type = "linear", out = 4 }"#;

/// Expansion, depthwise convolution and projection, as in MobileNetV2.
const DEPTHWISE: &str = r#"
    { name = "expand", type = "conv", out = 16, kernel = 1, bias = false },
    { name = "bn1", type = "batch_norm" }, { name = "relu1", type = "relu6" },
    { name = "depthwise", type = "conv", out = 16, kernel = 3, padding = 1, groups = 16, bias = false },
    { name = "bn2", type = "batch_norm" }, { name = "relu2", type = "relu6" },
    { name = "project", type = "conv", out = 8, kernel = 1, bias = false },
    { name = "bn3", type = "batch_norm" },
    { name = "pool", type = "global_avg_pool" }, { name = "flat", type = "flatten" },
    { name = "fc", type = "linear", out = 4 }"#;

/// Norms of what others read, too: residual blocks that begin with their norms.
const FORKS: &str = r#"
    { name = "stem", type = "conv", out = 8, kernel = 3, padding = 1, bias = false },
    { name = "block1", type = "residual", layers = [
        { name = "bn1", type = "batch_norm" }, { name = "relu1", type = "relu" },
        { name = "conv1", type = "conv", out = 8, kernel = 1, bias = false } ] },
    { name = "conv2", type = "conv", out = 8, kernel = 1, bias = false },
    { name = "bn2", type = "batch_norm" },
    { name = "block2", type = "residual", layers = [
        { name = "conv3", type = "conv", out = 8, kernel = 1, bias = false } ] },
    { name = "pool", type = "global_avg_pool" }, { name = "flat", type = "flatten" },
    { name = "fc", type = "linear", out = 4 }"#;

fn check(layers: &str, mode: Mode, expected: &Expect) {
    let network = network(layers, 8);
    let plan = PassPlan::resolve(&network, PassKind { mode, images: 4 }, true).unwrap();
    expected.assert_eq(&plan.describe(&network));
}

#[test]
fn a_chain_of_convolutions_and_norms() {
    check(
        CHAIN,
        Mode::Train,
        &expect![[r#"
            1 conv1 <- 0 input: conv 3x3 3->8; in bands; measures; finishes norm 3; learns
            3 relu1 <- 1 conv1: batch norm, Relu; measured; deferred; finished; learns
            4 conv2 <- 3 relu1: conv 1x1 8->8; in bands; computes norm 3 as it reads; measures; finishes norm 6; learns
            6 silu2 <- 4 conv2: batch norm, Silu; measured; finished; learns
            7 conv3 <- 6 silu2: conv 1x1 8->16; in bands; measures; learns
            10 pool <- 7 conv3: batch norm, Relu, max pool 2x2, stride 2x2; measured; learns
            11 flat <- 10 pool: flatten 16x16; drops 10 pool
            12 drop <- 11 flat: dropout 0.25, stream 0; drops 11 flat
            13 fc <- 12 drop: linear 256->4; learns
        "#]],
    );
}

#[test]
fn a_residual_block() {
    check(
        RESIDUAL,
        Mode::Train,
        &expect![[r#"
            1 stem <- 0 input: conv 3x3 3->32; in bands; learns
            2 block.conv1 <- 1 stem: conv 3x3 32->32; by Winograd's algorithm; learns
            4 block.relu1 <- 2 block.conv1: batch norm, Relu; deferred; learns
            5 block.conv2 <- 4 block.relu1: conv 3x3 32->32, stride 2x2; in bands; computes norm 4 as it reads; measures; learns
            7 block.shortcut.0 <- 1 stem: conv 1x1 32->32, stride 2x2; in bands; measures; finishes norm 8; learns
            8 block.shortcut.1 <- 7 block.shortcut.0: batch norm; measured; finished; learns
            10 relu <- 5 block.conv2, 8 block.shortcut.1: batch norm, residual, Relu; measured; learns; drops 8 block.shortcut.1
            11 pool <- 10 relu: global average pool of 16 pixels
            12 flat <- 11 pool: flatten 1x32; drops 11 pool
            13 fc <- 12 flat: linear 32->4; learns
        "#]],
    );
}

#[test]
fn a_depthwise_block() {
    check(
        DEPTHWISE,
        Mode::Train,
        &expect![[r#"
            1 expand <- 0 input: conv 1x1 3->16; in bands; measures; finishes norm 3; learns
            3 relu1 <- 1 expand: batch norm, Relu6; measured; deferred; finished; learns
            4 depthwise <- 3 relu1: conv 3x3 16->16, 16 groups; in bands; computes norm 3 as it reads; measures; finishes norm 6; learns
            6 relu2 <- 4 depthwise: batch norm, Relu6; measured; deferred; finished; learns
            7 project <- 6 relu2: conv 1x1 16->8; in bands; computes norm 6 as it reads; measures; finishes norm 8; learns
            8 bn3 <- 7 project: batch norm; measured; finished; learns
            9 pool <- 8 bn3: global average pool of 64 pixels; drops 8 bn3
            10 flat <- 9 pool: flatten 1x8; drops 9 pool
            11 fc <- 10 flat: linear 8->4; learns
        "#]],
    );
}

#[test]
fn a_norm_of_what_others_read_is_finished_by_nobody() {
    check(
        FORKS,
        Mode::Train,
        &expect![[r#"
        1 stem <- 0 input: conv 3x3 3->8; in bands; measures; learns
        3 block1.relu1 <- 1 stem: batch norm, Relu; measured; deferred; learns
        4 block1.conv1 <- 3 block1.relu1: conv 1x1 8->8; in bands; computes norm 3 as it reads; learns
        5 block1 <- 4 block1.conv1, 1 stem: sum; drops 4 block1.conv1
        6 conv2 <- 5 block1: conv 1x1 8->8; in bands; measures; finishes norm 7; learns
        7 bn2 <- 6 conv2: batch norm; measured; finished; learns
        8 block2.conv3 <- 7 bn2: conv 1x1 8->8; in bands; learns
        9 block2 <- 8 block2.conv3, 7 bn2: sum; drops 8 block2.conv3
        10 pool <- 9 block2: global average pool of 64 pixels; drops 9 block2
        11 flat <- 10 pool: flatten 1x8; drops 10 pool
        12 fc <- 11 flat: linear 8->4; learns
    "#]],
    );
}

/// Without a tape every output is let go after its last reader.
#[test]
fn in_use_nothing_is_measured_or_kept() {
    check(
        CHAIN,
        Mode::Evaluate,
        &expect![[r#"
            1 conv1 <- 0 input: conv 3x3 3->8; in bands; drops 0 input
            3 relu1 <- 1 conv1: batch norm by running statistics, Relu; deferred
            4 conv2 <- 3 relu1: conv 1x1 8->8; in bands; computes norm 3 as it reads; drops 1 conv1
            6 silu2 <- 4 conv2: batch norm by running statistics, Silu; drops 4 conv2
            7 conv3 <- 6 silu2: conv 1x1 8->16; in bands; drops 6 silu2
            10 pool <- 7 conv3: batch norm by running statistics, Relu, max pool 2x2, stride 2x2; drops 7 conv3
            11 flat <- 10 pool: flatten 16x16; drops 10 pool
            12 drop <- 11 flat: dropout in use: a copy; drops 11 flat
            13 fc <- 12 drop: linear 256->4; drops 12 drop
        "#]],
    );
}

/// Only the last layer with weights learns: what comes before it is not on the tape.
#[test]
fn while_only_the_head_learns() {
    check(
        RESIDUAL,
        Mode::TrainHead,
        &expect![[r#"
            1 stem <- 0 input: conv 3x3 3->32; in bands; drops 0 input
            2 block.conv1 <- 1 stem: conv 3x3 32->32; by Winograd's algorithm
            4 block.relu1 <- 2 block.conv1: batch norm by running statistics, Relu; deferred
            5 block.conv2 <- 4 block.relu1: conv 3x3 32->32, stride 2x2; in bands; computes norm 4 as it reads; drops 2 block.conv1
            7 block.shortcut.0 <- 1 stem: conv 1x1 32->32, stride 2x2; in bands; finishes norm 8; drops 1 stem
            8 block.shortcut.1 <- 7 block.shortcut.0: batch norm by running statistics; finished; drops 7 block.shortcut.0
            10 relu <- 5 block.conv2, 8 block.shortcut.1: batch norm by running statistics, residual, Relu; drops 5 block.conv2, 8 block.shortcut.1
            11 pool <- 10 relu: global average pool of 16 pixels; drops 10 relu
            12 flat <- 11 pool: flatten 1x32; drops 11 pool
            13 fc <- 12 flat: linear 32->4; learns
        "#]],
    );
}

/// All weights and a batch of noise, the gradient of the outputs, and everything that comes of them.
struct Given {
    network: Arc<Network>,
    mode: Mode,
    images: usize,
}

impl Given {
    /// The bits of the outputs and of the shard's gradient.
    fn run(&self, plan: PassPlan, threads: usize) -> (Vec<u32>, Vec<u32>) {
        let network = &self.network;
        let noise = |item: u32, len: usize, scale: f32| {
            let address = Address::new(5, Purpose::Augmentation, 0, item);
            (0..len as u32).map(|i| scale * address.normal(i) as f32).collect::<Vec<f32>>()
        };
        let mut weights = network.initial(3);
        weights.iter_mut().zip(noise(1, network.len(), 0.01)).for_each(|(weight, noise)| *weight += noise.abs());
        let x = noise(2, self.images * network.nodes[0].output.len(), 1.0);
        let address = ShardAddress { seed: 3, epoch: 1, samples: (0..self.images as u32).collect() };
        let gradient = ShardGradient::new(network.clone(), vec![f32::NAN; network.len()], None);
        let team = Arc::new(Team::new(threads).unwrap());
        let _busy = team.begin_pass();
        let (pool, weights) = (BufferPool::default(), Arc::new(weights));
        let shard = ShardInput { network: network.clone(), x_nhwc: &x, images: self.images, address, gradient };
        let buffers = PassBuffers::begin(shard, weights, pool, team.clone());
        let pass = SharedPass::new(Arc::new(plan), None, buffers);
        let token = pass.forward().unwrap();
        let outputs = pass.lock().outputs().to_vec();
        pass.backward(&token, noise(3, outputs.len(), 1.0)).unwrap();
        drop(token);
        pass.lock().shard_gradient.fill_rest();
        let (flat, _) = pass.into_buffers().unwrap().end();
        let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect();
        (bits(outputs), bits(flat))
    }

    /// As it is resolved.
    fn resolved(&self) -> PassPlan {
        PassPlan::resolve(&self.network, self.kind(), true).unwrap()
    }

    /// With nothing handed over, and every node computed alone unless they are `grouped`.
    fn plain(&self, grouped: bool) -> PassPlan {
        let network = &self.network;
        let alone = (1..network.nodes.len()).map(Group::alone).collect();
        let groups = if grouped { groups(network) } else { alone };
        let in_bands = in_bands(network, self.kind(), true).unwrap();
        let norms = Norms::resolve(network, &groups, self.mode, &vec![false; network.nodes.len()]);
        PassPlan::of(network, self.kind(), &groups, &in_bands, &norms).unwrap()
    }

    fn kind(&self) -> PassKind {
        PassKind { mode: self.mode, images: self.images }
    }
}

#[test]
fn what_is_handed_over_changes_no_bit() {
    for layers in [CHAIN, RESIDUAL, DEPTHWISE, FORKS] {
        for mode in [Mode::Train, Mode::TrainHead] {
            // Few images that fit the caches, and so many that they are taken in parts.
            for (side, images) in [(7, 2), (16, 5), (48, 7)] {
                let given = Given { network: network(layers, side), mode, images };
                let plain = given.run(given.plain(false), 1);
                assert!(plain.1.iter().all(|bits| f32::from_bits(*bits).is_finite()));
                assert!(given.run(given.plain(true), 1) == plain, "{layers} in groups, {mode:?}");
                assert!(given.run(given.resolved(), 1) == plain, "{layers}, {mode:?}");
            }
        }
    }
}

/// So large that operations are cut.
#[test]
fn threads_that_help_with_what_is_handed_over_change_no_bit() {
    for layers in [CHAIN, RESIDUAL, DEPTHWISE, FORKS] {
        let given = Given { network: network(layers, 24), mode: Mode::Train, images: 9 };
        let alone = given.run(given.resolved(), 1);
        for threads in [2, 4] {
            assert!(given.run(given.resolved(), threads) == alone, "{layers} on {threads} threads");
        }
    }
}

/// The last shard of an epoch may be smaller, down to one sample.
#[test]
fn the_plan_for_a_smaller_last_shard_is_one_of_its_own() {
    let full = Given { network: network(RESIDUAL, 8), mode: Mode::Train, images: 8 };
    let plans = PlanCache::default();
    for images in [8, 3, 8, 1, 3] {
        let last = Given { network: full.network.clone(), images, ..full };
        let kind = last.kind();
        let plan = plans.get(kind, || PassPlan::resolve(&last.network, kind, true)).unwrap();
        assert_eq!(plan.describe(&last.network), last.resolved().describe(&last.network));
        assert!(last.run(last.resolved(), 1) == last.run(last.plain(false), 1), "{images} images");
    }
}

#[test]
fn the_most_recently_used_plans_are_kept() {
    let network = network(CHAIN, 8);
    let (plans, resolved) = (PlanCache::default(), Cell::new(0));
    let get = |images| {
        let kind = PassKind { mode: Mode::Evaluate, images };
        let resolve = || {
            resolved.set(resolved.get() + 1);
            PassPlan::resolve(&network, kind, true)
        };
        plans.get(kind, resolve).unwrap();
        resolved.get()
    };
    let limit = PlanCache::<PassBuffers>::LIMIT;
    assert_eq!([1, 2, 1, 2].map(get), [1, 2, 2, 2]);
    assert_eq!((3..=limit).map(get).max(), Some(limit));
    assert_eq!(get(1), limit, "the first one is used again before there is one too many");
    assert_eq!([limit + 1, 1, 2].map(get), [9, 9, 10], "the second one had to go");
}

#[test]
fn a_plan_that_cannot_be_is_not_kept() {
    let network = network(r#"{ type = "flatten" }, { type = "linear", out = 4 }, { type = "batch_norm" }"#, 2);
    let plans = PlanCache::default();
    let get = |images| {
        let kind = PassKind { mode: Mode::Train, images };
        plans.get(kind, || PassPlan::resolve(&network, kind, true)).map(|_| ())
    };
    assert!(matches!(get(1), Err(ComputeError::SingleValue { .. })) && get(1).is_err());
    get(2).unwrap();
}
