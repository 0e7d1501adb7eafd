//! What a run has committed, and when: its journal, read as it grows.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
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
        let mut tail = Tail::new(path);
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

/// The end of a file that grows, and may be cut and grow again between two looks.
struct Tail {
    path: PathBuf,
    /// Each whole line that was read.
    lines: Vec<Vec<u8>>,
    /// Bytes of all of them.
    read: u64,
}

impl Tail {
    fn new(path: &Path) -> Self {
        Tail { path: path.to_owned(), lines: Vec::new(), read: 0 }
    }

    fn new_records(&mut self) -> Vec<Value> {
        let Ok(file) = File::open(&self.path) else { return Vec::new() };
        while let Some(last) = self.lines.pop_if(|line| !is_at(&file, line, self.read - line.len() as u64)) {
            // A restart cut it off.
            self.read -= last.len() as u64;
        }
        let (mut file, mut bytes) = (file, Vec::new());
        if file.seek(SeekFrom::Start(self.read)).and_then(|_| file.read_to_end(&mut bytes)).is_err() {
            return Vec::new();
        }
        let before = self.lines.len();
        let whole = bytes.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n"));
        self.lines.extend(whole.map(<[u8]>::to_vec));
        let lines = &self.lines[before..];
        self.read += lines.iter().map(|line| line.len() as u64).sum::<u64>();
        lines.iter().filter_map(|line| parse(&String::from_utf8_lossy(line))).collect()
    }
}

/// Whether that line is still where it was read.
fn is_at(file: &File, line: &[u8], at: u64) -> bool {
    let mut now = vec![0; line.len()];
    file.read_exact_at(&mut now, at).is_ok() && now == line
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_journal_is_followed_over_a_cut_and_a_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let mut tail = Tail::new(&path);
        let mut told = Told::default();
        let mut look = |content: &str, told: &mut Told| {
            fs::write(&path, content).unwrap();
            tail.new_records().into_iter().for_each(|record| told.add(record));
        };
        let commit = |step: u64| format!("x {{\"record\":\"step_committed\",\"step\":{step}}}\n");
        let (joined, started) = ("x {\"record\":\"worker_joined\"}\n", "x {\"record\":\"started\"}\n");
        let whole = format!("{joined}{}", commit(0));
        look(&format!("{whole}x {{\"rec"), &mut told);
        assert_eq!((told.commits.len(), told.members), (1, 1));
        look(&whole, &mut told);
        look(&format!("{whole}{started}{}{}{joined}", commit(0), commit(1)), &mut told);
        assert_eq!((told.commits.len(), told.members, told.records.len()), (2, 1, 6));
        // The last line is cut off, and more has come before anybody looks.
        look(&format!("{whole}{started}{}{started}{joined}{joined}{}", commit(0), commit(1)), &mut told);
        assert_eq!((told.commits.len(), told.members, told.records.len()), (2, 2, 10));
    }
}
