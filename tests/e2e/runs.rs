//! The same bits, however a run is carried and whatever happens to it.

use std::fs;
use std::process::{Command, Stdio};

use crate::job::{GOLDEN, Job, Process, convoy, report, wait_for};

/// The digests after each step, from the journal.
pub fn steps(job: &Job, run: &str) -> Vec<serde_json::Value> {
    let journal = fs::read_to_string(job.path(run).join("journal")).expect("a run has a journal");
    let records = journal.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(&line[17..]).ok());
    records.filter(|record| record["record"] == "step_committed").map(|r| r["digest"].clone()).collect()
}

#[test]
fn the_digest_of_every_step_does_not_depend_on_workers_or_threads() {
    let job = Job::new();
    let mut first = None;
    for (workers, threads) in ["1", "2", "3", "5", "8"].into_iter().flat_map(|w| [(w, "1"), (w, "2")]) {
        let run = format!("run-{workers}-{threads}");
        let report = job.train(&run, &["--workers", workers, "--threads", threads]);
        assert_eq!(report["parameters_digest"], GOLDEN.trim(), "{workers} workers, {threads} threads");
        let found = steps(&job, &run);
        assert_eq!((&report["steps"], found.len()), (&15.into(), 15));
        assert_eq!(&found, first.get_or_insert(found.clone()), "{workers} workers, {threads} threads");
    }
}

#[test]
fn the_digest_does_not_depend_on_the_instruction_set() {
    let job = Job::new();
    for level in ["portable", "avx2"] {
        let mut command = convoy();
        command.env("CONVOY_CPU", level).arg("train").arg(job.spec()).arg("--json").arg("--out").arg(job.path(level));
        let report = report(&command.output().expect("convoy starts"));
        assert_eq!(report["parameters_digest"], GOLDEN.trim(), "{level}");
    }
}

#[test]
fn a_killed_run_resumes_to_the_same_digest_again_and_again() {
    let job = Job::new();
    let mut command = convoy();
    command.arg("train").arg(job.spec()).arg("--out").arg(job.path("run")).stderr(Stdio::null()).stdout(Stdio::null());
    let mut first = Process(command.spawn().expect("convoy starts"));
    let checkpoints = job.path("run").join("checkpoints");
    wait_for("a checkpoint", || {
        fs::read_dir(&checkpoints)
            .ok()?
            .flatten()
            .find(|entry| entry.file_name().to_string_lossy().starts_with("step-"))
    });
    first.0.kill().expect("the process can be killed");
    _ = first.0.wait();
    for _ in 0..2 {
        assert_eq!(job.resume("run")["parameters_digest"], GOLDEN.trim());
    }
    let digest = convoy().arg("digest").arg(job.path("run").join("model")).output().expect("convoy starts");
    assert_eq!(String::from_utf8_lossy(&digest.stdout).trim(), GOLDEN.trim());
}

#[test]
fn an_interrupted_run_finishes_its_step_saves_and_says_how_to_go_on() {
    let job = Job::new();
    let long = ["--set", "train.epochs=40"];
    let whole = job.train("whole", &long);
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let mut command = convoy();
        command.arg("train").arg(job.spec()).args(long).arg("--out").arg(job.path(signal));
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("convoy starts");
        let journal = job.path(signal).join("journal");
        wait_for("a committed step", || fs::read_to_string(&journal).ok()?.contains("step_committed").then_some(()));
        let sent = Command::new("kill").args(["-s", signal, &child.id().to_string()]).status();
        assert!(sent.expect("kill starts").success());
        let output = child.wait_with_output().expect("convoy ends");
        let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "{stdout}{stderr}");
        assert!(stdout.contains("convoy resume") && stderr.contains("finishing the step"), "{stdout}{stderr}");
        assert!(steps(&job, signal).len() < 200, "it did not go on to the end");
        let resumed = job.resume(signal);
        assert_eq!(resumed["parameters_digest"], whole["parameters_digest"]);
        assert_eq!(resumed["validation"], whole["validation"]);
    }
}

#[test]
fn workers_come_and_go_and_the_digest_stays() {
    let job = Job::new();
    let port = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("bound").port();
    let address = format!("127.0.0.1:{port}");
    let mut command = convoy();
    command.arg("coordinator").arg(job.spec()).arg("--json").arg("--listen").arg(&address);
    command.arg("--out").arg(job.path("run")).stdout(Stdio::piped()).stderr(Stdio::null());
    let coordinator = command.spawn().expect("convoy starts");
    let worker = || {
        let mut command = convoy();
        command.args(["worker", "--coordinator", &address, "--threads", "1"]);
        Process(command.stderr(Stdio::null()).spawn().expect("convoy starts"))
    };
    let mut first = worker();
    let journal = job.path("run").join("journal");
    wait_for("a committed step", || fs::read_to_string(&journal).ok()?.contains("step_committed").then_some(()));
    first.0.kill().expect("the process can be killed");
    let (_second, _third) = (worker(), worker());
    let output = coordinator.wait_with_output().expect("the coordinator ends");
    assert_eq!(report(&output)["parameters_digest"], GOLDEN.trim());
}
