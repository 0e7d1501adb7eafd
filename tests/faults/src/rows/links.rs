//! Connections that are cut, slow, damaged, and lose what they carry.

use std::process::Command;
use std::time::{Duration, Instant};

use convoy_testing::wait_for;

use crate::arena::{Arena, Between, Setup};
use crate::cluster::Connections;
use crate::dice::Dice;
use crate::job::{Bench, LARGE, LARGE_NODE, SHORT};
use crate::network::{Packets, missing};
use crate::outcome::Outcome;
use crate::proxy::{Proxy, Way};

/// Both kinds of packets.
const ALL_PACKETS: [Packets; 2] = [Packets::Sent, Packets::Received];

/// Workers at a proxy each.
fn proxied() -> Setup {
    Setup { between: Between::Proxy, ..Setup::default() }
}

/// An arena whose workers are in namespaces, or why there is none.
fn networked<'b>(bench: &'b Bench, setup: Setup) -> Result<Arena<'b>, Outcome> {
    match missing() {
        Some(why) => Err(Outcome::not_run(why)),
        None => Ok(Arena::open(bench, Setup { between: Between::Network, ..setup })),
    }
}

/// One worker is cut off, for the time that a try has; the others go on.
fn cut_one(bench: &Bench, packets: &[Packets]) -> Outcome {
    let mut arena = match networked(bench, Setup::default()) {
        Ok(arena) => arena,
        Err(outcome) => return outcome,
    };
    for try_ in 0..bench.tries(2) {
        arena.settle();
        let (left, joined) = (arena.journal.left(), arena.journal.joined());
        packets.iter().for_each(|which| arena.network().drop_packets(1, *which, 1.0));
        let cut = (arena.journal.committed() + 1, Instant::now());
        let long = try_ % 2 == 1;
        std::thread::sleep(Duration::from_secs(if long { 5 } else { 1 }));
        let given_up = arena.journal.left() > left;
        arena.network().heal(1);
        let healed = Instant::now();
        arena.cost(cut);
        arena
            .outcome
            .expect(long == given_up, format!("cut off for {} s: given up is {given_up}", if long { 5 } else { 1 }));
        if given_up {
            wait_for("it to come back", || (arena.journal.joined() > joined).then_some(()));
            arena.outcome.saw(format!("back {:.1} s after the cut was healed", healed.elapsed().as_secs_f64()));
        }
    }
    arena.close()
}

pub(super) fn cut_both_ways(bench: &Bench) -> Outcome {
    cut_one(bench, &ALL_PACKETS)
}

pub(super) fn mute(bench: &Bench) -> Outcome {
    cut_one(bench, &[Packets::Sent])
}

pub(super) fn deaf(bench: &Bench) -> Outcome {
    cut_one(bench, &[Packets::Received])
}

/// All workers are cut off for a second, and for five.
pub(super) fn all_cut(bench: &Bench) -> Outcome {
    let mut arena = match networked(bench, Setup::default()) {
        Ok(arena) => arena,
        Err(outcome) => return outcome,
    };
    for try_ in 0..bench.tries(4) {
        arena.settle();
        for worker in 0..2 {
            ALL_PACKETS.iter().for_each(|which| arena.network().drop_packets(worker, *which, 1.0));
        }
        std::thread::sleep(Duration::from_secs(if try_ % 2 == 0 { 1 } else { 5 }));
        (0..2).for_each(|worker| arena.network().heal(worker));
        arena.cost((arena.journal.committed(), Instant::now()));
    }
    arena.close()
}

/// The lines of all workers are cut one after the other, and healed in another order.
pub(super) fn swizzled(bench: &Bench) -> Outcome {
    let mut arena = Arena::open(bench, Setup { workers: 3, ..proxied() });
    let mut dice = Dice::from_clock();
    for _ in 0..bench.tries(3) {
        arena.settle();
        for cuts in [true, false] {
            let first = dice.below(3) as usize;
            let step = 1 + dice.below(2) as usize;
            for number in [first, first + step, first + 2 * step] {
                let left = cuts.then_some(0);
                arena.seats[number % 3].proxy().set_both(|rules| rules.left = left);
                dice.pause(Duration::from_millis(800));
            }
        }
        arena.cost((arena.journal.committed(), Instant::now()));
    }
    arena.close()
}

/// All bytes of all workers take longer, and arrive at uneven times.
pub(super) fn late(bench: &Bench) -> Outcome {
    let mut arena = Arena::open(bench, Setup { kind: SHORT, ..proxied() });
    let delays = [0, 1, 10, 50, 200].map(Duration::from_millis);
    for delay in delays.into_iter().cycle().take(bench.tries(5) as usize) {
        arena.settle();
        let left = arena.journal.left();
        for seat in &arena.seats {
            seat.proxy().set_both(|rules| (rules.delay, rules.jitter) = (delay, delay / 4));
        }
        let pace = arena.pace(Duration::from_secs(4));
        arena.outcome.tries += 1;
        arena.outcome.saw(format!("{} ms: {pace:.1} steps/s", delay.as_millis()));
        arena
            .outcome
            .expect(arena.journal.left() == left, format!("a worker was given up at {} ms", delay.as_millis()));
        arena
            .seats
            .iter()
            .for_each(|seat| seat.proxy().set_both(|rules| (rules.delay, rules.jitter) = Default::default()));
    }
    arena.close()
}

