//! Runs that go on otherwise than they began: longer, or with data that has moved; and starts side by side.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Output, Stdio};

use crate::cluster::Cluster;
use crate::errors::check;
use crate::faults::worker;
use crate::job::{GOLDEN, Job, convoy, report};
use crate::runs::steps;

const CONSTANT: [&str; 2] = ["--set", "schedule.kind=constant"];

fn resume(job: &Job, run: &str, set: &[&str]) -> Output {
    let mut command = convoy();
    command.arg("resume").arg(job.path(run)).arg("--json").current_dir(job.dir.path());
    set.iter().for_each(|set| _ = command.args(["--set", set]));
    command.output().expect("convoy starts")
}

/// All files of a run folder but its lock.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        if path.is_dir() {
            found.extend(files(&path).into_iter().map(|(inner, bytes)| (format!("{name}/{inner}"), bytes)));
        } else if name != "lock" {
            found.insert(name, fs::read(path).expect("a file"));
        }
    }
    found
}

/// Resumes a run with `set`, which must be refused in words and change nothing.
fn refused(job: &Job, run: &str, set: &[&str], code: i32, names: &[&str]) {
    let before = files(&job.path(run));
    let output = resume(job, run, set);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{set:?}: {stderr}");
    names.iter().for_each(|name| assert!(stderr.contains(name), "{set:?}: {name:?} is not in: {stderr}"));
    assert!(before == files(&job.path(run)), "{set:?}: the run folder has changed");
}

#[test]
fn a_run_that_goes_on_longer_is_the_run_that_was_planned_so() {
    for schedule in [&CONSTANT[..], &["--set", "schedule={kind=\"step\",every_epochs=2,warmup_epochs=1}"]] {
        let job = Job::new();
        let more = ["--set", "train.epochs=6", "--set", "checkpoint.keep=99"];
        let whole = job.train("whole", &[schedule, &more].concat());
        let short = job.train("run", &[schedule, &more[2..]].concat());
        assert_ne!(short["parameters_digest"], whole["parameters_digest"]);
        let longer = report(&resume(&job, "run", &["train.epochs=6"]));
        for what in ["parameters_digest", "validation", "best", "steps", "outcome"] {
            assert_eq!(longer[what], whole[what], "{what}");
        }
        assert_eq!(steps(&job, "run"), steps(&job, "whole"));
        let [run, plan] = ["run", "whole"].map(|run| fs::read(job.path(run).join("plan.json")).expect("a plan"));
        assert_eq!(run, plan, "its plan is that of the other");
        let rows = fs::read_to_string(job.path("run/metrics.csv")).expect("metrics").lines().count();
        assert_eq!(rows, 1 + 6);
        assert_eq!(job.resume("run")["parameters_digest"], whole["parameters_digest"], "it stays so");

        let run = job.path("run").display().to_string();
        let audit = report(&convoy().args(["audit", &run, "--json"]).output().expect("convoy starts"));
        assert_eq!((&audit["exact"], &audit["steps"], &audit["total_steps"]), (&true.into(), &30.into(), &30.into()));
        let earlier = &audit["earlier_plans"][0];
        assert_eq!((&earlier["epochs"], &earlier["steps"]), (&3.into(), &15.into()));
        // From a checkpoint of the earlier plan, and from one of the plan in force.
        for (step, from) in [("9", 5..=9), ("22", 20..=22)] {
            let again = convoy().args(["audit", &run, "--replay", step, "--json"]).output().expect("convoy starts");
            let again = report(&again);
            assert!(again["from_step"].as_u64().is_some_and(|step| from.contains(&step)), "{again}");
            assert_eq!(again["equal"], true);
        }
    }
}

