//! Training shards a second on one thread, and what each kind of operation takes of it.
//!
//!     cargo bench -p convoy-nn --bench step -- [NETWORK [SIDE [SHARD]]]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use convoy_common::Digest;
use convoy_common::batch::{Batch, Targets};
use convoy_common::manifest::LabelKind;
use convoy_common::plan::{DataFacts, Plan};
use convoy_common::spec::parse;
use convoy_kernels::activation::Activation;
use convoy_kernels::conv::{self, ConvShape};
use convoy_kernels::norm::{self, Affine, Grads, Stats};
use convoy_model::{Network, Node, Op, Shape};
use convoy_nn::Executor;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROUNDS: usize = 5;

fn main() {
    // As in the binary: nothing else runs yet that could read the environment.
    #[allow(unsafe_code)]
    unsafe {
        std::env::set_var("CANDLE_NUM_THREADS", "1");
    }
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let name = words.first().map_or("resnet18-small", String::as_str);
    let number = |index: usize, default: u32| words.get(index).map_or(default, |word| word.parse().expect("a number"));
    let (side, shard) = (number(1, 32), number(2, 32));
    let plan = Arc::new(plan(name, side));
    let network = Arc::new(Network::of(&plan).expect("a network of the zoo"));
    let mut executor = Executor::new(plan.clone(), network.clone()).expect("a thread");
    let state = network.initial(plan.spec.seed);
    let batch = Batch {
        x_nhwc: noise(shard as usize * plan.input.len()),
        samples: (0..shard).collect(),
        targets: Targets::Classes((0..shard).map(|i| i % 10).collect()),
    };
    let mut sum = vec![0.0; network.len()];

    let mut best = f64::INFINITY;
    let mut load = f64::INFINITY;
    let mut evaluate = f64::INFINITY;
    for _ in 0..ROUNDS {
        load = load.min(seconds(|| executor.load(&state).expect("the network's state")));
        best = best.min(seconds(|| _ = executor.train_shard(&batch, 0, &mut sum).expect("a shard")));
        evaluate = evaluate.min(seconds(|| _ = executor.evaluate_shard(&batch).expect("a shard")));
    }
    println!(
        "{name} {side}x{side}x3, shard {shard}, best of {ROUNDS} on one thread ({})",
        convoy_kernels::cpu::level().name()
    );
    println!("train    {:8.2} ms  {:8.1} images/s", best * 1e3, f64::from(shard) / best);
    println!("evaluate {:8.2} ms  {:8.1} images/s", evaluate * 1e3, f64::from(shard) / evaluate);
    println!("load     {:8.2} ms", load * 1e3);
    let kernels = breakdown(&network, shard as usize);
    println!("of which, measured kernel by kernel:");
    for (what, (time, flops)) in &kernels {
        let rate = if *flops > 0.0 { format!("  {:6.1} GFLOP/s", flops / time / 1e9) } else { String::new() };
        println!("  {what:<24} {:8.2} ms  {:4.1} %{rate}", time * 1e3, 100.0 * time / best);
    }
    let rest = best - kernels.values().map(|(time, _)| time).sum::<f64>();
    println!("  {:<24} {:8.2} ms  {:4.1} %", "rest (tape, sums, pools)", rest * 1e3, 100.0 * rest / best);
}

/// Seconds and floating-point operations of each kind of kernel over all layers.
fn breakdown(network: &Network, shard: usize) -> BTreeMap<&'static str, (f64, f64)> {
    let mut kinds: BTreeMap<&'static str, (f64, f64)> = BTreeMap::new();
    let mut add = |kind, flops: f64, f: &mut dyn FnMut()| {
        let best = (0..ROUNDS).map(|_| seconds(&mut *f)).fold(f64::INFINITY, f64::min);
        let (time, sum) = kinds.entry(kind).or_default();
        *time += best;
        *sum += flops;
    };
    for node in &network.nodes[1..] {
        let (x, dy) = (noise(shard * network.nodes[node.inputs[0]].output.len()), noise(shard * node.output.len()));
        let (mut dx, mut y) = (x.clone(), dy.clone());
        match node.op {
            Op::Conv { .. } => {
                let shape = conv_shape(network, node, shard);
                let w = noise(shape.co * shape.ci / shape.groups * shape.kh * shape.kw);
                let mut dw = w.clone();
                let flops = 2.0 * (w.len() * shard * shape.oh() * shape.ow()) as f64;
                add("convolution forward", flops, &mut || conv::forward(shape, &x, &w, None, &mut y));
                if node.inputs[0] != 0 {
                    add("convolution data", flops, &mut || conv::backward_data(shape, &dy, &w, &mut dx));
                }
                add("convolution weight", flops, &mut || conv::backward_weight(shape, &x, &dy, &mut dw));
            }
            Op::BatchNorm { .. } => {
                let ones = vec![1.0; node.output.channels() as usize];
                let (mut mean, mut var) = (ones.clone(), ones.clone());
                let affine = Affine { gamma: &ones, beta: &ones };
                add("batch norm", 0.0, &mut || norm::forward_train(&x, affine, 1e-5, &mut y, &mut mean, &mut var));
                let (mut dgamma, mut dbeta) = (ones.clone(), ones.clone());
                add("batch norm", 0.0, &mut || {
                    let grads = Grads { dx: &mut dx, dgamma: &mut dgamma, dbeta: &mut dbeta };
                    norm::backward_train(&x, &dy, Stats { mean: &mean, var: &var }, &ones, 1e-5, grads);
                });
            }
            Op::Activation(_) => {
                add("activation (as relu)", 0.0, &mut || Activation::Relu.forward(&x, &mut y));
                add("activation (as relu)", 0.0, &mut || Activation::Relu.backward(&x, &y, &dy, &mut dx));
            }
            _ => {}
        }
    }
    kinds
}

fn noise(length: usize) -> Vec<f32> {
    (0..length).map(|i| (i % 251) as f32 / 125.0 - 1.0).collect()
}

fn conv_shape(network: &Network, node: &Node, n: usize) -> ConvShape {
    let (Op::Conv { kernel, stride, padding, dilation, groups, .. }, Shape::Map { height, width, channels }) =
        (&node.op, network.nodes[node.inputs[0]].output)
    else {
        unreachable!("called for convolutions only")
    };
    let both = |pair: &convoy_model::Pair| [pair.height as usize, pair.width as usize];
    let ([kh, kw], [h, w, ci]) = (both(kernel), [height, width, channels].map(|side| side as usize));
    let (stride, padding, dilation) = (both(stride), both(padding), both(dilation));
    let co = node.output.channels() as usize;
    ConvShape { n, h, w, ci, co, kh, kw, stride, padding, dilation, groups: *groups as usize }
}

fn seconds(f: impl FnOnce()) -> f64 {
    let start = Instant::now();
    f();
    start.elapsed().as_secs_f64()
}

fn plan(name: &str, side: u32) -> Plan {
    let spec = format!("[data]\ntrain = \"x\"\n[prepare]\nnormalize = \"unit\"\n[network]\nname = \"{name}\"\n");
    let facts = DataFacts {
        names: (0..10).map(|class| class.to_string()).collect(),
        labels: LabelKind::Class,
        train_samples: 1280,
        validation_samples: 0,
        class_counts: vec![128; 10],
        size: [side, side],
        channels: 3,
        measured: None,
        measured_global: None,
        manifest: Digest::default(),
        init: None,
    };
    Plan::resolve(parse(&spec, &[]).expect("a spec"), &facts).expect("a plan")
}
