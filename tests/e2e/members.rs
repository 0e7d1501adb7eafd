//! A cluster of members: encrypted, authenticated, and closed to everybody else.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use crate::faults::free_address;
use crate::job::{GOLDEN, Job, Process, convoy, report, wait_for};

struct SecureCluster {
    job: Job,
    address: String,
}

impl SecureCluster {
    /// A cluster whose coordinator runs.
    fn start() -> (Self, Process) {
        SecureCluster::start_with(&[])
    }

    /// The same, with more arguments for the coordinator.
    fn start_with(more: &[&str]) -> (Self, Process) {
        let cluster = SecureCluster { job: Job::new(), address: free_address() };
        let state = cluster.job.path("state").display().to_string();
        let made = cluster.run("admin", &["cluster", "init", "--state", &state, "--coordinator", &cluster.address]);
        assert!(made.status.success(), "{made:?}");
        let mut command = convoy();
        command.args(["coordinator", "--state", &state, "--listen", &cluster.address]).args(more);
        command.stderr(Stdio::null());
        let process = Process(command.spawn().expect("convoy starts"));
        wait_for("the coordinator", || cluster.run("admin", &["health"]).status.success().then_some(()));
        (cluster, process)
    }

    /// `convoy` as somebody with a home of that name.
    fn convoy(&self, who: &str, args: &[&str]) -> Command {
        let mut command = convoy();
        command.env("CONVOY_HOME", self.job.path(who)).env_remove("CONVOY_COORDINATOR").args(args);
        command
    }

    fn run(&self, who: &str, args: &[&str]) -> Output {
        self.convoy(who, args).output().expect("convoy starts")
    }

    /// Runs a command and checks its exit code and what its error names.
    fn check(&self, who: &str, args: &[&str], code: i32, names: &[&str]) -> String {
        let output = self.run(who, args);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{who} {args:?}: {stderr}");
        for name in names {
            assert!(stderr.contains(name), "{who} {args:?}: {name:?} is not in: {stderr}");
        }
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// A file with a new token.
    fn token(&self, role: &str, more: &[&str]) -> PathBuf {
        let token = self.check("admin", &[&["token", "create", "--role", role], more].concat(), 0, &[]);
        let path = self.job.path(&format!("{role}.token"));
        fs::write(&path, token).expect("the folder is writable");
        path
    }

    fn login(&self, who: &str, role: &str) {
        let token = self.token(role, &[]).display().to_string();
        self.check(who, &["login", &self.address, "--token-file", &token, "--name", who], 0, &[]);
    }

    /// A worker whose log is in the file `NAME.log`, and which joins with a token of its own.
    fn worker(&self, name: &str) -> Process {
        self.token("worker", &["--uses", "0"]);
        self.worker_again(name)
    }

    /// A worker that joins with the token that was made for a worker last.
    fn worker_again(&self, name: &str) -> Process {
        self.worker_with(name, &[])
    }

    /// The same, with more arguments.
    fn worker_with(&self, name: &str, more: &[&str]) -> Process {
        let token = self.job.path("worker.token").display().to_string();
        let args = ["worker", "--coordinator", &self.address, "--token-file", &token, "--threads", "1", "--name", name];
        let log = fs::File::create(self.job.path(&format!("{name}.log"))).expect("the folder is writable");
        let mut command = self.convoy("nobody", &args);
        command.args(more);
        Process(command.env("RUST_LOG", "info").stderr(log).spawn().expect("convoy starts"))
    }

    fn log_of(&self, worker: &str) -> String {
        fs::read_to_string(self.job.path(&format!("{worker}.log"))).expect("the worker was started")
    }
}

#[test]
fn members_train_together_and_nothing_is_plain() {
    let (cluster, _coordinator) = SecureCluster::start();
    cluster.login("anna", "submitter");
    let _workers = [cluster.worker("one"), cluster.worker("two")];
    let spec = cluster.job.spec().display().to_string();
    let done = report(&cluster.run("anna", &["submit", &spec, "--json"]));
    assert_eq!(done["result"]["parameters_digest"], GOLDEN.trim());
    assert!(done["submitted_by"].as_str().is_some_and(|by| by.starts_with("anna")), "{done}");
    let got = cluster.job.path("got").display().to_string();
    cluster.check("anna", &["get", "last", "--out", &got], 0, &[]);
    assert!(cluster.job.path("got/model/model.safetensors").is_file());
}

/// What a worker says of others: the names of those that it reaches, and why it does not reach others.
type Reached = (Vec<String>, Vec<String>);

impl SecureCluster {
    /// By the names of the workers that are members of a run.
    fn who_reaches_whom(&self) -> BTreeMap<String, Reached> {
        let rows = self.check("anna", &["workers", "--json"], 0, &[]);
        let rows: Vec<serde_json::Value> = rows.lines().map(|row| serde_json::from_str(row).expect("JSON")).collect();
        let name = |number: u64| {
            let row = rows.iter().find(|row| row["worker"] == number);
            row.map_or_else(|| number.to_string(), |row| row["name"].as_str().expect("a name").to_owned())
        };
        let reached = |peers: &serde_json::Value| {
            let reaches = peers["reaches"].as_array().expect("an array").iter();
            let problems = peers["problems"].as_object().expect("an object").iter();
            let problem = |(to, problem): (&String, _)| format!("{}: {problem}", name(to.parse().expect("a number")));
            (reaches.map(|to| name(to.as_u64().expect("a number"))).collect(), problems.map(problem).collect())
        };
        let members = rows.iter().filter(|row| row["peers"].is_object());
        members.map(|row| (row["name"].as_str().expect("a name").to_owned(), reached(&row["peers"]))).collect()
    }

