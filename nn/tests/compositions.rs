//! The compositions of candle's operations that run on GPUs against the kernels: on candle's CPU device always, and on
//! a GPU where there is one and the feature `cuda` is on.

mod common;

use std::sync::Arc;

use common::{Setting, setting};
use convoy_common::batch::Batch;
use convoy_common::metrics::LOSS;
use convoy_common::random::{Address, Purpose};
use convoy_nn::{Device, Executor, GradientTarget};

/// One operation between two layers with weights: both engines round the terms of a sum, in other orders. As all bounds
/// here, relative to the length of what is compared, tensor by tensor.
const OPERATION: f64 = 1e-5;
/// Five layers with weights, no norm.
const LENET: f64 = 1e-5;
/// Each of 20 norms divides by the deviation of a shard's few values, and an activation that is 0 for one engine and
/// not for the other changes a gradient by the whole of one term.
const RESNET: f64 = 2e-4;
/// The same with 52 norms: here, weights that differ in their last bit change the kernels' own gradients by 3e-3.
const MOBILENET: f64 = 1e-2;

/// Executors to be compared with the kernels', and what they are called. Each has loaded the setting's numbers.
fn composed(setting: &Setting) -> Vec<(String, Executor)> {
    let (plan, network) = (&setting.plan, &setting.network);
    let on_cpu = Executor::composed_on_cpu(plan.clone(), network.clone()).unwrap();
    let mut executors = vec![("candle's CPU device".to_owned(), on_cpu)];
    match Device::Cuda(0).numerics() {
        Ok(class) => {
            executors.push((class.concat(), Executor::team(Device::Cuda(0), plan, network, 1).unwrap().remove(0)))
        }
        Err(error) => println!("skipped on a GPU: {error}"),
    }
    for (_, executor) in &mut executors {
        executor.load(&Arc::new(setting.state.clone())).unwrap();
    }
    executors
}

/// The length of the difference over that of `expected`, which counts as `least` for each of its numbers if it is less.
fn distance(actual: &[f32], expected: &[f32], least: f64) -> f64 {
    assert_eq!(actual.len(), expected.len());
    let difference = length(actual.iter().zip(expected).map(|(a, b)| f64::from(*a) - f64::from(*b)));
    if difference == 0.0 { 0.0 } else { difference / (mean(expected).max(least) * (expected.len() as f64).sqrt()) }
}

fn length(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|value| value * value).sum::<f64>().sqrt()
}

/// The root of the mean square.
fn mean(values: &[f32]) -> f64 {
    length(values.iter().map(|value| f64::from(*value))) / (values.len() as f64).sqrt()
}

/// Compares a training shard, outputs and an evaluation; gradients of a length below a tenth of what is usual in the
/// network, with that.
fn compare(name: &str, setting: &Setting, samples: u32, bound: f64) {
    compare_on(name, setting, &setting.batch(0, samples), bound);
}

fn compare_on(name: &str, setting: &Setting, batch: &Batch, bound: f64) {
    let kernels = setting.executor();
    let train = |executor: &Executor| {
        let mut sum = vec![f32::NAN; setting.network.len()];
        (executor.train_shard(batch, 2, GradientTarget::Write(&mut sum), None).unwrap(), sum)
    };
    let logits = |executor: &Executor| executor.logits(&batch.x_nhwc, batch.samples.len()).unwrap();
    let (result, sum) = train(&kernels);
    let usual = mean(&sum[..setting.network.parameters]);
    for (device, executor) in composed(setting) {
        let check = |what: &str, error: f64| {
            assert!(error <= bound, "{name} on {device}: {what} is off by {error:.1e}");
        };
        let (found, sums) = train(&executor);
        assert!(found.finite && (found.count, found.weight_sum) == (result.count, result.weight_sum), "{found:?}");
        check("the loss", (found.loss_sum / result.loss_sum - 1.0).abs());
        for tensor in &setting.network.tensors {
            check(&tensor.name, distance(&sums[tensor.range()], &sum[tensor.range()], 0.1 * usual));
        }
        check("an output", distance(&logits(&executor), &logits(&kernels), 0.0));
        let (sums, expected) = (executor.evaluate_shard(batch).unwrap(), kernels.evaluate_shard(batch).unwrap());
        check("the loss in use", (sums[LOSS] / expected[LOSS] - 1.0).abs());
    }
}

