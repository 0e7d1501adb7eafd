//! What may be set for a run that has begun.

use convoy_common::Plan;
use convoy_common::planner::Planner;
use convoy_common::spec::parse;
use convoy_planning::{LocalPlanner, changed};

use crate::fixture::{MemoryTree, SPEC, silent};

fn plan() -> Plan {
    let planner = LocalPlanner { looking: silent() };
    let text = format!("{SPEC}[schedule]\nkind = \"step\"\nwarmup_epochs = 1.5\nevery_epochs = 1\n");
    planner.plan(&MemoryTree::two_classes().shared(), parse(&text, &[]).unwrap(), &text).unwrap().plan
}

fn set(overrides: &[&str]) -> Result<Plan, String> {
    let overrides: Vec<String> = overrides.iter().map(|given| (*given).to_owned()).collect();
    changed(&plan(), &overrides).map_err(|error| error.to_string())
}

#[test]
fn paths_and_epochs_are_set_and_nothing_else_changes() {
    let here = std::env::current_dir().unwrap();
    let at = |path: &str| here.join(path).display().to_string();
    let now =
        set(&["data.train=a b/./c", "train.epochs = 7", "data.images=/x", "network.init=\"m.safetensors\""]).unwrap();
    let mut expected = plan();
    expected.spec.data.train = at("a b/c");
    expected.spec.data.images = Some("/x".to_owned());
    expected.spec.network.init = Some(at("m.safetensors"));
    expected.spec.train.epochs = 7;
    assert_eq!(now, expected);
    assert_eq!(set(&["train.epochs=7", "train.epochs=3"]).unwrap().spec.train.epochs, 3, "the last one counts");
    let moved = set(&["data.train=/elsewhere", "data.validation=dataset:x/y"]).unwrap();
    assert_eq!(moved.spec.data.validation.as_deref(), Some("dataset:x/y"));
    assert_eq!(moved.digest(), plan().digest(), "where things lie is not in the digest");
}

#[test]
fn whatever_else_is_set_is_refused() {
    for (given, words) in [
        ("optimizer.lr=0.1", &["`optimizer.lr`: cannot be set", "train.epochs", "new run", "network.init=RUN"][..]),
        ("train.batch=4", &["`train.batch`: cannot be set", "new run"]),
        ("data.validation_fraction=0.5", &["`data.validation_fraction`", "new run"]),
        ("data.trian=x", &["did you mean `data.train`?", "data.images"]),
        ("train.epoch=3", &["did you mean `train.epochs`?"]),
        ("epochs=3", &["`epochs`", "train.epochs"]),
        ("=3", &["``", "train.epochs"]),
        ("train.epochs", &["expected key.path=value"]),
        ("train.epochs=0", &["`train.epochs`", "at least 1"]),
        ("train.epochs=1.5", &["1.5"]),
        ("train.epochs=-1", &["-1"]),
        ("train.epochs=4294967297", &["4294967297"]),
        ("train.epochs=1", &["`schedule.warmup_epochs`", "1.5"]),
        ("data.train=", &["data.train", "empty"]),
        ("data.train=[1]", &["string"]),
    ] {
        let said = set(&[given]).expect_err(given);
        words.iter().for_each(|word| assert!(said.contains(word), "{given}: {word:?} is not in: {said}"));
    }
}
