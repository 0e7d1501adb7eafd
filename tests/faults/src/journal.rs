//! What a run has committed, and when: its journal, read as it grows.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use convoy_testing::wait_for;
use parking_lot::Mutex;
use serde_json::Value;

/// How often the file is looked at.
const LOOK: Duration = Duration::from_millis(1);

/// The record of a line of a journal.
pub fn parse(line: &str) -> Option<Value> {
    serde_json::from_str(line.split_once(' ')?.1).ok()
}

/// Reads the journal of a run while it is written. Records that a restart cut off stay among those that were seen.
pub struct Journal {
    seen: Arc<Mutex<Told>>,
    over: Arc<AtomicBool>,
    reader: Option<JoinHandle<()>>,
}

/// What a journal told so far.
#[derive(Default)]
struct Told {
    records: Vec<Value>,
    /// When each step was committed first.
    commits: Vec<Instant>,
    /// Workers that joined since the last start, without those that left.
    members: usize,
    /// How often a worker joined or left.
    joined: u64,
    left: u64,
    finished: bool,
}

impl Told {
    fn add(&mut self, record: Value) {
        match record["record"].as_str().unwrap_or_default() {
            "started" => (self.members, self.finished) = (0, false),
            "worker_joined" => (self.members, self.joined) = (self.members + 1, self.joined + 1),
            "worker_left" => (self.members, self.left) = (self.members.saturating_sub(1), self.left + 1),
            "step_committed" if record["step"].as_u64() == Some(self.commits.len() as u64) => {
                self.commits.push(Instant::now());
            }
            "finished" => self.finished = true,
            _ => {}
        }
        self.records.push(record);
    }
}

impl Journal {
    /// Follows the file at `path`, which may not be there yet.
    pub fn follow(path: &Path) -> Self {
        let (seen, over) = (Arc::<Mutex<Told>>::default(), Arc::new(AtomicBool::new(false)));
        let mut tail = Tail { path: path.to_owned(), read: 0, rest: Vec::new() };
        let shared = (seen.clone(), over.clone());
        let reader = std::thread::spawn(move || {
            while !shared.1.load(Ordering::Relaxed) {
                let records = tail.new_records();
                if !records.is_empty() {
                    let mut told = shared.0.lock();
                    records.into_iter().for_each(|record| told.add(record));
                }
                std::thread::sleep(LOOK);
            }
        });
        Journal { seen, over, reader: Some(reader) }
    }

    /// All records of that kind so far.
    pub fn records(&self, kind: &str) -> Vec<Value> {
        self.seen.lock().records.iter().filter(|record| record["record"] == kind).cloned().collect()
    }

    /// All commits, without those that were found to be computed wrongly later.
    pub fn believed(&self) -> Vec<Value> {
        let mut commits: Vec<Value> = Vec::new();
        for record in &self.seen.lock().records {
            match record["record"].as_str().unwrap_or_default() {
                "step_committed" => commits.push(record.clone()),
                "disbelieved" => commits.retain(|commit| commit["step"].as_u64() < record["since"].as_u64()),
                _ => {}
            }
        }
        commits
    }

    /// Steps that are committed.
    pub fn committed(&self) -> u64 {
        self.seen.lock().commits.len() as u64
    }

    /// Waits until `steps` steps are committed.
    pub fn wait_for(&self, steps: u64) {
        wait_for("more steps", || (self.committed() >= steps).then_some(()));
    }

    /// Waits until more than `before` steps are committed; when the first of them was.
    pub fn next_commit(&self, before: u64) -> Instant {
        self.wait_for(before + 1);
        self.seen.lock().commits[before as usize]
    }

    /// How many of the commits happened after `at`.
    pub fn commits_since(&self, at: Instant) -> usize {
        self.seen.lock().commits.iter().rev().take_while(|commit| **commit >= at).count()
    }

    /// Workers that are members now.
    pub fn members(&self) -> usize {
        self.seen.lock().members
    }

    /// How often a worker joined so far.
    pub fn joined(&self) -> u64 {
        self.seen.lock().joined
    }

    /// How often a worker left so far.
    pub fn left(&self) -> u64 {
        self.seen.lock().left
    }

    /// Whether the run is over.
    pub fn is_over(&self) -> bool {
        self.seen.lock().finished
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(reader) = self.reader.take() {
            _ = reader.join();
        }
    }
}

/// The end of a file that grows, and may be cut.
struct Tail {
    path: PathBuf,
    read: u64,
    rest: Vec<u8>,
}

impl Tail {
    fn new_records(&mut self) -> Vec<Value> {
        let Ok(mut file) = File::open(&self.path) else { return Vec::new() };
        let length = file.metadata().map_or(0, |facts| facts.len());
        if length < self.read {
            // A restart cut an unfinished line off.
            (self.read, self.rest) = (length, Vec::new());
        }
        if length == self.read || file.seek(SeekFrom::Start(self.read)).is_err() {
            return Vec::new();
        }
        let Ok(read) = file.read_to_end(&mut self.rest) else { return Vec::new() };
        self.read += read as u64;
        let whole = self.rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let lines: Vec<u8> = self.rest.drain(..whole).collect();
        String::from_utf8_lossy(&lines).lines().filter_map(parse).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_journal_is_followed_over_a_cut_and_a_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let journal = Journal::follow(&path);
        let commit = |step: u64| format!("x {{\"record\":\"step_committed\",\"step\":{step}}}\n");
        let joined = "x {\"record\":\"worker_joined\"}\n";
        fs::write(&path, format!("{joined}{}x {{\"rec", commit(0))).unwrap();
        journal.wait_for(1);
        assert_eq!(journal.members(), 1);
        let started = "x {\"record\":\"started\"}\n";
        fs::write(&path, format!("{joined}{}", commit(0))).unwrap();
        wait_for("the cut", || (fs::metadata(&path).unwrap().len() < 100).then_some(()));
        fs::write(&path, format!("{joined}{}{started}{}{}{joined}", commit(0), commit(0), commit(1))).unwrap();
        journal.next_commit(1);
        wait_for("the worker", || (journal.members() == 1).then_some(()));
        assert_eq!((journal.committed(), journal.records("step_committed").len()), (2, 3));
    }
}
