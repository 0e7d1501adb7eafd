//! Checkpoints, and the end of a run.

use super::{Phase, Run};
use crate::effect::{AbandonReason, CheckpointReason, Effect, IgnoreReason, Outcome};
use crate::ids::{RunTime, StepId};
use crate::lease::Work;
use crate::record::Record;

impl Run {
    /// When the next checkpoint is due that no epoch's end or other reason brings: now, later, or not at all. One at a
    /// time, and none while an evaluation is open, which must be in the checkpoint of its step.
    pub(super) fn next_interval(&self) -> Option<RunTime> {
        let training = matches!(&self.phase, Phase::Working(step) if step.work == Work::Train);
        let newest = self.checkpoints.newest.unwrap_or(self.plan.first_step);
        if !training || !self.checkpoints.being_written.is_empty() || newest == self.committed {
            return None;
        }
        let timed = self.plan.checkpoint_every.0 > 0;
        let by_time = timed.then(|| self.checkpoints.asked.after(self.plan.checkpoint_every));
        if self.checkpoints.due { Some(self.now) } else { by_time }
    }

    /// Asks for a checkpoint of the committed parameters.
    pub(super) fn checkpoint(&mut self, reason: CheckpointReason, effects: &mut Vec<Effect>) {
        let step = self.committed;
        effects.push(Effect::Checkpoint { step, reason });
        self.checkpoints.being_written.insert(step);
        self.checkpoints.newest = Some(step);
        self.checkpoints.asked = self.now;
        self.checkpoints.due = false;
    }

    pub(super) fn checkpoint_done(
        &mut self,
        step: StepId,
        written: bool,
        effects: &mut Vec<Effect>,
    ) -> Result<(), IgnoreReason> {
        if !self.checkpoints.being_written.remove(&step) {
            return Err(IgnoreReason::NoSuchCheckpoint(step));
        }
        if !written && self.checkpoints.newest == Some(step) {
            self.checkpoints.newest = None;
            if let Phase::Saving(outcome) = &mut self.phase {
                *outcome = Outcome::Unsaved { step };
            }
        }
        self.finish_if_saved(effects);
        Ok(())
    }

    pub(super) fn stop_requested(&mut self) -> Result<(), IgnoreReason> {
        match &self.phase {
            Phase::Finished(_) => Err(IgnoreReason::RunOver),
            Phase::Saving(_) => Err(IgnoreReason::AlreadyStopping),
            _ if self.stopping => Err(IgnoreReason::AlreadyStopping),
            _ => {
                self.stopping = true;
                Ok(())
            }
        }
    }

    /// A training step in flight is finished first, as long as anybody is there to do so. An evaluation is not: it is
    /// pending in the checkpoint, and a resumed run begins with it.
    pub(super) fn stop_if_asked(&mut self, effects: &mut Vec<Effect>) {
        let Phase::Working(step) = &self.phase else { return };
        let stuck = self.members.is_empty() || step.awaits_judge().is_some();
        let can_finish = step.covered.is_some() || !stuck;
        if self.stopping && !(step.work == Work::Train && can_finish) {
            self.abandon(AbandonReason::Stopped, effects);
            self.save(CheckpointReason::Stop, Outcome::Stopped, effects);
        }
    }

    /// Ends the run when the committed parameters are on disk. If their checkpoint was asked for already, and so holds
    /// the outcome of their evaluation, that one will do.
    pub(super) fn save(&mut self, reason: CheckpointReason, outcome: Outcome, effects: &mut Vec<Effect>) {
        self.phase = Phase::Saving(outcome);
        if self.checkpoints.newest != Some(self.committed) {
            self.checkpoint(reason, effects);
        }
        self.finish_if_saved(effects);
    }

    pub(super) fn finish_if_saved(&mut self, effects: &mut Vec<Effect>) {
        if let Phase::Saving(outcome) = &self.phase
            && self.checkpoints.being_written.is_empty()
        {
            self.finish(outcome.clone(), effects);
        }
    }

    pub(super) fn finish(&mut self, outcome: Outcome, effects: &mut Vec<Effect>) {
        effects.push(Effect::Record(Record::Finished { outcome: outcome.clone() }));
        effects.push(Effect::Finish { outcome: outcome.clone() });
        self.phase = Phase::Finished(outcome);
    }
}
