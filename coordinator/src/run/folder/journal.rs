//! The journal: an append-only file of records, each line with a check of its own. Synced off the step's path, and
//! before any checkpoint names what it holds.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use convoy_common::durable::{DurableFile, folder_of, full_disk, is_full, replace_file, sync_folder};
use convoy_scheduler::{Journal, Record};
use parking_lot::Mutex;

mod text;

const SYNC_EVERY: Duration = Duration::from_millis(200);
/// Hexadecimal digits of blake3 before each line.
const CHECK: usize = 16;
/// Bytes that no line is shorter than.
const SHORTEST: usize = 48;

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
    /// There is no room for a record, and nothing of it was written.
    #[error("journal: {}", full_disk(.0))]
    Full(PathBuf),
}

impl JournalError {
    /// The file, if its disk is full: the run may go on when there is room.
    pub(crate) fn full(&self) -> Option<&Path> {
        match self {
            JournalError::Io { path, source } => is_full(source).then_some(path),
            JournalError::Full(path) => Some(path),
        }
    }
}

/// A journal open for appending.
#[derive(Debug)]
pub struct JournalFile {
    path: PathBuf,
    file: Arc<DurableFile>,
    /// Bytes of the records that were added.
    length: u64,
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
    /// What the system said to a sync. It is never tried again: what reached the disk is unknown.
    failed: OnceLock<(io::ErrorKind, String)>,
}

impl JournalFile {
    /// Reads the journal at `path`, which may not exist yet, and opens it for appending.
    ///
    /// A last line that was not written to its end is cut off, and so are damaged lines after which no good one comes:
    /// what they told is computed again. In place of others stands a record that says that some are lost. A copy of a
    /// damaged journal is put aside.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn open(path: &Path) -> Result<(Self, Vec<Record>), JournalError> {
        let fail = |source| JournalError::Io { path: path.to_owned(), source };
        let Parsed { records, length, first_bad } = mend(path)?;
        let file = DurableFile::append(path).map_err(fail)?;
        if let Some(line) = first_bad {
            tracing::warn!(journal = %path.display(), line, "cut off what was damaged or not written to its end");
            file.cut(length as u64).map_err(fail)?;
        }
        file.sync().map_err(fail)?;
        sync_folder(folder_of(path)).map_err(fail)?;
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
        let length = length as u64;
        Ok((JournalFile { path: path.to_owned(), file, length, sync, stop: Some(stop), syncer: Some(syncer) }, records))
    }

    /// A handle with which another thread can wait until all records so far are on disk.
    pub fn syncer(&self) -> JournalSync {
        JournalSync { path: self.path.clone(), file: self.file.clone(), sync: self.sync.clone() }
    }

    /// What becomes of a line of which a part may have been written.
    fn take_back(&self, source: io::Error) -> JournalError {
        match is_full(&source) && self.file.cut(self.length).is_ok() {
            true => JournalError::Full(self.path.clone()),
            // A later start cuts it off.
            false => JournalError::Io { path: self.path.clone(), source },
        }
    }
}

impl SyncState {
    fn run(&self, file: &DurableFile) {
        let _turn = self.turn.lock();
        if self.failed.get().is_none()
            && self.dirty.swap(false, Ordering::AcqRel)
            && let Err(error) = file.sync()
        {
            _ = self.failed.set((error.kind(), error.to_string()));
        }
    }

    /// # Errors
    /// When a sync of the journal at `path` failed.
    fn check(&self, path: &Path) -> Result<(), JournalError> {
        let Some((kind, text)) = self.failed.get() else { return Ok(()) };
        let source = io::Error::new(*kind, format!("it could not be synced: {text}"));
        Err(JournalError::Io { path: path.to_owned(), source })
    }
}

impl Journal for JournalFile {
    type Error = JournalError;

    fn append(&mut self, record: &Record) -> Result<(), JournalError> {
        self.sync.check(&self.path)?;
        let line = seal(&text::to_json(record));
        self.file.add(line.as_bytes()).map_err(|error| self.take_back(error))?;
        self.length += line.len() as u64;
        self.sync.dirty.store(true, Ordering::Release);
        if record.is_urgent() {
            self.syncer().sync()?;
        }
        Ok(())
    }

    fn waits(error: &JournalError) -> bool {
        matches!(error, JournalError::Full(_))
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
    file: Arc<DurableFile>,
    sync: Arc<SyncState>,
}

impl JournalSync {
    /// Returns when all that was appended before this call is on disk.
    ///
    /// # Errors
    /// When this or an earlier sync failed.
    pub fn sync(&self) -> Result<(), JournalError> {
        self.sync.run(&self.file);
        self.sync.check(&self.path)
    }
}

/// The lines of `records`.
pub(crate) fn text_of(records: &[Record]) -> String {
    records.iter().map(|record| seal(&text::to_json(record))).collect()
}

/// `json` with its check and a line end.
fn seal(json: &str) -> String {
    format!("{} {json}\n", &blake3::hash(json.as_bytes()).to_hex()[..CHECK])
}

/// What a journal holds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Parsed {
    /// Its records; [`Record::Lost`] in place of damaged lines between good ones.
    pub(crate) records: Vec<Record>,
    /// Bytes to the end of the last good line.
    pub(crate) length: usize,
    /// The first line, from 1, that is damaged or not whole.
    pub(crate) first_bad: Option<usize>,
}

/// Reads a journal. Each line is checked by itself, so a damaged one takes no other along.
pub(crate) fn parse(bytes: &[u8]) -> Parsed {
    let mut parsed = Parsed { records: Vec::new(), length: 0, first_bad: None };
    let mut at = 0;
    for (number, line) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
        at += line.len();
        let Some(record) = unseal(line) else {
            parsed.first_bad.get_or_insert(number + 1);
            continue;
        };
        let lost = at - line.len() - parsed.length;
        if lost > 0 {
            parsed.records.push(Record::Lost { at_most: lost.div_ceil(SHORTEST) as u64 });
        }
        parsed.records.push(record);
        parsed.length = at;
    }
    parsed
}

