//! Networks of the zoo go both ways between Convoy and torchvision with the same outputs. Needs a Python with torch,
//! torchvision and safetensors, named by `CONVOY_PYTHON`; without it the checks are ignored.

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use common::{Setting, setting};
use convoy_common::random::{Address, Purpose};
use convoy_model::{Role, TensorFile, TensorRef, init_from, model_dir, write_atomic};
use convoy_testing::{Check, run_checks};

const SIDE: u32 = 64;
const SAMPLES: u32 = 2;
const CLASSES: usize = 10;

fn script(python: &str, arguments: &[&str]) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/reference/torchvision_exchange.py");
    let status = Command::new(python).arg(script).args(arguments).status().expect("CONVOY_PYTHON should run");
    assert!(status.success(), "{arguments:?}: {status}");
}

/// Running statistics that are not the initial ones, so that they matter.
fn stir(setting: &mut Setting) {
    for (index, tensor) in setting.network.tensors.iter().enumerate() {
        if let Role::Buffer { .. } = tensor.role {
            let address = Address::new(9, Purpose::Initialisation, 1, index as u32);
            let values = setting.state[tensor.range()].iter_mut();
            values.zip(0..).for_each(|(value, i)| *value += 0.5 * (address.uniform(i) - 0.5));
        }
    }
}

fn to_torchvision(python: &str, folder: &Path, setting: &mut Setting) {
    stir(setting);
    let x = setting.batch(0, SAMPLES).x_nhwc;
    let logits = setting.executor().logits(&x, SAMPLES as usize).unwrap();
    let model = folder.join("model");
    model_dir::save(&model, &setting.plan, &setting.network, &setting.state, &serde_json::Value::Null).unwrap();
    let check = folder.join("ours.safetensors");
    let tensors = [
        TensorRef { name: "x_nhwc", shape: &[SAMPLES as usize, SIDE as usize, SIDE as usize, 3], data: &x[..] },
        TensorRef { name: "logits", shape: &[SAMPLES as usize, CLASSES], data: &logits[..] },
    ];
    write_atomic(&check, &tensors, &BTreeMap::new()).unwrap();
    script(python, &[model.to_str().unwrap(), check.to_str().unwrap()]);
}

fn from_torchvision(python: &str, folder: &Path, name: &str, setting: &mut Setting) {
    let file = folder.join("theirs.safetensors");
    script(python, &["--export", "--size", &SIDE.to_string(), name, file.to_str().unwrap()]);
    setting.state = init_from(&setting.network, 0, &file, &std::fs::read(&file).unwrap()).unwrap().0;
    let check = TensorFile::read_foreign(&file.with_extension("check.safetensors")).unwrap();
    let expected = &check.get("logits").unwrap().data;
    let logits = setting.executor().logits(&check.get("x_nhwc").unwrap().data, SAMPLES as usize).unwrap();
    assert_eq!(logits.len(), expected.len());
    let scale = expected.iter().fold(1.0_f32, |scale, value| scale.max(value.abs()));
    for (logit, expected) in logits.iter().zip(expected) {
        assert!((logit - expected).abs() < 1e-4 * scale, "{name}: {logit}, but torchvision has {expected}");
    }
}

fn both_ways(python: &str, name: &str) {
    let folder = tempfile::tempdir().unwrap();
    let mut setting = setting(&format!("[network]\nname = \"{name}\""), [SIDE, SIDE, 3], CLASSES);
    to_torchvision(python, folder.path(), &mut setting);
    from_torchvision(python, folder.path(), name, &mut setting);
}

fn main() -> std::process::ExitCode {
    let python = || std::env::var("CONVOY_PYTHON").map_err(|_| "CONVOY_PYTHON, a Python with torchvision");
    run_checks(
        ["resnet18", "resnet50", "mobilenet_v2"].map(|name| {
            Check::needs(format!("{name}_goes_both_ways"), python(), move |python| both_ways(&python, name))
        }),
    )
}
