//! Workers that add gradients for each other, and what may happen to them: killed at each stage,
//! not reached, slow, asked to go; and a coordinator that is killed while they are ahead of it. The bits are always
//! those of one process.

use std::process::Stdio;
use std::time::Instant;

use convoy_faults::proxy::{Proxy, Way};
use serde_json::Value;

use crate::churn::signal;
use crate::cluster::{Cluster, digest};
use crate::faults::free_address;
use crate::job::{Process, convoy, wait_for};
use crate::kills::records;

/// A network of 1.2 million parameters that are cheap to compute: 19 chunks.
pub const LAYERS: &str = "network.layers=[{type=\"flatten\"},{type=\"linear\",out=2048},{type=\"relu\"},\
                      {type=\"linear\",out=512},{type=\"linear\",out=3}]";
const SEVERAL: [&str; 6] = ["--set", LAYERS, "--set", "train.epochs=10", "--set", "checkpoint.every_steps=50"];
/// The same, where changes of parameters are all that travels of them: whoever comes has none to add them to.
const COMPRESSED: [&str; 8] =
    [SEVERAL[0], SEVERAL[1], SEVERAL[2], SEVERAL[3], SEVERAL[4], SEVERAL[5], "--set", "train.compression=bf16"];
/// Bytes of all chunks.
const GRADIENT: u64 = 4 * (64 * 2048 + 2048 * 512);

/// A worker that listens for others.
pub fn owner(coordinator: &str, more: &[&str]) -> Process {
    let mut command = convoy();
    command.args(["worker", "--coordinator", coordinator, "--threads", "1"]).args(more);
    if !more.contains(&"--peer-listen") {
        command.args(["--peer-listen", "127.0.0.1:0"]);
    }
    Process(command.stderr(Stdio::null()).spawn().expect("convoy starts"))
}

/// A worker that computes nothing and sees no data.
fn adder(coordinator: &str) -> Process {
    let mut command = convoy();
    command.args(["worker", "--coordinator", coordinator, "--no-compute", "--peer-listen", "127.0.0.1:0"]);
    Process(command.stderr(Stdio::null()).spawn().expect("convoy starts"))
}

/// A worker that others reach through a proxy.
fn owner_behind_proxy(coordinator: &str) -> (Process, Proxy) {
    let listens = free_address();
    let proxy = Proxy::start(&listens);
    let process = owner(coordinator, &["--peer-listen", &listens, "--peer-address", &proxy.address]);
    (process, proxy)
}

/// A coordinator whose workers add.
struct Sliced {
    cluster: Cluster,
    coordinator: Process,
    alone: Value,
}

impl Sliced {
    fn start(job: &[&str]) -> Self {
        let cluster = Cluster::new();
        let alone = cluster.job.train("alone", job);
        let coordinator = cluster.start();
        Sliced { cluster, coordinator, alone }
    }

    fn address(&self) -> &str {
        &self.cluster.address
    }

    fn submit(&self, job: &[&str], workers: usize) {
        let workers = workers.to_string();
        self.cluster.submit(&[job, &["--min-workers", &workers]].concat());
    }

    fn status(&self, key: &str) -> u64 {
        self.cluster.list().first().and_then(|job| job["status"][key].as_u64()).unwrap_or(0)
    }

    /// Waits until so many workers own chunks.
    fn wait_for_owners(&self, owners: u64) {
        wait_for(&format!("{owners} owners"), || (self.status("owners") == owners).then_some(()));
    }

    /// Waits for two more steps, and says how long that took.
    fn wait_for_steps(&self, what: &str, since: Instant) {
        let before = self.status("step");
        wait_for("more steps", || (self.status("step") >= before + 2 || self.is_over()).then_some(()));
        println!("{what}: {:.2} s to the next steps", since.elapsed().as_secs_f64());
    }

    fn is_over(&self) -> bool {
        self.cluster.list().first().is_some_and(|job| job["state"] == "completed")
    }

    /// The digest of an undisturbed run, and an exact ledger.
    fn check_end(&self, starts: u64) {
        let done = self.cluster.when(1, "its end", |job| job["state"] == "completed" || job["state"] == "failed");
        assert_eq!(digest(&done), self.alone["parameters_digest"].as_str().expect("a digest"), "{done}");
        let audit = self.cluster.json(&["audit", "last"]);
        assert_eq!((&audit["exact"], &audit["starts"]), (&true.into(), &starts.into()));
        if starts == 1 {
            assert_eq!(audit["repeated"], 0, "no step is rolled back");
        }
    }
}

