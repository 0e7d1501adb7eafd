//! What a fuzzer feeds with bytes: every reader of something that others made.
//!
//! A target takes any bytes and returns. It panics where a promise is broken: a reader panicked, or read back something
//! else than what it read. `fuzz/` runs them under libFuzzer; this crate's test runs them over the cases that fuzzers
//! found, which lie in `fuzz/cases/`, a folder for each target.

mod data;
mod run_folder;
mod tables;
mod wire;

use convoy_common::{Plan, manifest::Manifest, spec};
use convoy_model::{Network, TensorFile, memory_estimate};
use convoy_security::Token;
use convoy_vision::{Limits, decode, decode_in};
use std::path::Path;

/// A reader that is fed with bytes.
pub struct Target {
    /// Its name, on the command line of the fuzzer and as a folder of cases.
    pub name: &'static str,
    /// Feeds it.
    pub feed: fn(&[u8]),
}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target { name: "spec", feed: read_spec },
    Target { name: "plan", feed: read_plan },
    Target { name: "manifest", feed: read_manifest },
    Target { name: "token", feed: read_token },
    Target { name: "image", feed: decode_image },
    Target { name: "tensors", feed: read_tensors },
    Target { name: "table", feed: tables::table },
    Target { name: "idx", feed: data::idx },
    Target { name: "archive", feed: data::archive },
    Target { name: "message", feed: wire::message },
    Target { name: "journal", feed: run_folder::journal },
    Target { name: "plan_file", feed: run_folder::plan_file },
    Target { name: "checkpoint", feed: run_folder::checkpoint },
    Target { name: "model", feed: run_folder::model },
];

/// Feeds the target of this name.
///
/// # Examples
/// ```
/// convoy_fuzz_harness::feed("spec", b"\n[train]\nepochs = 3\n");
/// ```
///
/// # Panics
/// When there is none, and when the target finds a fault.
pub fn feed(name: &str, bytes: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name);
    (target.unwrap_or_else(|| panic!("no target `{name}`")).feed)(bytes);
}

fn read_spec(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    // The first line is an override, the rest a file.
    let (first, rest) = text.split_once('\n').unwrap_or(("", text));
    let overrides: Vec<String> = (!first.is_empty()).then(|| first.to_owned()).into_iter().collect();
    let Ok(spec) = spec::parse(rest, &overrides) else { return };
    let facts = convoy_testing::facts([32, 32, 3], 10);
    if let Ok(plan) = Plan::resolve(spec, &facts) {
        use_plan(&plan);
    }
}

fn read_plan(bytes: &[u8]) {
    let Ok(plan) = Plan::from_json(bytes) else { return };
    if plan.check().is_ok() {
        let again = Plan::from_json(&plan.to_json()).expect("a plan that was read is written as one");
        assert_eq!(again.digest(), plan.digest());
        use_plan(&plan);
    }
}

/// What every start of a run asks of its plan.
fn use_plan(plan: &Plan) {
    let cut = plan.train_cut();
    for step in [0, cut.steps().saturating_sub(1)] {
        (0..cut.shards(step).min(4)).for_each(|shard| _ = cut.shard(step, shard));
    }
    let evaluate = plan.evaluate_cut();
    (0..evaluate.steps().min(2)).for_each(|step| _ = evaluate.shards(step));
    let rate = plan.learning_rate();
    [0, plan.total_steps() / 2, plan.total_steps()].iter().for_each(|step| _ = rate.at(*step));
    let _ = plan.metric_layout().len();
    if let Ok(network) = Network::of(plan) {
        let _ = memory_estimate(plan, &network, 2);
    }
}

fn read_manifest(bytes: &[u8]) {
    let Ok(manifest) = Manifest::from_bytes(bytes) else { return };
    let again = Manifest::from_bytes(&manifest.to_bytes()).expect("a manifest that was read is written as one");
    assert_eq!(again.digest(), manifest.digest());
    assert_eq!(manifest.difference(&again), None);
    let _ = manifest.class_counts();
    for split in [&manifest.train, &manifest.validation] {
        split.usable().iter().for_each(|sample| _ = split.file_of(*sample as usize));
        split.samples.iter().for_each(|sample| _ = split.files.get(sample.file as usize));
    }
}

fn read_token(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(token) = text.parse::<Token>() {
        let again: Token = token.expose().parse().expect("a token that was read is written as one");
        assert_eq!(again.expose(), token.expose());
    }
}

/// Pictures of at most four million pixels, so that a case is quick.
const LIMITS: Limits = Limits { max_side: 4096, max_pixels: 1 << 22 };

fn decode_image(bytes: &[u8]) {
    let whole = decode(bytes, &LIMITS);
    let _ = decode_in(bytes, &LIMITS, Some([100, 60_000]));
    if let Ok(whole) = whole {
        let again = decode(bytes, &LIMITS).expect("what was decoded once is decoded again");
        assert!(again.pixels == whole.pixels, "the same bytes have other pixels");
    }
}

fn read_tensors(bytes: &[u8]) {
    if let Ok(file) = TensorFile::parse_foreign(Path::new("fed.safetensors"), bytes) {
        let _ = file.digest();
        file.tensors.iter().for_each(|tensor| _ = file.get(&tensor.name).expect("it has its tensors").view());
    }
}
