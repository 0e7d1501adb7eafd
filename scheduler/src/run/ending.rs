//! Checkpoints, and the end of a run.

use super::{Run, RunPhase};
use crate::effect::{AbandonReason, CheckpointReason, Effect, IgnoreReason};
use crate::ids::{RunTime, StepId};
use crate::lease::Work;
use crate::outcome::Outcome;
use crate::record::Record;

impl Run {
    /// When the next checkpoint by interval is due: now, later, or not at all. There is one at a time, and none while
    /// an evaluation is open, because a checkpoint of these parameters must hold the evaluation's outcome.
    pub(super) fn next_interval(&self) -> Option<RunTime> {
        let training = matches!(&self.phase, RunPhase::Working(step) if step.work == Work::Train);
        let newest = self.checkpoints.newest.unwrap_or(self.plan.first_step);
        if !training || !self.checkpoints.being_written.is_empty() || newest == self.committed {
            return None;
        }
        let interval = self.plan.checkpoint.time;
        let by_time = (interval.0 > 0).then(|| self.checkpoints.asked.after(interval));
        if self.checkpoints.due { Some(self.now) } else { by_time }
    }

    /// Asks for a checkpoint of the committed parameters.
    pub(super) fn checkpoint(&mut self, reason: CheckpointReason, effects: &mut Vec<Effect>) {
        let (step, trusted) = (self.committed, self.trusted_before);
        effects.push(Effect::Checkpoint { step, reason, trusted });
        self.checkpoints.being_written.insert(step);
        self.checkpoints.newest = Some(step);
        self.checkpoints.asked = self.now;
        self.checkpoints.due = false;
    }

    /// Takes in that a checkpoint is on disk, or could not be written.
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
            if let RunPhase::Saving(outcome) = &mut self.phase {
                *outcome = Outcome::Unsaved { step };
            }
        }
        self.finish_if_saved(effects);
        Ok(())
    }

    /// Notes that somebody wants the run to stop.
    pub(super) fn stop_requested(&mut self) -> Result<(), IgnoreReason> {
        match &self.phase {
            RunPhase::Finished(_) => Err(IgnoreReason::RunOver),
            RunPhase::Saving(_) => Err(IgnoreReason::AlreadyStopping),
            _ if self.stopping => Err(IgnoreReason::AlreadyStopping),
            _ => {
                self.stopping = true;
                Ok(())
            }
        }
    }

    /// Saves and ends the run if somebody asked. A training step in flight is finished first, as long as there are
    /// workers that can. An evaluation is given up: it is pending in the checkpoint, and a resumed run begins with it.
    pub(super) fn stop_if_asked(&mut self, effects: &mut Vec<Effect>) {
        let RunPhase::Working(step) = &self.phase else { return };
        if !self.stopping {
            return;
        }
        let stuck = !self.members.iter().any(|(_, member)| member.computes()) || step.awaits_judge().is_some();
        let can_finish = step.covered.is_some() || !stuck;
        if !(step.work == Work::Train && can_finish) {
            self.abandon(AbandonReason::Stopped, effects);
            self.save(CheckpointReason::Stop, Outcome::Stopped, effects);
        }
    }

    /// Ends the run when the committed parameters are on disk. No second checkpoint of them is asked for.
    pub(super) fn save(&mut self, reason: CheckpointReason, outcome: Outcome, effects: &mut Vec<Effect>) {
        self.phase = RunPhase::Saving(outcome);
        if self.checkpoints.newest != Some(self.committed) {
            self.checkpoint(reason, effects);
        }
        self.finish_if_saved(effects);
    }

    /// Ends a run that saves once all its checkpoints are on disk.
    pub(super) fn finish_if_saved(&mut self, effects: &mut Vec<Effect>) {
        if let RunPhase::Saving(outcome) = &self.phase
            && self.checkpoints.being_written.is_empty()
        {
            self.finish(outcome.clone(), effects);
        }
    }

    /// Ends the run: nothing follows.
    pub(super) fn finish(&mut self, outcome: Outcome, effects: &mut Vec<Effect>) {
        effects.push(Effect::Record(Record::Finished { outcome: outcome.clone() }));
        effects.push(Effect::Finish { outcome: outcome.clone() });
        self.phase = RunPhase::Finished(outcome);
    }
}
