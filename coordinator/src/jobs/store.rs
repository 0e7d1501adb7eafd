//! Jobs on disk: the record of each lies in its run folder, so that what happens to one file happens to one job.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use convoy_common::Plan;
use convoy_common::durable::{WriteError, rename, replace_file, sync_folder};
use parking_lot::Mutex;

use super::record::{JobRecord, JobState};
use crate::run::folder::run_dir::RunDir;
use crate::sealed::{Sealing, unseal};
use crate::store_error::StoreError;

/// The file of a job's record in its folder.
pub(crate) const RECORD: &str = "job";
/// What the names of folders begin with that are being removed.
const REMOVED: &str = ".removed-";

/// All jobs: a folder for each, named by its number. What was put is there after any crash.
#[derive(Debug)]
pub(crate) struct JobStore {
    folder: PathBuf,
    /// The last number that a job was given.
    last: Mutex<u64>,
}

impl JobStore {
    /// Opens the jobs in `folder`, or makes it.
    pub(crate) fn open(folder: &Path) -> Result<Self, StoreError> {
        let store = JobStore { folder: folder.to_owned(), last: Mutex::new(0) };
        let fail = |error| store.error(folder, &error);
        fs::create_dir_all(folder).map_err(fail)?;
        // The number of a job that was removed is not given again.
        let last = fs::read(store.last_file()).ok();
        let mut highest = last.and_then(|bytes| unseal(&bytes)?.next()?.parse().ok()).unwrap_or(0);
        for name in names(folder).map_err(fail)? {
            if name.starts_with(REMOVED) {
                store.clear(&folder.join(name));
            } else if let Ok(id) = name.parse::<u64>() {
                highest = highest.max(id);
            }
        }
        *store.last.lock() = highest;
        Ok(store)
    }

    /// All jobs, the oldest first. One whose record is lost is made anew from its run; a folder in which there is
    /// neither is named in the log and left alone.
    pub(crate) fn all(&self) -> Result<Vec<JobRecord>, StoreError> {
        let names = names(&self.folder).map_err(|error| self.error(&self.folder, &error))?;
        let mut ids: Vec<u64> = names.iter().filter_map(|name| name.parse().ok()).collect();
        ids.sort_unstable();
        Ok(ids
            .into_iter()
            .filter_map(|id| self.read(id).or_else(|problem| self.made_anew(id, &problem)).ok())
            .collect())
    }

    fn read(&self, id: u64) -> Result<JobRecord, String> {
        let bytes = fs::read(self.folder_of(id).join(RECORD)).map_err(|error| error.to_string())?;
        let json = unseal(&bytes).and_then(|mut lines| lines.next()).ok_or("it is damaged")?;
        let record: JobRecord = serde_json::from_str(json).map_err(|error| error.to_string())?;
        if record.id == id { Ok(record) } else { Err(format!("it is that of job {}", record.id)) }
    }

    /// The record of a job of which the run alone is left.
    fn made_anew(&self, id: u64, problem: &str) -> Result<JobRecord, ()> {
        let folder = self.folder_of(id);
        if fs::remove_dir(&folder).is_ok() {
            // A crash came before anything of the job was there.
            return Err(());
        }
        let (_, plan, _) = RunDir::open(&folder).map_err(|error| {
            let (folder, record) = (folder.display(), folder.join(RECORD).display().to_string());
            tracing::error!(%folder, record, problem, run = %error, "a job is lost: its record and its run cannot be used; its folder stays");
        })?;
        let record = JobRecord::of_plan(id, &plan, problem);
        tracing::error!(job = record.job, folder = %folder.display(), problem, "the job's record is lost; it was made anew, and the job is paused");
        self.put(&record).map_err(|error| tracing::error!(%error, "the record that was made anew is not on disk")).ok();
        Ok(record)
    }

    /// A number that no job had before, and a folder of that name for it.
    pub(crate) fn next_id(&self) -> Result<u64, StoreError> {
        let mut last = self.last.lock();
        loop {
            let next = *last + 1;
            let path = self.folder_of(next);
            match fs::create_dir(&path) {
                Ok(()) => {
                    *last = next;
                    if let Err(error) = sync_folder(&self.folder) {
                        // Nobody has this number: what stays of it goes at the next start.
                        _ = fs::remove_dir(&path);
                        return Err(self.error(&path, &error));
                    }
                    return Ok(next);
                }
                // Somebody else put it there.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => *last = next,
                Err(error) => return Err(self.error(&path, &error)),
            }
        }
    }

    /// Keeps `record`, in place of an earlier one of the same job.
    pub(crate) fn put(&self, record: &JobRecord) -> Result<(), StoreError> {
        let json = serde_json::to_string(record).expect("a record is plain data");
        self.write(&self.folder_of(record.id).join(RECORD), &json)
    }

