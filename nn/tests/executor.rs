//! What an executor promises beside right numbers: the same bits whatever ran before and wherever it runs, words for
//! what does not fit, and that it survives.

mod common;

use std::sync::Arc;

use common::{Setting, setting};
use convoy_common::batch::{Batch, Targets};
use convoy_common::metrics::{COUNT, LOSS, WEIGHT};
use convoy_common::plan::TargetStatistics;
use convoy_nn::{Device, Executor, GradientTarget, LayerTimes};
use proptest::prelude::*;

/// Convolutions, norms, pools, a residual block, dropout.
const SMALL: &str = r#"
    [network]
    layers = [
        { type = "conv", out = 8, kernel = 3, padding = 1 },
        { type = "batch_norm" },
        { type = "relu" },
        { type = "max_pool", kernel = 3, stride = 2, padding = 1 },
        { type = "residual", layers = [
            { type = "conv", out = 12, kernel = 3, stride = 2, padding = 1 }, { type = "batch_norm" }, { type = "silu" },
        ] },
        { type = "avg_pool", kernel = 2 },
        { type = "flatten" },
        { type = "dropout", p = 0.3 },
        { type = "linear", out = 5 },
    ]
"#;

#[test]
fn a_shard_has_the_same_bits_whatever_ran_before_and_wherever() {
    let setting = setting(SMALL, [11, 9, 3], 5);
    let executor = setting.executor();
    let (a, b) = (setting.batch(0, 6), setting.batch(50, 3));
    let first = setting.train(&executor, &a);
    let other = setting.train(&executor, &b);
    executor.evaluate_shard(&b).unwrap();
    assert_eq!(setting.train(&executor, &a), first);
    assert_ne!(other.1, first.1);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| assert_eq!(setting.train(&setting.executor(), &a), first));
        }
    });
}

#[test]
fn a_gradient_leaves_by_chunks_with_the_bits_of_one_that_is_written() {
    for spec in [SMALL.to_owned(), SMALL.replace("[network]", "[network]\nfreeze_epochs = 3")] {
        let setting = setting(&spec, [11, 9, 3], 5);
        let executor = setting.executor();
        for elements in [1, 7, 64, 1000, setting.network.len(), 1 << 20] {
            setting.check_chunks(&executor, &setting.batch(0, 6), elements);
        }
    }
}

#[test]
fn the_last_layers_chunks_leave_first() {
    let setting = setting(SMALL, [11, 9, 3], 5);
    let order = setting.check_chunks(&setting.executor(), &setting.batch(0, 6), 64);
    let (first, last) = (order[0], order[order.len() - 1]);
    assert!(order.len() > 4 && first > order.len() / 2 && last < order.len() / 2, "{order:?}");
}

/// Every way to compute a convolution, and norms beside them, large enough that help pays.
const WIDE: &str = r#"
    [network]
    layers = [
        { type = "conv", out = 32, kernel = 3, padding = 1, bias = true },
        { type = "batch_norm" },
        { type = "relu" },
        { type = "conv", out = 48, kernel = 1, bias = false },
        { type = "batch_norm" },
        { type = "relu6" },
        { type = "conv", out = 48, kernel = 3, stride = 2, padding = 1, groups = 48, bias = false },
        { type = "batch_norm" },
        { type = "silu" },
        { type = "max_pool", kernel = 3, stride = 1, padding = 1 },
        { type = "gelu" },
        { type = "residual", layers = [{ type = "conv", out = 48, kernel = 1 }] },
        { type = "avg_pool", kernel = 3, stride = 1, padding = 1 },
        { type = "dropout", p = 0.3 },
        { type = "conv", out = 96, kernel = 3, padding = 1, groups = 3 },
        { type = "residual", layers = [
            { type = "conv", out = 96, kernel = 3, padding = 1, bias = false }, { type = "batch_norm" },
        ] },
        { type = "relu" },
        { type = "batch_norm" },
        { type = "max_pool", kernel = 2 },
        { type = "flatten" },
        { type = "linear", out = 60 },
        { type = "tanh" },
        { type = "linear", out = 5 },
    ]
"#;

#[test]
fn threads_that_help_change_no_bit() {
    let setting = setting(WIDE, [24, 20, 3], 5);
    let batch = setting.batch(0, 9);
    let alone = setting.executor();
    let (trained, evaluated) = (setting.train(&alone, &batch), alone.evaluate_shard(&batch).unwrap());
    for threads in [2, 3, 5] {
        let mut team = Executor::team(Device::Cpu, &setting.plan, &setting.network, threads).unwrap();
        team.iter_mut().for_each(|executor| executor.load(&Arc::new(setting.state.clone())).unwrap());
        assert_eq!(setting.train(&team[0], &batch), trained, "{threads} threads");
        assert_eq!(team[1].evaluate_shard(&batch).unwrap(), evaluated, "{threads} threads");
        std::thread::scope(|scope| {
            for executor in &team[..2] {
                scope.spawn(|| (0..3).for_each(|_| assert_eq!(setting.train(executor, &batch), trained)));
            }
        });
    }
}

