//! What bad input gets: a clear error and the right exit code.

use std::fs;

use crate::job::{Job, convoy};

/// Runs `convoy` and checks its exit code and that the error names what is wrong.
pub fn check(args: &[&str], code: i32, names: &[&str]) {
    let output = convoy().args(args).output().expect("convoy starts");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {stderr}");
    for name in names {
        assert!(stderr.contains(name), "{args:?}: {name:?} is not in: {stderr}");
    }
}

#[test]
fn bad_specs_and_paths() {
    let job = Job::new();
    let spec = job.spec().display().to_string();
    check(&["train", "nowhere.toml"], 3, &["nowhere.toml"]);
    check(&["resume", "nowhere"], 3, &["nowhere", "not a run folder"]);
    check(&["train", &spec, "--set", "train.epoch=3"], 2, &["epoch", "did you mean `epochs`"]);
    check(&["train", &spec, "--set", "train.batch=0"], 2, &["train.batch"]);
    check(&["train", &spec, "--set", "data.train=missing"], 3, &["missing"]);
    check(&["train"], 2, &["Usage"]);
    let layers = "network.layers=[{type=\"conv\",out=4,kernel=9},{type=\"flatten\"},{type=\"linear\",out=3}]";
    check(&["train", &spec, "--set", layers], 2, &["9x9", "8x8"]);
    fs::write(job.path("typo.toml"), "[data]\ntrian = \"x\"\n").expect("the folder is writable");
    check(&["train", &job.path("typo.toml").display().to_string()], 2, &["line 2", "did you mean `train`"]);
}

#[test]
fn devices_that_are_not_there() {
    let job = Job::new();
    let spec = job.spec().display().to_string();
    for command in [&["train", &spec][..], &["worker", "--coordinator", "127.0.0.1:1"]] {
        check(&[command, &["--device", "tpu"]].concat(), 2, &["`tpu` is no device", "cuda:N"]);
        check(&[command, &["--device", "cuda:x"]].concat(), 2, &["`cuda:x` is no device"]);
        if cfg!(not(feature = "cuda")) {
            check(&[command, &["--device", "cuda:1"]].concat(), 2, &["`cuda:1`", "no CUDA", "--features cuda"]);
        }
    }
    let out = job.path("run").display().to_string();
    let refused = |numerics: &str, names: &[&str]| {
        check(&["train", &spec, "--out", &out, "--set", &format!("numerics={numerics}")], 2, names);
    };
    refused("cuda-f32-v1", &["names no GPU", "convoy worker --device cuda"]);
    refused("cuda-f32-v2/X", &["`cuda-f32-v2/X` is not known", "cpu-f32-direct-v1"]);
    refused(
        "cuda-f32-v1/X",
        &["`cuda-f32-v1/X`", "`cpu` computes `cpu-f32-v1` and `cpu-f32-direct-v1` and `cpu-bf16-v1`"],
    );
    assert!(!job.path("run").exists(), "nothing is left of a run that was refused");
}

#[test]
fn only_loopback_is_served() {
    let job = Job::new();
    let spec = job.spec().display().to_string();
    let out = job.path("run").display().to_string();
    check(
        &["coordinator", &spec, "--out", &out, "--listen", "0.0.0.0:0"],
        4,
        &["loopback", "encrypted", "convoy cluster init"],
    );
    check(&["worker", "--coordinator", "192.0.2.1:7070"], 4, &["--token-file"]);
    check(&["worker", "--coordinator", "127.0.0.1:1", "--patience", "0"], 75, &["127.0.0.1:1"]);
}

#[test]
fn damage_is_found_and_nothing_is_overwritten() {
    let job = Job::new();
    job.train("run", &["--workers", "1"]);
    let run = job.path("run").display().to_string();
    let spec = job.spec().display().to_string();
    check(&["train", &spec, "--out", &run], 4, &["holds a run already"]);
    let model = job.path("run").join("model/model.safetensors");
    let mut bytes = fs::read(&model).expect("a run has a model");
    let middle = bytes.len() - 9;
    bytes[middle] ^= 1;
    fs::write(&model, &bytes).expect("the file is writable");
    check(&["digest", &model.display().to_string()], 1, &["damaged"]);
    fs::write(job.path("data").join("train-labels-idx1-ubyte"), b"nonsense").expect("the file is writable");
    check(&["resume", &run], 2, &["train-labels-idx1-ubyte"]);
}
