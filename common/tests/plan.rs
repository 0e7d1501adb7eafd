//! Resolving a spec into a plan.

use convoy_common::Plan;
use convoy_common::manifest::{LabelKind, Manifest};
use convoy_common::plan::{DataFacts, TargetStatistics};
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

#[test]
fn a_plan_of_a_file_whose_parts_do_not_fit_together_is_refused() {
    let good = resolve("").unwrap();
    assert_eq!(good.check(), Ok(()));
    let check = |spoil: &dyn Fn(&mut Plan), key: &str| {
        let mut plan = good.clone();
        spoil(&mut plan);
        let problem = plan.check().unwrap_err();
        assert!(problem.starts_with(&format!("`{key}`")), "{problem}");
    };
    check(&|plan| plan.normalization.mean.clear(), "normalization");
    check(&|plan| plan.normalization.std = vec![1.0; 3], "normalization");
    check(&|plan| plan.normalization.std[0] = 0.0, "normalization");
    check(&|plan| plan.normalization.mean[0] = f32::NAN, "normalization");
    check(&|plan| plan.input.channels = 4, "input");
    check(&|plan| plan.input.width = 0, "input");
    check(&|plan| plan.input.height = u32::MAX, "input");
    check(&|plan| plan.outputs = 4, "outputs");
    check(&|plan| plan.names.push("more".to_owned()), "outputs");
    check(&|plan| plan.class_weights = vec![1.0], "class_weights");
    let spec = parse("task = \"binary\"\n[data]\ntrain = \"x\"\n", &[]).unwrap();
    let two = DataFacts { class_counts: vec![1, 1], ..convoy_testing::facts([28, 28, 1], 2) };
    let mut binary = Plan::resolve(spec, &two).unwrap();
    assert_eq!(binary.check(), Ok(()));
    binary.names.pop();
    assert!(binary.check().is_err(), "prediction has two names to tell");
}

/// Facts about a regression on targets of these names, with a mean of 100 and a deviation of 20 each.
fn values(names: &[&str]) -> DataFacts {
    let targets = TargetStatistics { mean: vec![100.0; names.len()], std: vec![20.0; names.len()] };
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    DataFacts { names, labels: LabelKind::Values, class_counts: Vec::new(), targets: Some(targets), ..facts() }
}

fn regression(extra: &str, facts: &DataFacts) -> Result<Plan, SpecError> {
    Plan::resolve(parse(&format!("{extra}\n[data]\ntrain = \"x\"\n"), &[]).unwrap(), facts)
}

const LINEAR: &str = "{ type = \"flatten\" }, { type = \"linear\", out = 1 }";

#[test]
fn targets_are_scaled_where_the_network_ends_in_a_sum() {
    let facts = values(&["count"]);
    let scaled = |extra: &str| regression(extra, &facts).unwrap().target_scale().is_some();
    assert!(scaled(""));
    assert!(scaled(&format!("[network]\nlayers = [{LINEAR}]")));
    assert!(!scaled(&format!("[network]\nlayers = [{LINEAR}, {{ type = \"sigmoid\" }}]")));
    let bare = LINEAR.replace("out = 1", "out = 1, bias = false");
    assert!(!scaled(&format!("[network]\nlayers = [{bare}]")));
    assert!(!scaled("[loss]\nscale_targets = false"));
    assert!(resolve("[loss]\nscale_targets = true").unwrap_err().to_string().contains("`loss.scale_targets`"));
}

#[test]
fn the_digest_covers_the_statistics_of_targets() {
    let digest = |facts: &DataFacts| regression("", facts).unwrap().digest();
    let base = values(&["count"]);
    let mut moved = base.clone();
    moved.targets.as_mut().unwrap().mean[0] = 101.0;
    assert_ne!(digest(&base), digest(&moved));
    let plan = regression("", &base).unwrap();
    assert_eq!(Plan::from_json(&plan.to_json()).unwrap(), plan);
    assert_eq!(Plan::resolve(parse(&to_toml(&plan.spec), &[]).unwrap(), &base).unwrap(), plan);
}

/// The plan of a regression as it was when targets were not scaled.
fn before_scaling(plan: &Plan) -> Plan {
    let mut plan: serde_json::Value = serde_json::from_slice(&plan.to_json()).unwrap();
    plan.as_object_mut().unwrap().remove("targets");
    let with_scale = Plan::from_json(plan.to_string().as_bytes()).unwrap();
    assert!(with_scale.check().unwrap_err().contains("`loss.scale_targets`"));
    plan["spec"]["loss"].as_object_mut().unwrap().remove("scale_targets");
    Plan::from_json(plan.to_string().as_bytes()).unwrap()
}

