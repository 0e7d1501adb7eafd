//! Resolving a spec into a plan.

use convoy_common::Plan;
use convoy_common::plan::DataFacts;
use convoy_common::spec::{SpecError, parse, to_toml};

/// 300 grey images in three classes of different sizes.
fn facts() -> DataFacts {
    DataFacts { class_counts: vec![100, 150, 50], ..convoy_testing::facts([28, 28, 1], 3) }
}

fn resolve(extra: &str) -> Result<Plan, SpecError> {
    Plan::resolve(parse(&format!("{extra}\n[data]\ntrain = \"x\"\n"), &[]).unwrap(), &facts())
}

#[test]
fn a_resolved_spec_resolves_to_itself() {
    let plan = resolve("[loss]\nclass_weights = \"balanced\"").unwrap();
    assert_eq!(plan.class_weights, [1.0, 100.0 / 150.0, 2.0]);
    assert_eq!(plan.normalization.mean, [0.5]);
    let again = parse(&to_toml(&plan.spec), &[]).unwrap();
    assert_eq!(Plan::resolve(again, &DataFacts { measured: None, ..facts() }).unwrap(), plan);
}

#[test]
fn the_digest_sees_what_is_computed_only() {
    let base = resolve("").unwrap();
    assert_eq!(base.digest(), resolve("name = \"other\"\n[checkpoint]\nkeep = 9").unwrap().digest());
    assert_ne!(base.digest(), resolve("seed = 5").unwrap().digest());
    assert_ne!(base.digest(), resolve("[optimizer]\nlr = 0.01").unwrap().digest());
}

#[test]
fn what_does_not_fit_is_refused() {
    let check = |extra: &str, expected: &str| {
        let error = resolve(extra).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    check("task = \"regression\"", "`task`");
    check("task = \"binary\"", "two classes");
    check("[loss]\nkind = \"mse\"", "`loss.kind`");
    check("[loss]\nclass_weights = [1.0]", "3 classes");
    check("[prepare]\nmean = \"imagenet\"", "3 channels");
    check("[checkpoint]\nbest_by = \"mae\"", "`checkpoint.best_by`");
    check("[train]\nbatch = 400\nlast = \"drop\"", "`train.batch`");
}