#[test]
fn what_would_be_another_run_is_refused_and_nothing_changes() {
    let job = Job::new();
    job.train("cosine", &[]);
    let model = job.path("cosine/model/model.safetensors").display().to_string();
    refused(&job, "cosine", &["train.epochs=6"], 2, &["`cosine`", "step 1 would have had", "network.init", &model]);
    refused(&job, "cosine", &["train.epochs=2"], 2, &["15 steps of 5 an epoch are done", "3 epochs"]);
    refused(&job, "cosine", &["train.epochs=0"], 2, &["train.epochs", "at least 1"]);
    refused(&job, "cosine", &["train.epochs=many"], 2, &["many"]);
    refused(&job, "cosine", &["train.epochs"], 2, &["key.path=value"]);
    refused(
        &job,
        "cosine",
        &["optimizer.lr=0.1"],
        2,
        &["`optimizer.lr`", "data.train", "train.epochs", "network.init"],
    );
    refused(&job, "cosine", &["train.epoch=6"], 2, &["did you mean `train.epochs`"]);
    refused(&job, "cosine", &["data.trian=x"], 2, &["did you mean `data.train`"]);
    refused(&job, "cosine", &["data.train=data", "epochs=4"], 2, &["`epochs`", "train.epochs"]);
    assert_eq!(report(&resume(&job, "cosine", &["train.epochs=3"]))["parameters_digest"], GOLDEN.trim());
    // The remedy that the refusal names.
    let init = format!("network.init={model}");
    let spec = job.path("cosine/spec.toml").display().to_string();
    let out = job.path("next").display().to_string();
    let next = convoy().args(["train", &spec, "--json", "--set", &init, "--out", &out]).output();
    assert_eq!(report(&next.expect("convoy starts"))["outcome"], "completed");

    let enough = ["--set", "train.early_stopping={patience=2}", "--set", "optimizer.lr=1e-9"];
    assert_eq!(job.train("enough", &[&CONSTANT[..], &enough].concat())["outcome"], "completed");
    refused(&job, "enough", &["train.epochs=9"], 2, &["early stopping ended the run after epoch 3", "network.init"]);
}

#[test]
fn data_that_has_moved_is_taken_where_it_is_the_same() {
    let job = Job::new();
    job.train("run", &CONSTANT);
    let whole = job.train("whole", &[&CONSTANT[..], &["--set", "train.epochs=4"]].concat());
    fs::rename(job.path("data"), job.path("moved")).expect("the folder is writable");
    refused(&job, "run", &[], 3, &["data.train", "does not exist", "convoy resume", "--set"]);
    refused(&job, "run", &["data.train=nowhere"], 3, &["nowhere"]);
    fs::create_dir(job.path("other")).expect("the folder is writable");
    for entry in fs::read_dir(job.path("moved")).expect("the data").flatten() {
        fs::copy(entry.path(), job.path("other").join(entry.file_name())).expect("the folder is writable");
    }
    let images = job.path("other/train-images-idx3-ubyte");
    let mut bytes = fs::read(&images).expect("the data is there");
    bytes[100] ^= 1;
    fs::write(&images, bytes).expect("the data is writable");
    let named = ["train-images-idx3-ubyte has other bytes", "nothing in the run folder was changed"];
    refused(&job, "run", &["data.train=other"], 1, &named);
    refused(&job, "run", &["data.train=dataset:x"], 3, &["dataset:x"]);
    // A crash before the plan was written leaves the old place in force; the same command then goes on.
    let plans = ["run/plan.json", "run/plan-copy.json"].map(|name| (name, fs::read(job.path(name)).expect("a plan")));
    report(&resume(&job, "run", &["data.train=moved"]));
    plans.iter().for_each(|(name, plan)| fs::write(job.path(name), plan).expect("the folder is writable"));
    refused(&job, "run", &[], 3, &["data.train", "does not exist"]);
    fs::create_dir(job.path("data")).expect("the folder is writable");
    refused(&job, "run", &[], 2, &["if it lies elsewhere now", "--set data.train=PATH"]);
    // The last of two counts, and both keys may be set at once; then the run has the place in its folder.
    let longer = report(&resume(&job, "run", &["data.train=other", "data.train=./moved", "train.epochs=4"]));
    assert_eq!(longer["parameters_digest"], whole["parameters_digest"]);
    assert_eq!(job.resume("run")["parameters_digest"], whole["parameters_digest"]);
    let spec = fs::read_to_string(job.path("run/spec.toml")).expect("a spec");
    assert!(spec.contains(&format!("train = \"{}\"", job.path("moved").display())), "{spec}");
    // The folder can be copied elsewhere, and what is computed again there is read where the data is now.
    fs::rename(job.path("run"), job.path("copy")).expect("the folder is writable");
    let copy = job.path("copy").display().to_string();
    let again = convoy().args(["audit", &copy, "--replay", "3", "--json"]).output().expect("convoy starts");
    assert_eq!(report(&again)["equal"], true);
    assert_eq!(job.resume("copy")["parameters_digest"], whole["parameters_digest"]);
}

