//! Model folders, and starting from them.

mod common;

use std::collections::BTreeMap;
use std::path::Path;

use common::{plan, plan_of};
use convoy_model::model_dir::{CONFIG, TENSORS, load, save};
use convoy_model::{Network, TensorFile, TensorRef, init_from, write_atomic};
use serde_json::{Value, json};

/// A plan whose numbers need all their digits.
const LONG_NUMBERS: &str = "seed = 9007199254740991\n[network]\nname = \"simple-cnn\"\n[optimizer]\nlr = 0.1234567890123456\n\
                            [augment]\nrandom_resized_crop = [0.08, 1.0]";

fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn what_is_saved_is_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("run/model");
    let plan = plan(LONG_NUMBERS);
    let network = Network::of(&plan).unwrap();
    let flat = network.initial(5);
    save(&dir, &plan, &network, &flat, &json!({ "top1": 0.5 })).unwrap();
    for path in [dir.clone(), dir.join(TENSORS)] {
        let model = load(&path).unwrap();
        assert_eq!((&model.plan, &model.network, &model.flat), (&plan, &network, &flat));
        assert_eq!(model.plan.digest(), plan.digest());
    }
    assert_eq!(TensorFile::read(&dir.join(TENSORS)).unwrap().digest(), network.digest(&flat));
    let config = read_json(&dir.join(CONFIG));
    assert_eq!(config["convoy"]["parameters_digest"], network.digest(&flat).to_string());
    assert_eq!(config["convoy"]["extra"]["top1"], 0.5);
    std::fs::remove_file(dir.join(CONFIG)).unwrap();
    assert_eq!(load(&dir).unwrap().flat, flat);
}

#[test]
fn a_model_whose_plan_makes_no_sense_is_refused_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let mut plan = plan(LONG_NUMBERS);
    let network = Network::of(&plan).unwrap();
    plan.normalization.std.push(1.0);
    save(folder.path(), &plan, &network, &network.initial(5), &Value::Null).unwrap();
    let error = load(folder.path()).unwrap_err().to_string();
    assert!(error.contains("its plan makes no sense: `normalization`"), "{error}");
}

#[test]
fn the_description_is_timms() {
    let check = |extra: &str, channels: u32, expected: Value| {
        let folder = tempfile::tempdir().unwrap();
        let plan = plan_of(extra, [32, 32], channels);
        let network = Network::of(&plan).unwrap();
        save(folder.path(), &plan, &network, &vec![0.0; network.len()], &Value::Null).unwrap();
        let mut config = read_json(&folder.path().join(CONFIG));
        config.as_object_mut().unwrap().remove("convoy");
        assert_eq!(config, expected);
    };
    check(
        "[network]\nname = \"resnet18\"\n[prepare]\ncrop_fraction = 0.875\nfilter = \"bicubic\"\nnormalize = \"unit\"",
        3,
        json!({
            "architecture": "resnet18",
            "num_classes": 3,
            "label_names": ["ant", "bee", "cow"],
            "pretrained_cfg": {
                "input_size": [3, 32, 32], "mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0],
                "interpolation": "bicubic", "crop_pct": 0.875, "crop_mode": "center", "num_classes": 3,
                "first_conv": "conv1", "classifier": "fc", "pool_size": [1, 1],
            },
        }),
    );
    check(
        "[network]\nname = \"lenet5\"\n[prepare]\nresize = \"none\"\nnormalize = \"signed\"",
        1,
        json!({
            "architecture": "convoy/lenet5",
            "num_classes": 3,
            "label_names": ["ant", "bee", "cow"],
            "model_args": { "in_chans": 1 },
            "pretrained_cfg": {
                "input_size": [1, 32, 32], "mean": [0.5], "std": [0.5], "interpolation": "bilinear",
                "num_classes": 3, "first_conv": "conv1", "classifier": "fc3", "pool_size": [6, 6],
            },
        }),
    );
}

