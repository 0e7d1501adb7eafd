//! Jobs on disk: one table of a redb file.

use std::path::Path;

use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition};

use super::record::JobRecord;
use crate::store_error::StoreError;

const JOBS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("jobs");
const COUNTERS: TableDefinition<'_, &str, u64> = TableDefinition::new("counters");

/// All jobs. What was put is there after any crash.
#[derive(Debug)]
pub(crate) struct JobStore {
    database: Database,
}

fn io(error: impl std::fmt::Display) -> StoreError {
    StoreError::Io(error.to_string())
}

impl JobStore {
    /// Opens the file at `path`, or makes it.
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        let database = Database::create(path).map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => StoreError::InUse(path.display().to_string()),
            error => io(error),
        })?;
        let store = JobStore { database };
        store.write(|_, _| Ok(()))?;
        Ok(store)
    }

    /// All jobs, the oldest first.
    pub(crate) fn all(&self) -> Result<Vec<JobRecord>, StoreError> {
        let read = self.database.begin_read().map_err(io)?;
        let jobs = read.open_table(JOBS).map_err(io)?;
        let mut found = Vec::new();
        for entry in jobs.iter().map_err(io)? {
            let (id, json) = entry.map_err(io)?;
            let record = serde_json::from_slice(json.value());
            found.push(record.map_err(|error| StoreError::Damaged { id: id.value(), problem: error.to_string() })?);
        }
        Ok(found)
    }

    /// A number that no job had before.
    pub(crate) fn next_id(&self) -> Result<u64, StoreError> {
        self.write(|_, counters| {
            let next = counters.get("jobs").map_err(io)?.map_or(0, |last| last.value()) + 1;
            counters.insert("jobs", next).map_err(io)?;
            Ok(next)
        })
    }

    /// Keeps `record`, in place of an earlier one of the same job.
    pub(crate) fn put(&self, record: &JobRecord) -> Result<(), StoreError> {
        let json = serde_json::to_vec(record).expect("a record is plain data");
        self.write(|jobs, _| jobs.insert(record.id, json.as_slice()).map(|_| ()).map_err(io))
    }

    /// Forgets a job.
    pub(crate) fn remove(&self, id: u64) -> Result<(), StoreError> {
        self.write(|jobs, _| jobs.remove(id).map(|_| ()).map_err(io))
    }

    fn write<T>(
        &self,
        change: impl FnOnce(&mut redb::Table<'_, u64, &[u8]>, &mut redb::Table<'_, &str, u64>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut write = self.database.begin_write().map_err(io)?;
        write.set_two_phase_commit(true);
        let result = {
            let mut jobs = write.open_table(JOBS).map_err(io)?;
            let mut counters = write.open_table(COUNTERS).map_err(io)?;
            change(&mut jobs, &mut counters)?
        };
        write.commit().map_err(io)?;
        Ok(result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::record::JobState;

    #[test]
    fn jobs_come_back_and_numbers_are_never_given_twice() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("jobs.redb");
        let record = |id| JobRecord {
            id,
            job: format!("tiny-{id}"),
            state: JobState::Queued,
            priority: -1,
            min_workers: 1,
            max_workers: None,
            numerics: "cpu-f32-v1".to_owned(),
            submitted_by: "local".to_owned(),
            submitted: String::new(),
            started: None,
            ended: None,
            data: Vec::new(),
            taken: None,
            error: None,
            result: None,
        };
        let store = JobStore::open(&path).unwrap();
        let (first, second) = (store.next_id().unwrap(), store.next_id().unwrap());
        store.put(&record(first)).unwrap();
        store.put(&record(second)).unwrap();
        store.put(&JobRecord { state: JobState::Failed, ..record(first) }).unwrap();
        store.remove(second).unwrap();
        assert!(matches!(JobStore::open(&path), Err(StoreError::InUse(_))), "a second coordinator");
        drop(store);
        let store = JobStore::open(&path).unwrap();
        assert_eq!(store.all().unwrap(), [JobRecord { state: JobState::Failed, ..record(first) }]);
        assert_eq!(store.next_id().unwrap(), second + 1);
    }
}
