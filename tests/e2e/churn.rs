//! Workers that fall silent, come back from the dead, or all go at once. Each test prints what the fault cost.

use std::process::Command;
use std::time::Instant;

use crate::cluster::{Cluster, digest};
use crate::faults::worker;
use crate::job::{Process, wait_for};

/// Epochs that take some seconds.
const LONG: [&str; 4] = ["--set", "train.epochs=150", "--set", "checkpoint.every_steps=100"];

pub fn signal(process: &Process, name: &str) {
    let pid = process.0.id().to_string();
    assert!(Command::new("kill").args([name, &pid]).status().expect("kill starts").success());
}

/// Steps that are committed, as the coordinator tells.
fn step(cluster: &Cluster) -> u64 {
    cluster.list().first().and_then(|job| job["status"]["step"].as_u64()).unwrap_or(0)
}

/// Waits for the next commit, and says how long that took and what was lost.
fn print_cost(cluster: &Cluster, what: &str, before: u64, since: Instant) {
    let now = wait_for("the next step", || Some(step(cluster)).filter(|step| *step > before));
    assert!(now > before, "nothing is rolled back");
    println!("{what}: 0 steps rolled back, {:.2} s to the next committed step", since.elapsed().as_secs_f64());
}

/// The job's end: the digest of an undisturbed run, and an exact ledger.
fn check_end(cluster: &Cluster, alone: &serde_json::Value) {
    let done = cluster.when(1, "its end", |job| job["state"] == "completed");
    assert_eq!(digest(&done), alone["parameters_digest"].as_str().expect("a digest"));
    let audit = cluster.json(&["audit", "last"]);
    assert_eq!((&audit["exact"], audit["epochs"].as_array().map(Vec::len)), (&true.into(), Some(150)));
}

#[test]
fn a_worker_that_falls_silent_is_replaced_and_comes_back_as_another() {
    let cluster = Cluster::new();
    let alone = cluster.job.train("alone", &LONG);
    let _coordinator = cluster.start();
    let sleeper = worker(&cluster.address);
    cluster.submit(&LONG);
    wait_for("steps of the first worker", || Some(step(&cluster)).filter(|step| *step > 10));
    let _other = worker(&cluster.address);
    wait_for("two workers at work", || (cluster.workers() == 2).then_some(()));
    let (before, since) = (step(&cluster), Instant::now());
    signal(&sleeper, "-STOP");
    // What it holds is redone by the other one before it counts as silent or after; either way the run goes on.
    print_cost(&cluster, "a worker that stopped (SIGSTOP)", before + 2, since);
    wait_for("the silent one to be lost", || (cluster.workers() == 1).then_some(()));
    println!("lost after {:.2} s", since.elapsed().as_secs_f64());
    signal(&sleeper, "-CONT");
    check_end(&cluster, &alone);
}

#[test]
fn a_run_without_workers_waits_and_says_so() {
    let cluster = Cluster::new();
    let alone = cluster.job.train("alone", &LONG);
    let _coordinator = cluster.start();
    let workers = [worker(&cluster.address), worker(&cluster.address)];
    cluster.submit(&LONG);
    wait_for("some steps", || Some(step(&cluster)).filter(|step| *step > 10));
    drop(workers);
    let waiting = |job: &serde_json::Value| job["waiting_for"].as_str().is_some_and(|text| text.contains("worker"));
    cluster.when(1, "it to say that it waits for workers", waiting);
    let (before, since) = (step(&cluster), Instant::now());
    let _workers = [worker(&cluster.address), worker(&cluster.address)];
    print_cost(&cluster, "all workers killed, two new ones", before, since);
    check_end(&cluster, &alone);
}