#[test]
fn what_is_not_a_model_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let check = |path: &Path, expected: &str| {
        let error = load(path).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    check(dir, "holds no model.safetensors");
    check(&dir.join("none"), "cannot read");

    let plan = plan("[network]\nname = \"lenet5\"");
    let network = Network::of(&plan).unwrap();
    let flat = network.initial(0);
    save(dir, &plan, &network, &flat, &Value::Null).unwrap();
    let other = common::plan("seed = 3\n[network]\nname = \"lenet5\"");
    let config = read_json(&dir.join(CONFIG));
    let mut changed = config.clone();
    changed["convoy"]["plan"] = json!(other);
    for wrong in [changed.to_string(), "{}".to_owned(), "not json".to_owned()] {
        std::fs::write(dir.join(CONFIG), wrong).unwrap();
        check(dir, "config.json is not the description");
    }
    std::fs::write(dir.join(CONFIG), config.to_string()).unwrap();
    assert!(load(dir).is_ok());

    let file = dir.join(TENSORS);
    let mut bytes = std::fs::read(&file).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    check(dir, "checksum");

    let plan_text = serde_json::to_string(&plan).unwrap();
    let metadata = BTreeMap::from([("convoy.plan".to_owned(), plan_text)]);
    let views: Vec<_> = network.views(&flat).collect();
    write_atomic(&file, &views[1..], &metadata).unwrap();
    check(dir, "tensor conv1.weight");
    let extra = TensorRef { name: "extra", shape: &[1], data: &[0.0][..] };
    write_atomic(&file, &[&views[..], &[extra]].concat(), &metadata).unwrap();
    check(dir, "tensor extra");
    write_atomic(&file, &views, &BTreeMap::new()).unwrap();
    check(dir, "no plan");
}

/// A file with the numbers of `network`, and with what `change` makes of its tensors.
fn file_of(network: &Network, path: &Path, change: impl FnOnce(&mut Vec<TensorRef>)) -> Vec<f32> {
    let flat = network.initial(77);
    let mut views: Vec<_> = network.views(&flat).collect();
    change(&mut views);
    write_atomic(path, &views, &BTreeMap::new()).unwrap();
    flat
}

fn network(name: &str, channels: u32, outputs: u32) -> Network {
    let spec = convoy_common::spec::NetworkSpec { name: Some(name.to_owned()), ..Default::default() };
    Network::build(&spec, convoy_model::Input { height: 32, width: 32, channels }, outputs).unwrap()
}

#[test]
fn starting_from_a_file_takes_all_but_another_head() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("start.safetensors");
    let source = network("resnet20", 3, 10);
    let there = file_of(&source, &path, |views| views.reverse());

    let (flat, report) = init_from(&source, 1, &path, &std::fs::read(&path).unwrap()).unwrap();
    assert_eq!(flat, there);
    assert_eq!((report.taken, report.replaced.len()), (source.tensors.len(), 0));

    let wider = network("resnet20", 3, 12);
    let (flat, report) = init_from(&wider, 1, &path, &std::fs::read(&path).unwrap()).unwrap();
    let fresh = wider.initial(1);
    for (tensor, before) in wider.tensors.iter().zip(&source.tensors) {
        let expected = if tensor.head { &fresh[tensor.range()] } else { &there[before.range()] };
        assert_eq!(&flat[tensor.range()], expected, "{}", tensor.name);
    }
    let text = report.to_string();
    assert!(text.contains("new head: fc.weight ([10, 64] there, [12, 64] here), fc.bias"), "{text}");
}

#[test]
fn files_of_other_networks_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("start.safetensors");
    let source = network("resnet20", 3, 10);
    let check = |wanted: &Network, parts: &[&str]| {
        let error = init_from(wanted, 1, &path, &std::fs::read(&path).unwrap()).unwrap_err().to_string();
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    };
    file_of(&source, &path, |_| {});
    check(&network("resnet20", 1, 10), &["images with 3 channels", "sees 1", "prepare.channels = 3"]);
    check(&network("lenet5", 3, 10), &["missing: conv1.bias", "not known here: bn1.bias", "and 101 more"]);
    check(&network("resnet18-small", 3, 10), &["conv1.weight ([16, 3, 3, 3] there, [64, 3, 3, 3] here)"]);
    file_of(&source, &path, |views| {
        views.pop();
    });
    check(&source, &["missing: fc.bias;", "not known here: none"]);
    file_of(&source, &path, |views| views.last_mut().unwrap().data = &[f32::NAN; 10]);
    check(&source, &["\"fc.bias\"", "not finite"]);
    std::fs::write(&path, "text").unwrap();
    check(&source, &["network.init", "start.safetensors"]);
}
