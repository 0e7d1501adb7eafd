//! What is killed at the worst moment: workers in mid-upload and in mid-computation, coordinators at any moment. Each
//! test prints what the fault cost.

use std::fs;
use std::time::{Instant, UNIX_EPOCH};

use convoy_faults::proxy::Proxy;
use serde_json::Value;

use crate::churn::signal;
use crate::cluster::{Cluster, digest};
use crate::faults::worker;
use crate::job::{Process, wait_for};

/// A network of 1.2 million parameters that are cheap to compute: a node takes 18 chunks and more to send.
const LARGE: [&str; 6] = [
    "--set",
    "network.layers=[{type=\"flatten\"},{type=\"linear\",out=2048},{type=\"relu\"},{type=\"linear\",out=512},{type=\"linear\",out=3}]",
    "--set",
    "train.epochs=10",
    "--set",
    "checkpoint.every_steps=100",
];
/// Fewer bytes than a node of [`LARGE`] has.
const LARGE_NODE: u64 = 4 * (64 * 2048 + 2048 * 512);

/// A network of few parameters that take long: a step is some tenths of a second, a node half a megabyte.
const SLOW: [&str; 8] = [
    "--set",
    "network.layers=[{type=\"conv\",out=160,kernel=3,padding=1},{type=\"relu\"},{type=\"conv\",out=160,kernel=3,padding=1},{type=\"relu\"},{type=\"conv\",out=160,kernel=3,padding=1},{type=\"flatten\"},{type=\"linear\",out=3}]",
    "--set",
    "train.batch=150",
    "--set",
    "train.epochs=30",
    "--set",
    "checkpoint.every_steps=100",
];

/// Records of one kind in the first job's journal, as far as it is written.
pub fn records(cluster: &Cluster, kind: &str) -> Vec<Value> {
    let text = fs::read_to_string(cluster.job.path("state/jobs/1/journal")).unwrap_or_default();
    let records = text.lines().filter_map(|line| serde_json::from_str(line.split_once(' ')?.1).ok());
    records.filter(|record: &Value| record["record"] == kind).collect()
}

/// Steps that the first job has committed.
fn committed(cluster: &Cluster) -> u64 {
    records(cluster, "step_committed")
        .iter()
        .filter_map(|record| record["step"].as_u64())
        .max()
        .map_or(0, |step| step + 1)
}

fn wait_for_step(cluster: &Cluster, step: u64) -> u64 {
    wait_for("more steps", || Some(committed(cluster)).filter(|now| *now >= step))
}

/// The job's end: the digest of an undisturbed run and an exact ledger, without a step that was taken back.
fn check_end(cluster: &Cluster, alone: &Value, starts: u64) {
    let done = cluster.when(1, "its end", |job| job["state"] == "completed");
    assert_eq!(digest(&done), alone["parameters_digest"].as_str().expect("a digest"));
    let audit = cluster.json(&["audit", "last"]);
    assert_eq!((&audit["exact"], &audit["starts"]), (&true.into(), &starts.into()));
    if starts == 1 {
        assert_eq!(audit["repeated"], 0, "no step is rolled back");
    }
}

/// What the death of a worker costs, from `since` on, when `before` steps were committed: until its leases are given to
/// others, and until the next step.
fn print_cost(cluster: &Cluster, what: &str, before: u64, since: Instant) {
    let mut left = None;
    let next = wait_for("the next step", || {
        if left.is_none() && !records(cluster, "worker_left").is_empty() {
            left = Some(since.elapsed());
        }
        (committed(cluster) > before).then(|| since.elapsed())
    });
    let noticed = left.unwrap_or_else(|| {
        wait_for("the worker to be lost", || (!records(cluster, "worker_left").is_empty()).then(|| since.elapsed()))
    });
    println!(
        "{what}: 0 steps rolled back; its leases went to others within {:.2} s, {:.2} s to the next committed step",
        noticed.as_secs_f64(),
        next.as_secs_f64()
    );
}

/// Seconds between the commits of `count` steps from now on, on average.
fn pace(cluster: &Cluster, count: u64) -> f64 {
    let first = wait_for_step(cluster, committed(cluster) + 1);
    let since = Instant::now();
    let last = wait_for_step(cluster, first + count);
    since.elapsed().as_secs_f64() / (last - first) as f64
}

#[test]
fn a_worker_killed_in_mid_upload_costs_no_step() {
    let cluster = Cluster::new();
    let alone = cluster.job.train("alone", &LARGE);
    let _coordinator = cluster.start();
    let _other = worker(&cluster.address);
    // One node and a half are no whole number of nodes, so the last one is on its way.
    let proxy = Proxy::start(&cluster.address);
    proxy.hold_after(LARGE_NODE * 3 / 2);
    let doomed = worker(&proxy.address);
    wait_for("two workers", || (cluster.workers() == 2).then_some(()));
    cluster.submit(&LARGE);
    wait_for("an upload that is cut in the middle", || proxy.holds().then_some(()));
    let (before, since) = (committed(&cluster), Instant::now());
    drop(doomed);
    proxy.hang_up();
    print_cost(&cluster, "a worker killed in mid-upload", before, since);
    check_end(&cluster, &alone, 1);
}