/// Numbers as after some training: running statistics and scales that are not the initial ones, so that they matter.
fn stirred(spec: &str, size: [u32; 3], names: usize) -> Setting {
    let mut setting = setting(spec, size, names);
    for (index, tensor) in setting.network.tensors.iter().enumerate() {
        if tensor.shape.len() == 1 {
            let address = Address::new(9, Purpose::Initialisation, 1, index as u32);
            let values = setting.state[tensor.range()].iter_mut();
            values.zip(0..).for_each(|(value, i)| *value += 0.5 * (address.uniform(i) - 0.5));
        }
    }
    setting
}

/// `layers` on maps, behind a convolution, so that the gradient of their input is compared, too.
fn on_maps(layers: &str) {
    let spec = format!(
        r#"[network]
        layers = [{{ type = "conv", out = 8, kernel = 1 }}, {layers}, {{ type = "flatten" }}, {{ type = "linear", out = 5 }}]"#
    );
    compare(layers, &stirred(&spec, [11, 9, 3], 5), 3, OPERATION);
}

/// `layers` on features, behind a fully connected layer.
fn on_features(layers: &str) {
    let spec = format!(
        r#"[network]
        layers = [{{ type = "flatten" }}, {{ type = "linear", out = 6 }}, {layers}, {{ type = "linear", out = 5 }}]"#
    );
    compare(layers, &stirred(&spec, [4, 3, 2], 5), 4, OPERATION);
}