    /// Waits until each of these reaches just those others.
    fn wait_until_reached(&self, expected: &[(&str, &[&str])]) {
        wait_for(&format!("{expected:?}"), || {
            let found = self.who_reaches_whom();
            let all =
                expected.iter().all(|(name, others)| found.get(*name).is_some_and(|(reached, _)| reached == others));
            (all && found.len() == expected.len()).then_some(())
        });
    }
}

#[test]
fn workers_find_out_whom_they_reach() {
    let (cluster, _coordinator) = SecureCluster::start();
    cluster.login("anna", "submitter");
    cluster.token("worker", &["--uses", "0"]);
    let listen = ["--peer-listen", "127.0.0.1:0"];
    let one = cluster.worker_with("one", &listen);
    let _deaf = cluster.worker_with("deaf", &[]);
    let spec = cluster.job.spec().display().to_string();
    cluster.check("anna", &["submit", &spec, "--detach", "--set", "train.epochs=100000"], 0, &[]);
    cluster.wait_until_reached(&[("deaf", &["one"]), ("one", &[])]);
    let told = cluster.check("anna", &["workers"], 0, &[]);
    assert!(told.contains("all workers reach one; the others do not listen for all"), "{told}");

    let _two = cluster.worker_with("two", &listen);
    cluster.wait_until_reached(&[("deaf", &["one", "two"]), ("one", &["two"]), ("two", &["one"])]);
    drop(one);
    cluster.wait_until_reached(&[("deaf", &["two"]), ("two", &[])]);

    // At its address there is nobody, and at another one somebody else.
    let elsewhere = cluster.address.as_str();
    let _odd = cluster
        .worker_with("odd", &[&listen[..], &["--peer-address", "127.0.0.1:1", "--peer-address", elsewhere]].concat());
    let problem = wait_for("a problem", || cluster.who_reaches_whom().get("two")?.1.first().cloned());
    for named in ["odd: ", "127.0.0.1:1: ", "refused", &format!("{elsewhere}: another process answers there")] {
        assert!(problem.contains(named), "{named:?} is not in {problem}");
    }
    let told = wait_for("both problems", || {
        let told = cluster.check("anna", &["workers"], 0, &[]);
        told.contains("; and 1 more").then_some(told)
    });
    assert!(told.contains("does not reach odd (127.0.0.1:1: "), "{told}");

    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("one").to_string();
    let _held = std::net::TcpListener::bind(&taken).expect("it is free");
    let token = cluster.job.path("worker.token").display().to_string();
    let args = ["worker", "--coordinator", elsewhere, "--token-file", &token, "--peer-listen", &taken];
    cluster.check("nobody", &args, 1, &[&taken, "in use", "--peer-listen"]);
}

#[test]
fn everybody_else_is_told_why_not() {
    let (cluster, _coordinator) = SecureCluster::start();
    let (spec, address) = (cluster.job.spec().display().to_string(), cluster.address.as_str());
    cluster.check("stranger", &["ls", "--coordinator", address], 75, &[address, "convoy login"]);
    cluster.check("stranger", &["ls", "--coordinator", "192.0.2.1:7070"], 4, &["convoy login 192.0.2.1:7070"]);
    cluster.check("nobody", &["worker", "--coordinator", "192.0.2.1:7070"], 4, &["--token-file"]);

    cluster.login("victor", "viewer");
    cluster.check("victor", &["ls"], 0, &[]);
    cluster.check("victor", &["submit", &spec], 4, &["viewer may not", "submitter"]);
    cluster.check("victor", &["token", "create", "--role", "admin"], 4, &["viewer may not"]);

    let once = cluster.token("submitter", &[]).display().to_string();
    cluster.check("anna", &["login", address, "--token-file", &once], 0, &[]);
    cluster.check("otto", &["login", address, "--token-file", &once], 4, &["as often as it may"]);
    let late = cluster.token("viewer", &["--ttl", "0s", "--uses", "0"]).display().to_string();
    wait_for("the token to expire", || {
        let output = cluster.run("otto", &["login", address, "--token-file", &late]);
        String::from_utf8_lossy(&output.stderr).contains("expired").then_some(())
    });
    let text = fs::read_to_string(&late).expect("a token");
    let (rest, secret) = text.trim().rsplit_once('.').expect("a token");
    fs::write(&late, format!("{rest}.{}", "0".repeat(secret.len()))).expect("the folder is writable");
    cluster.check("otto", &["login", address, "--token-file", &late], 4, &["does not know this token"]);

    let (other, _other_coordinator) = SecureCluster::start();
    let foreign = other.token("viewer", &[]).display().to_string();
    cluster.check("otto", &["login", address, "--token-file", &foreign], 4, &["another cluster"]);
    other.login("olga", "submitter");
    let home = cluster.job.path("olga");
    fs::create_dir(&home).expect("the folder is writable");
    for (from, name) in [("olga", "member.key"), ("olga", "member.pem"), ("../admin", "cluster.json")] {
        let from = if name == "cluster.json" { cluster.job.path("admin") } else { other.job.path(from) };
        fs::copy(from.join(name), home.join(name)).expect("it can be copied");
    }
    cluster.check("olga", &["ls"], 4, &["does not accept the certificate"]);
    let nonsense = cluster.job.path("nonsense");
    fs::write(&nonsense, "let me in").expect("the folder is writable");
    cluster.check("otto", &["login", address, "--token-file", &nonsense.display().to_string()], 2, &["no token"]);
}

#[test]
fn a_member_that_is_revoked_is_put_out_at_once() {
    let (cluster, _coordinator) = SecureCluster::start();
    let mut worker = cluster.worker("mallory");
    wait_for("the worker", || cluster.check("admin", &["workers"], 0, &[]).contains("mallory").then_some(()));
    let said = cluster.check("admin", &["cluster", "revoke", "mallory"], 0, &[]);
    assert!(said.contains("is closed"), "nobody else came by its token: {said}");
    assert_eq!(worker.0.wait().expect("it ends").code(), Some(4), "it may not come back");
    for name in ["mallory", "another"] {
        assert_eq!(cluster.worker_again(name).0.wait().expect("it ends").code(), Some(4), "with the same token");
    }
    assert!(!cluster.check("admin", &["workers"], 0, &[]).contains("mallory"));
    assert!(cluster.check("admin", &["cluster", "members"], 0, &[]).contains("revoked"));
    cluster.check("admin", &["cluster", "revoke", "mallory"], 3, &["no member `mallory`"]);
}

#[test]
fn a_token_of_many_workers_stays_open_for_the_others_and_their_names() {
    let (cluster, _coordinator) = SecureCluster::start();
    let (mut mallory, _honest) = (cluster.worker("mallory"), cluster.worker_again("honest"));
    let both = || {
        let rows = cluster.check("admin", &["workers"], 0, &[]);
        (rows.contains("mallory") && rows.contains("honest")).then_some(())
    };
    wait_for("two workers", both);
    let said = cluster.check("admin", &["cluster", "revoke", "mallory"], 0, &[]);
    assert!(said.contains("stays open, as 1 other members came by it") && said.contains("--token"), "{said}");
    assert_eq!(mallory.0.wait().expect("it ends").code(), Some(4));
    assert_eq!(cluster.worker_again("mallory").0.wait().expect("it ends").code(), Some(4), "not under its name");
    let said = cluster.check("admin", &["cluster", "revoke", "honest", "--token"], 0, &[]);
    assert!(said.contains("is closed"), "{said}");
}

#[test]
fn streams_of_a_member_that_is_revoked_end() {
    let (cluster, _coordinator) = SecureCluster::start();
    cluster.login("anna", "submitter");
    cluster.login("victor", "viewer");
    let spec = cluster.job.spec().display().to_string();
    // Nobody computes it: it is watched for as long as one may.
    cluster.check("anna", &["submit", &spec, "--detach"], 0, &[]);
    let watching = |who: &str| {
        let mut command = cluster.convoy(who, &["watch", "1"]);
        Process(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("convoy starts"))
    };
    let (mut victor, mut anna) = (watching("victor"), watching("anna"));
    cluster.check("admin", &["cluster", "revoke", "victor"], 0, &[]);
    let ended = wait_for("the end of his watch", || victor.0.try_wait().expect("it was started"));
    assert_eq!(ended.code(), Some(4));
    assert!(anna.0.try_wait().expect("it was started").is_none(), "she watches on");
}

#[test]
fn no_secret_is_in_a_log_or_in_the_state() {
    let (cluster, coordinator) = SecureCluster::start();
    cluster.login("anna", "submitter");
    let token = fs::read_to_string(cluster.job.path("submitter.token")).expect("a token");
    let secret = token.trim().rsplit_once('.').expect("a token").1.to_owned();
    drop(coordinator);
    let mut folders = vec![cluster.job.path("state"), cluster.job.path("anna"), cluster.job.path("admin")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder").flatten() {
            if entry.path().is_dir() {
                folders.push(entry.path());
            } else {
                let bytes = fs::read(entry.path()).expect("a file");
                let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
                assert!(!found, "{} holds a token's secret", entry.path().display());
            }
        }
    }
}

