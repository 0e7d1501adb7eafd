//! A coordinator with a queue of jobs: several jobs, people's commands, and what dies in between.

use std::process::{Command, Stdio};

use crate::faults::{free_address, worker};
use crate::job::{GOLDEN, Job, Process, convoy, report, wait_for};

/// A coordinator of jobs with its state in the job's folder.
pub struct Cluster {
    pub job: Job,
    pub address: String,
}

impl Cluster {
    pub fn new() -> Self {
        Cluster { job: Job::new(), address: free_address() }
    }

    /// Starts the coordinator and waits until it answers.
    pub fn start(&self) -> Process {
        self.start_with(&[])
    }

    /// The same with more arguments.
    pub fn start_with(&self, more: &[&str]) -> Process {
        let mut command = convoy();
        command.arg("coordinator").arg("--state").arg(self.job.path("state")).args(["--listen", &self.address]);
        command.args(more);
        let process = Process(command.stderr(Stdio::null()).spawn().expect("convoy starts"));
        wait_for("the coordinator", || self.convoy(&["health"]).output().ok()?.status.success().then_some(()));
        process
    }

    pub fn convoy(&self, args: &[&str]) -> Command {
        let mut command = convoy();
        command.env("CONVOY_COORDINATOR", &self.address).args(args);
        command
    }

    pub fn json(&self, args: &[&str]) -> serde_json::Value {
        report(&self.convoy(args).arg("--json").output().expect("convoy starts"))
    }

    /// Queues the tiny job, with more to override.
    pub fn submit(&self, more: &[&str]) -> serde_json::Value {
        let spec = self.job.spec().display().to_string();
        self.json(&[&["submit", &spec, "--detach"], more].concat())
    }

