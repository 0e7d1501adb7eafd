//! A coordinator of jobs, its workers and the commands of people, as processes.

use std::fs::{self, File, OpenOptions};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::job::{Kind, TINY, write_data};
use crate::process::Process;

/// How long a coordinator may take to start.
const PATIENCE: Duration = Duration::from_secs(30);

/// How the connections of a cluster are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connections {
    /// Plain, on loopback.
    Plain,
    /// Of members: encrypted and authenticated.
    Encrypted,
}

/// A folder with a coordinator's state, a spec, its data and logs; it is removed when it is dropped.
pub struct Cluster {
    /// The folder.
    pub folder: tempfile::TempDir,
    /// Where the coordinator listens.
    pub address: String,
    convoy: PathBuf,
    connections: Connections,
}

/// An address that nobody listens at.
///
/// # Panics
/// When no port is free.
pub fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("it is bound").to_string()
}

impl Cluster {
    /// A cluster of the binary `convoy` whose coordinator is not started yet.
    ///
    /// # Panics
    /// When the temporary folder cannot be written.
    pub fn new(convoy: &Path, connections: Connections, address: String) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        write_data(folder.path());
        fs::write(folder.path().join("job.toml"), TINY).expect("the folder is writable");
        Cluster { folder, address, convoy: convoy.to_owned(), connections }
    }

    /// Makes its certificates, unless connections are plain.
    ///
    /// # Panics
    /// When the command fails.
    pub fn init(&self) {
        if self.connections == Connections::Encrypted {
            let state = self.path("state").display().to_string();
            let host = self.address.rsplit_once(':').map_or(self.address.as_str(), |(host, _)| host);
            self.done(&["cluster", "init", "--state", &state, "--coordinator", &self.address, "--host", host]);
        }
    }

    /// Makes a token for workers, for as many as want, unless connections are plain.
    ///
    /// # Panics
    /// When the command fails.
    pub fn make_token(&self) {
        if self.connections == Connections::Encrypted {
            let token = self.done(&["token", "create", "--role", "worker", "--uses", "0"]);
            fs::write(self.path("token"), token.stdout).expect("the folder is writable");
        }
    }

    /// A path in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The run folder of a job.
    pub fn run(&self, job: u64) -> PathBuf {
        self.path(&format!("state/jobs/{job}"))
    }

    /// `convoy` with `args`, begun by the program and arguments of `before`, if there are any.
    pub fn command(&self, before: &[&str], args: &[&str]) -> Command {
        let convoy = self.convoy.display().to_string();
        let mut words = before.iter().copied().chain([convoy.as_str()]);
        let mut command = self.program(words.next().expect("there is convoy"));
        command.args(words).args(args);
        command
    }

    /// Another program in the cluster's folder, with its environment.
    pub fn program(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.folder.path()).stdin(Stdio::null());
        command.env_remove("RUST_LOG").env("CONVOY_HOME", self.path("home")).env("CONVOY_CACHE", self.path("cache"));
        match self.connections {
            Connections::Plain => command.env("CONVOY_COORDINATOR", &self.address),
            Connections::Encrypted => command.env_remove("CONVOY_COORDINATOR"),
        };
        command
    }

    /// Carries out a command of a person.
    ///
    /// # Panics
    /// When it does not start.
    pub fn said(&self, args: &[&str]) -> Output {
        self.command(&[], args).output().expect("convoy starts")
    }

    /// The same; it must succeed.
    ///
    /// # Panics
    /// When it fails.
    pub fn done(&self, args: &[&str]) -> Output {
        let output = self.said(args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        output
    }

    /// The object that a command with `--json` ends with, whether it succeeds or not.
    pub fn json(&self, args: &[&str]) -> Value {
        let output = self.said(&[args, &["--json"]].concat());
        let text = String::from_utf8_lossy(&output.stdout);
        text.lines().last().and_then(|line| serde_json::from_str(line).ok()).unwrap_or_default()
    }

    /// Starts the coordinator and does not wait for it. Its log grows over all starts.
    pub fn start_coordinator(&self, before: &[&str], more: &[&str]) -> Process {
        let state = self.path("state").display().to_string();
        let args = [&["coordinator", "--state", &state, "--listen", &self.address], more].concat();
        Process::start(self.command(before, &args).env("RUST_LOG", "info").stderr(self.log("coordinator")))
    }

    /// Waits until the coordinator answers.
    ///
    /// # Panics
    /// When it does not within half a minute, with what was said last.
    pub fn wait_until_healthy(&self) {
        let begun = Instant::now();
        loop {
            let output = self.said(&["health"]);
            if output.status.success() {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "health: {}", String::from_utf8_lossy(&output.stderr));
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Starts a worker of one thread for the coordinator at `address`, with more arguments.
    pub fn start_worker(&self, name: &str, address: &str, before: &[&str], more: &[&str]) -> Process {
        let mut args = vec!["--log", "json", "worker", "--coordinator", address, "--threads", "1", "--name", name];
        let token = self.path("token").display().to_string();
        if self.connections == Connections::Encrypted {
            args.extend(["--token-file", &token]);
        }
        args.extend(more);
        let mut command = self.command(before, &args);
        command.env("RUST_LOG", "info,convoy_worker::stages=debug");
        Process::start(command.stderr(self.log(name)))
    }

    /// Queues a job of that kind, with more arguments; its number.
    ///
    /// # Panics
    /// When it is refused.
    pub fn submit(&self, kind: Kind, more: &[&str]) -> u64 {
        let sets = kind.sets();
        let sets = sets.iter().flat_map(|set| ["--set", set.as_str()]);
        let args: Vec<&str> = ["submit", "job.toml", "--detach", "--json"].into_iter().chain(sets).collect();
        let output = self.done(&[&args, more].concat());
        let record: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        record["id"].as_u64().unwrap_or_else(|| panic!("no number of a job: {record}"))
    }

    /// What the coordinator says of a job; null when it does not answer.
    pub fn job(&self, job: u64) -> Value {
        let output = self.said(&["ls", "--json"]);
        let text = String::from_utf8_lossy(&output.stdout);
        let jobs = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        jobs.into_iter().find(|found| found["id"] == job).unwrap_or_default()
    }

    /// What the coordinator, or a worker, logged.
    pub fn log_of(&self, name: &str) -> String {
        String::from_utf8_lossy(&fs::read(self.path(&format!("{name}.log"))).unwrap_or_default()).into_owned()
    }

    fn log(&self, name: &str) -> File {
        let path = self.path(&format!("{name}.log"));
        OpenOptions::new().create(true).append(true).open(path).expect("the folder is writable")
    }
}
