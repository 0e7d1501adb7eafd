//! Red blood cells in photographs of a microscope (BCCD), counted without a spec. They are in
//! `../shared/data/bccd-count` beside the repository; where that is not there, the test is reported as ignored, with
//! the reason.

#[allow(dead_code, unused_imports)]
mod job;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use convoy_testing::{Check, run_checks};
use job::{Job, convoy, report};

fn main() -> ExitCode {
    let data = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data/bccd-count"));
    let data = if data.is_dir() { Ok(data) } else { Err("../shared/data/bccd-count".to_owned()) };
    run_checks([Check::needs("cells_are_counted_better_than_by_their_mean", data, |data| counted(&data))])
}

/// Smaller pictures and fewer epochs than the recipe has. About one picture in 24 is marked as without cells, and has
/// some, so the error has a floor.
fn counted(data: &Path) {
    let job = Job::new();
    let run = job.path("run");
    let mut command = convoy();
    command.arg("train").arg(data.join("train.csv")).args(["--json", "--set", "prepare.size=[96, 128]", "--set"]);
    command.args([
        "train.epochs=12",
        "--set",
        "data.path_column=image",
        "--set",
        "data.label_columns=[\"rbc\"]",
        "--set",
    ]);
    command.arg(format!("data.validation={:?}", data.join("val.csv").display().to_string()));
    let ended = report(&command.arg("--out").arg(&run).output().expect("convoy starts"));
    let better = |metrics: &serde_json::Value, share: f64| {
        let metric = |name: &str| metrics[name].as_f64().expect("a number");
        assert!(metric("mae") < share * metric("mae_of_mean") && metric("r2") > 0.1, "{metrics}");
    };
    better(&ended["validation"], 0.85);
    let tested = convoy().arg("eval").arg(&run).arg(data.join("test.csv")).arg("--json").output();
    better(&report(&tested.expect("convoy starts"))["metrics"], 0.9);
}