#[test]
fn a_look_at_the_clock_changes_no_bit_and_leaves_no_layer_out() {
    let setting = setting(SMALL, [11, 9, 3], 5);
    let (executor, batch) = (setting.executor(), setting.batch(0, 6));
    let (result, sum) = setting.train(&executor, &batch);
    let times = Arc::new(LayerTimes::new(&setting.network));
    assert!(times.layers().iter().all(|layer| layer.forward.is_zero() && layer.backward.is_zero()));
    let mut timed = vec![f32::NAN; setting.network.len()];
    assert_eq!(executor.train_shard(&batch, 2, GradientTarget::Write(&mut timed), Some(&times)).unwrap(), result);
    assert_eq!(timed.iter().map(|value| value.to_bits()).collect::<Vec<_>>(), sum);
    let layers = times.layers();
    let mut nodes: Vec<usize> = layers.iter().flat_map(|layer| layer.nodes.clone()).collect();
    nodes.sort();
    assert_eq!(nodes, (1..setting.network.nodes.len()).collect::<Vec<_>>());
    assert!(layers.iter().all(|layer| !layer.forward.is_zero() && !layer.backward.is_zero()), "{layers:?}");
    times.clear();
    assert!(times.layers().iter().all(|layer| layer.forward.is_zero() && layer.backward.is_zero()));
}

#[test]
fn loading_replaces_everything() {
    let mut setting = setting(SMALL, [11, 9, 3], 5);
    let batch = setting.batch(0, 4);
    let mut executor = setting.executor();
    let first = setting.train(&executor, &batch);
    let changed: Vec<f32> = setting.state.iter().map(|value| value * 0.5).collect();
    let original = std::mem::replace(&mut setting.state, changed);
    executor.load(&Arc::new(setting.state.clone())).unwrap();
    assert_eq!(setting.train(&executor, &batch), setting.train(&setting.executor(), &batch));
    executor.load(&Arc::new(original)).unwrap();
    assert_eq!(setting.train(&executor, &batch), first);
}

