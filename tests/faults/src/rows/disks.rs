//! Disks that are full, slow, fail, forget and lie.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use convoy_testing::wait_for;

use crate::arena::{Arena, Setup};
use crate::cluster::{Cluster, Connections, free_address};
use crate::dice::Dice;
use crate::job::{Bench, LARGE, SHORT, text};
use crate::machine::{SmallDisk, no_strace, strace};
use crate::outcome::Outcome;

/// How long the coordinator has to notice what happened to its files.
const NOTICE: Duration = Duration::from_secs(10);
/// A journal is synced at least so often: what is younger may be gone after a power cut.
const UNSYNCED: Duration = Duration::from_millis(200);

/// An arena of jobs like `setup` whose state is on a disk of that size.
fn on_small_disk(bench: &Bench, setup: Setup, kib: u64) -> Result<(Arena<'_>, SmallDisk), Outcome> {
    let disk = SmallDisk::mount(kib).map_err(|why| Outcome::not_run(format!("no small file system: {why}")))?;
    let cluster = Cluster::new(&bench.convoy, Connections::Plain, free_address());
    std::os::unix::fs::symlink(disk.folder(), cluster.path("state")).expect("the folder is writable");
    Ok((Arena::open_in(bench, setup, cluster, None), disk))
}

/// Nothing more can be written to the coordinator's disk, until there is room again.
pub(super) fn full(bench: &Bench) -> Outcome {
    let (mut arena, disk) = match on_small_disk(bench, Setup { kind: SHORT, ..Setup::default() }, 24 << 10) {
        Ok(both) => both,
        Err(outcome) => return outcome,
    };
    for _ in 0..bench.tries(2) {
        arena.settle();
        disk.fill(0);
        let before = arena.journal.committed();
        let said = wait_for("the run to stop, or to go on without a disk", || {
            let job = arena.cluster.job(arena.job);
            let reason = [&job["waiting_for"], &job["error"]].map(text).concat();
            let stands = reason.contains("disk") || reason.contains("space") || job["state"] != "running";
            (stands || arena.journal.committed() > before + 1000).then_some(reason)
        });
        arena.outcome.saw(said);
        disk.relieve();
        arena.cost((arena.journal.committed(), Instant::now()));
    }
    arena.close()
}

/// A journal has room, a checkpoint has not.
pub(super) fn full_for_checkpoints(bench: &Bench) -> Outcome {
    let (mut arena, disk) = match on_small_disk(bench, Setup { kind: LARGE, ..Setup::default() }, 64 << 10) {
        Ok(both) => both,
        Err(outcome) => return outcome,
    };
    for _ in 0..bench.tries(1) {
        arena.settle();
        disk.fill(1 << 10);
        let since = (arena.journal.committed() + LARGE.checkpoint_every + 5, Instant::now());
        arena.cost(since);
        let log = arena.cluster.log_of("coordinator");
        let told = log
            .lines()
            .rfind(|line| line.contains("checkpoint not written"))
            .map(|_| "checkpoint not written; training goes on");
        arena.outcome.expect(told.is_some(), "nobody said that a checkpoint was not written");
        told.into_iter().for_each(|told| arena.outcome.saw(told));
        disk.relieve();
    }
    arena.outcome.seconds.clear();
    arena.close()
}

/// A worker whose cache has no room.
pub(super) fn full_cache(bench: &Bench) -> Outcome {
    let disk = match SmallDisk::mount(64) {
        Ok(disk) => disk,
        Err(why) => return Outcome::not_run(format!("no small file system: {why}")),
    };
    let mut arena = Arena::open(bench, Setup { kind: SHORT, workers: 1, ..Setup::default() });
    disk.fill(0);
    for _ in 0..bench.tries(1) {
        let cache = format!("CONVOY_CACHE={}", disk.folder().display());
        let number = arena.add_worker(vec!["env".into(), cache]);
        let since = Instant::now();
        arena.settle();
        arena.cost((arena.journal.committed(), since));
        let log = arena.cluster.log_of("worker-2");
        arena.outcome.saw(if log.contains("the cache takes nothing") {
            "the cache takes nothing"
        } else {
            "no word of it"
        });
        drop(arena.seats.remove(number));
    }
    arena.close()
}

