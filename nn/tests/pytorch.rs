//! Whole networks against PyTorch in f64: outputs, losses, every gradient, running statistics. The files beside this
//! one are written by `tests/reference/nn.py`.

mod common;

use std::sync::Arc;

use common::{facts, targets};
use convoy_common::batch::Batch;
use convoy_common::manifest::LabelKind;
use convoy_common::metrics::{COUNT, LOSS, WEIGHT};
use convoy_common::plan::Plan;
use convoy_common::spec::{Spec, Task};
use convoy_model::{Network, Role};
use convoy_nn::{Executor, GradientTarget};
use serde_json::Value;

struct Case {
    given: Value,
    batch: Batch,
    executor: Executor,
    network: Arc<Network>,
    /// The flat vector.
    state: Vec<f32>,
}

fn floats(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(items) => items.iter().flat_map(floats).collect(),
        number => vec![number.as_f64().expect("a number")],
    }
}

fn open(name: &str) -> Case {
    let path = format!("{}/tests/reference/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let given: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let spec: Spec = serde_json::from_value(given["spec"].clone()).unwrap();
    let samples: Vec<u32> = floats(&given["samples"]).iter().map(|&sample| sample as u32).collect();
    let numbers: Vec<f32> = floats(&given["targets"]).iter().map(|&target| target as f32).collect();
    let (labels, names) = match spec.task {
        Task::Binary => (LabelKind::Class, 2),
        Task::Multilabel => (LabelKind::Set, numbers.len() / samples.len()),
        Task::Regression => (LabelKind::Values, numbers.len() / samples.len()),
        _ => (LabelKind::Class, 4),
    };
    let input: Vec<u32> = floats(&given["input"]).iter().map(|&side| side as u32).collect();
    let plan = Arc::new(Plan::resolve(spec, &facts([input[0], input[1], input[2]], labels, names)).unwrap());
    let network = Arc::new(Network::of(&plan).unwrap());
    let mut state = vec![f32::NAN; network.len()];
    assert_eq!(network.tensors.len(), given["tensors"].as_object().unwrap().len());
    for tensor in &network.tensors {
        let values: Vec<f32> = floats(&given["tensors"][&tensor.name]).iter().map(|&value| value as f32).collect();
        state[tensor.range()].copy_from_slice(&values);
    }
    let batch = Batch {
        x_nhwc: floats(&given["x_nhwc"]).iter().map(|&value| value as f32).collect(),
        targets: targets(plan.spec.task, &numbers, names),
        samples,
    };
    let mut executor = Executor::new(plan, network.clone()).unwrap();
    executor.load(&Arc::new(state.clone())).unwrap();
    Case { given, batch, executor, network, state }
}

/// Compares with a tolerance relative to the largest expected number, which is that of one rounding in f32 over the
/// longest sums here.
fn close(what: &str, actual: impl IntoIterator<Item = f64>, expected: &[f64]) {
    let actual: Vec<f64> = actual.into_iter().collect();
    assert_eq!(actual.len(), expected.len(), "{what}");
    let scale = expected.iter().fold(0.1_f64, |scale, value| scale.max(value.abs()));
    for (index, (actual, expected)) in actual.iter().zip(expected).enumerate() {
        assert!((actual - expected).abs() < 5e-6 * scale, "{what}[{index}]: {actual}, but PyTorch has {expected}");
    }
}

fn wide(values: &[f32]) -> impl Iterator<Item = f64> {
    values.iter().map(|&value| f64::from(value))
}

fn check(name: &str) {
    let case = open(name);
    let Case { given, batch, executor, network, state } = &case;
    let count = batch.samples.len();
    let epoch = given["epoch"].as_u64().unwrap() as u32;

    let mut sum = vec![f32::NAN; network.len()];
    let result = executor.train_shard(batch, epoch, GradientTarget::Write(&mut sum), None).unwrap();
    assert!(result.finite && result.count as usize == count);
    close("loss", [result.loss_sum], &floats(&given["loss"]));
    close("weight", [result.weight_sum], &floats(&given["weight"]));
    for tensor in &network.tensors {
        let sums = &sum[tensor.range()];
        match tensor.role {
            Role::Parameter { .. } => match &given["gradients"][&tensor.name] {
                Value::Null => assert!(!tensor.head && sums.iter().all(|sum| *sum == 0.0), "{}", tensor.name),
                expected => close(&tensor.name, wide(sums), &floats(expected)),
            },
            Role::Buffer { .. } if name == "frozen" => assert!(sums.iter().all(|sum| *sum == 0.0), "{}", tensor.name),
            Role::Buffer { momentum } => {
                let momentum = f64::from(momentum);
                let update = |(old, sum)| (1.0 - momentum) * old + momentum * sum / count as f64;
                let updated = wide(&state[tensor.range()]).zip(wide(sums)).map(update);
                close(&tensor.name, updated, &floats(&given["running"][&tensor.name]));
            }
        }
    }

    let logits = executor.logits(&batch.x_nhwc, count).unwrap();
    close("evaluated", wide(&logits), &floats(&given["evaluated"]));
    let sums = executor.evaluate_shard(batch).unwrap();
    assert_eq!((sums[COUNT], sums[WEIGHT]), (count as f64, result.weight_sum));
    close("evaluated loss", [sums[LOSS]], &floats(&given["evaluated_loss"]));
}

#[test]
fn multiclass_residual_with_class_weights_and_smoothing() {
    check("multiclass");
}

#[test]
fn frozen_but_for_the_head() {
    check("frozen");
}

#[test]
fn binary_depthwise_with_dropout() {
    check("binary");
}

#[test]
fn multilabel() {
    check("multilabel");
}

#[test]
fn regression() {
    ["mse", "mae", "huber"].into_iter().for_each(check);
}