#[test]
fn dropout_follows_sample_and_epoch() {
    let setting = setting(SMALL, [11, 9, 3], 5);
    let executor = setting.executor();
    let batch = setting.batch(0, 4);
    let loss = |batch: &Batch, epoch| {
        let mut sum = vec![0.0; setting.network.len()];
        executor.train_shard(batch, epoch, GradientTarget::Write(&mut sum), None).unwrap().loss_sum
    };
    let renamed = Batch { samples: vec![9, 1, 2, 3], ..batch.clone() };
    assert_eq!(loss(&batch, 0), loss(&batch, 0));
    assert_ne!(loss(&batch, 0), loss(&batch, 1));
    assert_ne!(loss(&batch, 0), loss(&renamed, 0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// Without batch norm and dropout, a shard's sums are those of its samples.
    #[test]
    fn sums_of_samples(count in 2u32..6, first in 0u32..100) {
        let spec = r#"
            task = "regression"
            [network]
            layers = [{ type = "conv", out = 4, kernel = 3 }, { type = "tanh" }, { type = "flatten" },
                      { type = "linear", out = 2 }]
        "#;
        let setting = setting(spec, [5, 6, 1], 2);
        let executor = setting.executor();
        let (whole, sum) = setting.train(&executor, &setting.batch(first, count));
        let mut total = vec![0.0; sum.len()];
        let mut loss = 0.0;
        for sample in 0..count {
            let all = setting.batch(first, count);
            let (pixels, row) = (setting.plan.input.len(), sample as usize);
            let Targets::Values { width, values } = all.targets else { unreachable!() };
            let one = Batch {
                x_nhwc: all.x_nhwc[row * pixels..][..pixels].to_vec(),
                samples: vec![all.samples[row]],
                targets: Targets::Values { width, values: values[row * width..][..width].to_vec() },
            };
            let (result, part) = setting.train(&executor, &one);
            loss += result.loss_sum;
            total.iter_mut().zip(part).for_each(|(total, part)| *total += f64::from(f32::from_bits(part)));
        }
        prop_assert!((loss - whole.loss_sum).abs() < 1e-9 * loss.abs());
        let scale = total.iter().fold(0.0_f64, |scale, value| scale.max(value.abs()));
        for (sum, total) in sum.iter().zip(total) {
            prop_assert!((f64::from(f32::from_bits(*sum)) - total).abs() < 1e-5 * scale);
        }
    }
}

#[test]
fn the_zoo_has_finite_gradients() {
    for (name, size, count) in
        [("lenet5", [28, 28, 1], 2), ("resnet18-small", [8, 8, 3], 3), ("resnet50", [32, 32, 3], 4)]
    {
        let setting = setting(&format!("[network]\nname = \"{name}\""), size, 10);
        let (result, sum) = setting.train(&setting.executor(), &setting.batch(0, count));
        assert!(result.finite, "{name}");
        assert!((result.loss_sum / f64::from(count) - std::f64::consts::LN_10).abs() < 2.0, "{name}");
        for tensor in &setting.network.tensors {
            assert!(sum[tensor.range()].iter().any(|bits| f32::from_bits(*bits) != 0.0), "{name} {}", tensor.name);
        }
    }
}

#[test]
fn a_network_of_thousands_of_layers_fits_the_stack() {
    // With the three others, as many as a spec may have.
    let relus = "{ type = \"relu\" },".repeat(4093);
    let spec = format!("[network]\nlayers = [{relus} {{ type = \"flatten\" }}, {{ type = \"linear\", out = 3 }}]");
    let conv = spec.replacen("[{", "[{ type = \"conv\", out = 2, kernel = 1 }, {", 1);
    let setting = setting(&conv, [2, 2, 1], 3);
    assert!(setting.train(&setting.executor(), &setting.batch(0, 2)).0.finite);
}

#[test]
fn a_loss_that_is_not_finite_is_reported() {
    let setting = setting(SMALL, [11, 9, 3], 5);
    let mut batch = setting.batch(0, 4);
    batch.x_nhwc[7] = f32::NAN;
    assert!(!setting.train(&setting.executor(), &batch).0.finite);
}

#[test]
fn predictions_are_probabilities() {
    let multiclass = setting(SMALL, [11, 9, 3], 5);
    let batch = multiclass.batch(0, 4);
    let executor = multiclass.executor();
    let probabilities = executor.predict(&batch.x_nhwc, 4).unwrap();
    for row in probabilities.chunks_exact(5) {
        assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-6 && row.iter().all(|p| *p > 0.0));
    }
    let binary = setting(&format!("task = \"binary\"\n{}", SMALL.replace("out = 5", "out = 1")), [11, 9, 3], 2);
    let executor = binary.executor();
    let (logits, probabilities) =
        (executor.logits(&batch.x_nhwc, 4).unwrap(), executor.predict(&batch.x_nhwc, 4).unwrap());
    assert!(logits.iter().zip(probabilities).all(|(x, p)| (x > &0.0) == (p > 0.5) && p > 0.0 && p < 1.0));
}

/// Without batch norm and dropout, training and use compute the same.
#[test]
fn evaluation_counts_what_training_counts() {
    for (task, names, outputs, metric) in [("multiclass", 3, 3, "top1"), ("binary", 2, 1, "accuracy")] {
        let spec = format!(
            "task = \"{task}\"\n[network]\nlayers = [{{ type = \"conv\", out = 4, kernel = 3 }},
             {{ type = \"flatten\" }}, {{ type = \"linear\", out = {outputs} }}]"
        );
        let setting = setting(&spec, [5, 6, 1], names);
        let executor = setting.executor();
        let batch = setting.batch(0, 21);
        let (result, _) = setting.train(&executor, &batch);
        let sums = executor.evaluate_shard(&batch).unwrap();
        let metrics = setting.plan.metric_layout().finish(&sums, &setting.plan.names);
        assert_eq!((sums[COUNT], sums[LOSS], sums[WEIGHT]), (21.0, result.loss_sum, result.weight_sum));
        assert_eq!(metrics[metric], result.correct / 21.0);
        assert!(result.correct > 0.0 && result.correct < 21.0, "{}", result.correct);
    }
}

#[test]
fn what_does_not_fit_is_said() {
    let setting = setting(SMALL, [11, 9, 3], 5);
    let mut executor = setting.executor();
    let good = setting.batch(0, 2);
    let mut sum = vec![0.0; setting.network.len()];
    let mut check = |batch: Batch, expected: &str| {
        let error = executor.train_shard(&batch, 0, GradientTarget::Write(&mut sum), None).unwrap_err().to_string();
        assert_eq!(error, expected);
        assert_eq!(executor.evaluate_shard(&batch).unwrap_err().to_string(), expected);
    };
    check(Batch { x_nhwc: vec![0.0; 5], ..good.clone() }, "the batch: 5 numbers, but 594 are needed");
    check(Batch { targets: Targets::Classes(vec![1]), ..good.clone() }, "the targets: 1 numbers, but 2 are needed");
    check(
        Batch { targets: Targets::Values { width: 1, values: vec![0.0; 2] }, ..good.clone() },
        "the batch holds values, but the task `multiclass` needs classes",
    );
    check(
        Batch { targets: Targets::Classes(vec![1, 7]), ..good.clone() },
        "sample 1 of the shard has label 7, but there are only 5 classes (0 to 4)",
    );
    let error = executor.train_shard(&good, 0, GradientTarget::Write(&mut vec![0.0; 3]), None).unwrap_err().to_string();
    assert!(error.starts_with("the gradient: "), "{error}");
    let short = Arc::new(setting.state[1..].to_vec());
    assert!(executor.load(&short).unwrap_err().to_string().starts_with("the network's state: "));
    executor.train_shard(&good, 0, GradientTarget::Write(&mut sum), None).unwrap();
}

#[test]
fn a_batch_norm_of_single_values_is_refused() {
    let layers = r#"[network]
        layers = [{ type = "flatten" }, { type = "linear", out = 3 }, { type = "batch_norm", name = "bn" }]
    "#;
    let setting = setting(layers, [2, 2, 1], 3);
    let mut sum = vec![0.0; setting.network.len()];
    let error = setting.executor().train_shard(&setting.batch(0, 1), 0, GradientTarget::Write(&mut sum), None);
    assert!(error.unwrap_err().to_string().starts_with("layer \"bn\" would normalise"));
}

/// A regression on two targets of different units, whose loss compares scaled ones; and the same without the scale.
#[test]
fn scaled_targets_are_those_of_a_plan_without_a_scale_and_metrics_are_in_units() {
    let layers =
        "[network]\nlayers = [{ type = \"flatten\" }, { type = \"linear\", out = 2 }]\n[loss]\nkind = \"huber\"";
    let bare = setting(&format!("task = \"regression\"\n{layers}"), [3, 3, 1], 2);
    let scale = TargetStatistics { mean: vec![175.0, 1e5], std: vec![100.0, 2e4] };
    let mut plan = (*bare.plan).clone();
    (plan.targets, plan.spec.loss.scale_targets) = (Some(scale.clone()), Some(true));
    let scaled = Setting { plan: Arc::new(plan), network: bare.network.clone(), state: bare.state.clone() };
    let values = vec![0.0, 1e5, 350.0, 9e4, 175.0, 120_000.0];
    let batch = Batch { targets: Targets::Values { width: 2, values: values.clone() }, ..bare.batch(0, 3) };
    let by_hand = Batch { targets: Targets::Values { width: 2, values: scale.scaled(&values) }, ..batch.clone() };
    assert_eq!(scaled.train(&scaled.executor(), &batch), bare.train(&bare.executor(), &by_hand));

    let in_units = Setting { state: bare.network.in_units(&bare.state, &scale), ..scaled };
    let executor = in_units.executor();
    let plain = bare.executor().predict(&batch.x_nhwc, 3).unwrap();
    let found = executor.predict(&batch.x_nhwc, 3).unwrap();
    let expected: Vec<f32> = plain.chunks(2).flat_map(|z| [z[0] * 100.0 + 175.0, z[1] * 2e4 + 1e5]).collect();
    assert!(found.iter().zip(&expected).all(|(a, b)| (a - b).abs() <= 1e-5 * b.abs()), "{found:?} {expected:?}");
    let sums = executor.evaluate_shard(&batch).unwrap();
    let names = ["a", "b"].map(str::to_owned);
    let metrics = in_units.plan.metric_layout().finish(&sums, &names);
    let mae = |column: usize| -> f64 {
        (0..3).map(|row| f64::from((found[2 * row + column] - values[2 * row + column]).abs())).sum::<f64>() / 3.0
    };
    assert!((metrics["mae/a"] - mae(0)).abs() < 1e-3 && (metrics["mae/b"] - mae(1)).abs() < 1e-1, "{metrics:?}");
    assert_eq!((metrics["mae_of_mean/a"], metrics["mae_of_mean/b"]), (350.0 / 3.0, 1e4));
    let loss = bare.executor().evaluate_shard(&by_hand).unwrap()[LOSS];
    assert!((sums[LOSS] - loss).abs() < 1e-4 * loss, "{} {loss}", sums[LOSS]);
}