#[test]
fn whoever_adds_the_bits_are_the_same() {
    let weights = "loss.class_weights=[1.0, 0.25, 3.0]";
    let jobs: [&[&str]; 8] = [
        &[],
        &["optimizer.clip_norm=0.02", weights],
        &["optimizer.kind=adamw", "optimizer.clip_norm=0.5"],
        &["numerics=cpu-bf16-v1", weights],
        &["network.freeze_epochs=1"],
        &["train.compression=bf16", "optimizer.clip_norm=0.02"],
        &["train.compression=bf16", "network.freeze_epochs=1"],
        &["train.compression=bf16", "numerics=cpu-bf16-v1"],
    ];
    let cluster = Cluster::new();
    let _coordinator = cluster.start();
    let _workers = [owner(&cluster.address, &[]), owner(&cluster.address, &[]), owner(&cluster.address, &[])];
    for (id, job) in (1..).zip(jobs) {
        let mut sets: Vec<&str> = vec!["--set", LAYERS];
        job.iter().for_each(|set| sets.extend(["--set", set]));
        let alone = cluster.job.train(&format!("alone-{id}"), &sets);
        cluster.submit(&[&sets[..], &["--min-workers", "3"]].concat());
        cluster
            .when(id, "its workers to own chunks", |job| job["status"]["owners"] == 3 || job["state"] == "completed");
        let done = cluster.when(id, "its end", |job| job["state"] == "completed" || job["state"] == "failed");
        assert_eq!(digest(&done), alone["parameters_digest"].as_str().expect("a digest"), "{job:?}: {done}");
        let audit = cluster.json(&["audit", &id.to_string()]);
        assert_eq!(audit["exact"], true, "{job:?}");
    }
}

/// An owner is killed after others have sent it so much, in parts of all that they send it in a step.
fn killed_after(part: f64, what: &str) {
    let sliced = Sliced::start(&SEVERAL);
    let _others = [owner(sliced.address(), &[]), owner(sliced.address(), &[])];
    let (doomed, proxy) = owner_behind_proxy(sliced.address());
    sliced.submit(&SEVERAL, 3);
    sliced.wait_for_owners(3);
    let share = GRADIENT as f64 / 3.0 * 2.0;
    proxy.hold_after((share * part) as u64);
    wait_for("others to have sent so much", || proxy.holds().then_some(()));
    let since = Instant::now();
    drop(doomed);
    proxy.hang_up();
    sliced.wait_for_steps(what, since);
    sliced.check_end(1);
}

#[test]
fn an_owner_killed_before_it_has_added_anything_costs_no_step() {
    killed_after(0.01, "an owner killed before it has added anything");
}

#[test]
fn an_owner_killed_while_it_adds_costs_no_step() {
    killed_after(0.5, "an owner killed while it adds");
}

/// It has made parameters, which others have, and the coordinator has not its sums.
#[test]
fn an_owner_killed_after_it_has_added_costs_no_step() {
    let sliced = Sliced::start(&SEVERAL);
    let _others = [owner(sliced.address(), &[]), owner(sliced.address(), &[])];
    let proxy = Proxy::start(sliced.address());
    let doomed = owner(&proxy.address, &[]);
    sliced.submit(&SEVERAL, 3);
    sliced.wait_for_owners(3);
    proxy.hold_after(GRADIENT / 6);
    wait_for("its sums to be held", || proxy.holds().then_some(()));
    let since = Instant::now();
    drop(doomed);
    proxy.hang_up();
    sliced.wait_for_steps("an owner killed before its sums are with the coordinator", since);
    sliced.check_end(1);
}

/// A firewall that drops in silence: its connection to the coordinator is as before.
#[test]
fn an_owner_that_others_do_not_reach_any_more_owns_nothing() {
    let sliced = Sliced::start(&SEVERAL);
    let _others = [owner(sliced.address(), &[]), owner(sliced.address(), &[])];
    let (_parted, proxy) = owner_behind_proxy(sliced.address());
    sliced.submit(&SEVERAL, 3);
    sliced.wait_for_owners(3);
    proxy.hold_after(GRADIENT / 10);
    wait_for("bytes to be held", || proxy.holds().then_some(()));
    sliced.wait_for_steps("an owner that is not reached any more", Instant::now());
    sliced.check_end(1);
}

#[test]
fn a_slow_owner_owns_nothing_for_a_while() {
    let sliced = Sliced::start(&SEVERAL);
    let _others = [owner(sliced.address(), &[]), owner(sliced.address(), &[])];
    let (_slow, proxy) = owner_behind_proxy(sliced.address());
    sliced.submit(&SEVERAL, 3);
    sliced.wait_for_owners(3);
    proxy.set(Way::Up, |rules| rules.rate = Some(30_000));
    wait_for("others to own its chunks", || (sliced.status("owners") < 3 || sliced.is_over()).then_some(()));
    sliced.wait_for_steps("an owner behind 240 kbit/s", Instant::now());
    sliced.check_end(1);
}

