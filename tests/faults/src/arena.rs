//! A cluster at work on one job after the other, for faults to happen to.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use convoy_testing::wait_for;
use serde_json::Value;

use crate::cluster::{Cluster, Connections, free_address};
use crate::job::{Bench, COMPUTING, Kind, text};
use crate::journal::{Journal, parse};
use crate::network::Network;
use crate::outcome::Outcome;
use crate::process::Process;
use crate::proxy::Proxy;

/// Steps after which a job is checked and another one begun: an undisturbed run has to make as many.
const ENOUGH: u64 = 1500;

/// What an arena is made of.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The job.
    pub kind: Kind,
    /// How many workers there are.
    pub workers: usize,
    /// How they are connected.
    pub connections: Connections,
    /// What is between each of them and the coordinator.
    pub between: Between,
    /// More arguments of the coordinator. Audits are off unless they say otherwise: they compute shards twice.
    pub coordinator: Vec<String>,
    /// A program that starts the coordinator, with its arguments.
    pub before: Vec<String>,
    /// Some of what is computed is wrong: the only reason to take steps back.
    pub has_liars: bool,
}

/// What is between a worker and the coordinator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Between {
    /// Loopback.
    Nothing,
    /// A proxy.
    Proxy,
    /// A network: each worker is in a namespace of its own.
    Network,
}

impl Default for Setup {
    fn default() -> Self {
        Setup {
            kind: COMPUTING,
            workers: 2,
            connections: Connections::Plain,
            between: Between::Nothing,
            coordinator: vec!["--audit".into(), "0".into()],
            before: Vec::new(),
            has_liars: false,
        }
    }
}

/// A worker's place.
pub struct Seat {
    /// Its name.
    pub name: String,
    /// The worker.
    pub process: Process,
    /// The proxy that it connects to.
    pub proxy: Option<Proxy>,
    /// A program that starts it, with its arguments.
    pub before: Vec<String>,
}

impl Seat {
    /// The proxy that it connects to.
    ///
    /// # Panics
    /// When there is none.
    pub fn proxy(&self) -> &Proxy {
        self.proxy.as_ref().expect("the setup has proxies")
    }
}

/// A coordinator and its workers at work.
pub struct Arena<'b> {
    /// The cluster.
    pub cluster: Cluster,
    /// Its coordinator.
    pub coordinator: Process,
    /// Its workers.
    pub seats: Vec<Seat>,
    /// The journal of the job at work.
    pub journal: Journal,
    /// The job at work.
    pub job: u64,
    /// What came of it so far.
    pub outcome: Outcome,
    network: Option<Network>,
    bench: &'b Bench,
    setup: Setup,
}

impl<'b> Arena<'b> {
    /// Starts everything, and waits until all workers are at the job and a few steps are made.
    ///
    /// # Panics
    /// When something does not start in time.
    pub fn open(bench: &'b Bench, setup: Setup) -> Self {
        let network = (setup.between == Between::Network).then(|| Network::new(setup.workers));
        let address = network.as_ref().map_or_else(free_address, Network::coordinator_address);
        let connections = if network.is_some() { Connections::Encrypted } else { setup.connections };
        let cluster = Cluster::new(&bench.convoy, connections, address);
        Arena::open_in(bench, setup, cluster, network)
    }

    /// The same in a cluster that is there, with what its folder holds.
    ///
    /// # Panics
    /// When something does not start in time.
    pub fn open_in(bench: &'b Bench, setup: Setup, cluster: Cluster, network: Option<Network>) -> Self {
        cluster.init();
        let coordinator = start_coordinator(&cluster, &setup.before, &setup);
        cluster.wait_until_healthy();
        cluster.make_token();
        let within = |number| network.as_ref().map(|network| network.within(number)).unwrap_or_default();
        let seats = (0..setup.workers).map(|number| seat(&cluster, &setup, within(number), number)).collect();
        let job = cluster.submit(setup.kind, &[]);
        let journal = Journal::follow(&cluster.run(job).join("journal"));
        let outcome = Outcome { equal: Some(true), exact: Some(true), ..Outcome::default() };
        let mut arena = Arena { cluster, coordinator, seats, journal, job, outcome, network, bench, setup };
        arena.settle();
        arena
    }

    /// Waits until all workers are at the job and it made a step with them. A job that made many steps is checked,
    /// and another one begun.
    pub fn settle(&mut self) {
        if self.journal.committed() > ENOUGH {
            self.begin_another();
        }
        wait_for("all workers to be members", || (self.journal.members() == self.seats.len()).then_some(()));
        self.journal.wait_for(self.journal.committed() + 2);
    }