#[test]
fn a_plan_of_an_earlier_version_goes_on_as_it_was() {
    let earlier = before_scaling(&regression("", &values(&["count"])).unwrap());
    assert_eq!(earlier.check(), Ok(()));
    assert!(earlier.target_scale().is_none() && !earlier.metric_layout().of_mean);
}

#[test]
fn statistics_and_names_of_targets_make_sense() {
    let error = regression("", &values(&["a", "v", "v"])).unwrap_err().to_string();
    assert!(error.contains("`data.label_columns`: there are two columns `v`"), "{error}");
    for (mean, std) in [(f32::NAN, 1.0), (0.0, 0.0), (0.0, -1.0), (0.0, f32::INFINITY)] {
        let targets = Some(TargetStatistics { mean: vec![mean], std: vec![std] });
        let plan = regression("", &DataFacts { targets, ..values(&["a"]) });
        assert!(plan.unwrap_err().to_string().contains("`targets`"), "{mean} {std}");
    }
    let short = DataFacts { targets: values(&["a"]).targets, ..values(&["a", "b"]) };
    assert!(regression("", &short).is_err());
}

/// What digests were before these keys came: `data.images`, `data.moved`, `data.extension`, `data.split_column`,
/// `data.delimiter`, `data.label_separator`, `data.empty_classes`, `prepare.depth16`, `loss.scale_targets`. A key that
/// is not set is not written, so plans of earlier versions keep their digests, and runs can be resumed.
#[test]
fn keys_that_are_not_set_are_not_in_the_digest() {
    const A: &str = "7fc575937818645984f80aee48df98cce7778635470dacacdfc111516e0976b8";
    const B: &str = "9eec95683ad6c94e62d4874bee0411bb2d05454220964216cf340a0f8b620be4";
    const C: &str = "580f85aa7a696773c10dde5d8c64e8b89e3de72f1ec390eb0fad031ad74c739a";
    let digest = |extra: &str| resolve(extra).unwrap().digest().to_string();
    let adamw = "seed = 7\n[optimizer]\nkind = \"adamw\"\n[loss]\nlabel_smoothing = 0.1\n[augment]\nscale = [0.5, 1.5]";
    assert_eq!([digest(""), digest(adamw)], [A, B]);
    assert_eq!(before_scaling(&regression("", &values(&["count"])).unwrap()).digest().to_string(), C);
}

#[test]
fn a_spec_is_written_without_what_is_not_set() {
    let text = to_toml(&parse("[data]\ntrain = \"x\"\n", &[]).unwrap());
    for key in ["images", "moved", "extension", "split_column", "delimiter", "label_separator", "empty_classes"] {
        assert!(!text.contains(&format!("\n{key} =")) && !text.contains(&format!("data.{key}")), "{key}: {text}");
    }
    let moved = "[data]\ntrain = \"x\"\nmoved = { \"/a b\" = \"c\", 'C:\\d' = \"e\" }\n";
    let spec = parse(moved, &[]).unwrap();
    assert_eq!(parse(&to_toml(&spec), &[]).unwrap(), spec);
    assert_eq!(spec.paths(), [("data.train", "x"), ("data.moved", "c"), ("data.moved", "e")]);
}

#[test]
fn what_cannot_separate_or_be_moved_is_refused_with_its_line() {
    let check = |lines: &str, expected: &str| {
        let error = parse(&format!("[data]\ntrain = \"x\"\n{lines}\n"), &[]).expect_err(lines).to_string();
        assert!(error.starts_with(&format!("line 3: {expected}")), "{lines}: {error}");
    };
    for bad in
        ["\"\"", "\"ab\"", "\"§\"", "'\"'", "\"\\n\"", "\"\\r\"", "\"a\"", "\"7\"", "\".\"", "\"-\"", "\"_\"", "\"/\""]
    {
        check(&format!("delimiter = {bad}"), "`data.delimiter`");
    }
    for good in [",", ";", "|", " ", "^", ":", "~"] {
        parse(&format!("data.train = \"x\"\ndata.delimiter = \"{good}\""), &[]).unwrap();
    }
    parse("data.train = \"x\"\ndata.delimiter = \"\\t\"", &[]).unwrap();
    check("label_separator = \"\"", "`data.label_separator`: is empty");
    check("moved = { \"\" = \"x\" }", "`data.moved`: has an empty path");
    check("moved = { \"/x\" = \"\" }", "`data.moved`: has an empty path");
    let many: Vec<String> = (0..65).map(|number| format!("\"/{number}\" = \"x\"")).collect();
    check(&format!("moved = {{ {} }}", many.join(", ")), "`data.moved`: names 65 folders");
}

