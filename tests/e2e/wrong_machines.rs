//! Machines that are wrong while workers add gradients for each other: each is found, named and put out, and leaves no
//! trace in the parameters.

use std::process::{Command, Stdio};

use convoy_reduce::faults::{Wrong, begin};
use serde_json::Value;

use crate::cluster::{Cluster, digest};
use crate::job::{Process, convoy, wait_for};
use crate::owners::{LAYERS, owner};

const LONG: [&str; 6] = ["--set", LAYERS, "--set", "train.epochs=30", "--set", "checkpoint.every_steps=10"];
/// Tells [`machine`] what to do wrongly, and after how many times that it does it right.
const HOW: &str = "CONVOY_TEST_WRONG";

/// The worker `mallory`, which does something wrongly: a process of these tests.
fn mallory(coordinator: &str, wrong: &str, after: u32) -> Process {
    let mut command = Command::new(std::env::current_exe().expect("it runs"));
    let like = convoy();
    command.envs(like.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.env(HOW, format!("{wrong} {after} {coordinator}")).env("CANDLE_NUM_THREADS", "1");
    command.args(["--exact", "wrong_machines::machine", "--nocapture"]);
    Process(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts"))
}

/// What [`mallory`] runs. Where this is one test of many there is nothing to run.
#[test]
fn machine() {
    if let Ok(how) = std::env::var(HOW) {
        work_wrongly(&how);
    }
}

fn work_wrongly(how: &str) {
    let [wrong, after, coordinator] = how.split(' ').collect::<Vec<_>>()[..] else { panic!("{how}") };
    let wrong = match wrong {
        "node" => Wrong::Node,
        "sum" => Wrong::Sum,
        "parameters" => Wrong::Parameters,
        _ => Wrong::Brought,
    };
    begin(wrong, after.parse().expect("a number"));
    let args = ["convoy", "worker", "--coordinator", coordinator, "--threads", "1", "--name", "mallory"];
    let ended = convoy_cli::run(args.into_iter().chain(["--peer-listen", "127.0.0.1:0"]));
    assert_eq!(ended, std::process::ExitCode::SUCCESS);
}

/// A run with so many honest workers and one that is wrong, which all add. Its parameters are those of one process. The
/// answer is its audit, and what people were told.
fn run_with_mallory(honest: usize, wrong: &str, after: u32, more: &[&str]) -> (Value, String) {
    let cluster = Cluster::new();
    let alone = cluster.job.train("alone", &LONG);
    let _coordinator = cluster.start_with(more);
    let _honest: Vec<Process> = (0..honest).map(|_| owner(&cluster.address, &[])).collect();
    wait_for("the honest ones", || (cluster.workers() == honest).then_some(()));
    let _mallory = mallory(&cluster.address, wrong, after);
    let workers = honest + 1;
    wait_for("all workers", || (cluster.workers() == workers).then_some(()));
    cluster.submit(&[&LONG[..], &["--min-workers", &workers.to_string()]].concat());
    let done = cluster.when(1, "its end", |job| job["state"] == "completed" || job["state"] == "failed");
    assert_eq!(digest(&done), alone["parameters_digest"].as_str().expect("a digest"), "{done}");
    let audit = cluster.json(&["audit", "last"]);
    assert_eq!(audit["exact"], true, "{audit}");
    let events = std::fs::read_to_string(cluster.job.path("state/jobs/1/events.jsonl")).expect("the run has events");
    (audit, events)
}

#[test]
fn who_adds_wrongly_is_put_out_with_its_first_sum() {
    let (audit, events) = run_with_mallory(3, "sum", 0, &[]);
    assert_eq!(audit["distrusted"], serde_json::json!(["mallory"]), "{audit}");
    // What it computed in the step before it added anything is not believed either.
    assert!(audit["disbelieved"].as_u64() <= Some(1), "{audit}");
    assert!(events.contains("added a chunk of step") && events.contains("mallory"), "{events}");
}

#[test]
fn what_was_added_wrongly_before_that_was_found_out_is_computed_again() {
    let (audit, events) = run_with_mallory(2, "sum", 90, &[]);
    assert_eq!(audit["distrusted"], serde_json::json!(["mallory"]), "{audit}");
    assert!(audit["starts"].as_u64() == Some(2) && audit["disbelieved"].as_u64() > Some(0), "{audit}");
    assert!(events.contains("added a chunk of step"), "{events}");
    // A third of 19 chunks is mallory's in each step but the first.
    let event = |line: &str| serde_json::from_str::<Value>(line).expect("an event");
    let found = events.lines().map(event).find(|event| event["event"] == "distrusted").expect("it was found out");
    let steps = found["step"].as_u64().expect("a step");
    println!("found out in step {steps}, in which it had added {} chunks", steps * 19 / 3);
    assert!(steps * 6 <= 90 + 7 + 150, "found out only in step {steps}");
}

#[test]
fn who_computes_wrongly_what_others_add_is_put_out() {
    let (audit, events) = run_with_mallory(3, "node", 100, &["--audit", "10"]);
    assert_eq!(audit["distrusted"], serde_json::json!(["mallory"]), "{audit}");
    assert!(events.contains("agree otherwise"), "{events}");
}

#[test]
fn wrong_parameters_are_not_computed_with_and_who_hands_them_out_is_put_out() {
    let (audit, events) = run_with_mallory(2, "parameters", 40, &[]);
    assert_eq!(audit["distrusted"], serde_json::json!(["mallory"]), "{audit}");
    assert!(events.contains("\"event\":\"disagreed\""), "{events}");
}

#[test]
fn who_says_to_have_been_brought_something_else_adds_no_more() {
    let (audit, events) = run_with_mallory(3, "brought", 90, &[]);
    assert!(events.contains("\"event\":\"disagreed\"") && events.contains("mallory"), "{events}");
    let pairs = audit["disagreed"].as_array().expect("pairs");
    let with_mallory = |pair: &Value| pair[0] == "mallory" || pair[1] == "mallory";
    assert!(!pairs.is_empty() && pairs.iter().all(with_mallory), "{audit}");
}

/// Two that disagree, and nobody who could say which is wrong: the coordinator adds everything from then on.
#[test]
fn of_two_nobody_can_say_who_is_wrong_and_neither_adds() {
    let (audit, _) = run_with_mallory(1, "brought", 60, &[]);
    assert_eq!((audit["disagreed"].as_array().map(Vec::len), &audit["distrusted"]), (Some(1), &serde_json::json!([])));
}