#[test]
fn convolutions() {
    for settings in [
        "kernel = 3, padding = 1",
        "kernel = [3, 2], stride = [2, 1], padding = [1, 0], dilation = [1, 2], bias = false",
        "kernel = 1, stride = 2",
        "kernel = 5, stride = 3, padding = 2, groups = 2",
        "kernel = 3, stride = 2, padding = 1, groups = 8",
        "kernel = 3, dilation = 2, padding = 2, groups = 8",
    ] {
        on_maps(&format!(r#"{{ type = "conv", out = 8, {settings} }}"#));
    }
    on_maps(r#"{ type = "conv", out = 16, kernel = 2, groups = 8 }"#);
}

#[test]
fn pools() {
    for kind in ["max_pool", "avg_pool"] {
        on_maps(&format!(r#"{{ type = "{kind}", kernel = 2 }}"#));
        on_maps(&format!(r#"{{ type = "{kind}", kernel = 3, stride = 2, padding = 1 }}"#));
        on_maps(&format!(r#"{{ type = "{kind}", kernel = [3, 2], stride = [1, 3] }}"#));
    }
    on_maps(r#"{ type = "global_avg_pool" }"#);
}

/// Of equal numbers the first has the gradient: which one has it shows in a weight of 0, of another channel.
#[test]
fn a_maximum_that_occurs_twice() {
    let spec = r#"[network]
        layers = [{ type = "conv", out = 8, kernel = 1 }, { type = "max_pool", kernel = 3, stride = 2, padding = 1 },
                  { type = "flatten" }, { type = "linear", out = 5 }]"#;
    let mut setting = setting(spec, [6, 5, 2], 5);
    let mut batch = setting.batch(0, 3);
    batch.x_nhwc.iter_mut().step_by(2).for_each(|pixel| *pixel = 1.0);
    setting.state[..16].iter_mut().skip(1).step_by(2).for_each(|weight| *weight = 0.0);
    compare_on("equal numbers", &setting, &batch, OPERATION);
}

#[test]
fn norms() {
    on_maps(r#"{ type = "batch_norm", eps = 1e-2 }"#);
    on_features(r#"{ type = "batch_norm" }"#);
}

#[test]
fn activations() {
    for function in
        ["relu", "relu6", "leaky_relu", "sigmoid", "tanh", "silu", "gelu", "hard_swish", "hard_sigmoid", "elu"]
    {
        on_maps(&format!(r#"{{ type = "{function}" }}"#));
        let spec = format!(
            r#"[network]
            layers = [{{ type = "conv", out = 8, kernel = 1 }}, {{ type = "{function}" }},
                      {{ type = "flatten" }}, {{ type = "linear", out = 5 }}]"#
        );
        let mut setting = setting(&spec, [3, 3, 3], 5);
        // Where exponentials overflow and some are flat.
        setting.state[..24].iter_mut().for_each(|weight| *weight *= 200.0);
        compare(function, &setting, 3, OPERATION);
        // On kinks.
        setting.state[..24].fill(0.0);
        setting.state[24..32].copy_from_slice(&[0.0, 3.0, -3.0, 6.0, 0.0, 3.0, -3.0, 6.0]);
        compare(function, &setting, 3, OPERATION);
    }
}

#[test]
fn what_features_go_through() {
    on_features(r#"{ type = "softmax" }"#);
    on_features(r#"{ type = "linear", out = 7, bias = false }"#);
    on_features(r#"{ type = "dropout", p = 0.4 }"#);
}

#[test]
fn what_maps_go_through() {
    on_maps(r#"{ type = "dropout", p = 0.3 }"#);
    on_maps(
        r#"{ type = "residual", layers = [{ type = "conv", out = 8, kernel = 3, padding = 1 }, { type = "tanh" }] }"#,
    );
}

#[test]
fn losses() {
    let layers = r#"[network]
        layers = [{ type = "flatten" }, { type = "linear", out = 2 }]"#;
    for task in [
        "task = \"regression\"",
        "task = \"regression\"\n[loss]\nkind = \"huber\"\ndelta = 0.5",
        "[loss]\nlabel_smoothing = 0.1\nclass_weights = [1.0, 3.0]",
    ] {
        compare(task, &stirred(&format!("{task}\n{layers}"), [4, 3, 2], 2), 4, OPERATION);
    }
}

/// Convolutions by their definition: Winograd's algorithm rounds more than all else here.
#[test]
fn networks_of_the_zoo() {
    for (name, size, samples, bound) in [
        ("lenet5", [28, 28, 1], 8, LENET),
        ("resnet18-small", [16, 16, 3], 8, RESNET),
        ("mobilenet_v2", [32, 32, 3], 8, MOBILENET),
    ] {
        let spec = format!("numerics = \"cpu-f32-direct-v1\"\n[network]\nname = \"{name}\"");
        compare(name, &stirred(&spec, size, 5), samples, bound);
    }
}

/// While only the head learns, other sums are 0 and norms use running statistics.
#[test]
fn a_frozen_body() {
    let spec = r#"[network]
        freeze_epochs = 3
        layers = [{ type = "conv", out = 8, kernel = 3 }, { type = "batch_norm" }, { type = "relu" },
                  { type = "flatten" }, { type = "linear", out = 5 }]"#;
    compare("frozen", &stirred(spec, [6, 5, 3], 5), 3, OPERATION);
}

/// Within one class the bits are the same, on every thread.
#[test]
fn the_same_bits_again() {
    let setting = stirred("[network]\nname = \"resnet20\"", [16, 16, 3], 5);
    let batch = setting.batch(0, 4);
    for ((device, first), (_, second)) in composed(&setting).into_iter().zip(composed(&setting)) {
        let expected = setting.train(&first, &batch);
        assert_eq!(setting.train(&first, &batch), expected, "{device}");
        let other = std::thread::scope(|scope| scope.spawn(|| setting.train(&second, &batch)).join().unwrap());
        assert_eq!(other, expected, "{device}");
    }
}

#[test]
fn a_norm_of_a_single_value_is_refused() {
    let spec = r#"[network]
        layers = [{ type = "flatten" }, { type = "linear", out = 6 }, { type = "batch_norm" }, { type = "relu" },
                  { type = "linear", out = 5 }]"#;
    let setting = setting(spec, [4, 3, 2], 5);
    for (device, executor) in composed(&setting) {
        let mut sum = vec![0.0; setting.network.len()];
        let error = executor.train_shard(&setting.batch(0, 1), 0, GradientTarget::Write(&mut sum), None).unwrap_err();
        assert!(error.to_string().contains("single value"), "{device}: {error}");
    }
}

/// Also where the loss is finite, and a gradient is not.
#[test]
fn what_is_not_finite_is_told() {
    let spec = r#"task = "regression"
        [network]
        layers = [{ type = "flatten" }, { type = "linear", out = 5 }]"#;
    let mut setting = setting(spec, [2, 2, 1], 5);
    setting.state.fill(0.0);
    let mut batch = setting.batch(0, 8);
    batch.x_nhwc.fill(3e38);
    for (device, executor) in composed(&setting).into_iter().chain([("kernels".to_owned(), setting.executor())]) {
        let mut sum = vec![0.0; setting.network.len()];
        let result = executor.train_shard(&batch, 0, GradientTarget::Write(&mut sum), None).unwrap();
        assert!(result.loss_sum.is_finite() && !result.finite, "{device}: {result:?}");
    }
}
