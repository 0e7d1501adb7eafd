//! The data of a run.

use std::sync::Arc;

use convoy_common::file_tree::Files;
use convoy_common::manifest::Manifest;
use convoy_common::{Digest, Plan};
use convoy_vision::{Dataset, LoadError};

use crate::run_files::RunFiles;

/// The data of a run, open: training and validation samples, prepared as the plan says. Workers of one process share
/// it, and a worker that joins a later run of the same plan uses it again.
pub struct RunData {
    plan: Digest,
    train: Arc<Dataset>,
    validation: Arc<Dataset>,
    /// Where the files come from, when not from this machine's disk alone.
    remote: Option<Arc<RunFiles>>,
}

impl std::fmt::Debug for RunData {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RunData").finish_non_exhaustive()
    }
}

impl RunData {
    /// Opens the files of `manifest`, read from `files`.
    ///
    /// # Errors
    /// When they cannot be read or have changed.
    pub fn open(plan: &Plan, manifest: Manifest, files: Arc<dyn Files>) -> Result<Self, LoadError> {
        Ok(RunData {
            plan: plan.digest(),
            train: Arc::new(Dataset::open(plan, manifest.train, files.clone())?),
            validation: Arc::new(Dataset::open(plan, manifest.validation, files)?),
            remote: None,
        })
    }

    /// Opens the files of `manifest` that are fetched as they are needed.
    ///
    /// # Errors
    /// As [`RunData::open`].
    pub(crate) fn fetched(plan: &Plan, manifest: Manifest, files: Arc<RunFiles>) -> Result<Self, LoadError> {
        Ok(RunData { remote: Some(files.clone()), ..RunData::open(plan, manifest, files)? })
    }

    /// The files that are fetched as they are needed, if they are.
    pub(crate) fn remote(&self) -> Option<&Arc<RunFiles>> {
        self.remote.as_ref()
    }

    /// Digest of the plan that the samples are prepared for.
    pub fn plan(&self) -> Digest {
        self.plan
    }

    /// The training samples.
    pub fn train(&self) -> &Arc<Dataset> {
        &self.train
    }

    /// The validation samples; there may be none.
    pub(crate) fn validation(&self) -> &Arc<Dataset> {
        &self.validation
    }
}

#[cfg(test)]
mod tests {
    use convoy_testing::MemoryFiles;

    use super::*;
    use crate::fixtures::{Job, ROOT, STRIPES};

    /// Opens a job's data after `change` to the files.
    fn opened(change: impl FnOnce(&mut MemoryFiles)) -> Result<RunData, LoadError> {
        let (job, mut files) = (Job::at(ROOT), STRIPES.files(ROOT));
        change(&mut files);
        RunData::open(&job.plan, job.manifest, Arc::new(files))
    }

    #[test]
    fn both_splits_are_opened_for_the_plan() {
        let data = opened(|_| {}).unwrap();
        let samples = [data.train(), data.validation()].map(|split| split.images().split().samples.len());
        assert_eq!((samples, data.plan()), ([24, 8], Job::at(ROOT).plan.digest()));
        assert!(data.remote().is_none(), "the files are of this machine");
    }

    #[test]
    fn a_file_with_other_bytes_than_the_manifest_names_is_named() {
        for name in ["train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"] {
            let path = std::path::Path::new(ROOT).join(name);
            let changed = opened(|files| *files.0.get_mut(&path).unwrap().last_mut().unwrap() ^= 1);
            let error = changed.unwrap_err();
            assert!(matches!(&error, LoadError::Changed { path: named, .. } if *named == path), "{error}");
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let path = std::path::Path::new(ROOT).join("t10k-images-idx3-ubyte");
        let error = opened(|files| _ = files.0.remove(&path)).unwrap_err();
        assert!(matches!(&error, LoadError::Io { path: named, .. } if *named == path), "{error}");
    }
}
