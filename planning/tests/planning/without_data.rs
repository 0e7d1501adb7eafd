//! Plans for data that nobody looks at.

use std::path::Path;

use convoy_common::plan::Input;
use convoy_common::spec::{Spec, parse};
use convoy_planning::{Assumed, PlanningError, SpecFile, plan_without_data, spec_or_network};

fn spec(text: &str) -> Spec {
    parse(&format!("{text}\n[data]\ntrain = \"x\"\n"), &[]).unwrap()
}

#[test]
fn a_spec_tells_of_its_input() {
    let input = |text| Assumed::of(&spec(text)).input;
    assert_eq!(input(""), Input { height: 32, width: 32, channels: 3 });
    assert_eq!(input("[prepare]\nsize = [20, 30]\nchannels = 1"), Input { height: 20, width: 30, channels: 1 });
}

#[test]
fn a_spec_tells_of_its_classes() {
    let classes = |text: &str| Assumed::of(&spec(text)).classes;
    assert_eq!(classes(""), 10);
    assert_eq!(classes("task = \"binary\""), 2);
    assert_eq!(classes("[loss]\nclass_weights = [1.0, 2.0, 3.0]"), 3);
    let layers = "[network]\nlayers = [{ type = \"flatten\" }, { type = \"linear\", out = 7 }, { type = \"relu\" },";
    assert_eq!(classes(&format!("{layers} {{ type = \"linear\", out = 5 }}]")), 5);
}

#[test]
fn a_network_is_known_by_its_name() {
    let file = spec_or_network(Path::new("lenet5"), &["train.batch=64".to_owned()], "a spec").unwrap();
    assert_eq!((file.spec.network.zoo_name(), file.spec.train.batch, file.path.clone()), ("lenet5", 64, None));
    let (plan, network) = plan_without_data(file, Assumed::default()).unwrap();
    assert_eq!((plan.input, network.outputs), (Assumed::default().input, 10));
    assert_eq!((plan.train_samples, plan.validation_samples), (64, 0));
}

#[test]
fn what_is_neither_spec_nor_network_is_said_to_be_neither() {
    let error = spec_or_network(Path::new("runs/none"), &[], "a spec, a model").unwrap_err();
    assert!(matches!(&error, PlanningError::Missing { path, .. } if path == Path::new("runs/none")), "{error}");
    let text = error.to_string();
    assert!(text.starts_with("runs/none does not exist; name a spec, a model, or one of "), "{text}");
    assert!(text.contains("resnet18"), "{text}");
    assert!(spec_or_network(Path::new("lenet6"), &[], "a spec").is_ok_and(|file| {
        plan_without_data(file, Assumed::default()).is_err_and(|error| matches!(error, PlanningError::Network(_)))
    }));
}

#[test]
fn every_task_has_a_plan_and_no_model_file_is_looked_for() {
    for task in ["multiclass", "binary", "multilabel", "regression"] {
        let text = format!("task = \"{task}\"\n[network]\nname = \"lenet5\"\ninit = \"nowhere.safetensors\"");
        let spec = spec(&text);
        let assumed = Assumed::of(&spec);
        let (plan, network) = plan_without_data(SpecFile { spec, path: None, text }, assumed).unwrap();
        assert_eq!((plan.spec.network.init.as_deref(), plan.init), (None, None));
        assert_eq!(network.outputs, if task == "binary" { 1 } else { 10 });
    }
}
