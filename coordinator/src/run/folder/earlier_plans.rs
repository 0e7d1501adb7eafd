//! Plans that a run had before its number of epochs was changed.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use convoy_common::Plan;

use super::checkpoint;
use super::run_dir_error::RunDirError;
use super::sealed_plans::{EarlierPlan, unsealed};

/// Where plans are kept that are no longer in force.
pub(super) const EARLIER_PLANS: &str = "earlier-plans.json";

/// The plans that the run in `folder` had before `plan`, oldest first. Where they are damaged, they are made anew of
/// those that checkpoints hold: so all that a checkpoint of the run needs are there.
///
/// # Errors
/// When they cannot be read, or are of another run.
pub fn earlier_plans(folder: &Path, plan: &Plan) -> Result<Vec<EarlierPlan>, RunDirError> {
    let (mut earlier, problem) = read_earlier(folder, plan)?;
    if let Some(problem) = problem {
        let path = folder.join(EARLIER_PLANS);
        tracing::error!(path = %path.display(), problem, plans = earlier.len(), "damaged; made anew of the checkpoints");
    }
    // After a crash between the two files, the plan that was to be left is still in force.
    earlier.retain(|earlier| earlier.epochs != plan.spec.train.epochs);
    Ok(earlier)
}

/// All that is kept, and what is wrong with the file where it is made anew.
pub(super) fn read_earlier(folder: &Path, plan: &Plan) -> Result<(Vec<EarlierPlan>, Option<String>), RunDirError> {
    let path = folder.join(EARLIER_PLANS);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok((Vec::new(), None)),
        Err(source) => return Err(RunDirError::Io { path, source }),
    };
    let earlier = match unsealed(&bytes) {
        Ok(earlier) => earlier,
        Err(problem) => return Ok((of_checkpoints(folder, plan), Some(problem))),
    };
    match earlier.iter().find(|earlier| of_epochs(plan, earlier.epochs).digest() != earlier.plan) {
        Some(foreign) => {
            let problem = format!("its plan of {} epochs does not belong to plan.json", foreign.epochs);
            Err(RunDirError::Damaged { path, problem })
        }
        None => Ok((earlier, None)),
    }
}

/// The plans other than `plan` that checkpoints of its run were written with. The newest of each says how many steps
/// were done.
fn of_checkpoints(folder: &Path, plan: &Plan) -> Vec<EarlierPlan> {
    let mut found: Vec<EarlierPlan> = Vec::new();
    for (steps, path) in checkpoint::list(&folder.join("checkpoints")) {
        let Some(written) = checkpoint::plan_of(&path) else { continue };
        let (epochs, digest) = (written.spec.train.epochs, written.digest());
        if digest == plan.digest() || of_epochs(plan, epochs).digest() != digest {
            continue;
        }
        match found.iter_mut().find(|known| known.plan == digest) {
            Some(known) => known.steps = steps,
            None => found.push(EarlierPlan { epochs, plan: digest, steps }),
        }
    }
    found
}

/// `plan` with so many epochs.
fn of_epochs(plan: &Plan, epochs: u32) -> Plan {
    let mut plan = plan.clone();
    plan.spec.train.epochs = epochs;
    plan
}