    pub fn list(&self) -> Vec<serde_json::Value> {
        let output = self.convoy(&["ls", "--json"]).output().expect("convoy starts");
        String::from_utf8_lossy(&output.stdout).lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Workers that are connected.
    pub fn workers(&self) -> usize {
        let output = self.convoy(&["workers", "--json"]).output().expect("convoy starts");
        String::from_utf8_lossy(&output.stdout).lines().count()
    }

    /// Waits until a job is as `wanted` says, and returns it.
    pub fn when(&self, id: u64, what: &str, wanted: impl Fn(&serde_json::Value) -> bool) -> serde_json::Value {
        wait_for(what, || self.list().into_iter().find(|job| job["id"] == id && wanted(job)))
    }

    /// Runs a command and checks its exit code and what its error names.
    pub fn check(&self, args: &[&str], code: i32, names: &[&str]) {
        let output = self.convoy(args).output().expect("convoy starts");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {stderr}");
        for name in names {
            assert!(stderr.contains(name), "{args:?}: {name:?} is not in: {stderr}");
        }
    }
}

pub fn digest(job: &serde_json::Value) -> &str {
    job["result"]["parameters_digest"].as_str().unwrap_or_default()
}

#[test]
fn a_submitted_job_is_followed_to_its_end_and_fetched() {
    let cluster = Cluster::new();
    let _coordinator = cluster.start();
    let _workers = [worker(&cluster.address), worker(&cluster.address)];
    let spec = cluster.job.spec().display().to_string();
    let done = cluster.json(&["submit", &spec]);
    assert_eq!((done["job"].as_str(), done["state"].as_str()), (Some("job-1"), Some("completed")));
    assert_eq!(digest(&done), GOLDEN.trim());
    let got = cluster.job.path("got").display().to_string();
    cluster.json(&["get", "last", "--out", &got]);
    let model = format!("{got}/model");
    let printed = convoy().args(["digest", &model]).output().expect("convoy starts");
    assert_eq!(String::from_utf8_lossy(&printed.stdout).trim(), GOLDEN.trim());
    let log = cluster.convoy(&["logs", "job-1"]).output().expect("convoy starts");
    assert!(String::from_utf8_lossy(&log.stdout).contains("epoch"), "the job's log tells of its epochs");
    let workers = cluster.convoy(&["workers", "--json"]).output().expect("convoy starts");
    for line in String::from_utf8_lossy(&workers.stdout).lines() {
        let worker: serde_json::Value = serde_json::from_str(line).expect("an object a line");
        let name = worker["name"].as_str().expect("a name");
        let log = cluster.convoy(&["logs", "job-1", "--worker", name]).output().expect("convoy starts");
        assert!(String::from_utf8_lossy(&log.stdout).contains("joined the run"), "{name}");
    }
    cluster.check(&["logs", "job-1", "--worker", "nobody"], 3, &["nobody", "convoy workers"]);
    assert_eq!(digest(&cluster.json(&["watch", "1"])), GOLDEN.trim(), "a job that is over can be watched");
}

#[test]
fn jobs_share_workers_and_can_be_paused_resumed_stopped_and_removed() {
    let cluster = Cluster::new();
    let _coordinator = cluster.start();
    cluster.submit(&[]);
    let long = ["--set", "train.epochs=5000", "--set", "checkpoint.every_steps=1000"];
    cluster.submit(&long);
    cluster.submit(&["--min-workers", "9"]);
    let waiting = cluster.when(3, "a job that waits", |job| job["waiting_for"].is_string());
    assert_eq!(waiting["state"], "queued");
    let _workers = [worker(&cluster.address), worker(&cluster.address), worker(&cluster.address)];
    cluster.when(2, "the second job to run", |job| job["status"]["step"].as_u64() > Some(0));
    let first = cluster.when(1, "the first job's end", |job| job["state"] == "completed");
    assert_eq!(digest(&first), GOLDEN.trim());

    cluster.check(&["pause", "2"], 0, &[]);
    cluster.when(2, "the pause", |job| job["state"] == "paused");
    cluster.check(&["rm", "2"], 1, &["stop it first"]);
    cluster.check(&["resume", "job-2"], 0, &[]);
    cluster.when(2, "the job to go on", |job| job["status"]["workers"].as_u64() > Some(0));
    cluster.check(&["stop", "2"], 0, &[]);
    cluster.check(&["watch", "2"], 5, &[]);
    cluster.check(&["pause", "2"], 1, &["stopped"]);
    cluster.check(&["rm", "2"], 0, &[]);
    assert!(!cluster.job.path("state/jobs/2").exists());
    cluster.check(&["stop", "2"], 3, &["no job `2`"]);
    cluster.check(&["stop", "3"], 0, &[]);
    assert_eq!(cluster.list().len(), 2);
}

#[test]
fn a_job_that_cannot_be_is_refused_before_it_is_queued() {
    let cluster = Cluster::new();
    let _coordinator = cluster.start();
    let spec = cluster.job.spec().display().to_string();
    cluster.check(&["submit", &spec, "--set", "train.epoch=3"], 2, &["did you mean `epochs`"]);
    cluster.check(&["submit", &spec, "--set", "data.train=missing"], 3, &["missing"]);
    let layers = "network.layers=[{type=\"conv\",out=4,kernel=9},{type=\"flatten\"},{type=\"linear\",out=3}]";
    cluster.check(&["submit", &spec, "--set", layers], 2, &["9x9", "8x8"]);
    cluster.check(&["submit", &spec, "--min-workers", "3", "--max-workers", "2"], 2, &["--max-workers"]);
    cluster.check(&["watch", "last"], 3, &["convoy ls"]);
    assert!(cluster.list().is_empty());
    let state = cluster.job.path("state").display().to_string();
    cluster.check(&["coordinator", "--state", &state, "--listen", "127.0.0.1:0"], 75, &["in use by another"]);
    let nobody = convoy().args(["ls", "--coordinator", "127.0.0.1:1"]).output().expect("convoy starts");
    assert_eq!(nobody.status.code(), Some(75));
}

#[test]
fn a_killed_coordinator_comes_back_and_goes_on_by_itself() {
    let cluster = Cluster::new();
    let mut coordinator = cluster.start();
    let _workers = [worker(&cluster.address), worker(&cluster.address)];
    cluster.submit(&["--set", "train.epochs=60"]);
    let watching = cluster.convoy(&["watch", "1", "--json"]).stdout(Stdio::piped()).spawn().expect("convoy starts");
    let mut reached = 0;
    for _ in 0..3 {
        let job = cluster.when(1, "some more steps", |job| job["status"]["step"].as_u64() > Some(reached + 20));
        reached = job["status"]["step"].as_u64().expect("it runs");
        coordinator.0.kill().expect("it runs");
        coordinator.0.wait().expect("it ends");
        coordinator = cluster.start();
    }
    let watched = report(&watching.wait_with_output().expect("watch ends"));
    assert_eq!(watched["state"], "completed");
    let whole = cluster.job.train("whole", &["--set", "train.epochs=60"]);
    assert_eq!(digest(&watched), whole["parameters_digest"].as_str().expect("a digest"));
    let audit = cluster.json(&["audit", "last"]);
    assert_eq!((&audit["exact"], &audit["starts"]), (&true.into(), &4.into()));
}

#[cfg(unix)]
#[test]
fn a_worker_that_is_asked_to_go_drains_and_a_stopped_coordinator_keeps_its_jobs() {
    let cluster = Cluster::new();
    let mut coordinator = cluster.start();
    let mut leaving = worker(&cluster.address);
    cluster.submit(&["--set", "train.epochs=200"]);
    cluster.when(1, "the first steps", |job| job["status"]["step"].as_u64() > Some(3));
    terminate(&leaving);
    assert_eq!(leaving.0.wait().expect("it ends").code(), Some(143), "drained");
    let alone = cluster.when(1, "the run to be alone", |job| job["status"]["workers"] == 0);
    assert_eq!((&alone["state"], &alone["waiting_for"]), (&"running".into(), &"waiting for a worker".into()));
    terminate(&coordinator);
    assert_eq!(coordinator.0.wait().expect("it ends").code(), Some(143), "all saved");
    coordinator = cluster.start();
    let _worker = worker(&cluster.address);
    let done = cluster.json(&["watch", "last"]);
    let whole = cluster.job.train("whole", &["--set", "train.epochs=200"]);
    assert_eq!(digest(&done), whole["parameters_digest"].as_str().expect("a digest"));
    drop(coordinator);
}

#[cfg(unix)]
fn terminate(process: &Process) {
    let status = Command::new("kill").arg(process.0.id().to_string()).status().expect("kill starts");
    assert!(status.success());
}
