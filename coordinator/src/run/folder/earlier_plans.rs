//! Plans that a run had before its number of epochs was changed.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use convoy_common::{Digest, Plan};
use serde::{Deserialize, Serialize};

use super::run_dir_error::RunDirError;

/// Where plans are kept that are no longer in force.
pub(super) const EARLIER_PLANS: &str = "earlier-plans.json";

/// A plan that a run had before its number of epochs was changed. All else of it is in the plan in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EarlierPlan {
    /// Its epochs.
    pub epochs: u32,
    /// Its digest, which checkpoints of its time name.
    pub plan: Digest,
    /// Steps that were done when the next plan took its place.
    pub steps: u64,
}

/// The plans that the run in `folder` had before `plan`, oldest first.
///
/// # Errors
/// When they cannot be read, or are of another run.
pub fn earlier_plans(folder: &Path, plan: &Plan) -> Result<Vec<EarlierPlan>, RunDirError> {
    let path = folder.join(EARLIER_PLANS);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(RunDirError::Io { path, source }),
    };
    let damaged = |problem| RunDirError::Damaged { path: path.clone(), problem };
    let mut earlier: Vec<EarlierPlan> =
        serde_json::from_slice(&bytes).map_err(|error| damaged(format!("is not what Convoy wrote: {error}")))?;
    if let Some(foreign) = earlier.iter().find(|earlier| of_epochs(plan, earlier.epochs).digest() != earlier.plan) {
        return Err(damaged(format!("its plan of {} epochs does not belong to plan.json", foreign.epochs)));
    }
    // After a crash between the two files, the plan that was to be left is still in force.
    earlier.retain(|earlier| earlier.epochs != plan.spec.train.epochs);
    Ok(earlier)
}

/// `plan` with so many epochs.
fn of_epochs(plan: &Plan, epochs: u32) -> Plan {
    let mut plan = plan.clone();
    plan.spec.train.epochs = epochs;
    plan
}
