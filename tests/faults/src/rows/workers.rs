//! Workers that die, stop, hang, are slow and come back.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use convoy_testing::wait_for;
use rustix::process::Signal;

use crate::arena::{Arena, Between, Setup};
use crate::dice::Dice;
use crate::job::{Bench, HEAVY, LARGE, LARGE_NODE, SHORT};
use crate::machine::Group;
use crate::outcome::Outcome;

/// Longer than a step takes.
const SOME_STEPS: Duration = Duration::from_millis(80);
/// After so long a silent worker is given up.
const SILENT: Duration = Duration::from_secs(2);

/// Workers are killed one after the other, at random moments, and another one comes at once.
pub(super) fn killed(bench: &Bench) -> Outcome {
    let mut arena = Arena::open(bench, Setup { workers: 3, ..Setup::default() });
    let mut dice = Dice::from_clock();
    for _ in 0..bench.tries(20) {
        arena.settle();
        dice.pause(SOME_STEPS);
        let victim = dice.below(3) as usize;
        let killed = arena.kill_worker(victim);
        arena.cost(killed);
        arena.start_worker(victim);
    }
    arena.close()
}

/// A worker is killed when so many bytes of its nodes have passed: anywhere in a chunk, after the last one, after the
/// answer.
pub(super) fn killed_in_upload(bench: &Bench) -> Outcome {
    let mut arena = Arena::open(bench, Setup { kind: LARGE, between: Between::Proxy, ..Setup::default() });
    let mut dice = Dice::from_clock();
    for _ in 0..bench.tries(10) {
        arena.settle();
        arena.seats[1].proxy().hold_after(1 + dice.below(2 * LARGE_NODE));
        wait_for("an upload that is cut", || arena.seats[1].proxy().holds().then_some(()));
        let killed = arena.kill_worker(1);
        arena.seats[1].proxy().hang_up();
        arena.cost(killed);
        arena.start_worker(1);
    }
    arena.close()
}

/// All workers are killed; the run waits and says so until others come.
pub(super) fn all_killed(bench: &Bench) -> Outcome {
    let mut arena = Arena::open(bench, Setup::default());
    for _ in 0..bench.tries(3) {
        arena.settle();
        (0..2).for_each(|number| _ = arena.kill_worker(number));
        let said =
            wait_for("the run to say that it waits", || Some(arena.waits_for()).filter(|said| said.contains("worker")));
        arena.outcome.saw(said);
        let since = (arena.journal.committed(), Instant::now());
        (0..2).for_each(|number| arena.replace_worker(number));
        arena.cost(since);
    }
    arena.close()
}

/// A worker is stopped for a second, and for three, and goes on as if nothing had been.
pub(super) fn stopped(bench: &Bench) -> Outcome {
    let mut arena = Arena::open(bench, Setup::default());
    for try_ in 0..bench.tries(4) {
        arena.settle();
        let pause = if try_ % 2 == 0 { SILENT / 2 } else { SILENT * 3 / 2 };
        let (left, joined) = (arena.journal.left(), arena.journal.joined());
        arena.seats[1].process.signal(Signal::STOP);
        let stopped = (arena.journal.committed(), Instant::now());
        std::thread::sleep(pause);
        let given_up = arena.journal.left() > left;
        arena.seats[1].process.signal(Signal::CONT);
        arena.cost(stopped);
        if pause < SILENT {
            arena.outcome.expect(!given_up, "it was given up before two seconds of silence");
        } else {
            arena.outcome.expect(given_up, "it was not given up after three seconds of silence");
            wait_for("it to come back", || (arena.journal.joined() > joined).then_some(()));
            arena.outcome.saw("given up after 2 s, and came back as another");
        }
    }
    arena.close()
}

/// The threads of a worker that compute are frozen; its heartbeats go on.
pub(super) fn hung(bench: &Bench) -> Outcome {
    let freezer = match Group::make("freezer") {
        Ok(freezer) => freezer,
        Err(why) => return Outcome::not_run(why),
    };
    let mut arena = Arena::open(bench, Setup::default());
    for _ in 0..bench.tries(2) {
        arena.settle();
        let threads = arena.seats[1].process.threads("shards");
        arena.outcome.expect(!threads.is_empty(), "the worker has no thread that computes");
        threads.iter().for_each(|thread| freezer.set("tasks", &thread.to_string()));
        freezer.set("freezer.state", "FROZEN");
        // It may have answered for the step at hand, so the one after it counts.
        let since = (arena.journal.committed() + 1, Instant::now());
        arena.cost(since);
        let named = arena
            .cluster
            .log_of("coordinator")
            .lines()
            .find(|line| line.contains("another worker computes"))
            .map(str::to_owned);
        freezer.set("freezer.state", "THAWED");
        match named {
            Some(_) => arena.outcome.saw("the log names worker and shards: late; another worker computes it as well"),
            None => arena.outcome.saw("others had the shards before it was late"),
        }
    }
    arena.close()
}

/// A third worker that has a tenth of the time of a core: how fast the run is with it, and without it.
pub(super) fn slow(bench: &Bench) -> Outcome {
    pulsed(bench, Duration::from_millis(5), Duration::from_millis(45))
}

/// The same, asleep for most of two seconds at a time: just short of being silent.
pub(super) fn pulsing(bench: &Bench) -> Outcome {
    pulsed(bench, Duration::from_millis(100), Duration::from_millis(1800))
}

