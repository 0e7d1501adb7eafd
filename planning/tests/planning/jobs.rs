//! Jobs of this machine: what data makes of a spec, and what is said where they do not fit.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use convoy_common::Digest;
use convoy_planning::{Job, Looking, PlanningError};
use convoy_vision::ScanError;

use crate::fixture::{SPEC, folder, silent};

/// A folder with eight images in two classes, and the spec `text` beside it.
fn with_spec(text: &str) -> tempfile::TempDir {
    let dir = folder(&[4, 4], |_| (4, 4));
    fs::rename(dir.path().join("photos"), dir.path().join("data")).unwrap();
    fs::write(dir.path().join("job.toml"), text).unwrap();
    dir
}

fn plan(dir: &Path, overrides: &[&str]) -> Result<Job, PlanningError> {
    let overrides: Vec<String> = overrides.iter().map(|given| (*given).to_owned()).collect();
    Job::here(&dir.join("job.toml"), &overrides, &silent()).map(|(job, reasons)| {
        assert_eq!(reasons, None, "a spec leaves nothing to be chosen");
        job
    })
}

#[test]
fn a_spec_and_its_data_make_a_job() {
    let dir = with_spec(SPEC);
    let job = plan(dir.path(), &[]).unwrap();
    let plan = &job.plan;
    assert_eq!(plan.names, ["a", "b"]);
    assert_eq!((plan.train_samples, plan.validation_samples), (6, 2));
    assert_eq!((plan.input.height, plan.input.width, plan.input.channels), (4, 4, 1));
    assert_eq!(plan.manifest, job.scanned.manifest.digest());
    assert_eq!(job.initial, job.network.initial(plan.spec.seed));
    assert_eq!((plan.init, job.init), (None, None));
}

#[test]
fn planning_twice_gives_the_same() {
    let dir = with_spec(SPEC);
    let [a, b] = [(); 2].map(|()| plan(dir.path(), &[]).unwrap());
    assert_eq!((a.plan, a.initial), (b.plan, b.initial));
}

#[test]
fn missing_data_is_named_with_its_key() {
    let dir = with_spec(SPEC);
    for (given, key) in [("data.train=nowhere", "data.train"), ("data.validation=nowhere", "data.validation")] {
        let error = plan(dir.path(), &[given]).unwrap_err();
        assert!(matches!(&error, PlanningError::Scan(ScanError::Missing { .. })), "{error}");
        let text = error.to_string();
        assert!(text.starts_with(&format!("{key}: ")) && text.ends_with("nowhere does not exist"), "{text}");
    }
}

#[test]
fn data_that_a_coordinator_keeps_is_not_looked_for_here() {
    let dir = with_spec(SPEC);
    for path in ["dataset:flowers", "shared:flowers"] {
        let error = plan(dir.path(), &[&format!("data.train={path}")]).unwrap_err();
        assert!(matches!(&error, PlanningError::KeptElsewhere { key: "data.train", .. }), "{error}");
        assert!(error.to_string().contains(path) && error.to_string().contains("convoy submit"), "{error}");
    }
}

#[test]
fn a_value_that_does_not_fit_the_data_is_found_in_the_file() {
    let dir = with_spec(&format!("{SPEC}[loss]\nclass_weights = [1.0, 2.0, 3.0]\n"));
    let error = plan(dir.path(), &[]).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("job.toml: line 12: `loss.class_weights`"), "{text}");
}

#[test]
fn a_network_that_does_not_fit_the_data_is_refused() {
    let dir = with_spec(SPEC);
    let layers = "network.layers=[{type=\"conv\",out=4,kernel=9},{type=\"flatten\"},{type=\"linear\",out=2}]";
    let error = plan(dir.path(), &[layers]).unwrap_err();
    assert!(matches!(&error, PlanningError::Network(_)), "{error}");
}

#[test]
fn broken_images_are_named() {
    let dir = with_spec(SPEC);
    fs::write(dir.path().join("data/a/1.png"), "no image").unwrap();
    let error = plan(dir.path(), &[]).unwrap_err();
    assert!(matches!(&error, PlanningError::Scan(ScanError::Broken { count: 1, .. })), "{error}");
    assert!(error.to_string().contains("a/1.png"), "{error}");
    let job = plan(dir.path(), &["data.bad_images=quarantine"]).unwrap();
    assert_eq!(job.plan.train_samples + job.plan.validation_samples, 7);
}

#[test]
fn a_network_starts_from_a_model_file() {
    let dir = with_spec(SPEC);
    let error = plan(dir.path(), &["network.init=nowhere.safetensors"]).unwrap_err();
    assert!(matches!(&error, PlanningError::Missing { .. }), "{error}");
    assert!(error.to_string().ends_with("does not exist; network.init names a .safetensors file"), "{error}");

    let file = dir.path().join("m.safetensors");
    fs::write(&file, "no tensors").unwrap();
    let error = plan(dir.path(), &[&format!("network.init={}", file.display())]).unwrap_err();
    assert!(matches!(&error, PlanningError::Init(_)), "{error}");

    // Two tensors: weights for 16 values and 2 classes, and a bias.
    let fresh = plan(dir.path(), &[]).unwrap();
    let names: Vec<&str> = fresh.network.tensors.iter().map(|tensor| tensor.name.as_str()).collect();
    let model = safetensors(names[0], &[2, 16], names[1], &[2]);
    fs::write(&file, &model).unwrap();
    let job = plan(dir.path(), &[&format!("network.init={}", file.display())]).unwrap();
    assert_eq!(job.plan.init, Some(Digest::of(&model)));
    assert_eq!(job.init.map(|report| (report.path, report.taken)), Some((file, 2)));
    assert!(job.initial.iter().all(|value| *value == 0.5) && job.initial.len() == 34);
}

/// A model file with two tensors of halves.
fn safetensors(first: &str, first_shape: &[usize], second: &str, second_shape: &[usize]) -> Vec<u8> {
    let [a, b] = [first_shape, second_shape].map(|shape| 4 * shape.iter().product::<usize>());
    let entry = |name: &str, shape: &[usize], from: usize, to: usize| {
        format!(r#""{name}":{{"dtype":"F32","shape":{shape:?},"data_offsets":[{from},{to}]}}"#)
    };
    let header = format!("{{{},{}}}", entry(first, first_shape, 0, a), entry(second, second_shape, a, a + b));
    let padded = format!("{header:<width$}", width = header.len().next_multiple_of(8));
    let mut file = (padded.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(padded.as_bytes());
    (0..(a + b) / 4).for_each(|_| file.extend_from_slice(&0.5f32.to_le_bytes()));
    file
}

#[test]
fn whoever_waits_is_told_how_far_it_is() {
    static LOOKED: AtomicUsize = AtomicUsize::new(0);
    static MEASURED: AtomicUsize = AtomicUsize::new(0);
    let counters = |what: &'static str| -> Box<dyn Fn(usize, usize) + Sync> {
        let most = match what {
            "looking at files" => &LOOKED,
            "measuring statistics" => &MEASURED,
            what => panic!("{what} is not counted"),
        };
        Box::new(move |done, all| {
            assert!(done <= all, "{what}: {done} of {all}");
            most.fetch_max(done, Ordering::Relaxed);
        })
    };
    let dir = with_spec(SPEC);
    Job::here(&dir.path().join("job.toml"), &[], &Looking { counters, cache: None }).unwrap();
    assert_eq!([&LOOKED, &MEASURED].map(|most| most.load(Ordering::Relaxed)), [8, 6]);
}
