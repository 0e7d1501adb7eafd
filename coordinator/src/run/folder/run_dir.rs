//! The run folder: where everything of a run lies.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use convoy_common::durable::{WriteError, remove_folder, replace_file, replace_unsynced};
use convoy_common::manifest::Manifest;
use convoy_common::spec::to_toml;
use convoy_common::{Plan, csv_field};

use super::earlier_plans::{EARLIER_PLANS, read_earlier};
use super::history::EpochRow;
use super::planned::{MANIFEST, PLAN, PLAN_COPY, manifest_of, read_plan};
use super::run_dir_error::RunDirError;
use super::sealed_plans::to_sealed_json;

/// A run folder, held by this process alone.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    _lock: File,
}

impl RunDir {
    /// Makes a new run in the folder `path`, with `spec.toml`, `plan.json` and `manifest.bin`.
    ///
    /// # Errors
    /// When the folder cannot be written or holds a run already.
    pub fn create(path: &Path, plan: &Plan, manifest: &Manifest) -> Result<Self, RunDirError> {
        RunDir::check_free(path)?;
        let fail = |source| RunDirError::Io { path: path.to_owned(), source };
        path.parent().map_or(Ok(()), fs::create_dir_all).map_err(fail)?;
        match fs::create_dir(path) {
            Ok(()) => RunDir::fill_new(path, plan, manifest),
            Err(_) if path.is_dir() => {
                let dir = RunDir::lock(path)?;
                dir.fill(plan, manifest).map(|()| dir)
            }
            Err(source) => Err(fail(source)),
        }
    }

