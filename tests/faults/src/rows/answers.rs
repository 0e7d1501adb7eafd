//! Answers that are wrong, and data that is another.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use convoy_testing::wait_for;

use crate::arena::{Arena, Setup};
use crate::cluster::{Cluster, Connections, free_address};
use crate::dice::Dice;
use crate::job::{Bench, LARGE, SHORT, write_data};
use crate::journal::Journal;
use crate::liar::{Liar, Lie, UNSEEN};
use crate::outcome::Outcome;

/// A part of all shards is computed twice, in percent.
fn audited(percent: &str) -> Setup {
    Setup { coordinator: vec!["--audit".into(), percent.into()], has_liars: true, ..Setup::default() }
}

/// A third worker changes a bit of each chunk, from the first node on or after some dozens.
pub(super) fn lies(bench: &Bench) -> Outcome {
    let mut arena = Arena::open(bench, Setup { kind: SHORT, ..audited("1") });
    for try_ in 0..bench.tries(4) {
        arena.settle();
        let honest = if try_ % 2 == 0 { -UNSEEN } else { 40 };
        let liar = Liar::start(&arena.cluster.address, &arena.cluster.path("home"), Lie::Bit, honest);
        let (evictions, since) = (arena.journal.records("distrusted").len(), Instant::now());
        let name = format!("mallory-{try_}");
        let mut process = arena.cluster.start_worker(&name, &liar.address, &[], &[]);
        wait_for("the liar to be found out", || (arena.journal.records("distrusted").len() > evictions).then_some(()));
        arena.outcome.seconds.push(since.elapsed().as_secs_f64());
        arena.outcome.tries += 1;
        let code = wait_for("its end", || process.ended());
        arena.outcome.expect(code == 4, format!("a worker that was put out ended with {code}"));
    }
    arena.outcome.saw("put out, exit code 4; seconds are those from its start until then");
    let mut outcome = arena.close();
    outcome.redone = None;
    outcome
}

/// A third worker sends values that are no numbers, or absurdly large.
pub(super) fn not_finite(bench: &Bench) -> Outcome {
    let mut arena = Arena::open(bench, Setup { kind: SHORT, ..audited("0") });
    for lie in [Lie::NotANumber, Lie::Huge].into_iter().cycle().take(bench.tries(2) as usize) {
        arena.settle();
        let liar = Liar::start(&arena.cluster.address, &arena.cluster.path("home"), lie, -UNSEEN);
        let joined = arena.journal.joined();
        let process = arena.cluster.start_worker("mallory", &liar.address, &[], &[]);
        wait_for("it to join", || (arena.journal.joined() > joined).then_some(()));
        let joined = (arena.journal.committed() + 1, Instant::now());
        arena.cost(joined);
        arena.journal.wait_for(joined.0 + 50);
        drop(process);
        wait_for("it to be gone", || (arena.journal.members() == 2).then_some(()));
    }
    let log = arena.cluster.log_of("coordinator");
    for word in ["absurdly large", "not finite", "NaN"] {
        log.contains(word).then(|| arena.outcome.saw(format!("the log says: {word}")));
    }
    arena.close()
}

/// The only worker sees a copy of the data that has another pixel.
pub(super) fn other_data(bench: &Bench) -> Outcome {
    let mut outcome = Outcome::default();
    for _ in 0..bench.tries(1) {
        let cluster = Cluster::new(&bench.convoy, Connections::Plain, free_address());
        let data = cluster.folder.path().display().to_string();
        let _coordinator = cluster.start_coordinator(&[], &["--data", &data, "--audit", "0"]);
        cluster.wait_until_healthy();
        let other = cluster.path("other");
        write_data(&other);
        let images = other.join("data/train-images-idx3-ubyte");
        let mut bytes = fs::read(&images).expect("it was written");
        *bytes.last_mut().expect("it has pixels") ^= 1;
        fs::write(&images, bytes).expect("it is writable");
        let job = cluster.submit(SHORT, &["--set", "data.train=\"shared:data\""]);
        let journal = Journal::follow(&cluster.run(job).join("journal"));
        let _worker = cluster.start_worker("other", &cluster.address, &[], &["--data", &other.display().to_string()]);
        journal.wait_for(100);
        outcome.tries += 1;
        let commits = journal.believed();
        let digests = bench.undisturbed(SHORT, commits.len() as u64);
        let equal = commits.iter().zip(digests.iter()).all(|(commit, digest)| commit["digest"] == digest.as_str());
        outcome.equal = Some(equal && outcome.equal != Some(false));
        outcome.saw("its copy is not used; it gets the file from the coordinator");
    }
    outcome
}

/// Bits flipped in one try.
const FLIPS: u64 = 300;

/// Bits flip in the memory of a worker: in parameters, gradients, data, and whatever else there is.
pub(super) fn flipped_memory(bench: &Bench) -> Outcome {
    let mut arena = Arena::open(bench, Setup { kind: LARGE, workers: 3, ..audited("100") });
    let (mut dice, mut died) = (Dice::from_clock(), 0);
    for try_ in 0..bench.tries(5) {
        arena.settle();
        let flipped = (arena.journal.committed() + 1, Instant::now());
        for _ in 0..FLIPS {
            flip(arena.seats[2].process.0.id(), &mut dice);
            dice.pause(Duration::from_millis(2));
        }
        arena.cost(flipped);
        died += u32::from(arena.seats[2].process.ended().is_some());
        arena.kill_worker(2);
        // The one before may be put out.
        arena.seats[2].name = format!("worker-3-{try_}");
        arena.start_worker(2);
    }
    let evicted = arena.journal.records("distrusted").len();
    arena.outcome.saw(format!("{FLIPS} bits in a try; it died {died} times, and was put out {evicted} times"));
    let mut outcome = arena.close();
    outcome.redone = None;
    outcome
}

/// Flips a bit in a large piece of memory of a process, in a byte that is in use, if it finds one.
fn flip(process: u32, dice: &mut Dice) {
    let maps = fs::read_to_string(format!("/proc/{process}/maps")).unwrap_or_default();
    let pieces: Vec<(u64, u64)> = maps.lines().filter_map(large).collect();
    let Ok(memory) = File::options().read(true).write(true).open(format!("/proc/{process}/mem")) else { return };
    // Most of what is reserved was never written to.
    for _ in 0..200 {
        let Some((first, last)) = pieces.get(dice.below(pieces.len() as u64) as usize) else { return };
        let (at, mut byte) = (first + dice.below(last - first), [0]);
        if memory.read_exact_at(&mut byte, at).is_ok() && byte[0] != 0 {
            byte[0] ^= 1 << dice.below(8);
            _ = memory.write_all_at(&byte, at);
            return;
        }
    }
}

/// The addresses of a line of `/proc/PID/maps` that is writable, of no file, and at least a megabyte long.
fn large(line: &str) -> Option<(u64, u64)> {
    let mut words = line.split_whitespace();
    let (first, last) = words.next()?.split_once('-')?;
    let (first, last) = (u64::from_str_radix(first, 16).ok()?, u64::from_str_radix(last, 16).ok()?);
    let is_ours = words.next()?.starts_with("rw") && words.nth(3).is_none() && last - first >= 1 << 20;
    is_ours.then_some((first, last))
}