#[test]
fn certificates_are_renewed_in_time_and_a_run_goes_on_over_several_lives() {
    let (cluster, _coordinator) = SecureCluster::start_with(&["--certificate-life", "6s"]);
    cluster.login("anna", "submitter");
    cluster.login("otto", "viewer");
    let _worker = cluster.worker("lasting");
    let spec = cluster.job.spec().display().to_string();
    let long = ["--set", "train.epochs=100000", "--set", "checkpoint.every_steps=0"];
    cluster.check("anna", &[&["submit", spec.as_str(), "--detach"], &long[..]].concat(), 0, &[]);
    let certificate =
        |who: &str| fs::read(cluster.job.path(who).join("member.pem")).expect("who has logged in has one");
    let (first, mut renewed) = (certificate("anna"), std::collections::BTreeSet::new());
    // With the coordinator's own first certificate nobody could connect after 6 s.
    let journal = wait_for("three renewals of the worker, and two of a person", || {
        cluster.check("anna", &["ls"], 0, &[]);
        renewed.insert(certificate("anna"));
        renewed.remove(&first);
        let times = cluster.log_of("lasting").matches("the certificate was renewed").count();
        (times >= 3 && renewed.len() >= 2).then(|| fs::read_to_string(cluster.job.path("state/jobs/1/journal")))
    });
    let (journal, log) = (journal.expect("the run has a journal"), cluster.log_of("lasting"));
    assert_eq!(journal.matches("worker_joined").count(), 1, "it never had to come back");
    assert_eq!(journal.matches("worker_left").count(), 0);
    assert!(journal.matches("step_committed").count() > 100, "it worked meanwhile");
    assert!(!log.contains("did not get through") && !log.contains("a lease failed"), "{log}");
    // Nobody used this one in time.
    cluster.check("otto", &["ls"], 4, &["has expired", "join the cluster again"]);
    cluster.check("anna", &["stop", "job-1"], 0, &[]);
}