    /// Makes a new run in the first of `parent/NAME-1`, `parent/NAME-2`, ... that is not there. Whoever else does so at
    /// the same time gets another one.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn create_numbered(parent: &Path, name: &str, plan: &Plan, manifest: &Manifest) -> Result<Self, RunDirError> {
        let fail = |path: &Path, source| RunDirError::Io { path: path.to_owned(), source };
        fs::create_dir_all(parent).map_err(|source| fail(parent, source))?;
        let mut number = 1;
        loop {
            let path = parent.join(format!("{name}-{number}"));
            match fs::create_dir(&path) {
                Ok(()) => return RunDir::fill_new(&path, plan, manifest),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
                Err(source) => return Err(fail(&path, source)),
            }
        }
    }

    /// Checks that no run lies in the folder `path`, which need not exist.
    ///
    /// # Errors
    /// [`RunDirError::Taken`] when one does.
    pub fn check_free(path: &Path) -> Result<(), RunDirError> {
        if path.join(PLAN).exists() { Err(RunDirError::Taken(path.to_owned())) } else { Ok(()) }
    }

    /// As [`RunDir::fill`], in a folder that this call's caller has made; if that fails, nothing of it is left.
    fn fill_new(path: &Path, plan: &Plan, manifest: &Manifest) -> Result<Self, RunDirError> {
        // Somebody else may have taken the new folder by its name: then only an empty one is removed.
        let dir = RunDir::lock(path).inspect_err(|_| _ = fs::remove_dir(path))?;
        match dir.fill(plan, manifest) {
            Ok(()) => Ok(dir),
            Err(error) => {
                if !matches!(error, RunDirError::Taken(_)) {
                    _ = remove_folder(path);
                }
                Err(error)
            }
        }
    }

    /// Makes a run of the folder.
    fn fill(&self, plan: &Plan, manifest: &Manifest) -> Result<(), RunDirError> {
        // Another process may have done so before this one held the lock.
        RunDir::check_free(&self.path)?;
        self.make_checkpoints()?;
        self.write_plan(plan, manifest)
    }

    /// Puts `plan` in force, with its `manifest`.
    pub(super) fn write_plan(&self, plan: &Plan, manifest: &Manifest) -> Result<(), RunDirError> {
        self.write("spec.toml", to_toml(&plan.spec).as_bytes())?;
        self.write_manifest(manifest)?;
        let json = plan.to_sealed_json();
        self.write(PLAN_COPY, json.as_bytes())?;
        // Last, because it makes the folder a run, and another plan the run's.
        self.write(PLAN, json.as_bytes())
    }

    /// Opens the folder of an earlier run and reads its plan and manifest. A damaged plan is taken from where else it
    /// is kept, and written anew; of a damaged manifest there is `None`, and it may be made of the data again.
    ///
    /// # Errors
    /// When it is no run folder, in use, or damaged.
    pub fn open(path: &Path) -> Result<(Self, Plan, Option<Manifest>), RunDirError> {
        if !path.join(PLAN).is_file() {
            return Err(RunDirError::not_a_run(path));
        }
        let dir = RunDir::lock(path)?;
        let plan = dir.mend_plan()?;
        dir.mend_earlier_plans(&plan);
        dir.make_checkpoints()?;
        let damaged = |error| tracing::error!(%error, "the data is looked at again");
        let manifest = manifest_of(path, &plan).map_err(damaged).ok();
        Ok((dir, plan, manifest))
    }

    /// Reads the plan, and writes it where it is damaged.
    fn mend_plan(&self) -> Result<Plan, RunDirError> {
        let (plan, problem) = read_plan(&self.path)?;
        if let Some(problem) = &problem {
            let path = self.path.join(PLAN);
            tracing::error!(path = %path.display(), problem, "damaged; the plan is taken from a copy of it");
        }
        let json = plan.to_sealed_json();
        for name in [PLAN_COPY, PLAN] {
            let same = fs::read(self.path.join(name)).is_ok_and(|bytes| bytes == json.as_bytes());
            if !same && let Err(error) = self.write(name, json.as_bytes()) {
                tracing::warn!(%error, "not written anew");
            }
        }
        Ok(plan)
    }

    /// Writes the earlier plans anew where they are damaged. What else is wrong with them is said by who needs them.
    fn mend_earlier_plans(&self, plan: &Plan) {
        let Ok((plans, Some(problem))) = read_earlier(&self.path, plan) else { return };
        let path = self.path.join(EARLIER_PLANS);
        tracing::error!(path = %path.display(), problem, plans = plans.len(), "damaged; made anew of the checkpoints");
        if let Err(error) = self.write(EARLIER_PLANS, &to_sealed_json(&plans)) {
            tracing::warn!(%error, "not written anew");
        }
    }

    /// Writes the manifest anew, which was damaged.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_manifest(&self, manifest: &Manifest) -> Result<(), RunDirError> {
        self.write(MANIFEST, &manifest.to_bytes())
    }

    /// Makes the folder of checkpoints, and clears away what a killed process left half written there.
    fn make_checkpoints(&self) -> Result<(), RunDirError> {
        let fail = |source| self.error("checkpoints", source);
        fs::create_dir_all(self.checkpoints()).map_err(fail)?;
        for entry in fs::read_dir(self.checkpoints()).map_err(fail)?.flatten() {
            let name = entry.file_name();
            if name.as_encoded_bytes().starts_with(b".") && name.as_encoded_bytes().ends_with(b".tmp") {
                // One that cannot be removed only takes space.
                _ = fs::remove_file(entry.path());
            }
        }
        Ok(())
    }

    fn lock(path: &Path) -> Result<Self, RunDirError> {
        let fail = |source| RunDirError::Io { path: path.to_owned(), source };
        let lock = File::create(path.join("lock")).map_err(fail)?;
        match lock.try_lock() {
            Ok(()) => Ok(RunDir { path: path.to_owned(), _lock: lock }),
            Err(fs::TryLockError::WouldBlock) => Err(RunDirError::Locked(path.to_owned())),
            Err(fs::TryLockError::Error(source)) => Err(fail(source)),
        }
    }

    /// The path of the folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder of checkpoints, one file each.
    pub fn checkpoints(&self) -> PathBuf {
        self.path.join("checkpoints")
    }

    /// The file of the journal.
    pub fn journal(&self) -> PathBuf {
        self.path.join("journal")
    }

    /// The file of events, one JSON object a line.
    pub fn events(&self) -> PathBuf {
        self.path.join("events.jsonl")
    }

    /// The folder for the model of the last parameters.
    pub fn model(&self) -> PathBuf {
        self.path.join("model")
    }

    /// The folder for the model of the best epoch.
    pub fn best_model(&self) -> PathBuf {
        self.path.join("model-best")
    }

    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> Result<(), RunDirError> {
        Ok(replace_file(&self.path.join(name), |file| file.write_all(bytes))?)
    }

    fn error(&self, name: &str, source: io::Error) -> RunDirError {
        RunDirError::Io { path: self.path.join(name), source }
    }
}