    /// Forgets a job: from now on nobody finds it. Returns the folder that it was in, to be [cleared](Self::clear).
    pub(crate) fn remove(&self, id: u64) -> Result<PathBuf, StoreError> {
        let last = self.last.lock();
        // The highest folder says by itself which number comes next.
        if id == *last {
            self.write(&self.last_file(), &last.to_string())?;
        }
        let (path, removed) = (self.folder_of(id), self.folder.join(format!("{REMOVED}{id}")));
        let renamed = match rename(&path, &removed) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            renamed => renamed,
        };
        // Also what an earlier try has renamed: it may not be on the disk yet.
        renamed.and_then(|()| sync_folder(&self.folder)).map_err(|error| self.error(&path, &error))?;
        Ok(removed)
    }

    /// Removes the files of a job that is forgotten; what cannot be removed now goes at the next start.
    pub(crate) fn clear(&self, removed: &Path) {
        if let Err(error) = fs::remove_dir_all(removed)
            && error.kind() != ErrorKind::NotFound
        {
            tracing::warn!(folder = %removed.display(), %error, "files of a job that was removed stay for now");
        }
    }

    /// The run folder of a job.
    pub(crate) fn folder_of(&self, id: u64) -> PathBuf {
        self.folder.join(id.to_string())
    }

    fn last_file(&self) -> PathBuf {
        self.folder.join("last")
    }

    fn write(&self, path: &Path, line: &str) -> Result<(), StoreError> {
        let written = replace_file(path, |file| {
            let mut sealing = Sealing::new(file);
            sealing.line(line)?;
            sealing.finish()
        });
        written.map_err(|WriteError { path, source }| self.error(&path, &source))
    }

    fn error(&self, path: &Path, error: &io::Error) -> StoreError {
        StoreError::Io { path: path.to_owned(), problem: error.to_string() }
    }
}

/// Names of what lies in a folder.
fn names(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        names.extend(entry?.file_name().into_string().ok());
    }
    Ok(names)
}

impl JobRecord {
    /// The record of job `id`, of which `plan` is left and all else is lost because of `problem`. It waits for
    /// somebody to say what shall become of it.
    fn of_plan(id: u64, plan: &Plan, problem: &str) -> JobRecord {
        let lost = format!(
            "the job's record was lost ({problem}) and made anew from its run: its priority, its numbers of workers and \
             its result are not known any more; `convoy resume {id}` goes on with it"
        );
        JobRecord { state: JobState::Paused, error: Some(lost), ..JobRecord::new(id, plan, "unknown".to_owned()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{manifest, plan};

    fn record(id: u64) -> JobRecord {
        JobRecord::new(id, &plan("", 40, 0), "local".to_owned())
    }

    /// A store with one job in each state, and their records.
    fn filled(folder: &Path) -> (JobStore, Vec<JobRecord>) {
        let store = JobStore::open(folder).unwrap();
        let states = [JobState::Queued, JobState::Running, JobState::Completed];
        let records = states.map(|state| {
            let record = JobRecord { state, priority: -1, ..record(store.next_id().unwrap()) };
            store.put(&record).unwrap();
            RunDir::create(&store.folder_of(record.id), &plan("", 40, 0), &manifest(40)).unwrap();
            record
        });
        (store, records.into())
    }

    #[test]
    fn jobs_come_back_and_numbers_are_never_given_twice() {
        let folder = tempfile::tempdir().unwrap();
        let (store, records) = filled(folder.path());
        store.put(&JobRecord { state: JobState::Failed, ..records[0].clone() }).unwrap();
        let removed = store.remove(3).unwrap();
        assert!(removed.join("plan.json").is_file(), "a crash may come before it is cleared");
        drop(store);
        let store = JobStore::open(folder.path()).unwrap();
        assert!(!removed.exists());
        let failed = JobRecord { state: JobState::Failed, ..records[0].clone() };
        assert_eq!(store.all().unwrap(), [failed, records[1].clone()]);
        assert_eq!(store.next_id().unwrap(), 4);
        fs::remove_file(folder.path().join("last")).unwrap();
        drop(store);
        fs::create_dir(folder.path().join("9")).unwrap();
        assert_eq!(JobStore::open(folder.path()).unwrap().next_id().unwrap(), 10, "no two jobs in one folder");
    }

    #[test]
    fn any_damage_to_a_record_costs_that_record_and_no_job() {
        let folder = tempfile::tempdir().unwrap();
        let (_, records) = filled(folder.path());
        let path = folder.path().join("2").join(RECORD);
        let good = fs::read(&path).unwrap();
        let flipped = (0..good.len()).step_by(7).map(|at| {
            let mut bytes = good.clone();
            bytes[at] ^= 4;
            bytes
        });
        let cut = [0, 1, good.len() / 2, good.len() - 1].map(|length| good[..length].to_owned());
        for bytes in flipped.chain(cut) {
            fs::write(&path, bytes).unwrap();
            let all = JobStore::open(folder.path()).unwrap().all().unwrap();
            assert_eq!([&all[0], &all[2]], [&records[0], &records[2]]);
            assert_eq!((all[1].job.as_str(), all[1].state), (records[1].job.as_str(), JobState::Paused));
            assert!(all[1].error.as_ref().is_some_and(|text| text.contains("`convoy resume 2`")), "{:?}", all[1].error);
            assert_eq!(JobStore::open(folder.path()).unwrap().all().unwrap(), all, "it is on disk again");
        }
    }

    #[test]
    fn a_folder_without_record_and_run_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (_, records) = filled(folder.path());
        fs::remove_file(folder.path().join("2").join(RECORD)).unwrap();
        for plan in ["2/plan.json", "2/plan-copy.json"] {
            fs::write(folder.path().join(plan), "{").unwrap();
        }
        fs::create_dir(folder.path().join("4")).unwrap();
        let store = JobStore::open(folder.path()).unwrap();
        assert_eq!(store.all().unwrap(), [records[0].clone(), records[2].clone()]);
        assert!(folder.path().join("2/manifest.bin").is_file(), "what is left of it may help somebody");
        assert!(!folder.path().join("4").exists(), "a start that came to nothing");
        assert_eq!(store.next_id().unwrap(), 5);
    }
}