    /// Checks the job at work, and begins another one.
    pub fn begin_another(&mut self) {
        self.check_job();
        self.job = self.cluster.submit(self.setup.kind, &[]);
        self.journal = Journal::follow(&self.cluster.run(self.job).join("journal"));
    }

    /// Kills a worker; how many steps were committed, and when that was.
    pub fn kill_worker(&mut self, number: usize) -> (u64, Instant) {
        let at = self.seats[number].process.kill();
        (self.journal.committed(), at)
    }

    /// Starts a worker where one was killed, and waits until it is at the job and the dead one is gone from it.
    pub fn start_worker(&mut self, number: usize) {
        let (joined, left) = (self.journal.joined(), self.journal.left());
        self.replace_worker(number);
        let (members, seats) = (|arena: &Self| arena.journal.members(), self.seats.len());
        wait_for("the new worker", || {
            let replaced = self.journal.joined() > joined && (self.journal.left() > left || members(self) == seats);
            (replaced || self.journal.is_over()).then_some(())
        });
    }

    /// Starts a worker where one was, and does not wait for it.
    pub fn replace_worker(&mut self, number: usize) {
        let seat = &mut self.seats[number];
        seat.process = start_worker(&self.cluster, &seat.name, seat.proxy.as_ref(), &seat.before);
    }

    /// Adds a worker that `before` starts, and does not wait for it; its number.
    pub fn add_worker(&mut self, before: Vec<String>) -> usize {
        self.seats.push(seat(&self.cluster, &self.setup, before, self.seats.len()));
        self.seats.len() - 1
    }

    /// Kills the coordinator and starts it again; how many steps were committed, and when it was started.
    pub fn restart_coordinator(&mut self) -> (u64, Instant) {
        self.coordinator.kill();
        self.start_coordinator()
    }

    /// Starts the coordinator where one ended; how many steps were committed, and when it was started.
    pub fn start_coordinator(&mut self) -> (u64, Instant) {
        let before = self.setup.before.clone();
        self.start_coordinator_by(&before)
    }

    /// The same with the program and arguments of `before` to start it.
    pub fn start_coordinator_by(&mut self, before: &[String]) -> (u64, Instant) {
        // What is in the file by now is read before anything can be added.
        std::thread::sleep(Duration::from_millis(5));
        let at = Instant::now();
        self.coordinator = start_coordinator(&self.cluster, before, &self.setup);
        (self.journal.committed(), at)
    }

    /// Measures the time from `since` to the first step after those that were committed `before`.
    pub fn cost(&mut self, (before, since): (u64, Instant)) {
        let next = self.journal.next_commit(before);
        self.outcome.seconds.push(next.saturating_duration_since(since).as_secs_f64());
        self.outcome.tries += 1;
    }

    /// Steps a second over `time` from now on.
    pub fn pace(&mut self, time: Duration) -> f64 {
        self.settle();
        let (before, since) = (self.journal.committed(), Instant::now());
        std::thread::sleep(time);
        (self.journal.committed() - before) as f64 / since.elapsed().as_secs_f64()
    }

    /// The network that the workers are at.
    ///
    /// # Panics
    /// When the setup has none.
    pub fn network(&self) -> &Network {
        self.network.as_ref().expect("the setup has a network")
    }

    /// How many shards each worker was credited with in the steps after the first `before`, by number of the worker.
    pub fn shares(&self, before: u64) -> String {
        let mut shares = BTreeMap::<u64, u64>::new();
        for commit in self.journal.records("step_committed").iter().skip(before as usize) {
            for entry in commit["ledger"].as_array().into_iter().flatten() {
                *shares.entry(entry[2].as_u64().unwrap_or(0)).or_default() +=
                    entry[1].as_u64().unwrap_or(0) - entry[0].as_u64().unwrap_or(0);
            }
        }
        let all: u64 = shares.values().sum();
        let parts = shares.into_values().map(|share| format!("{} %", share * 100 / all.max(1)));
        parts.collect::<Vec<_>>().join(", ")
    }