/// Each number, text and list of `value` as it could be after a flipped digit or a wrong hand, and what is around it as
/// it was.
fn variants(value: &serde_json::Value) -> Vec<serde_json::Value> {
    use serde_json::{Value, json};
    match value {
        Value::Number(number) => {
            let near = number.as_f64().unwrap_or_default();
            let whole = number.as_u64().unwrap_or_default();
            vec![
                json!(0),
                json!(1),
                json!(whole + 1),
                json!(whole.saturating_sub(1)),
                json!(near * 10.0),
                json!(u32::MAX),
            ]
        }
        Value::Array(items) => {
            let mut all = vec![json!([]), Value::Array(items.iter().chain(items.first()).cloned().collect())];
            for (at, item) in items.iter().enumerate() {
                all.extend(variants(item).into_iter().map(|item| {
                    let mut items = items.clone();
                    items[at] = item;
                    Value::Array(items)
                }));
            }
            all
        }
        Value::Object(entries) => entries
            .iter()
            .flat_map(|(key, item)| {
                let with = |item: Option<Value>| {
                    let mut entries = entries.clone();
                    match item {
                        Some(item) => _ = entries.insert(key.clone(), item),
                        None => _ = entries.remove(key),
                    }
                    Value::Object(entries)
                };
                variants(item).into_iter().map(Some).chain([None, Some(Value::Null)]).map(with).collect::<Vec<_>>()
            })
            .collect(),
        Value::Bool(value) => vec![json!(!value)],
        Value::String(_) | Value::Null => Vec::new(),
    }
}

#[test]
fn no_plan_that_passes_its_checks_can_crash_whoever_reads_it() {
    let bases = [
        resolve("[loss]\nclass_weights = \"balanced\"").unwrap(),
        resolve("[schedule]\nkind = \"one_cycle\"\n[train]\nlast = \"drop\"").unwrap(),
        regression("", &values(&["count", "height"])).unwrap(),
    ];
    let mut passed = 0;
    for base in bases {
        let json: serde_json::Value = serde_json::from_slice(&base.to_json()).unwrap();
        for variant in variants(&json) {
            let Ok(plan) = Plan::from_json(variant.to_string().as_bytes()) else { continue };
            if plan.check().is_err() {
                continue;
            }
            passed += 1;
            for cut in [plan.train_cut(), plan.evaluate_cut()] {
                for step in [0, cut.steps().saturating_sub(1)].into_iter().filter(|step| *step < cut.steps()) {
                    let last = cut.shard(step, cut.shards(step) - 1);
                    assert!(last.end <= cut.samples);
                }
            }
            let (rates, steps) = (plan.learning_rate(), plan.total_steps());
            [0, steps / 2, steps.saturating_sub(1)].map(|step| rates.at(step)).iter().for_each(|rate| _ = rate.abs());
            assert!(
                plan.normalization.mean.len() == plan.input.channels as usize
                    && !plan.metric_layout().choices().is_empty()
            );
            assert_eq!(Plan::from_sealed_json(plan.to_sealed_json().as_bytes()), Ok(plan));
        }
    }
    assert!(passed > 50, "{passed}");
}

#[test]
fn a_changed_digit_of_a_sealed_plan_is_found() {
    let plan = resolve("[optimizer]\nlr = 0.25").unwrap();
    let sealed = plan.to_sealed_json();
    assert_eq!(Plan::from_sealed_json(sealed.as_bytes()).as_ref(), Ok(&plan));
    for at in (0..sealed.len()).filter(|at| sealed.as_bytes()[*at].is_ascii_digit()) {
        let mut bytes = sealed.clone().into_bytes();
        bytes[at] = if bytes[at] == b'9' { b'8' } else { bytes[at] + 1 };
        let error = Plan::from_sealed_json(&bytes).expect_err("it is found");
        assert!(error.contains("is not what Convoy wrote"), "byte {at}: {error}");
    }
    assert!(Plan::from_sealed_json(&plan.to_json()).is_err(), "a plan without a seal");
}

#[test]
fn a_plan_for_other_data_is_refused() {
    let plan = resolve("").unwrap();
    let names = plan.names.clone();
    let (train, validation) = (Default::default(), Default::default());
    let error = plan.fits(&Manifest { names, labels: LabelKind::Class, train, validation }).unwrap_err();
    assert!(error.contains("`train_samples` is 300, but the manifest has 0 usable ones"), "{error}");
}
