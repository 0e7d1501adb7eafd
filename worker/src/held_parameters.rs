//! The parameters that a worker holds, for those that come next: of these only what is other may travel.

use std::sync::Arc;

use tokio::sync::watch;

use crate::step_parameters::{CommittedStep, StepParameters};

/// The parameters that were taken over last, if they are of use for the next ones.
#[derive(Debug)]
pub(crate) struct HeldParameters {
    held: watch::Sender<Option<StepParameters>>,
    /// Whether what a step changes may travel alone.
    changes: bool,
}

impl HeldParameters {
    /// Nothing is held. `changes` is whether what a step changes may travel alone.
    pub(crate) fn none(changes: bool) -> Self {
        HeldParameters { held: watch::Sender::new(None), changes }
    }

    /// These are held, if chunks of them stay as they are, `frozen`, or what changes may travel alone.
    pub(crate) fn hold(&self, parameters: &StepParameters, frozen: bool) {
        self.held.send_replace((frozen || self.changes).then(|| parameters.clone()));
    }

    /// What is held may be wrong.
    pub(crate) fn forget(&self) {
        self.held.send_replace(None);
    }

    /// What is held of an earlier step than `step`.
    pub(crate) fn earlier(&self, step: u64) -> Option<StepParameters> {
        self.held.borrow().clone().filter(|held| held.step.0 < step)
    }

    /// The parameters of the step before `step`, to be waited for.
    pub(crate) fn before(&self, step: u64, committed: watch::Receiver<CommittedStep>) -> StepBefore {
        StepBefore { step, held: self.changes.then(|| self.held.subscribe()), committed }
    }
}

/// The parameters of the step before some other, as soon as they are there.
#[derive(Debug)]
pub(crate) struct StepBefore {
    step: u64,
    /// None where they are of no use.
    held: Option<watch::Receiver<Option<StepParameters>>>,
    committed: watch::Receiver<CommittedStep>,
}

impl StepBefore {
    /// Waits for them. `None` where they are of no use, or the step itself is committed without them.
    pub(crate) async fn wait(mut self) -> Option<Arc<Vec<f32>>> {
        let mut held = self.held.take()?;
        loop {
            let before = held.borrow_and_update().clone().filter(|held| held.step.0 + 1 == self.step);
            if let Some(before) = before {
                return Some(before.flat);
            }
            if self.committed.borrow_and_update().step >= self.step {
                return None;
            }
            tokio::select! {
                changed = held.changed() => changed.ok()?,
                changed = self.committed.changed() => changed.ok()?,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use convoy_scheduler::StepId;

    use super::*;

    fn of(step: u64) -> StepParameters {
        StepParameters { step: StepId(step), flat: Arc::new(vec![step as f32]) }
    }

    fn committed(step: u64) -> CommittedStep {
        CommittedStep { step, digest: None }
    }

    #[tokio::test]
    async fn the_step_before_is_waited_for_until_the_step_is_committed() {
        let (held, at) = (HeldParameters::none(true), watch::Sender::new(committed(3)));
        held.hold(&of(3), false);
        assert_eq!(held.before(4, at.subscribe()).wait().await, Some(of(3).flat));
        let next = tokio::spawn(held.before(5, at.subscribe()).wait());
        at.send_replace(committed(4));
        held.hold(&of(4), false);
        assert_eq!(next.await.expect("no panic"), Some(of(4).flat));
        let missed = tokio::spawn(held.before(6, at.subscribe()).wait());
        at.send_replace(committed(6));
        assert_eq!(missed.await.expect("no panic"), None);
        held.forget();
        assert_eq!(held.earlier(9), None);
    }

    #[tokio::test]
    async fn where_all_of_the_next_ones_travels_only_what_is_frozen_is_held() {
        let (held, at) = (HeldParameters::none(false), watch::Sender::new(committed(0)));
        held.hold(&of(3), true);
        assert_eq!(held.before(4, at.subscribe()).wait().await, None);
        assert_eq!((held.earlier(4), held.earlier(3)), (Some(of(3)), None));
        held.hold(&of(4), false);
        assert_eq!(held.earlier(9), None);
    }
}