/// Writes `metrics.csv` in the run folder anew, without waiting for the disk: one row per finished epoch. Names of
/// metrics, which may be those of a table's columns, are quoted where they need to be.
///
/// # Errors
/// When the file cannot be written.
pub fn write_metrics(folder: &Path, rows: &[EpochRow]) -> Result<(), WriteError> {
    let names: Vec<&String> = rows.first().map(|row| row.validation.keys().collect()).unwrap_or_default();
    let mut text = String::from("epoch,step,seconds,lr,train_loss");
    names.iter().for_each(|name| text.push_str(&format!(",{}", csv_field(name))));
    text.push('\n');
    for row in rows {
        text.push_str(&format!("{},{},{:.3},{},{}", row.epoch, row.step, row.seconds, row.lr, row.train_loss));
        for name in &names {
            text.push_str(&row.validation.get(*name).map_or(",".to_owned(), |value| format!(",{value}")));
        }
        text.push('\n');
    }
    replace_unsynced(&folder.join("metrics.csv"), |file| file.write_all(text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Barrier};
    use std::thread;

    use super::*;
    use crate::fixtures::{manifest, plan};

    /// A place for runs, and what they are of.
    fn job() -> (tempfile::TempDir, Arc<Plan>, Manifest) {
        (tempfile::tempdir().unwrap(), plan("", 40, 0), manifest(40))
    }

    #[test]
    fn names_of_metrics_are_fields_of_a_table() {
        let folder = tempfile::tempdir().unwrap();
        let names = ["mae/len, cm", "mae/the \"big\" one", "mae/wid"];
        let validation = names.into_iter().zip([0.5, 1.5, 2.5]).map(|(name, value)| (name.to_owned(), value)).collect();
        let row = EpochRow { epoch: 1, step: 4, seconds: 0.25, lr: 0.1, train_loss: 2.0, validation, best: true };
        write_metrics(folder.path(), &[row]).unwrap();
        // As Python's csv.writer has these names and numbers.
        let expected = "epoch,step,seconds,lr,train_loss,\"mae/len, cm\",\"mae/the \"\"big\"\" one\",mae/wid\n\
                        1,4,0.250,0.1,2,0.5,1.5,2.5\n";
        assert_eq!(fs::read_to_string(folder.path().join("metrics.csv")).unwrap(), expected);
    }

    #[test]
    fn starts_at_once_get_a_folder_each() {
        let (folder, plan, manifest) = job();
        for round in 0..20 {
            let (runs, at_once) = (folder.path().join(round.to_string()), Barrier::new(8));
            let start = || {
                at_once.wait();
                RunDir::create_numbered(&runs, "x", &plan, &manifest).unwrap().path().to_owned()
            };
            let mut paths: Vec<PathBuf> = thread::scope(|scope| {
                let starts: Vec<_> = (0..8).map(|_| scope.spawn(start)).collect();
                starts.into_iter().map(|start| start.join().unwrap()).collect()
            });
            paths.sort();
            assert_eq!(paths, (1..=8).map(|number| runs.join(format!("x-{number}"))).collect::<Vec<_>>());
        }
    }

    #[test]
    fn of_starts_in_one_folder_one_wins_and_the_others_are_told() {
        let (folder, plan, manifest) = job();
        let path = folder.path().join("deep/run");
        let start = || RunDir::create(&path, &plan, &manifest);
        let starts: Vec<_> = thread::scope(|scope| {
            let starts: Vec<_> = (0..8).map(|_| scope.spawn(start)).collect();
            starts.into_iter().map(|start| start.join().unwrap()).collect()
        });
        assert_eq!(starts.iter().filter(|start| start.is_ok()).count(), 1);
        for error in starts.iter().filter_map(|start| start.as_ref().err()) {
            assert!(matches!(error, RunDirError::Locked(_) | RunDirError::Taken(_)), "{error}");
        }
        drop(starts);
        assert_eq!(RunDir::open(&path).unwrap().1, *plan);
        // The winner may be through before another one comes to the lock.
        let late = RunDir::lock(&path).unwrap().fill(&plan, &manifest).unwrap_err();
        assert!(matches!(late, RunDirError::Taken(_)), "{late}");
    }

    #[test]
    fn nothing_is_left_of_a_start_that_failed() {
        let (folder, plan, manifest) = job();
        fs::write(folder.path().join("file"), "").unwrap();
        assert!(RunDir::create_numbered(&folder.path().join("file"), "x", &plan, &manifest).is_err());
        assert!(RunDir::create_numbered(folder.path(), &"x".repeat(300), &plan, &manifest).is_err());
        let error = RunDir::create(&folder.path().join("file"), &plan, &manifest).unwrap_err();
        assert!(matches!(error, RunDirError::Io { .. }), "{error}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