/// That part of all packets of all workers is lost.
pub(super) fn lossy(bench: &Bench) -> Outcome {
    let mut arena = match networked(bench, Setup { kind: SHORT, ..Setup::default() }) {
        Ok(arena) => arena,
        Err(outcome) => return outcome,
    };
    for part in [0.01, 0.1, 0.5].into_iter().cycle().take(bench.tries(3) as usize) {
        arena.settle();
        let left = arena.journal.left();
        for worker in 0..2 {
            ALL_PACKETS.iter().for_each(|which| arena.network().drop_packets(worker, *which, part));
        }
        let (before, since) = (arena.journal.committed(), Instant::now());
        std::thread::sleep(Duration::from_secs(6));
        let pace = (arena.journal.committed() - before) as f64 / since.elapsed().as_secs_f64();
        let given_up = arena.journal.left() - left;
        (0..2).for_each(|worker| arena.network().heal(worker));
        arena.outcome.tries += 1;
        arena.outcome.saw(format!("{} %: {pace:.1} steps/s, {given_up} given up", part * 100.0));
        arena.outcome.expect(part > 0.1 || given_up == 0, "a worker was given up though most packets came");
        arena.outcome.expect(pace > 0.0, format!("no step at {} %", part * 100.0));
    }
    arena.close()
}

/// The line of one worker carries so many megabits a second.
pub(super) fn narrow(bench: &Bench) -> Outcome {
    narrowed(bench, &[1])
}

/// The lines of all workers do.
pub(super) fn all_narrow(bench: &Bench) -> Outcome {
    narrowed(bench, &[0, 1])
}

fn narrowed(bench: &Bench, workers: &[usize]) -> Outcome {
    let mut arena = match networked(bench, Setup { kind: LARGE, ..Setup::default() }) {
        Ok(arena) => arena,
        Err(outcome) => return outcome,
    };
    for megabits in [100, 30, 10].into_iter().cycle().take(bench.tries(3) as usize) {
        arena.settle();
        let left = arena.journal.left();
        workers.iter().for_each(|worker| arena.network().limit(*worker, megabits));
        let (before, since) = (arena.journal.committed(), Instant::now());
        std::thread::sleep(Duration::from_secs(10));
        let pace = (arena.journal.committed() - before) as f64 / since.elapsed().as_secs_f64();
        let given_up = arena.journal.left() - left;
        workers.iter().for_each(|worker| arena.network().unlimit(*worker));
        let shares = arena.shares(before);
        arena.outcome.tries += 1;
        arena.outcome.saw(format!("{megabits} Mbit/s: {pace:.2} steps/s, shares {shares}"));
        arena.outcome.expect(given_up == 0, format!("{given_up} workers were given up at {megabits} Mbit/s"));
    }
    arena.close()
}

/// What happens to connections in the middle of what they carry.
type Break = (&'static str, fn(&Proxy));

const BREAKS: [Break; 5] = [
    ("reset", Proxy::reset),
    ("closed", Proxy::hang_up),
    ("half open", Proxy::half_open),
    ("closed slowly", Proxy::close_slowly),
    ("one byte at a time", |proxy| proxy.set_both(|rules| rules.slice = Some(1))),
];

/// Connections are reset, closed, closed at one end, and carry single bytes, in the middle of a node.
pub(super) fn broken(bench: &Bench) -> Outcome {
    let mut arena = Arena::open(bench, Setup { kind: LARGE, ..proxied() });
    let mut dice = Dice::from_clock();
    for (what, breaks) in BREAKS.into_iter().cycle().take(bench.tries(10) as usize) {
        arena.settle();
        let (proxy, passed) = (arena.seats[1].proxy(), arena.seats[1].proxy().passed(Way::Up));
        let until = passed + 1 + dice.below(2 * LARGE_NODE);
        wait_for("bytes of a node", || (proxy.passed(Way::Up) >= until).then_some(()));
        breaks(proxy);
        let broken = (arena.journal.committed() + 1, Instant::now());
        arena.cost(broken);
        let took = arena.outcome.seconds.last().copied().unwrap_or_default();
        arena.outcome.saw(format!("{what}: {took:.2} s"));
        arena.seats[1].proxy().set_both(|rules| rules.slice = None);
    }
    arena.close()
}

/// Bits are flipped on the way, in encrypted connections.
pub(super) fn flipped(bench: &Bench) -> Outcome {
    let mut arena = Arena::open(bench, Setup { connections: Connections::Encrypted, ..proxied() });
    for try_ in 0..bench.tries(6) {
        arena.settle();
        let connections = arena.seats[1].proxy().connections();
        let way = if try_ % 2 == 0 { Way::Up } else { Way::Down };
        arena.seats[1].proxy().set(way, |rules| rules.flips = 1);
        let flipped = (arena.journal.committed() + 1, Instant::now());
        arena.cost(flipped);
        wait_for("the connection to be made anew", || {
            (arena.seats[1].proxy().connections() > connections).then_some(())
        });
    }
    let flips = arena.outcome.tries;
    arena.outcome.saw(format!("{flips} bits flipped, each ended its connection"));
    arena.close()
}

/// What no process can be made to see: messages that are doubled, late, reordered, or of an earlier start.
pub(super) fn simulated(bench: &Bench) -> Outcome {
    let Some(sim) = &bench.sim else {
        return Outcome::not_run("the simulator is not there: --sim target/release/convoy-sim");
    };
    let seeds = bench.tries(300);
    let output = Command::new(sim).args(["--seeds", &seeds.to_string()]).output().expect("the simulator starts");
    let mut outcome = Outcome { tries: seeds, ..Outcome::default() };
    let said = String::from_utf8_lossy(&output.stdout);
    outcome.saw(said.lines().last().unwrap_or_default());
    outcome.expect(output.status.success(), "a seed breaks a promise");
    outcome
}