/// A call of the system on the coordinator's files fails with an I/O error: the first, the second, and so on.
pub(super) fn failing(bench: &Bench) -> Outcome {
    if let Some(why) = no_strace() {
        return Outcome::not_run(why);
    }
    let mut arena = Arena::open(bench, Setup { kind: SHORT, ..Setup::default() });
    let (mut ended, mut resumed) = (0, 0);
    let calls = ["fdatasync", "fsync", "write", "rename"];
    for number in 0..bench.tries(8) {
        arena.settle();
        let (call, count) = (calls[number as usize % calls.len()], 1 + number / calls.len() as u64);
        let journal = (call == "write").then(|| arena.cluster.run(arena.job).join("journal"));
        arena.coordinator.kill();
        arena.start_coordinator_by(&strace(call, &format!("error=EIO:when={count}"), journal.as_deref()));
        ended += u32::from(arena.coordinator_ends_within(Duration::from_secs(3)));
        arena.coordinator.kill();
        let restarted = arena.start_coordinator();
        arena.cluster.wait_until_healthy();
        if arena.cluster.job(arena.job)["state"] == "failed" {
            resumed += 1;
            let said = arena.cluster.said(&["resume", &arena.job.to_string()]);
            arena.outcome.expect(said.status.success(), String::from_utf8_lossy(&said.stderr));
        }
        arena.cost(restarted);
    }
    arena.outcome.saw(format!("EIO at the 1st, 2nd, ... {} of a thread; it ended {ended} times", calls.join(", ")));
    arena.outcome.expect(resumed == 0, format!("the job failed, and a person had to resume it, {resumed} times"));
    arena.close()
}

/// Every sync of the coordinator takes 0.3 s.
pub(super) fn slow(bench: &Bench) -> Outcome {
    if let Some(why) = no_strace() {
        return Outcome::not_run(why);
    }
    let mut arena = Arena::open(bench, Setup { kind: SHORT, ..Setup::default() });
    for _ in 0..bench.tries(1) {
        // Both are watched, as that costs time of its own.
        let [without, with] = ["1", "300000"].map(|micros| {
            arena.settle();
            arena.coordinator.kill();
            arena.start_coordinator_by(&strace("fsync,fdatasync", &format!("delay_exit={micros}"), None));
            let pace = arena.pace(Duration::from_secs(6));
            arena.restart_coordinator();
            pace
        });
        arena.outcome.tries += 1;
        arena.outcome.saw(format!("{without:.1} steps/s, and {with:.1} with 0.3 s for each sync"));
        arena.outcome.expect(with >= 0.8 * without, "steps wait for syncs");
    }
    arena.close()
}

/// How much of a journal is on the disk for certain: it is synced before a checkpoint is written.
fn synced(run: &Path, journal: &[u8]) -> usize {
    let names = fs::read_dir(run.join("checkpoints")).into_iter().flatten().flatten();
    let steps = names.filter_map(|entry| {
        entry.file_name().to_str()?.strip_prefix("step-")?.strip_suffix(".safetensors")?.parse::<u64>().ok()
    });
    let Some(last) = steps.max().and_then(|step| step.checked_sub(1)) else { return 0 };
    let commit = format!("\"record\":\"step_committed\",\"step\":{last},");
    let at = journal.windows(commit.len()).rposition(|text| text == commit.as_bytes());
    let line = |at: usize| journal[at..].iter().position(|byte| *byte == b'\n').map(|length| at + length + 1);
    at.and_then(line).unwrap_or(0)
}

/// The power fails: what was not synced is gone, or is zeros.
pub(super) fn power_cut(bench: &Bench) -> Outcome {
    let mut arena = Arena::open(bench, Setup { kind: SHORT, ..Setup::default() });
    let (mut dice, mut lost) = (Dice::from_clock(), 0);
    for try_ in 0..bench.tries(10) {
        arena.settle();
        dice.pause(UNSYNCED * 2);
        let at = arena.coordinator.kill();
        let path = arena.cluster.run(arena.job).join("journal");
        let journal = fs::read(&path).expect("a run has a journal");
        let young = arena.journal.commits_since(at - UNSYNCED);
        let lines: Vec<usize> = (0..journal.len()).filter(|at| journal[*at] == b'\n').collect();
        let kept = lines.len().saturating_sub(young).checked_sub(1).map_or(0, |last| lines[last] + 1);
        let kept = kept.max(synced(&arena.cluster.run(arena.job), &journal));
        let cut = kept + dice.below((journal.len() - kept) as u64 + 1) as usize;
        lost += young;
        let file = OpenOptions::new().write(true).open(&path).expect("it is writable");
        match try_ % 2 {
            0 => file.set_len(cut as u64),
            _ => file.write_all_at(&vec![0; journal.len() - cut], cut as u64),
        }
        .expect("it is writable");
        let restarted = arena.start_coordinator();
        arena.cost(restarted);
    }
    arena.outcome.saw(format!("up to {lost} commits were not on the disk yet, and were computed again"));
    arena.close()
}

/// Files of the coordinator, below its state folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if fs::metadata(&path).is_ok_and(|facts| facts.len() > 0) {
            found.push(path);
        }
    }
    found
}