#[test]
fn a_worker_that_does_not_renew_is_disconnected() {
    use convoy_proto::v1;
    use convoy_proto::v1::coordinator_message::Message;

    let (cluster, _coordinator) = SecureCluster::start_with(&["--certificate-life", "2s"]);
    let token = fs::read_to_string(cluster.token("worker", &[])).expect("a token");
    let token: convoy_security::Token = token.parse().expect("a token");
    let mut link = convoy_proto::channel::Link::member(cluster.address.clone(), token.pin, None);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let said = runtime.block_on(async {
        let key = convoy_security::NewKey::generate().expect("randomness");
        let public_key = key.public().expect("a key").bytes().to_vec().into();
        let request = v1::JoinRequest { token: token.expose(), public_key, name: "lazy".to_owned() };
        let reply = link.access().await.expect("a connection").join(request).await.expect("it joins").into_inner();
        link.cluster = Some((token.pin, Some(key.with(reply.chain_pem).expect("an identity"))));
        let (outbox, messages) = tokio::sync::mpsc::channel(16);
        let hello = v1::Hello {
            version: convoy_proto::VERSION.to_owned(),
            name: "lazy".to_owned(),
            threads: 1,
            numerics: vec![convoy_common::spec::CPU_F32_V1.to_owned()],
            process: String::new(),
            ..Default::default()
        };
        let message = Some(v1::worker_message::Message::Hello(hello));
        outbox.send(v1::WorkerMessage { message }).await.expect("it is empty");
        let stream = tokio_stream::wrappers::ReceiverStream::new(messages);
        let mut client = link.coordinator().await.expect("a connection");
        let mut inbox = client.control(stream).await.expect("it is let in").into_inner();
        let said = async {
            let mut beat = tokio::time::interval(std::time::Duration::from_millis(500));
            loop {
                let message = Some(v1::worker_message::Message::Heartbeat(v1::Heartbeat {}));
                tokio::select! {
                    _ = beat.tick() => drop(outbox.send(v1::WorkerMessage { message }).await),
                    // The word of goodbye comes first, or the end of its calls does.
                    message = inbox.message() => match message {
                        Ok(Some(v1::CoordinatorMessage { message: Some(Message::Goodbye(goodbye)) })) => {
                            return goodbye.reason;
                        }
                        Ok(Some(_)) => {}
                        Ok(None) => return "nothing".to_owned(),
                        Err(status) => return status.message().to_owned(),
                    }
                }
            }
        };
        let said = tokio::time::timeout(std::time::Duration::from_secs(60), said).await.expect("it ends in time");
        assert_eq!(link.coordinator().await.err(), Some(convoy_security::ConnectError::Expired));
        said
    });
    assert!(said.contains("certificate") && said.contains("has expired"), "{said}");
}