    /// Waits until the coordinator has ended, and no longer than `limit`; whether it has.
    pub fn coordinator_ends_within(&mut self, limit: Duration) -> bool {
        let since = Instant::now();
        while since.elapsed() < limit {
            if self.coordinator.ended().is_some() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        false
    }

    /// What the job waits for, as the coordinator tells.
    pub fn waits_for(&self) -> String {
        text(&self.cluster.job(self.job)["waiting_for"])
    }

    /// Ends the job, and gives what came of all tries.
    pub fn close(mut self) -> Outcome {
        self.check_job();
        let (computed, counted) = (self.computed(), self.counted());
        self.outcome.did_again(computed.saturating_sub(counted), "shards");
        self.outcome
    }

    /// Stops the job, and compares what it did with an undisturbed run.
    fn check_job(&mut self) {
        self.cluster.wait_until_healthy();
        if !self.journal.is_over() {
            let stopped = self.cluster.said(&["stop", &self.job.to_string()]);
            let said = String::from_utf8_lossy(&stopped.stderr).into_owned();
            self.outcome.expect(stopped.status.success() || self.journal.is_over(), format!("stop: {}", said.trim()));
            wait_for("the job's end", || {
                let state = text(&self.cluster.job(self.job)["state"]);
                ["stopped", "completed", "failed", "cancelled"].contains(&state.as_str()).then_some(())
            });
        }
        let record = self.cluster.job(self.job);
        self.outcome.expect(record["state"] != "failed", format!("the job failed: {}", record["error"]));
        let digests = self.bench.undisturbed(self.setup.kind, self.journal.committed());
        let wrong = self.journal.believed().iter().filter(|commit| !agrees(commit, &digests)).count();
        if wrong > 0 {
            self.outcome.equal = Some(false);
            self.outcome.saw(format!("{wrong} commits have another digest"));
        }
        let run = self.cluster.run(self.job).display().to_string();
        let audit = self.cluster.json(&["audit", &run]);
        if audit["exact"] != true {
            self.outcome.exact = Some(false);
            self.outcome.saw(format!("audit: {}", audit["problems"]));
        }
        let taken_back = audit["disbelieved"].as_u64().unwrap_or(0);
        self.outcome.rolled_back += taken_back;
        self.outcome.expect(taken_back == 0 || self.setup.has_liars, format!("{taken_back} steps were taken back"));
    }

    /// Shards that all workers computed for training.
    fn computed(&self) -> u64 {
        let logs = self.seats.iter().map(|seat| self.cluster.log_of(&seat.name));
        logs.map(|log| log.matches("\"stage\":\"shard\"").count() as u64).sum()
    }

    /// Shards of the committed steps of all jobs, each step once.
    fn counted(&self) -> u64 {
        let of_job = |job: u64| {
            let journal = fs::read_to_string(self.cluster.run(job).join("journal")).unwrap_or_default();
            let steps = journal.lines().filter_map(parse).map(|record| (record["step"].as_u64(), shards_of(&record)));
            steps.collect::<BTreeMap<_, _>>().into_values().sum::<u64>()
        };
        (1..=self.job).map(of_job).sum()
    }
}

/// Whether a commit has the digest of the undisturbed run.
fn agrees(commit: &Value, digests: &[String]) -> bool {
    let step = commit["step"].as_u64().unwrap_or(u64::MAX) as usize;
    digests.get(step).is_some_and(|digest| commit["digest"] == digest.as_str())
}

/// Shards of the step that a record commits.
fn shards_of(record: &Value) -> u64 {
    let ledger = record["ledger"].as_array().into_iter().flatten();
    ledger.filter_map(|entry| Some(entry[1].as_u64()? - entry[0].as_u64()?)).sum()
}

fn start_coordinator(cluster: &Cluster, before: &[String], setup: &Setup) -> Process {
    let before: Vec<&str> = before.iter().map(String::as_str).collect();
    let more: Vec<&str> = setup.coordinator.iter().map(String::as_str).collect();
    cluster.start_coordinator(&before, &more)
}

fn seat(cluster: &Cluster, setup: &Setup, before: Vec<String>, number: usize) -> Seat {
    let proxy = (setup.between == Between::Proxy).then(|| Proxy::start(&cluster.address));
    let name = format!("worker-{}", number + 1);
    Seat { process: start_worker(cluster, &name, proxy.as_ref(), &before), name, proxy, before }
}

fn start_worker(cluster: &Cluster, name: &str, proxy: Option<&Proxy>, before: &[String]) -> Process {
    let before: Vec<&str> = before.iter().map(String::as_str).collect();
    let address = proxy.map_or(cluster.address.as_str(), |proxy| proxy.address.as_str());
    cluster.start_worker(name, address, &before, &[])
}
