//! Computing a step of a run again, away from the run: a folder is made as a crash right after that step would have
//! left it, and what is carried there compares every step with the journal, as every restart does.

use std::fs;
use std::path::Path;

use convoy_common::Digest;
use convoy_scheduler::Record;

use super::checkpoint;
use super::earlier_plans::EARLIER_PLANS;
use super::files::{read, write};
use super::journal;
use super::planned::{MANIFEST, PLAN, read_plan};
use super::run_dir_error::RunDirError;

/// What a replay will do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replay {
    /// The steps that the checkpoint it begins with has behind it.
    pub from: u64,
    /// The step to be compared.
    pub step: u64,
    /// Digest of the parameters after it, as the journal has it.
    pub digest: Digest,
}

/// Fills the empty folder `into` with what it takes to compute step `step` (from 0) of the run in `folder` again, from
/// the nearest checkpoint before it; `None` when the journal does not know that step.
///
/// # Errors
/// When a file cannot be read or written.
pub fn prepare_replay(folder: &Path, step: u64, into: &Path) -> Result<Option<Replay>, RunDirError> {
    let bytes = read(&folder.join("journal"))?;
    let records = journal::parse(&bytes).records;
    let is_step = |record: &&Record| matches!(record, Record::StepCommitted { step: at, .. } if at.0 == step);
    let Some(last) = records.iter().rposition(|record| is_step(&record)) else { return Ok(None) };
    let Record::StepCommitted { digest, .. } = &records[last] else { return Ok(None) };
    write(&into.join("journal"), journal::text_of(&records[..=last]).as_bytes())?;
    write(&into.join(PLAN), read_plan(folder)?.0.to_sealed_json().as_bytes())?;
    for name in [MANIFEST, EARLIER_PLANS] {
        if name != EARLIER_PLANS || folder.join(name).exists() {
            write(&into.join(name), &read(&folder.join(name))?)?;
        }
    }
    let checkpoints = into.join("checkpoints");
    fs::create_dir_all(&checkpoints).map_err(|source| RunDirError::Io { path: checkpoints.clone(), source })?;
    let known = checkpoint::list(&folder.join("checkpoints"));
    let nearest = known.into_iter().filter(|(at, _)| *at <= step).max();
    if let Some((at, path)) = &nearest {
        let to = checkpoints.join(checkpoint::file_name(*at));
        fs::copy(path, &to).map_err(|source| RunDirError::Io { path: path.clone(), source })?;
    }
    Ok(Some(Replay { from: nearest.map_or(0, |(at, _)| at), step, digest: Digest(*digest) }))
}
