//! The journal: an append-only file of records, each line with a check of its own. Synced off the step's path, and
//! before any checkpoint names what it holds.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use convoy_scheduler::{Journal, Record};
use parking_lot::Mutex;

mod text;

const SYNC_EVERY: Duration = Duration::from_millis(200);
/// Hexadecimal digits of blake3 before each line.
const CHECK: usize = 16;

/// Why a journal cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The system refused.
    #[error("journal {}: {source}; the run stops, and `convoy resume` goes on from its last checkpoint", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// A journal open for appending.
#[derive(Debug)]
pub struct JournalFile {
    path: PathBuf,
    file: Arc<File>,
    sync: Arc<SyncState>,
    stop: Option<mpsc::Sender<()>>,
    syncer: Option<JoinHandle<()>>,
}

/// What the syncing thread shares with the journal.
#[derive(Debug, Default)]
struct SyncState {
    /// Held while a sync is under way, so that who finds nothing to do knows that it is done.
    turn: Mutex<()>,
    dirty: AtomicBool,
    /// A failed sync is never tried again: what reached the disk is unknown.
    failed: AtomicBool,
}

impl JournalFile {
    /// Reads the journal at `path`, which may not exist yet, and opens it for appending.
    ///
    /// A last line that was not written to its end is cut off. So is all from the first damaged line on, after a copy
    /// was put aside: what it told is computed again.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn open(path: &Path) -> Result<(Self, Vec<Record>), JournalError> {
        let fail = |source| JournalError::Io { path: path.to_owned(), source };
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(fail)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(fail)?;
        let (records, good) = parse(&bytes);
        if good < bytes.len() {
            let line = records.len() + 1;
            if bytes[good..].contains(&b'\n') {
                let aside = path.with_extension("damaged");
                fs::write(&aside, &bytes).map_err(fail)?;
                tracing::warn!(journal = %path.display(), line, copy = %aside.display(), "damaged; what follows is computed again");
            } else {
                tracing::warn!(journal = %path.display(), line, "cut off an unfinished last line");
            }
            file.set_len(good as u64).map_err(fail)?;
        }
        file.seek(SeekFrom::End(0)).map_err(fail)?;
        file.sync_data().map_err(fail)?;
        if let (Some(folder), true) = (path.parent(), cfg!(unix)) {
            File::open(folder).and_then(|folder| folder.sync_all()).map_err(fail)?;
        }
        let (file, sync) = (Arc::new(file), Arc::new(SyncState::default()));
        let (stop, stopped) = mpsc::channel();
        let syncer = {
            let (file, sync) = (file.clone(), sync.clone());
            std::thread::spawn(move || {
                while stopped.recv_timeout(SYNC_EVERY) == Err(mpsc::RecvTimeoutError::Timeout) {
                    sync.run(&file);
                }
            })
        };
        Ok((JournalFile { path: path.to_owned(), file, sync, stop: Some(stop), syncer: Some(syncer) }, records))
    }

    /// A handle with which another thread can wait until all records so far are on disk.
    pub fn syncer(&self) -> JournalSync {
        JournalSync { path: self.path.clone(), file: self.file.clone(), sync: self.sync.clone() }
    }

    fn error(&self, source: io::Error) -> JournalError {
        JournalError::Io { path: self.path.clone(), source }
    }
}

impl SyncState {
    fn run(&self, file: &File) {
        let _turn = self.turn.lock();
        if self.dirty.swap(false, Ordering::AcqRel) && file.sync_data().is_err() {
            self.failed.store(true, Ordering::Release);
        }
    }
}

impl Journal for JournalFile {
    type Error = JournalError;

    fn append(&mut self, record: &Record) -> Result<(), JournalError> {
        if self.sync.failed.load(Ordering::Acquire) {
            return Err(self.error(io::Error::other("an earlier sync failed")));
        }
        let line = seal(&text::to_json(record));
        (&*self.file).write_all(line.as_bytes()).map_err(|error| self.error(error))?;
        self.sync.dirty.store(true, Ordering::Release);
        if record.is_urgent() {
            self.syncer().sync()?;
        }
        Ok(())
    }
}