/// A cluster with two workers in the middle of computing a step of [`SLOW`]; the second one computes for certain.
#[cfg(target_os = "linux")]
fn computing() -> (Cluster, Value, Process, Process, Process) {
    let cluster = Cluster::new();
    let alone = cluster.job.train("alone", &SLOW);
    let coordinator = cluster.start();
    let workers = [worker(&cluster.address), worker(&cluster.address)];
    wait_for("two workers", || (cluster.workers() == 2).then_some(()));
    cluster.submit(&SLOW);
    wait_for_step(&cluster, 3);
    println!("a step of both workers: {:.2} s", pace(&cluster, 2));
    let [other, doomed] = workers;
    let begun = (committed(&cluster), ticks(&doomed));
    // A step has begun, and since then its one thread computed for 50 ms of the step's some hundred.
    wait_for("the worker to compute", || {
        (committed(&cluster) == begun.0 && ticks(&doomed) >= begun.1 + 5).then_some(())
    });
    (cluster, alone, coordinator, other, doomed)
}

/// How long a process has computed, in hundredths of a second.
#[cfg(target_os = "linux")]
fn ticks(process: &Process) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", process.0.id())).expect("it runs");
    let after_name = stat.rsplit_once(')').expect("a name in brackets").1;
    after_name.split_whitespace().nth(11).and_then(|user| user.parse().ok()).expect("a number")
}

#[cfg(target_os = "linux")]
#[test]
fn a_worker_killed_while_it_computes_costs_no_step() {
    let (cluster, alone, _coordinator, _other, doomed) = computing();
    let (before, since) = (committed(&cluster), Instant::now());
    drop(doomed);
    print_cost(&cluster, "a worker killed (its socket closes)", before, since);
    println!("a step of the other one alone: {:.2} s", pace(&cluster, 2));
    check_end(&cluster, &alone, 1);
}

#[cfg(target_os = "linux")]
#[test]
fn a_worker_that_falls_silent_while_it_computes_costs_no_step() {
    let (cluster, alone, _coordinator, _other, doomed) = computing();
    let (before, since) = (committed(&cluster), Instant::now());
    signal(&doomed, "-STOP");
    print_cost(&cluster, "a worker stopped (it falls silent)", before, since);
    println!("a step of the other one alone: {:.2} s", pace(&cluster, 2));
    check_end(&cluster, &alone, 1);
}

/// Kills a coordinator and starts it again; how many steps were committed, and when it was started.
fn restart(cluster: &Cluster, coordinator: &mut Process) -> (u64, Instant) {
    coordinator.0.kill().expect("it runs");
    coordinator.0.wait().expect("it ends");
    let (before, since) = (committed(cluster), Instant::now());
    *coordinator = cluster.start();
    (before, since)
}

/// Waits until a run that was started again is further than `before`, and prints what that took.
fn print_return(cluster: &Cluster, starts: usize, (before, since): (u64, Instant)) {
    let now = wait_for_step(cluster, before + 1);
    let took = since.elapsed().as_secs_f64();
    let last = records(cluster, "started").pop().expect("it was started");
    let first = last["first_step"].as_u64().expect("a step");
    assert!(first <= before, "it began at {first}, of {before} committed steps and {now} by now");
    println!("start {starts}: {took:.2} s to the next committed step, {} of {before} steps replayed", before - first);
}

/// The environment variable that repeats a run of the random test, with the seed that it printed.
const SEED: &str = "CONVOY_TEST_SEED";

/// Numbers below `bound`, from a seed.
struct Dice(u64);

impl Dice {
    /// From the seed in the environment, or from one that no run had before. Prints it.
    fn seeded() -> Dice {
        let given = std::env::var(SEED).ok().map(|text| text.parse().expect("the seed is a number"));
        let seed = given.unwrap_or_else(|| UNIX_EPOCH.elapsed().expect("it is later than 1970").as_nanos() as u64);
        println!("{SEED}={seed}");
        Dice(seed)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % bound
    }
}

/// About as many bytes as some nodes of the tiny job have.
const SOME_NODES: u64 = 12_000;

/// Epochs enough for five kills, and checkpoints so seldom that steps are replayed.
const KILLED: [&str; 4] = ["--set", "train.epochs=80", "--set", "checkpoint.every_steps=16"];

#[test]
fn a_coordinator_killed_at_random_moments_replays_what_it_must() {
    let mut dice = Dice::seeded();
    let cluster = Cluster::new();
    let alone = cluster.job.train("alone", &KILLED);
    let mut coordinator = cluster.start();
    let proxy = Proxy::start(&cluster.address);
    // Both workers come through it: one alone would make all steps that are left before the other is back.
    let _workers = [worker(&proxy.address), worker(&proxy.address)];
    cluster.submit(&KILLED);
    let mut before = 0;
    for start in 2..=6 {
        wait_for_step(&cluster, before + 1 + dice.below(40));
        // Random is where in a step it happens: after so many bytes more of the workers.
        proxy.hold_after(1 + dice.below(SOME_NODES));
        wait_for("the workers to have sent so much", || proxy.holds().then_some(()));
        let killed = restart(&cluster, &mut coordinator);
        proxy.hang_up();
        print_return(&cluster, start, killed);
        before = killed.0;
    }
    check_end(&cluster, &alone, 6);
}

#[test]
fn a_coordinator_killed_three_times_in_a_row_goes_on() {
    let cluster = Cluster::new();
    let alone = cluster.job.train("alone", &KILLED);
    let mut coordinator = cluster.start();
    let _workers = [worker(&cluster.address), worker(&cluster.address)];
    cluster.submit(&KILLED);
    wait_for_step(&cluster, 30);
    for start in 2..=3 {
        restart(&cluster, &mut coordinator);
        wait_for("the run to be opened", || (records(&cluster, "started").len() == start).then_some(()));
    }
    let killed = restart(&cluster, &mut coordinator);
    print_return(&cluster, 4, killed);
    check_end(&cluster, &alone, 4);
}