/// Reads the journal at `path`, which need not be there. Where lines between good ones are damaged it is written anew
/// without them, after a copy was put aside.
fn mend(path: &Path) -> Result<Parsed, JournalError> {
    let fail = |source| JournalError::Io { path: path.to_owned(), source };
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(fail(error)),
    };
    let parsed = parse(&bytes);
    let torn = |line: &usize| *line == parsed.records.len() + 1 && !bytes[parsed.length..].contains(&b'\n');
    let Some(line) = parsed.first_bad.filter(|line| !torn(line)) else { return Ok(parsed) };
    let write = |path: &Path, bytes: &[u8]| {
        replace_file(path, |file| file.write_all(bytes)).map_err(|error| fail(error.source))
    };
    let aside = path.with_extension("damaged");
    write(&aside, &bytes)?;
    tracing::error!(journal = %path.display(), line, copy = %aside.display(), "damaged; the records of that place are lost");
    let text = text_of(&parsed.records);
    write(path, text.as_bytes())?;
    Ok(Parsed { length: text.len(), first_bad: None, ..parsed })
}

fn unseal(line: &[u8]) -> Option<Record> {
    let line = std::str::from_utf8(line.strip_suffix(b"\n")?).ok()?;
    let (check, json) = line.split_at_checked(CHECK)?;
    let json = json.strip_prefix(' ')?;
    (*check == blake3::hash(json.as_bytes()).to_hex()[..CHECK]).then(|| text::from_json(json))?
}

#[cfg(test)]
mod tests {
    use convoy_common::durable::faults::{Fault, FaultPlan, Faults};
    use convoy_scheduler::{LedgerEntry, Node, RunGeneration, StepId, WorkerId};

    use super::*;

    fn records() -> Vec<Record> {
        vec![
            Record::Started { generation: RunGeneration(1), first_step: StepId(0) },
            Record::StepCommitted {
                step: StepId(0),
                digest: [7; 32],
                ledger: vec![LedgerEntry { node: Node { first: 0, last: 4 }, worker: WorkerId(2), auditor: None }],
                owners: vec![WorkerId(2), WorkerId(5)],
                audited_owners: vec![WorkerId(5)],
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
    fn findings_come_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let (machine, name, since) = ("member 2".to_owned(), "ox".to_owned(), StepId(7));
        let findings = [
            Record::Disagreed { machines: [machine.clone(), "member 5".to_owned()], since },
            Record::Evicted { worker: WorkerId(2), machine, name, since },
        ];
        let (mut journal, _) = JournalFile::open(&path).unwrap();
        findings.iter().for_each(|record| journal.append(record).unwrap());
        journal.syncer().sync().unwrap();
        assert_eq!(JournalFile::open(&path).unwrap().1, findings);
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
    fn a_flipped_byte_is_found_and_takes_no_other_line_along() {
        let dir = tempfile::tempdir().unwrap();
        let path = written(dir.path());
        let whole = std::fs::read(&path).unwrap();
        let first = whole.iter().position(|byte| *byte == b'\n').unwrap();
        for at in 0..whole.len() - 1 {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            std::fs::write(&path, &bytes).unwrap();
            let (_, found) = JournalFile::open(&path).unwrap();
            match at {
                // Two lines have become one.
                at if at == first => assert_eq!(found, [], "byte {at}"),
                at if at < first => {
                    assert!(matches!(found[..], [Record::Lost { at_most: 1 | 2 }, _]), "byte {at}: {found:?}");
                    assert_eq!(found[1], records()[1], "byte {at}");
                }
                _ => assert_eq!(found, records()[..1], "byte {at}"),
            }
            assert_eq!(std::fs::read(dir.path().join("journal.damaged")).unwrap(), bytes);
            let again = parse(&std::fs::read(&path).unwrap());
            assert_eq!((again.records, again.first_bad), (found, None), "byte {at}: it is mended");
        }
    }

    #[test]
    fn a_record_without_room_is_taken_back_and_may_come_again() {
        let dir = tempfile::tempdir().unwrap();
        for fault in [Fault::Full, Fault::Short] {
            for point in [1, 2] {
                let path = dir.path().join(format!("{fault:?}{point}"));
                let (mut journal, _) = JournalFile::open(&path).unwrap();
                let faults = Faults::in_folder(dir.path(), Some(FaultPlan { point, fault, lasting: false }));
                let error = journal.append(&records()[0]).unwrap_err();
                assert!(JournalFile::waits(&error), "{error}");
                assert!(error.to_string().contains("the disk is full: "), "{error}");
                drop(faults);
                records().iter().for_each(|record| journal.append(record).unwrap());
                drop(journal);
                assert_eq!(JournalFile::open(&path).unwrap().1, records());
            }
        }
    }

    #[test]
    fn a_failed_sync_is_never_tried_again() {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, _) = JournalFile::open(&dir.path().join("journal")).unwrap();
        // A record is written before it is synced.
        let faults = Faults::in_folder(dir.path(), Some(FaultPlan { point: 3, fault: Fault::Eio, lasting: true }));
        journal.append(&records()[0]).unwrap();
        let sync = journal.syncer();
        let error = sync.sync().unwrap_err().to_string();
        assert!(error.contains("could not be synced") && error.contains("convoy resume"), "{error}");
        faults.heal();
        assert!(sync.sync().is_err());
        let error = journal.append(&records()[1]).unwrap_err();
        assert!(!JournalFile::waits(&error), "{error}");
    }
}
