//! Another plan for a run that has begun: more or fewer epochs, or another place of its data.
//!
//! A run may go on with another number of epochs where all of its steps would have been the same with that number from
//! the start. So it is then the very run that was planned so, and nothing depends on when it was changed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use convoy_common::Plan;
use convoy_common::manifest::Manifest;
use convoy_common::spec::ScheduleKind;
use convoy_scheduler::{Record, StepId, believed};

use super::earlier_plans::{EARLIER_PLANS, earlier_plans};
use super::files::read;
use super::journal;
use super::run_dir::RunDir;
use super::run_dir_error::RunDirError;
use super::sealed_plans::{EarlierPlan, to_sealed_json};

/// Why a run cannot go on with another plan.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// It has come further than it should go.
    #[error(
        "train.epochs = {epochs}, but {done} steps of {per_epoch} an epoch are done; set {least} epochs or more, or start \
         a new run"
    )]
    Done {
        /// What was asked for.
        epochs: u32,
        /// Steps that are done.
        done: u64,
        /// Steps of an epoch.
        per_epoch: u64,
        /// The fewest epochs that are possible.
        least: u64,
    },
    /// Other steps would have been computed from the start.
    #[error(
        "train.epochs = {epochs}: the `{schedule}` schedule is spread over all epochs; in a run of {epochs}, step {step} \
         would have had the learning rate {then} in place of {now}, so this run cannot become that one. `constant` and \
         `step` schedules go on. With this one, train anew for {epochs} epochs, or begin a new run of a few with the \
         model that this one ends with: `convoy train {spec} --set train.epochs=N --set network.init={model}`",
        spec = folder.join("spec.toml").display(),
        model = folder.join("model/model.safetensors").display()
    )]
    Schedule {
        /// What was asked for.
        epochs: u32,
        /// The kind of schedule, as in a spec.
        schedule: &'static str,
        /// The first step with another learning rate.
        step: u64,
        /// The rate that it had.
        now: f32,
        /// The rate that it would have had.
        then: f32,
        /// The run.
        folder: PathBuf,
    },
    /// More epochs would not have been computed.
    #[error(
        "train.epochs = {epochs}: early stopping ended the run after epoch {epoch}, and would have ended a run of {epochs} \
         epochs there, too. To go on, start a new run from its model: `convoy train {spec} --set network.init={model}`",
        spec = folder.join("spec.toml").display(),
        model = folder.join("model/model.safetensors").display()
    )]
    StoppedEarly {
        /// What was asked for.
        epochs: u32,
        /// The epoch after which it was enough.
        epoch: u64,
        /// The run.
        folder: PathBuf,
    },
    /// The folder cannot be read or written.
    #[error(transparent)]
    Folder(#[from] RunDirError),
}

/// What the journal of a run tells of how far it came.
struct Progress {
    /// Steps that are done.
    done: u64,
    /// Whether early stopping asked to end after the last of them.
    enough: bool,
}

impl RunDir {
    /// Whether the run, planned as `before`, may go on as `after`, which differs in epochs and paths alone.
    ///
    /// # Errors
    /// Why not, and what to do instead.
    pub fn may_change(&self, before: &Plan, after: &Plan) -> Result<(), ChangeError> {
        if before.spec.train.epochs != after.spec.train.epochs {
            check_epochs(before, after, &self.progress()?, self.path())?;
        }
        Ok(())
    }

    /// Puts `after` in force in place of `before`, with the `manifest` that says where its data is now. A crash on the
    /// way leaves the one or the other in force.
    ///
    /// # Errors
    /// As [`RunDir::may_change`], or when the folder cannot be written.
    pub fn change(&self, before: &Plan, after: &Plan, manifest: &Manifest) -> Result<(), ChangeError> {
        let epochs = before.spec.train.epochs;
        if epochs != after.spec.train.epochs {
            let progress = self.progress()?;
            check_epochs(before, after, &progress, self.path())?;
            let mut earlier = earlier_plans(self.path(), before)?;
            earlier.push(EarlierPlan { epochs, plan: before.digest(), steps: progress.done });
            self.write(EARLIER_PLANS, &to_sealed_json(&earlier))?;
        }
        self.write_plan(after, manifest)?;
        Ok(())
    }

    fn progress(&self) -> Result<Progress, RunDirError> {
        let path = self.journal();
        let bytes = if path.exists() { read(&path)? } else { Vec::new() };
        let records = journal::parse(&bytes).records;
        let done = believed(&records).last_key_value().map_or(0, |(last, _)| last.next().0);
        Ok(Progress { done, enough: enough(&records).contains(&StepId(done)) })
    }
}

/// The parameters after whose evaluation early stopping asked for the end.
fn enough(records: &[Record]) -> BTreeSet<StepId> {
    let mut enough = BTreeSet::new();
    for record in records {
        match record {
            Record::Evaluated { step, stop_early: true } => _ = enough.insert(*step),
            Record::Evicted { since, .. } | Record::Disagreed { since, .. } | Record::Disbelieved { since } => {
                enough.retain(|step| step <= since)
            }
            _ => {}
        }
    }
    enough
}

fn check_epochs(before: &Plan, after: &Plan, progress: &Progress, folder: &Path) -> Result<(), ChangeError> {
    let (epochs, per_epoch, done) = (after.spec.train.epochs, after.train_cut().steps(), progress.done);
    if after.total_steps() < done {
        return Err(ChangeError::Done { epochs, done, per_epoch, least: done.div_ceil(per_epoch) });
    }
    let folder = folder.to_owned();
    if progress.enough && after.total_steps() > done {
        return Err(ChangeError::StoppedEarly { epochs, epoch: done / per_epoch, folder });
    }
    let (old, new) = (before.learning_rate(), after.learning_rate());
    match (0..done).find(|step| old.at(*step).to_bits() != new.at(*step).to_bits()) {
        Some(step) => {
            let schedule = match after.spec.schedule.kind {
                ScheduleKind::Constant => "constant",
                ScheduleKind::Step => "step",
                ScheduleKind::Cosine => "cosine",
                ScheduleKind::OneCycle => "one_cycle",
            };
            Err(ChangeError::Schedule { epochs, schedule, step, now: old.at(step), then: new.at(step), folder })
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