/// Paces are compared over the same steps of two jobs, as with one step an epoch steps take longer the more are done.
/// They are compared over all tries together, as one pace differs from the next by a twentieth by itself. What the
/// worker costs while it is awake all the time is not asked of its sleep: where cores are few it takes of those of the
/// others.
fn pulsed(bench: &Bench, on: Duration, off: Duration) -> Outcome {
    let time = Duration::from_secs(24);
    let mut arena = Arena::open(bench, Setup { kind: HEAVY, ..Setup::default() });
    let (mut without, mut awake, mut with) = (0.0, 0.0, 0.0);
    for _ in 0..bench.tries(2) {
        arena.begin_another();
        let alone = arena.pace(time);
        let slow = arena.add_worker(Vec::new());
        arena.begin_another();
        let third = arena.pace(time);
        arena.begin_another();
        arena.settle();
        let process = arena.seats.remove(slow).process;
        let over = AtomicBool::new(false);
        let beside = std::thread::scope(|scope| {
            scope.spawn(|| process.pulse(on, off, || over.load(Ordering::Relaxed)));
            let (before, since) = (arena.journal.committed(), Instant::now());
            std::thread::sleep(time);
            over.store(true, Ordering::Relaxed);
            (arena.journal.committed() - before) as f64 / since.elapsed().as_secs_f64()
        });
        drop(process);
        wait_for("it to be gone", || (arena.journal.members() == 2).then_some(()));
        arena.outcome.tries += 1;
        arena.outcome.saw(format!("{alone:.1} steps/s without it, {third:.1} with it awake, {beside:.1} asleep"));
        (without, awake, with) = (without + alone, awake + third, with + beside);
    }
    arena.outcome.expect(with >= 0.9 * without.min(awake), "the others are slower by more than a tenth");
    arena.close()
}

/// A worker that may have no more memory than this is killed by the system, and started again and again.
const TOO_LITTLE: &str = "24M";

/// A worker without memory beside one that has enough.
pub(super) fn out_of_memory(bench: &Bench) -> Outcome {
    let memory = match Group::make("memory") {
        Ok(memory) => memory,
        Err(why) => return Outcome::not_run(why),
    };
    memory.set("memory.limit_in_bytes", TOO_LITTLE);
    let mut arena = Arena::open(bench, Setup { kind: LARGE, workers: 1, ..Setup::default() });
    let doomed = arena.add_worker(memory.within());
    let mut deaths = 0;
    for _ in 0..bench.tries(10) {
        let before = arena.journal.committed();
        let ended = wait_for("it to end, or the run to go on without it", || {
            let ended = arena.seats[doomed].process.ended();
            (ended.is_some() || arena.journal.committed() > before + 50).then_some(ended)
        });
        deaths += u32::from(ended.is_some());
        arena.cost((arena.journal.committed(), Instant::now()));
        if ended.is_some() {
            arena.replace_worker(doomed);
        }
    }
    let last = arena.cluster.log_of("worker-2").lines().last().unwrap_or_default().to_owned();
    arena.outcome.saw(format!("{deaths} deaths; {}", if deaths == 0 { last.as_str() } else { "killed by the system" }));
    arena.seats.truncate(1);
    arena.close()
}

/// Workers are asked to go, one after the other, and replaced.
pub(super) fn asked_to_go(bench: &Bench) -> Outcome {
    let mut arena = Arena::open(bench, Setup { kind: SHORT, ..Setup::default() });
    for try_ in 0..bench.tries(4) {
        arena.settle();
        let number = (try_ % 2) as usize;
        let since = Instant::now();
        arena.seats[number].process.signal(Signal::TERM);
        arena.cost((arena.journal.committed(), since));
        let code = wait_for("it to end", || arena.seats[number].process.ended());
        arena.outcome.expect(code == 143, format!("a worker that was asked to go ended with {code}"));
        arena.start_worker(number);
    }
    arena.outcome.saw("exit code 143");
    arena.close()
}

/// A worker of another version comes.
pub(super) fn other_version(bench: &Bench) -> Outcome {
    let mut arena = Arena::open(bench, Setup { kind: SHORT, workers: 1, ..Setup::default() });
    let mut bytes = fs::read(&bench.convoy).expect("it was started before");
    let (this, other) = (env!("CARGO_PKG_VERSION").as_bytes(), b"0.0.9");
    for at in 0..bytes.len() - other.len() {
        if bytes[at..].starts_with(this) {
            bytes[at..at + other.len()].copy_from_slice(other);
        }
    }
    let path = arena.cluster.path("other");
    fs::write(&path, bytes).and_then(|()| fs::set_permissions(&path, Permissions::from_mode(0o700))).expect("a binary");
    for _ in 0..bench.tries(1) {
        let mut worker = arena.cluster.program(&path.display().to_string());
        let output = worker.args(["worker", "--coordinator", &arena.cluster.address]).output().expect("it starts");
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        arena.outcome.tries += 1;
        arena.outcome.expect(said.contains("0.0.9") && !output.status.success(), format!("it was not refused: {said}"));
        arena.outcome.saw(format!("{said} (exit code {})", output.status.code().unwrap_or(-1)));
    }
    arena.close()
}
