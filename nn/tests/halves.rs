//! What the class `cpu-bf16-v1` promises at the executor: near f32, the same bits for a sample whatever is beside it,
//! from any number of threads, and for networks of the zoo.

mod common;

use std::sync::Arc;

use common::{Setting, setting, stirred};
use convoy_common::spec::{CPU_BF16_V1, CPU_F32_DIRECT_V1};
use convoy_nn::{Device, Executor};

const BLOCKS: &str = r#"
    [network]
    layers = [
        { type = "conv", out = 32, kernel = 3, padding = 1, bias = false }, { type = "batch_norm" }, { type = "relu" },
        { type = "conv", out = 48, kernel = 3, padding = 1, bias = false }, { type = "batch_norm" }, { type = "relu" },
        { type = "max_pool", kernel = 2 },
        { type = "residual", layers = [
            { type = "conv", out = 48, kernel = 3, padding = 1, bias = false }, { type = "batch_norm" },
        ] },
        { type = "relu" },
        { type = "conv", out = 48, kernel = 3, padding = 1, groups = 48, bias = false }, { type = "batch_norm" },
        { type = "silu" },
        { type = "avg_pool", kernel = 2 },
        { type = "flatten" },
        { type = "dropout", p = 0.3 },
        { type = "linear", out = 5 },
    ]
"#;

fn of(numerics: &str, spec: &str, size: [u32; 3]) -> Setting {
    stirred(&format!("numerics = \"{numerics}\"\n{spec}"), size, 5)
}

fn distance(a: &[f32], b: &[f32]) -> f64 {
    let norm = |values: &mut dyn Iterator<Item = f32>| values.map(|v| f64::from(v) * f64::from(v)).sum::<f64>().sqrt();
    norm(&mut a.iter().zip(b).map(|(a, b)| a - b)) / norm(&mut b.iter().copied())
}

fn floats(bits: &[u32]) -> Vec<f32> {
    bits.iter().map(|bits| f32::from_bits(*bits)).collect()
}

#[test]
fn gradients_are_as_near_to_those_of_f32_as_bf16_is() {
    let [half, single] = [CPU_BF16_V1, CPU_F32_DIRECT_V1].map(|numerics| of(numerics, BLOCKS, [16, 16, 3]));
    let [(found, a), (expected, b)] =
        [&half, &single].map(|setting| setting.train(&setting.executor(), &setting.batch(0, 20)));
    assert!((found.loss_sum - expected.loss_sum).abs() < 0.02 * expected.loss_sum, "{found:?}, {expected:?}");
    let (a, b) = (floats(&a), floats(&b));
    for tensor in &half.network.tensors {
        let distance = distance(&a[tensor.range()], &b[tensor.range()]);
        assert!(distance < 0.25, "{}: {distance}", tensor.name);
    }
    // It is another class: not the same numbers under another name.
    assert!(distance(&a, &b) > 1e-4);
}

/// Most of their sums are whole numbers that bf16 holds.
#[test]
fn small_whole_numbers_have_nearly_the_gradients_of_f32() {
    let layers = r#"
        [network]
        layers = [
            { type = "conv", out = 40, kernel = 3, padding = 1 }, { type = "relu" }, { type = "max_pool", kernel = 2 },
            { type = "conv", out = 3, kernel = 1 }, { type = "flatten" }, { type = "linear", out = 5 },
        ]
    "#;
    let train = |numerics: &str| {
        let mut setting = of(numerics, layers, [4, 4, 3]);
        setting.state.iter_mut().zip(0..).for_each(|(w, i)| *w = (i * 7 % 11 % 3) as f32 - 1.0);
        let mut batch = setting.batch(0, 6);
        batch.x_nhwc.iter_mut().zip(0..).for_each(|(x, i)| *x = (i * 5 % 7 % 2) as f32);
        let executor = setting.executor();
        (executor.logits(&batch.x_nhwc, 6).unwrap(), floats(&setting.train(&executor, &batch).1))
    };
    let [(found, a), (expected, b)] = [CPU_BF16_V1, CPU_F32_DIRECT_V1].map(train);
    assert!(distance(&found, &expected) < 0.01 && distance(&a, &b) < 0.02, "{found:?}, {expected:?}");
}

#[test]
fn a_sample_has_the_same_outputs_whatever_is_beside_it() {
    let setting = of(CPU_BF16_V1, BLOCKS, [12, 10, 3]);
    let (executor, batch) = (setting.executor(), setting.batch(0, 70));
    let all = executor.logits(&batch.x_nhwc, 70).unwrap();
    for (first, count) in [(0, 1), (33, 1), (3, 5), (40, 30)] {
        let len = setting.plan.input.len();
        let some = executor.logits(&batch.x_nhwc[first * len..(first + count) * len], count).unwrap();
        assert_eq!(some, all[first * 5..(first + count) * 5], "{count} from {first}");
    }
}

#[test]
fn threads_that_help_change_no_bit() {
    let setting = of(CPU_BF16_V1, BLOCKS, [24, 20, 3]);
    let batch = setting.batch(0, 36);
    let alone = setting.executor();
    let (trained, evaluated) = (setting.train(&alone, &batch), alone.evaluate_shard(&batch).unwrap());
    for threads in [2, 3] {
        let mut team = Executor::team(Device::Cpu, &setting.plan, &setting.network, threads).unwrap();
        let state = Arc::new(setting.state.clone());
        team.iter_mut().for_each(|executor| executor.load(&state).unwrap());
        assert_eq!(setting.train(&team[0], &batch), trained, "{threads} threads");
        assert_eq!(team[1].evaluate_shard(&batch).unwrap(), evaluated, "{threads} threads");
        std::thread::scope(|scope| {
            for executor in &team[..2] {
                scope.spawn(|| (0..2).for_each(|_| assert_eq!(setting.train(executor, &batch), trained)));
            }
        });
    }
}

#[test]
fn other_weights_are_taken_over_and_gradients_leave_by_chunks() {
    let setting = of(CPU_BF16_V1, BLOCKS, [8, 8, 3]);
    let (mut executor, batch) = (setting.executor(), setting.batch(0, 4));
    let (_, first) = setting.train(&executor, &batch);
    let other: Vec<f32> = setting.state.iter().map(|w| 1.5 * w).collect();
    executor.load(&Arc::new(other)).unwrap();
    let (_, second) = setting.train(&executor, &batch);
    assert_ne!(first, second);
    executor.load(&Arc::new(setting.state.clone())).unwrap();
    assert_eq!(setting.train(&executor, &batch).1, first);
    let order = setting.check_chunks(&executor, &batch, 100);
    assert!(order[0] > order[order.len() - 1], "those of the last layers first: {order:?}");
}

#[test]
fn networks_of_the_zoo_are_trained() {
    for (name, side) in [("lenet5", 28), ("simple-cnn", 16), ("resnet20", 16), ("mobilenet_v2", 32)] {
        let numerics = format!("numerics = \"{CPU_BF16_V1}\"\n[network]\nname = \"{name}\"");
        let setting = setting(&numerics, [side, side, 3], 5);
        let (result, gradient) = setting.train(&setting.executor(), &setting.batch(0, 4));
        assert!(result.finite && gradient.iter().any(|bits| *bits != 0), "{name}: {result:?}");
    }
}