#[test]
fn owners_come_and_go() {
    come_and_go(&SEVERAL);
}

#[test]
fn owners_come_and_go_where_only_changes_travel() {
    come_and_go(&COMPRESSED);
}

fn come_and_go(job: &[&str]) {
    let sliced = Sliced::start(job);
    let leaving = owner(sliced.address(), &[]);
    let _stays = owner(sliced.address(), &[]);
    sliced.submit(job, 2);
    sliced.wait_for_owners(2);
    let _joins = owner(sliced.address(), &[]);
    wait_for("a third owner", || (sliced.status("owners") == 3 || sliced.is_over()).then_some(()));
    signal(&leaving, "-TERM");
    wait_for("it to go", || (sliced.status("workers") == 2 || sliced.is_over()).then_some(()));
    sliced.check_end(1);
}

/// Who does not listen sends all the same, and takes parameters of those who do.
#[test]
fn a_worker_that_does_not_listen_computes_beside_owners() {
    let sliced = Sliced::start(&SEVERAL);
    let _owners = [owner(sliced.address(), &[]), owner(sliced.address(), &[])];
    let _deaf = crate::faults::worker(sliced.address());
    sliced.submit(&SEVERAL, 3);
    sliced.wait_for_owners(2);
    sliced.check_end(1);
}

#[test]
fn a_killed_coordinator_comes_back_though_owners_were_ahead() {
    let mut sliced = Sliced::start(&COMPRESSED);
    let _owners = [owner(sliced.address(), &[]), owner(sliced.address(), &[])];
    sliced.submit(&COMPRESSED, 2);
    for starts in 1..=2 {
        sliced.wait_for_owners(2);
        let before = sliced.status("step");
        wait_for("more steps", || (sliced.status("step") > before + 5).then_some(()));
        sliced.coordinator.0.kill().expect("it runs");
        sliced.coordinator.0.wait().expect("it ends");
        sliced.coordinator = sliced.cluster.start();
        println!("killed {starts} times");
    }
    sliced.check_end(3);
}

#[test]
fn numbers_that_are_not_finite_end_the_run_as_they_do_without_owners() {
    let cluster = Cluster::new();
    let _coordinator = cluster.start();
    let _owners = [owner(&cluster.address, &[]), owner(&cluster.address, &[])];
    cluster.submit(&["--set", LAYERS, "--set", "optimizer.lr=1e25", "--min-workers", "2"]);
    let over = cluster.when(1, "its end", |job| job["state"] == "failed" || job["state"] == "completed");
    let reason = over["reason"].as_str().or_else(|| over["error"].as_str()).unwrap_or_default().to_owned();
    assert!(over["state"] == "failed" && over.to_string().contains("NaN or infinite"), "{reason}: {over}");
}

/// It joins first, and the job waits for two that compute. In the end it is killed.
#[test]
fn a_worker_that_computes_nothing_adds_and_is_in_no_node() {
    let sliced = Sliced::start(&SEVERAL);
    let adder = adder(sliced.address());
    wait_for("it to be connected", || (sliced.cluster.workers() == 1).then_some(()));
    let row = sliced.cluster.json(&["workers"]);
    assert_eq!((&row["threads"], &row["job"]), (&0.into(), &Value::Null), "{row}");
    let number = row["worker"].clone();
    sliced.submit(&SEVERAL, 2);
    let _computing = [owner(sliced.address(), &[]), owner(sliced.address(), &[])];
    sliced.wait_for_owners(3);
    let commits = || records(&sliced.cluster, "step_committed");
    let adds = |commit: &Value| commit["owners"].as_array().is_some_and(|owners| owners.contains(&number));
    let added = || commits().iter().filter(|commit| adds(commit)).count();
    wait_for("steps with its sums", || (added() >= 5 || sliced.is_over()).then_some(()));
    let since = Instant::now();
    drop(adder);
    sliced.wait_for_steps("an owner killed that computes nothing", since);
    sliced.check_end(1);
    let all = commits();
    assert!(added() >= 5 && !all.iter().all(adds), "it owned chunks until it was killed in mid-run");
    let mut nodes = all.iter().flat_map(|commit| commit["ledger"].as_array().expect("a ledger"));
    assert!(nodes.all(|node| node[2] != number), "it is in no node");
}