#[test]
fn a_job_of_a_coordinator_goes_on_here_with_the_data_of_this_machine() {
    let cluster = Cluster::new();
    let _coordinator = cluster.start();
    let _worker = worker(&cluster.address);
    let submitted = cluster.submit(&CONSTANT);
    cluster.when(submitted["id"].as_u64().expect("a number"), "its end", |job| job["state"] == "completed");
    cluster.check(&["resume", "job-1", "--set", "train.epochs=4"], 3, &["run folders", "convoy get job-1 --all"]);
    let got = cluster.job.path("got").display().to_string();
    cluster.json(&["get", "last", "--all", "--out", &got]);
    refused(&cluster.job, "got", &["train.epochs=4"], 3, &["data.train", "--set"]);
    let longer = report(&resume(&cluster.job, "got", &["train.epochs=4", "data.train=data"]));
    let whole = cluster.job.train("whole", &[&CONSTANT[..], &["--set", "train.epochs=4"]].concat());
    assert_eq!(longer["parameters_digest"], whole["parameters_digest"]);
}

#[test]
fn what_is_no_run_folder_is_told_with_what_could_be_meant() {
    let job = Job::new();
    job.train("runs/a-1", &[]);
    let at = |name: &str| job.path(name).display().to_string();
    check(&["resume", &at("runs")], 3, &["not a run folder", "name one", &at("runs/a-1")]);
    check(&["resume", &at("runs/a-1/spec.toml")], 3, &["name the run", &at("runs/a-1")]);
    check(&["resume", &at("runs/a-1/model")], 3, &["name the run", &at("runs/a-1")]);
    check(&["resume", &at("job.toml")], 3, &["it is a spec"]);
    check(&["resume", "nowhere", "--set", "train.epochs=4"], 3, &["nowhere", "run folders on this machine"]);
}

#[test]
fn starts_side_by_side_get_a_folder_each() {
    let job = Job::new();
    let start = |more: &[&str]| {
        let mut command = convoy();
        command.args(["train", "job.toml", "--json", "--threads", "1"]).args(more).current_dir(job.dir.path());
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("convoy starts")
    };
    let started: Vec<_> = (0..8).map(|_| start(&[])).collect();
    let mut folders: Vec<String> = started
        .into_iter()
        .map(|child| report(&child.wait_with_output().expect("convoy ends")))
        .inspect(|report| assert_eq!(report["parameters_digest"], GOLDEN.trim()))
        .map(|report| report["run_dir"].as_str().expect("a path").to_owned())
        .collect();
    folders.sort();
    assert_eq!(folders, (1..=8).map(|number| format!("runs/job-{number}")).collect::<Vec<_>>());

    let started: Vec<_> = (0..3).map(|_| start(&["--out", "same"])).collect();
    let ended: Vec<Output> = started.into_iter().map(|child| child.wait_with_output().expect("convoy ends")).collect();
    let (won, lost): (Vec<_>, Vec<_>) = ended.iter().partition(|output| output.status.success());
    assert_eq!(won.len(), 1);
    assert_eq!(report(won[0])["parameters_digest"], GOLDEN.trim());
    for output in lost {
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!([Some(4), Some(75)].contains(&output.status.code()), "{stderr}");
        assert!(stderr.contains("holds a run already") || stderr.contains("in use by another process"), "{stderr}");
    }
    assert_eq!(job.resume("same")["parameters_digest"], GOLDEN.trim());
}

#[cfg(unix)]
#[test]
fn a_start_that_fails_leaves_no_folder() {
    let job = Job::new();
    let convoy = convoy();
    let mut limited = std::process::Command::new("sh");
    // No file may have a byte.
    limited.args(["-c", "trap '' XFSZ; ulimit -f 0; exec \"$0\" train job.toml"]).arg(convoy.get_program());
    let output = limited.current_dir(job.dir.path()).output().expect("sh starts");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("runs/job-1/spec.toml") && stderr.contains("File too large"), "{stderr}");
    assert_eq!(fs::read_dir(job.path("runs")).expect("a folder").count(), 0);
    check(&["train", "nowhere.toml"], 3, &[]);
}
