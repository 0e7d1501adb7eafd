//! Training shards a second on one thread, and what each kind of operation takes of it.
//!
//!     cargo bench -p convoy-nn --bench step -- [NETWORK [SIDE [SHARD]]]

use std::sync::Arc;
use std::time::Instant;

use convoy_common::Digest;
use convoy_common::batch::{Batch, Targets};
use convoy_common::manifest::LabelKind;
use convoy_common::plan::{DataFacts, Plan};
use convoy_common::spec::parse;
use convoy_model::Network;
use convoy_nn::Executor;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROUNDS: usize = 5;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let name = words.first().map_or("resnet18-small", String::as_str);
    let number = |index: usize, default: u32| words.get(index).map_or(default, |word| word.parse().expect("a number"));
    let (side, shard) = (number(1, 32), number(2, 32));
    let plan = Arc::new(plan(name, side));
    let network = Arc::new(Network::of(&plan).expect("a network of the zoo"));
    let mut executor = Executor::new(plan.clone(), network.clone()).expect("a thread");
    let state = network.initial(plan.spec.seed);
    let batch = Batch {
        x_nhwc: (0..shard as usize * plan.input.len()).map(|i| (i % 251) as f32 / 125.0 - 1.0).collect(),
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