/// Changes a file: a bit is flipped, its end is missing, or 512 bytes are zeros.
fn damage(path: &Path, dice: &mut Dice) -> &'static str {
    let mut bytes = fs::read(path).expect("it can be read");
    let at = dice.below(bytes.len() as u64) as usize;
    let what = match dice.below(3) {
        0 => {
            bytes[at] ^= 1 << dice.below(8);
            "a bit flipped"
        }
        1 => {
            bytes.truncate(at);
            "cut"
        }
        _ => {
            let end = (at + 512).min(bytes.len());
            bytes[at..end].fill(0);
            "zeros"
        }
    };
    fs::write(path, bytes).expect("it can be written");
    what
}

/// Any file of the coordinator is damaged while it is not running.
pub(super) fn damaged(bench: &Bench) -> Outcome {
    let mut arena = Arena::open(bench, Setup { kind: SHORT, ..Setup::default() });
    let mut dice = Dice::from_clock();
    let (state, kept) = (arena.cluster.path("state"), arena.cluster.path("kept"));
    let (mut went_on, mut told) = (0, 0);
    for _ in 0..bench.tries(10) {
        arena.settle();
        arena.coordinator.kill();
        copy(&state, &kept);
        let mut all = files(&state);
        all.sort();
        let path = all.swap_remove(dice.below(all.len() as u64) as usize);
        let name = path.strip_prefix(&state).unwrap_or(&path).display().to_string();
        let what = damage(&path, &mut dice);
        let damaged = arena.start_coordinator();
        match after_damage(&mut arena) {
            Ok(()) => {
                went_on += 1;
                arena.cost(damaged);
            }
            Err(said) => {
                told += 1;
                arena.outcome.expect(!said.is_empty() && !said.contains("panicked"), format!("{name}: {what}: {said}"));
                arena.coordinator.kill();
                fs::remove_dir_all(&state).expect("it can be removed");
                copy(&kept, &state);
                let restarted = arena.start_coordinator();
                arena.outcome.tries += 1;
                arena.journal.next_commit(restarted.0);
            }
        }
    }
    arena.outcome.saw(format!("it went on {went_on} times, and said what is wrong {told} times"));
    arena.close()
}

/// Waits until the job goes on after a damage; or what the coordinator said instead.
fn after_damage(arena: &mut Arena) -> Result<(), String> {
    let (before, begun) = (arena.journal.committed(), Instant::now());
    while begun.elapsed() < NOTICE {
        if arena.coordinator.ended().is_some() {
            return Err(arena.cluster.log_of("coordinator").lines().last().unwrap_or_default().to_owned());
        }
        if arena.journal.committed() > before + 1 {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let job = arena.cluster.job(arena.job);
    Err([&job["waiting_for"], &job["error"]].map(text).concat())
}

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").args(["-a", "-T"]).args([from, to]).status().expect("cp starts");
    assert!(status.success(), "{} is copied", from.display());
}

/// The coordinator's folder is a file, cannot be written, or belongs to somebody else.
pub(super) fn unusable(bench: &Bench) -> Outcome {
    let mut outcome = Outcome::default();
    for what in ["a file", "read-only", "another user's"].into_iter().cycle().take(bench.tries(3) as usize) {
        let cluster = Cluster::new(&bench.convoy, Connections::Plain, free_address());
        let state = cluster.path("state");
        let disk = match what {
            "a file" => fs::write(&state, "").map(|()| None).map_err(|error| error.to_string()),
            "read-only" => SmallDisk::mount(64)
                .inspect(|disk| {
                    disk.make_read_only();
                    std::os::unix::fs::symlink(disk.folder(), &state).expect("the folder is writable");
                })
                .map(Some),
            _ => fs::create_dir(&state)
                .and_then(|()| chown(&state, Some(65534), None))
                .map(|()| None)
                .map_err(|error| error.to_string()),
        };
        if let Err(why) = disk {
            outcome.saw(format!("{what}: not tried: {why}"));
            continue;
        }
        outcome.tries += 1;
        let mut coordinator = cluster.start_coordinator(&[], &[]);
        let begun = Instant::now();
        while begun.elapsed() < NOTICE && coordinator.ended().is_none() && !cluster.said(&["health"]).status.success() {
        }
        let log = cluster.log_of("coordinator");
        let said = log
            .lines()
            .find(|line| line.starts_with("error"))
            .unwrap_or_default()
            .replace(&state.display().to_string(), "STATE");
        outcome.expect(coordinator.ended().is_some_and(|code| code > 0), format!("{what}: it started"));
        outcome.saw(format!("{what}: {said}"));
    }
    outcome
}
