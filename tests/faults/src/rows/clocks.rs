//! Certificates that expire in the middle of a run, and clocks that leap.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::arena::{Arena, Setup};
use crate::cluster::Connections;
use crate::job::Bench;
use crate::outcome::Outcome;

/// Where Debian keeps the library that tells a program another time.
const FAKETIME: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";

/// Several lives of all certificates.
pub(super) fn expiring(bench: &Bench) -> Outcome {
    let life = ["--audit", "0", "--certificate-life", "6s"].map(str::to_owned).into();
    let setup = Setup { connections: Connections::Encrypted, coordinator: life, ..Setup::default() };
    let mut arena = Arena::open(bench, setup);
    for _ in 0..bench.tries(3) {
        let since = (arena.journal.committed(), Instant::now());
        std::thread::sleep(Duration::from_secs(6));
        arena.cost(since);
    }
    let renewed = arena.cluster.log_of("worker-1").matches("the certificate was renewed").count();
    let left = arena.journal.left();
    arena.outcome.seconds.clear();
    arena
        .outcome
        .saw(format!("{} lives of 6 s, {renewed} renewals of a worker, {left} connections lost", arena.outcome.tries));
    arena.outcome.expect(left == 0, "a worker was given up");
    arena.close()
}

/// The coordinator's wall clock leaps by an hour, forth and back.
pub(super) fn leaping(bench: &Bench) -> Outcome {
    if !Path::new(FAKETIME).exists() {
        return Outcome::not_run(format!("there is no {FAKETIME}: apt-get install faketime"));
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let clock = folder.path().join("clock");
    fs::write(&clock, "+0").expect("the folder is writable");
    let before = vec![
        "env".to_owned(),
        format!("LD_PRELOAD={FAKETIME}"),
        format!("FAKETIME_TIMESTAMP_FILE={}", clock.display()),
        "FAKETIME_NO_CACHE=1".to_owned(),
        "FAKETIME_DONT_FAKE_MONOTONIC=1".to_owned(),
    ];
    let mut arena = Arena::open(bench, Setup { connections: Connections::Encrypted, before, ..Setup::default() });
    for leap in ["+1h", "-1h", "+0"].into_iter().cycle().take(bench.tries(3) as usize) {
        arena.settle();
        fs::write(&clock, leap).expect("the folder is writable");
        arena.cost((arena.journal.committed() + 1, Instant::now()));
    }
    let left = arena.journal.left();
    arena.outcome.expect(left == 0, format!("{left} workers were given up"));
    arena.close()
}
