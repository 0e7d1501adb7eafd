//! What was planned, on disk: the plan, sealed and kept more than once, and the manifest, whose digest the plan names.

use std::path::Path;

use convoy_common::Plan;
use convoy_common::manifest::Manifest;

use super::checkpoint;
use super::files::read;
use super::run_dir_error::RunDirError;

/// The plan in force. It makes a folder a run.
pub(super) const PLAN: &str = "plan.json";
/// The same once more.
pub(super) const PLAN_COPY: &str = "plan-copy.json";
/// The manifest.
pub(super) const MANIFEST: &str = "manifest.bin";

/// The plan of the run in `folder`; and what is wrong with `plan.json`, where it was taken from the copy beside it or
/// from the newest good checkpoint.
///
/// # Errors
/// When it is no run, or the plan is damaged wherever it is kept.
pub(super) fn read_plan(folder: &Path) -> Result<(Plan, Option<String>), RunDirError> {
    let path = folder.join(PLAN);
    if !path.is_file() {
        return Err(RunDirError::not_a_run(folder));
    }
    let problem = match read_sealed(&path) {
        Ok(plan) => return Ok((plan, None)),
        Err(problem) => problem,
    };
    let checkpoints = checkpoint::list(&folder.join("checkpoints")).into_iter().rev();
    let found = read_sealed(&folder.join(PLAN_COPY)).ok();
    match found.or_else(|| checkpoints.into_iter().find_map(|(_, path)| checkpoint::plan_of(&path))) {
        Some(plan) => Ok((plan, Some(problem))),
        None => Err(RunDirError::Damaged { path, problem }),
    }
}

fn read_sealed(path: &Path) -> Result<Plan, String> {
    let bytes = read(path).map_err(|error| error.to_string())?;
    Plan::from_sealed_json(&bytes)
}

/// The manifest of the run in `folder`.
///
/// # Errors
/// When it is no run, or the manifest cannot be read or is damaged.
pub fn read_manifest(folder: &Path) -> Result<Manifest, RunDirError> {
    manifest_of(folder, &read_plan(folder)?.0)
}

/// The manifest of the run in `folder`, which was planned as `plan`.
///
/// # Errors
/// When it cannot be read or is damaged.
pub(super) fn manifest_of(folder: &Path, plan: &Plan) -> Result<Manifest, RunDirError> {
    let path = folder.join(MANIFEST);
    let damaged = |problem: String| {
        let problem = format!("{problem}; `convoy resume` makes it anew from the data");
        RunDirError::Damaged { path: path.clone(), problem }
    };
    let manifest = Manifest::from_bytes(&read(&path)?).map_err(|error| damaged(error.to_string()))?;
    if manifest.digest() != plan.manifest {
        return Err(damaged("does not have the digest that the plan names".to_owned()));
    }
    plan.fits(&manifest).map_err(|problem| damaged(format!("does not fit the plan: {problem}")))?;
    Ok(manifest)
}
