//! A machine that computes wrongly: a worker of sound mind behind a connection that changes bits of what it sends.

use convoy_faults::liar::{Liar, Lie, UNSEEN};

use crate::cluster::{Cluster, digest};
use crate::faults::worker;
use crate::job::{Process, convoy, home, wait_for};

/// Several times the steps in which a newcomer has its first audit.
const LONG: [&str; 4] = ["--set", "train.epochs=120", "--set", "checkpoint.every_steps=10"];

/// The worker `mallory` behind a liar.
fn mallory(address: &str) -> Process {
    let mut command = convoy();
    command.args(["worker", "--coordinator", address, "--threads", "1", "--name", "mallory"]);
    Process(command.stderr(std::process::Stdio::piped()).spawn().expect("convoy starts"))
}

/// What the run's audit says of a machine that was evicted.
fn evicted(cluster: &Cluster) -> serde_json::Value {
    let audit = cluster.json(&["audit", "last"]);
    assert_eq!((&audit["exact"], &audit["distrusted"]), (&true.into(), &serde_json::json!(["mallory"])), "{audit}");
    audit
}

/// It was told why it may not come back.
fn check_evicted(mut mallory: Process) {
    let ended = wait_for("its end", || mallory.0.try_wait().expect("it was started"));
    assert_eq!(ended.code(), Some(4), "it may not come back");
    let mut said = String::new();
    let stderr = mallory.0.stderr.as_mut().expect("it is piped");
    std::io::Read::read_to_string(stderr, &mut said).expect("it is text");
    assert!(said.contains("mallory") && said.contains("wrongly") && said.contains("agree otherwise"), "{said}");
}

/// A run with two workers that a liar joins. The liar is evicted during the run and leaves no trace in the parameters.
/// It comes when the others have made a step: a worker that is alone has nobody who could find it out. The answer is
/// the run's audit.
fn audit_with_a_liar(honest: i64) -> serde_json::Value {
    let cluster = Cluster::new();
    let alone = cluster.job.train("alone", &LONG);
    let _coordinator = cluster.start();
    let liar = Liar::start(&cluster.address, &home(), Lie::Bit, honest);
    let _workers = [worker(&cluster.address), worker(&cluster.address)];
    wait_for("two workers", || (cluster.workers() == 2).then_some(()));
    cluster.submit(&LONG);
    cluster.when(1, "its first steps", |job| job["status"]["step"].as_u64() > Some(1));
    let mallory = mallory(&liar.address);
    let done = cluster.when(1, "its end", |job| job["state"] == "completed");
    assert_eq!(digest(&done), alone["parameters_digest"].as_str().expect("a digest"));
    let audit = evicted(&cluster);
    check_evicted(mallory);
    audit
}

#[test]
fn a_machine_that_computes_wrongly_is_evicted_with_its_first_shard() {
    let audit = audit_with_a_liar(-UNSEEN);
    assert_eq!((&audit["disbelieved"], &audit["starts"]), (&0.into(), &1.into()), "nothing of it was committed");
}

#[test]
fn what_a_machine_computed_wrongly_before_it_was_found_out_is_computed_again() {
    let audit = audit_with_a_liar(40);
    let (taken_back, starts) = (audit["disbelieved"].as_u64(), audit["starts"].as_u64());
    assert!(taken_back > Some(0) && starts == Some(2), "{audit}");
    let audited = |epoch: &serde_json::Value| epoch["audited"].as_u64().unwrap_or(0);
    let audited: u64 = audit["epochs"].as_array().expect("epochs").iter().map(audited).sum();
    println!("{} steps taken back; {audited} of {} samples audited", taken_back.unwrap_or(0), 400 * 150);
}

/// A run with two workers that a liar joins which never brings a node whole. The answer is what people were told.
fn events_of_a_liar(lie: Lie) -> String {
    let cluster = Cluster::new();
    let alone = cluster.job.train("alone", &LONG);
    let _coordinator = cluster.start();
    let liar = Liar::start(&cluster.address, &home(), lie, 0);
    let _workers = [worker(&cluster.address), worker(&cluster.address)];
    wait_for("two workers", || (cluster.workers() == 2).then_some(()));
    cluster.submit(&LONG);
    cluster.when(1, "its first steps", |job| job["status"]["step"].as_u64() > Some(1));
    let _mallory = mallory(&liar.address);
    let done = cluster.when(1, "its end", |job| job["state"] == "completed");
    assert_eq!(digest(&done), alone["parameters_digest"].as_str().expect("a digest"));
    assert_eq!(cluster.json(&["audit", "last"])["exact"], true);
    std::fs::read_to_string(cluster.job.path("state/jobs/1/events.jsonl")).expect("the run has events")
}

#[test]
fn a_worker_that_sends_chunks_twice_has_failed_and_leaves_no_trace() {
    let events = events_of_a_liar(Lie::Twice);
    assert!(events.contains("of the node came twice"), "{events}");
}

#[test]
fn half_a_node_of_a_worker_that_dies_is_compared_with_what_others_bring() {
    let events = events_of_a_liar(Lie::Half);
    assert!(events.contains("contradicted") && events.contains("mallory"), "{events}");
}
