//! The compositions of candle's operations that run on GPUs against the kernels: each check on candle's CPU device, and
//! on a GPU, where it is ignored if there is none or the feature `cuda` is off.

mod common;

use std::sync::Arc;

use common::{Setting, setting, stirred};
use convoy_common::batch::Batch;
use convoy_common::metrics::LOSS;
use convoy_common::spec::is_numerics;
use convoy_nn::{Device, Executor, GradientTarget};
use convoy_testing::{Check, run_checks};

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

/// Where the compositions are computed.
#[derive(Clone, Copy, Debug)]
enum On {
    Cpu,
    Gpu,
}

impl On {
    /// The executor that is compared with the kernels', which has loaded the setting's numbers.
    fn executor(self, setting: &Setting) -> Executor {
        let (plan, network) = (&setting.plan, &setting.network);
        let mut executor = match self {
            On::Cpu => Executor::composed_on_cpu(plan.clone(), network.clone()).unwrap(),
            On::Gpu => Executor::team(Device::Cuda(0), plan, network, 1).unwrap().remove(0),
        };
        executor.load(&Arc::new(setting.state.clone())).unwrap();
        executor
    }
}

/// What a check is called, and the check.
type NamedCheck = (&'static str, fn(On));

fn main() -> std::process::ExitCode {
    let checks: [NamedCheck; 13] = [
        ("convolutions", convolutions),
        ("pools", pools),
        ("a_maximum_that_occurs_twice", a_maximum_that_occurs_twice),
        ("norms", norms),
        ("activations", activations),
        ("what_features_go_through", what_features_go_through),
        ("what_maps_go_through", what_maps_go_through),
        ("losses", losses),
        ("networks_of_the_zoo", networks_of_the_zoo),
        ("a_frozen_body", a_frozen_body),
        ("the_same_bits_again", the_same_bits_again),
        ("a_norm_of_a_single_value_is_refused", a_norm_of_a_single_value_is_refused),
        ("what_is_not_finite_is_told", what_is_not_finite_is_told),
    ];
    let gpu = || Device::Cuda(0).numerics().map_err(|_| "a GPU and the feature cuda");
    let on_cpu = checks.map(|(name, check)| Check::new(format!("cpu::{name}"), move || check(On::Cpu)));
    let on_gpu = checks.map(|(name, check)| Check::needs(format!("gpu::{name}"), gpu(), move |_| check(On::Gpu)));
    let class = Check::needs("gpu::its_class_is_one_that_a_spec_may_say", gpu(), |class| {
        assert!(is_numerics(&class[0]), "{class:?}");
    });
    run_checks(on_cpu.into_iter().chain(on_gpu).chain([class]))
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
fn compare(on: On, name: &str, setting: &Setting, samples: u32, bound: f64) {
    compare_on(on, name, setting, &setting.batch(0, samples), bound);
}

fn compare_on(on: On, name: &str, setting: &Setting, batch: &Batch, bound: f64) {
    let kernels = setting.executor();
    let train = |executor: &Executor| {
        let mut sum = vec![f32::NAN; setting.network.len()];
        (executor.train_shard(batch, 2, GradientTarget::Write(&mut sum), None).unwrap(), sum)
    };
    let logits = |executor: &Executor| executor.logits(&batch.x_nhwc, batch.samples.len()).unwrap();
    let (result, sum) = train(&kernels);
    let usual = mean(&sum[..setting.network.parameters]);
    let composed = on.executor(setting);
    let check = |what: &str, error: f64| {
        assert!(error <= bound, "{name} on {on:?}: {what} is off by {error:.1e}");
    };
    let (found, sums) = train(&composed);
    setting.check_chunks(&composed, batch, 1000);
    assert!(found.finite && (found.count, found.weight_sum) == (result.count, result.weight_sum), "{found:?}");
    check("the loss", (found.loss_sum / result.loss_sum - 1.0).abs());
    for tensor in &setting.network.tensors {
        check(&tensor.name, distance(&sums[tensor.range()], &sum[tensor.range()], 0.1 * usual));
    }
    check("an output", distance(&logits(&composed), &logits(&kernels), 0.0));
    let (sums, expected) = (composed.evaluate_shard(batch).unwrap(), kernels.evaluate_shard(batch).unwrap());
    check("the loss in use", (sums[LOSS] / expected[LOSS] - 1.0).abs());
}

/// `layers` on maps, behind a convolution, so that the gradient of their input is compared, too.
fn on_maps(on: On, layers: &str) {
    let spec = format!(
        r#"[network]
        layers = [{{ type = "conv", out = 8, kernel = 1 }}, {layers}, {{ type = "flatten" }}, {{ type = "linear", out = 5 }}]"#
    );
    compare(on, layers, &stirred(&spec, [11, 9, 3], 5), 3, OPERATION);
}

/// `layers` on features, behind a fully connected layer.
fn on_features(on: On, layers: &str) {
    let spec = format!(
        r#"[network]
        layers = [{{ type = "flatten" }}, {{ type = "linear", out = 6 }}, {layers}, {{ type = "linear", out = 5 }}]"#
    );
    compare(on, layers, &stirred(&spec, [4, 3, 2], 5), 4, OPERATION);
}

fn convolutions(on: On) {
    for settings in [
        "kernel = 3, padding = 1",
        "kernel = [3, 2], stride = [2, 1], padding = [1, 0], dilation = [1, 2], bias = false",
        "kernel = 1, stride = 2",
        "kernel = 5, stride = 3, padding = 2, groups = 2",
        "kernel = 3, stride = 2, padding = 1, groups = 8",
        "kernel = 3, dilation = 2, padding = 2, groups = 8",
    ] {
        on_maps(on, &format!(r#"{{ type = "conv", out = 8, {settings} }}"#));
    }
    on_maps(on, r#"{ type = "conv", out = 16, kernel = 2, groups = 8 }"#);
}

fn pools(on: On) {
    for kind in ["max_pool", "avg_pool"] {
        on_maps(on, &format!(r#"{{ type = "{kind}", kernel = 2 }}"#));
        on_maps(on, &format!(r#"{{ type = "{kind}", kernel = 3, stride = 2, padding = 1 }}"#));
        on_maps(on, &format!(r#"{{ type = "{kind}", kernel = [3, 2], stride = [1, 3] }}"#));
    }
    on_maps(on, r#"{ type = "global_avg_pool" }"#);
}

/// Of equal numbers the first has the gradient: which one has it shows in a weight of 0, of another channel.
fn a_maximum_that_occurs_twice(on: On) {
    let spec = r#"[network]
        layers = [{ type = "conv", out = 8, kernel = 1 }, { type = "max_pool", kernel = 3, stride = 2, padding = 1 },
                  { type = "flatten" }, { type = "linear", out = 5 }]"#;
    let mut setting = setting(spec, [6, 5, 2], 5);
    let mut batch = setting.batch(0, 3);
    batch.x_nhwc.iter_mut().step_by(2).for_each(|pixel| *pixel = 1.0);
    setting.state[..16].iter_mut().skip(1).step_by(2).for_each(|weight| *weight = 0.0);
    compare_on(on, "equal numbers", &setting, &batch, OPERATION);
}

fn norms(on: On) {
    on_maps(on, r#"{ type = "batch_norm", eps = 1e-2 }"#);
    on_features(on, r#"{ type = "batch_norm" }"#);
}

fn activations(on: On) {
    for function in
        ["relu", "relu6", "leaky_relu", "sigmoid", "tanh", "silu", "gelu", "hard_swish", "hard_sigmoid", "elu"]
    {
        on_maps(on, &format!(r#"{{ type = "{function}" }}"#));
        let spec = format!(
            r#"[network]
            layers = [{{ type = "conv", out = 8, kernel = 1 }}, {{ type = "{function}" }},
                      {{ type = "flatten" }}, {{ type = "linear", out = 5 }}]"#
        );
        let mut setting = setting(&spec, [3, 3, 3], 5);
        // Where exponentials overflow and some are flat.
        setting.state[..24].iter_mut().for_each(|weight| *weight *= 200.0);
        compare(on, function, &setting, 3, OPERATION);
        // On kinks.
        setting.state[..24].fill(0.0);
        setting.state[24..32].copy_from_slice(&[0.0, 3.0, -3.0, 6.0, 0.0, 3.0, -3.0, 6.0]);
        compare(on, function, &setting, 3, OPERATION);
    }
}

fn what_features_go_through(on: On) {
    on_features(on, r#"{ type = "softmax" }"#);
    on_features(on, r#"{ type = "linear", out = 7, bias = false }"#);
    on_features(on, r#"{ type = "dropout", p = 0.4 }"#);
}

fn what_maps_go_through(on: On) {
    on_maps(on, r#"{ type = "dropout", p = 0.3 }"#);
    on_maps(
        on,
        r#"{ type = "residual", layers = [{ type = "conv", out = 8, kernel = 3, padding = 1 }, { type = "tanh" }] }"#,
    );
}

fn losses(on: On) {
    let layers = r#"[network]
        layers = [{ type = "flatten" }, { type = "linear", out = 2 }]"#;
    for task in [
        "task = \"regression\"",
        "task = \"regression\"\n[loss]\nkind = \"huber\"\ndelta = 0.5",
        "[loss]\nlabel_smoothing = 0.1\nclass_weights = [1.0, 3.0]",
    ] {
        compare(on, task, &stirred(&format!("{task}\n{layers}"), [4, 3, 2], 2), 4, OPERATION);
    }
}

/// Convolutions by their definition: Winograd's algorithm rounds more than all else here.
fn networks_of_the_zoo(on: On) {
    for (name, size, samples, bound) in [
        ("lenet5", [28, 28, 1], 8, LENET),
        ("resnet18-small", [16, 16, 3], 8, RESNET),
        ("mobilenet_v2", [32, 32, 3], 8, MOBILENET),
    ] {
        let spec = format!("numerics = \"cpu-f32-direct-v1\"\n[network]\nname = \"{name}\"");
        compare(on, name, &stirred(&spec, size, 5), samples, bound);
    }
}

/// While only the head learns, other sums are 0 and norms use running statistics.
fn a_frozen_body(on: On) {
    let spec = r#"[network]
        freeze_epochs = 3
        layers = [{ type = "conv", out = 8, kernel = 3 }, { type = "batch_norm" }, { type = "relu" },
                  { type = "flatten" }, { type = "linear", out = 5 }]"#;
    compare(on, "frozen", &stirred(spec, [6, 5, 3], 5), 3, OPERATION);
}

/// Within one class the bits are the same, on every thread.
fn the_same_bits_again(on: On) {
    let setting = stirred("[network]\nname = \"resnet20\"", [16, 16, 3], 5);
    let batch = setting.batch(0, 4);
    let (first, second) = (on.executor(&setting), on.executor(&setting));
    let expected = setting.train(&first, &batch);
    assert_eq!(setting.train(&first, &batch), expected);
    let other = std::thread::scope(|scope| scope.spawn(|| setting.train(&second, &batch)).join().unwrap());
    assert_eq!(other, expected);
}

fn a_norm_of_a_single_value_is_refused(on: On) {
    let spec = r#"[network]
        layers = [{ type = "flatten" }, { type = "linear", out = 6 }, { type = "batch_norm" }, { type = "relu" },
                  { type = "linear", out = 5 }]"#;
    let setting = setting(spec, [4, 3, 2], 5);
    let mut sum = vec![0.0; setting.network.len()];
    let error =
        on.executor(&setting).train_shard(&setting.batch(0, 1), 0, GradientTarget::Write(&mut sum), None).unwrap_err();
    assert!(error.to_string().contains("single value"), "{error}");
}

/// Also where the loss is finite, and a gradient is not.
fn what_is_not_finite_is_told(on: On) {
    let spec = r#"task = "regression"
        [network]
        layers = [{ type = "flatten" }, { type = "linear", out = 5 }]"#;
    let mut setting = setting(spec, [2, 2, 1], 5);
    setting.state.fill(0.0);
    let mut batch = setting.batch(0, 8);
    batch.x_nhwc.fill(3e38);
    for executor in [on.executor(&setting), setting.executor()] {
        let mut sum = vec![0.0; setting.network.len()];
        let result = executor.train_shard(&batch, 0, GradientTarget::Write(&mut sum), None).unwrap();
        assert!(result.loss_sum.is_finite() && !result.finite, "{result:?}");
        let (result, taken) = setting.train_by_chunks(&executor, &batch, 8);
        assert!(!result.finite && taken.len() < 4, "not all of it is handed on: {taken:?}");
    }
}