impl Drop for JournalFile {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(syncer) = self.syncer.take() {
            _ = syncer.join();
        }
        self.sync.run(&self.file);
    }
}

/// Syncs a journal from another thread.
#[derive(Debug, Clone)]
pub struct JournalSync {
    path: PathBuf,
    file: Arc<File>,
    sync: Arc<SyncState>,
}

impl JournalSync {
    /// Returns when all that was appended before this call is on disk.
    ///
    /// # Errors
    /// When this or an earlier sync failed.
    pub fn sync(&self) -> Result<(), JournalError> {
        self.sync.run(&self.file);
        if self.sync.failed.load(Ordering::Acquire) {
            let source = io::Error::other("a sync failed");
            return Err(JournalError::Io { path: self.path.clone(), source });
        }
        Ok(())
    }
}

/// `json` with its check and a line end.
fn seal(json: &str) -> String {
    format!("{} {json}\n", &blake3::hash(json.as_bytes()).to_hex()[..CHECK])
}

/// The records of a journal up to the first line that is not whole, and how many bytes they take.
pub(crate) fn parse(bytes: &[u8]) -> (Vec<Record>, usize) {
    let (mut records, mut good) = (Vec::new(), 0);
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let Some(record) = unseal(line) else { break };
        records.push(record);
        good += line.len();
    }
    (records, good)
}

fn unseal(line: &[u8]) -> Option<Record> {
    let line = std::str::from_utf8(line.strip_suffix(b"\n")?).ok()?;
    let (check, json) = line.split_at_checked(CHECK)?;
    let json = json.strip_prefix(' ')?;
    (*check == blake3::hash(json.as_bytes()).to_hex()[..CHECK]).then(|| text::from_json(json))?
}

#[cfg(test)]
mod tests {
    use convoy_scheduler::{LedgerEntry, Node, RunGeneration, StepId, WorkerId};

    use super::*;

    fn records() -> Vec<Record> {
        vec![
            Record::Started { generation: RunGeneration(1), first_step: StepId(0) },
            Record::StepCommitted {
                step: StepId(0),
                digest: [7; 32],
                ledger: vec![LedgerEntry { node: Node { first: 0, last: 4 }, worker: WorkerId(2), auditor: None }],
            },
        ]
    }

    fn written(dir: &Path) -> PathBuf {
        let path = dir.join("journal");
        let (mut journal, before) = JournalFile::open(&path).unwrap();
        assert!(before.is_empty());
        records().iter().for_each(|record| journal.append(record).unwrap());
        journal.syncer().sync().unwrap();
        path
    }

    #[test]
    fn records_come_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = written(dir.path());
        assert_eq!(JournalFile::open(&path).unwrap().1, records());
    }

    #[test]
    fn a_torn_last_line_is_cut_off_at_any_length() {
        let dir = tempfile::tempdir().unwrap();
        let path = written(dir.path());
        let whole = std::fs::read(&path).unwrap();
        let first = whole.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        for length in first..whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            assert_eq!(JournalFile::open(&path).unwrap().1, records()[..1]);
            assert_eq!(std::fs::metadata(&path).unwrap().len(), first as u64);
        }
    }

    #[test]
    fn a_flipped_byte_is_found_and_what_follows_is_put_aside() {
        let dir = tempfile::tempdir().unwrap();
        let path = written(dir.path());
        let whole = std::fs::read(&path).unwrap();
        let first = whole.iter().position(|byte| *byte == b'\n').unwrap();
        for at in 0..first {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            std::fs::write(&path, &bytes).unwrap();
            let (_, records) = JournalFile::open(&path).unwrap();
            assert_eq!((records.len(), std::fs::read(&path).unwrap().len()), (0, 0), "byte {at}");
            assert_eq!(std::fs::read(dir.path().join("journal.damaged")).unwrap(), bytes);
        }
    }
}
