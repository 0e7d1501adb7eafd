//! The ledger: who computed what, and steps that are computed again.

use std::fs;

use crate::cluster::Cluster;
use crate::errors::check;
use crate::faults::worker;
use crate::job::{Job, convoy, report};

#[test]
fn a_run_proves_its_ledger_and_steps_can_be_computed_again() {
    let job = Job::new();
    let done = job.train("run", &["--set", "checkpoint.every_steps=4", "--workers", "3"]);
    let (run, rows) = (job.path("run").display().to_string(), job.path("ledger.csv"));
    let csv = rows.display().to_string();
    let audit = report(&convoy().args(["audit", &run, "--samples", &csv, "--json"]).output().expect("convoy starts"));
    assert_eq!((&audit["exact"], &audit["steps"]), (&true.into(), &15.into()));
    for epoch in audit["epochs"].as_array().expect("epochs") {
        assert_eq!((&epoch["once"], &epoch["more"], &epoch["not_yet"]), (&150.into(), &0.into(), &0.into()));
    }
    assert_eq!(fs::read_to_string(rows).expect("it was written").lines().count(), 1 + 3 * 150);

    let replay = |step: &str| {
        let output = convoy().args(["audit", &run, "--replay", step, "--json"]).output();
        report(&output.expect("convoy starts"))
    };
    let last = replay("14");
    assert_eq!(last["parameters_digest"], done["parameters_digest"]);
    assert!(last["steps_computed"].as_u64().expect("a number") <= 5, "{last}");
    assert_eq!(replay("1")["from_step"], 0);
    check(&["audit", &run, "--replay", "15"], 3, &["no step 15"]);
    check(&["audit", "nowhere/at/all"], 3, &["run folder"]);

    // Data that is not what it was gives other numbers, or none: the replay says so.
    let images = job.path("data/train-images-idx3-ubyte");
    let mut bytes = fs::read(&images).expect("the data is there");
    bytes[100] ^= 1;
    fs::write(&images, bytes).expect("the data is writable");
    check(&["audit", &run, "--replay", "14"], 1, &["train-images-idx3-ubyte", "has changed"]);

    // A journal from which a commit was taken out.
    let journal = job.path("run/journal");
    let text = fs::read_to_string(&journal).expect("the journal is text");
    let without: String =
        text.lines().filter(|line| !line.contains("\"step\":7,")).map(|line| format!("{line}\n")).collect();
    fs::write(&journal, without).expect("the journal is writable");
    let output = convoy().args(["audit", &run]).output().expect("convoy starts");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stdout).contains("step 7 is missing"));
}

#[test]
fn a_job_of_a_coordinator_is_audited_from_afar() {
    let cluster = Cluster::new();
    let _coordinator = cluster.start();
    let _workers = [worker(&cluster.address), worker(&cluster.address)];
    let job = cluster.submit(&[]);
    cluster.when(job["id"].as_u64().expect("a number"), "its end", |job| job["state"] == "completed");
    let audit = cluster.json(&["audit", "last"]);
    assert_eq!((&audit["exact"], audit["epochs"].as_array().map(Vec::len)), (&true.into(), Some(3)));
    let data = cluster.job.path("data").display().to_string();
    let again = cluster.json(&["audit", "last", "--replay", "9", "--data", &data]);
    assert_eq!((&again["step"], &again["equal"]), (&9.into(), &true.into()));
    cluster.check(&["audit", "nothing"], 3, &["convoy ls"]);
}
