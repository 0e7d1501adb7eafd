//! Training shards a second on one thread, and what each kind of operation takes of it.
//!
//!     cargo bench -p convoy-nn --bench step -- [NETWORK [SIDE [SHARD [NUMERICS [plan]]]]]
//!
//! With `plan`, what is resolved for such a shard, a line for each operation.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use convoy_common::batch::{Batch, Targets};
use convoy_common::plan::{DataFacts, Plan};
use convoy_common::spec::CPU_F32_V1;
use convoy_kernels::conv::ConvShape;
use convoy_model::{Network, Node, Op, Shape};
use convoy_nn::{Executor, GradientTarget, LayerTime, LayerTimes};
use convoy_testing::facts;

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
    let numerics = words.get(3).map_or(CPU_F32_V1, String::as_str);
    let plan = Arc::new(plan(name, side, numerics));
    let network = Arc::new(Network::of(&plan).expect("a network of the zoo"));
    let mut executor = Executor::new(plan.clone(), network.clone()).expect("a thread");
    if words.get(4).is_some_and(|word| word == "plan") {
        return print!("{}", executor.describe_training(shard as usize).expect("layers that fit"));
    }
    let state = Arc::new(network.initial(plan.spec.seed));
    let batch = Batch {
        x_nhwc: noise(shard as usize * plan.input.len()),
        samples: (0..shard).collect(),
        targets: Targets::Classes((0..shard).map(|i| i % 10).collect()),
    };
    let mut sum = vec![0.0; network.len()];

    executor.load(&state).expect("the network's state");
    let mut best = f64::INFINITY;
    let mut evaluate = f64::INFINITY;
    for _ in 0..ROUNDS {
        best = best.min(seconds(|| {
            _ = executor.train_shard(&batch, 0, GradientTarget::Write(&mut sum), None).expect("a shard")
        }));
        evaluate = evaluate.min(seconds(|| _ = executor.evaluate_shard(&batch).expect("a shard")));
    }
    println!(
        "{name} {side}x{side}x3, shard {shard}, {numerics}, best of {ROUNDS} on one thread ({})",
        convoy_kernels::cpu::level().name()
    );
    println!("train    {:8.2} ms  {:8.1} images/s", best * 1e3, f64::from(shard) / best);
    println!("evaluate {:8.2} ms  {:8.1} images/s", evaluate * 1e3, f64::from(shard) / evaluate);
    let times = Arc::new(LayerTimes::new(&network));
    executor.train_shard(&batch, 0, GradientTarget::Write(&mut sum), Some(&times)).expect("a shard");
    print_kinds(&network, &times.layers(), shard as usize, best);
}

/// The times of a training shard by kinds of operations, and what `seconds` for all of it leave.
fn print_kinds(network: &Network, layers: &[LayerTime], shard: usize, seconds: f64) {
    let mut kinds: BTreeMap<String, [f64; 3]> = BTreeMap::new();
    for layer in layers {
        let (kind, flops) = kind(network, &network.nodes[layer.nodes[0]], shard);
        let entry = kinds.entry(kind).or_default();
        for (to, add) in entry.iter_mut().zip([layer.forward.as_secs_f64(), layer.backward.as_secs_f64(), flops]) {
            *to += add;
        }
    }
    println!("{:<44} {:>9} {:>9} {:>6}  GFLOP/s forward, backward", "where", "forward", "backward", "share");
    for (kind, [forward, backward, flops]) in &kinds {
        let rates = if *flops > 0.0 {
            format!("{:7.1} {:7.1}", flops / forward / 1e9, 2.0 * flops / backward / 1e9)
        } else {
            String::new()
        };
        let share = 100.0 * (forward + backward) / seconds;
        println!("{kind:<44} {:6.2} ms {:6.2} ms {share:5.1}%  {rates}", forward * 1e3, backward * 1e3);
    }
    let sum: f64 = kinds.values().map(|[forward, backward, _]| forward + backward).sum();
    println!("{:<44} {:6.2} ms", "rest", (seconds - sum) * 1e3);
}

/// What a node's time counts as, and the floating-point operations of its forward pass.
fn kind(network: &Network, node: &Node, shard: usize) -> (String, f64) {
    match node.op {
        Op::Conv { .. } => {
            let s = conv_shape(network, node, shard);
            let flops = 2.0 * s.y_len() as f64 * (s.w_len() / s.co) as f64;
            let ConvShape { h, w, ci, co, kh, kw, stride, groups, .. } = s;
            (format!("conv {kh}x{kw} /{} g{groups} {h}x{w} {ci}->{co}", stride[0]), flops)
        }
        Op::BatchNorm { .. } => (format!("norm {}", node.output), 0.0),
        _ => ("other".to_owned(), 0.0),
    }
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

fn plan(name: &str, side: u32, numerics: &str) -> Plan {
    let spec = format!("numerics = \"{numerics}\"\n[prepare]\nnormalize = \"unit\"\n[network]\nname = \"{name}\"\n");
    convoy_testing::plan_of(&spec, &DataFacts { train_samples: 1280, ..facts([side, side, 3], 10) })
}
