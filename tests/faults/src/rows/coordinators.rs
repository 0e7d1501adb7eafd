//! Coordinators that die, stop, and meet others.

use std::time::{Duration, Instant};

use convoy_testing::wait_for;
use rustix::process::Signal;

use crate::arena::{Arena, Setup};
use crate::cluster::Connections;
use crate::dice::Dice;
use crate::herd::Herd;
use crate::job::{Bench, SHORT};
use crate::machine::{no_strace, strace};
use crate::outcome::Outcome;

/// Longer than some steps take.
const SOME_STEPS: Duration = Duration::from_millis(200);
/// Calls of the system that change what is on the disk.
const DURABLE: [&str; 5] = ["fdatasync", "fsync", "pwrite64", "rename", "write"];

/// The coordinator is killed at random moments and started again.
pub(super) fn killed(bench: &Bench) -> Outcome {
    let mut arena = Arena::open(bench, Setup { kind: SHORT, ..Setup::default() });
    let mut dice = Dice::from_clock();
    for _ in 0..bench.tries(10) {
        arena.settle();
        dice.pause(SOME_STEPS);
        let restarted = arena.restart_coordinator();
        arena.cost(restarted);
    }
    arena.close()
}

/// The coordinator is killed at the first act on its files, at the second, and so on.
pub(super) fn killed_at_each_act(bench: &Bench) -> Outcome {
    if let Some(why) = no_strace() {
        return Outcome::not_run(why);
    }
    let mut arena = Arena::open(bench, Setup { kind: SHORT, ..Setup::default() });
    let mut died = 0;
    for number in 0..bench.tries(20) {
        arena.settle();
        let (call, count) = (DURABLE[number as usize % DURABLE.len()], 1 + number / DURABLE.len() as u64);
        // Of all that is written to anything only the journal counts.
        let journal = (call == "write").then(|| arena.cluster.run(arena.job).join("journal"));
        arena.coordinator.kill();
        arena.start_coordinator_by(&strace(call, &format!("signal=SIGKILL:when={count}"), journal.as_deref()));
        died += u32::from(arena.coordinator_ends_within(Duration::from_secs(5)));
        let restarted = arena.restart_coordinator();
        arena.cost(restarted);
    }
    arena.outcome.saw(format!("{died} at the 1st, 2nd, ... {} of a thread; the others after 5 s", DURABLE.join(", ")));
    arena.close()
}

/// The coordinator is stopped for some seconds, and another one is started on its folder meanwhile.
pub(super) fn stopped(bench: &Bench) -> Outcome {
    let mut arena = Arena::open(bench, Setup { kind: SHORT, ..Setup::default() });
    for _ in 0..bench.tries(2) {
        arena.settle();
        arena.coordinator.signal(Signal::STOP);
        let begun = Instant::now();
        let state = arena.cluster.path("state").display().to_string();
        let second = arena.cluster.said(&["coordinator", "--state", &state, "--listen", "127.0.0.1:0"]);
        let said = String::from_utf8_lossy(&second.stderr).trim().to_owned();
        arena.outcome.expect(second.status.code() == Some(75), format!("a second coordinator started: {said}"));
        arena.outcome.saw("a second one on its folder ends with 75: in use");
        std::thread::sleep(Duration::from_secs(5).saturating_sub(begun.elapsed()));
        let ended = arena.seats.iter_mut().find_map(|seat| seat.process.ended());
        arena.outcome.expect(ended.is_none(), format!("a worker ended with {ended:?}"));
        arena.coordinator.signal(Signal::CONT);
        arena.cost((arena.journal.committed(), Instant::now()));
    }
    arena.close()
}

/// Everything is killed three times, also while it recovers.
pub(super) fn everything_killed(bench: &Bench) -> Outcome {
    let mut arena = Arena::open(bench, Setup { kind: SHORT, ..Setup::default() });
    let mut dice = Dice::from_clock();
    for _ in 0..bench.tries(2) {
        arena.settle();
        // The second and third time it may still be recovering; the last start counts.
        let starts = [(); 3].map(|()| {
            dice.pause(SOME_STEPS * 2);
            arena.coordinator.kill();
            (0..2).for_each(|number| _ = arena.kill_worker(number));
            let restarted = arena.start_coordinator();
            (0..2).for_each(|number| arena.replace_worker(number));
            restarted
        });
        arena.cost(starts[2]);
    }
    arena.close()
}

/// The coordinator is asked to end, and started again.
pub(super) fn asked_to_end(bench: &Bench) -> Outcome {
    let mut arena = Arena::open(bench, Setup { kind: SHORT, ..Setup::default() });
    for _ in 0..bench.tries(3) {
        arena.settle();
        arena.coordinator.signal(Signal::TERM);
        let code = wait_for("it to end", || arena.coordinator.ended());
        arena.outcome.expect(code == 143, format!("a coordinator that was asked to end ended with {code}"));
        let restarted = arena.start_coordinator();
        arena.cost(restarted);
    }
    arena.outcome.saw("exit code 143");
    arena.close()
}

/// Workers that only live, beside those that work.
const HERD: usize = 1000;

/// The coordinator of many connections is killed, and all come back at once.
pub(super) fn herd(bench: &Bench) -> Outcome {
    let connections = Connections::Encrypted;
    let mut arena = Arena::open(bench, Setup { kind: SHORT, connections, ..Setup::default() });
    let herd = Herd::start(&arena.cluster.address, &arena.cluster.path("token"), HERD);
    wait_for("the herd", || (herd.connected() == HERD).then_some(()));
    for _ in 0..bench.tries(2) {
        arena.settle();
        let restarted = arena.restart_coordinator();
        arena.cost(restarted);
        wait_for("the herd to come back", || (herd.connected() == HERD).then_some(()));
        let (memory, open) = (arena.coordinator.memory_kib("VmHWM") / 1024, arena.coordinator.descriptors());
        let all = restarted.1.elapsed().as_secs_f64();
        arena.outcome.saw(format!("all are back after {all:.1} s, {memory} MiB, {open} descriptors"));
    }
    arena.close()
}
