//! The files of a run folder. What has a seal is sealed here, so that bytes get past it.

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use convoy_common::{Plan, manifest::Manifest};
use convoy_coordinator::{RunDir, audit, checkpoint as checkpoints, prepare_replay, read_ledger};
use convoy_model::{Network, TensorFile, model_dir};
use convoy_testing::Stripes;
use tempfile::TempDir;

use crate::data::memory_folder;

/// Data and plan of a tiny run.
struct Run {
    folder: TempDir,
    plan: Plan,
    network: Network,
    manifest: Manifest,
}

const SPEC: &str = r#"
[network]
layers = [{ type = "flatten" }, { type = "linear", out = 3 }]
[optimizer]
lr = 0.05
momentum = 0.9
[train]
epochs = 2
batch = 8
shard = 4
"#;

static RUN: LazyLock<Run> = LazyLock::new(|| {
    let stripes = Stripes { train: 24, validation: 8 };
    let (plan, manifest) = (stripes.plan("data", SPEC), stripes.manifest("data"));
    let network = Network::of(&plan).expect("the spec is sound");
    Run { folder: memory_folder(), plan, network, manifest }
});

/// A folder in memory for one input.
fn folder() -> TempDir {
    tempfile::tempdir_in(RUN.folder.path()).expect("memory holds a folder")
}

/// A run folder in `folder` that nothing was written to yet.
fn fresh(folder: &TempDir) -> PathBuf {
    let path = folder.path().join("run");
    RunDir::create(&path, &RUN.plan, &RUN.manifest).expect("memory holds a run");
    path
}

/// Lines of a journal without their seals.
pub(crate) fn journal(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let seal = |line: &str| format!("{} {line}\n", &blake3::hash(line.as_bytes()).to_hex()[..16]);
    let folder = folder();
    let path = fresh(&folder);
    fs::write(path.join("journal"), text.lines().map(seal).collect::<String>()).expect("memory holds a journal");
    let Ok((plan, manifest, records, _)) = read_ledger(&path) else { return };
    let mut counted = 0;
    let found = audit(&plan, Vec::new(), &manifest, &records, |_| counted += 1);
    assert!(!found.exact || counted % 24 == 0 || found.steps % 3 != 0, "an exact epoch has every sample once");
    let _ = prepare_replay(&path, 1, &path.join("replay"));
}

/// `plan.json` as it is.
pub(crate) fn plan_file(bytes: &[u8]) {
    let folder = folder();
    let path = fresh(&folder);
    fs::write(path.join("plan.json"), bytes).expect("memory holds a plan");
    let _ = read_ledger(&path);
    let _ = RunDir::open(&path);
}

/// A checkpoint, whose tensors have no seal here.
pub(crate) fn checkpoint(bytes: &[u8]) {
    let folder = folder();
    let path = folder.path().join("step-00000001.safetensors");
    fs::write(&path, bytes).expect("memory holds a checkpoint");
    let _ = checkpoints::read(&path, &RUN.plan, &[], &RUN.network);
    let _ = checkpoints::parameters_digest(&path);
}

/// A model: its tensors are zeros, and the bytes are the plan it names.
pub(crate) fn model(bytes: &[u8]) {
    let Ok(plan) = std::str::from_utf8(bytes) else { return };
    let folder = folder();
    let path = folder.path().join("model.safetensors");
    let zeros = vec![0.0; RUN.network.len()];
    let views: Vec<_> = RUN.network.views(&zeros).collect();
    let metadata = [("convoy.plan".to_owned(), plan.to_owned())].into();
    convoy_model::write_atomic(&path, &views, &metadata).expect("memory holds a model");
    let _ = TensorFile::read(&path).expect("it was written just now");
    let _ = model_dir::load(&path);
}
