//! Which samples a shard has, and their loaders.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use convoy_common::epoch_order::EpochOrder;
use convoy_common::{Batch, Plan};
use convoy_scheduler::{Node, StepId, Work};
use convoy_vision::{LoadError, Loader, Mode, Request};
use parking_lot::Mutex;

use crate::run_data::RunData;
use crate::run_files::RunFiles;

/// Steps whose files are fetched ahead of time.
const FETCH_AHEAD: u64 = 8;

/// Loads the samples of a run's shards, ahead of time where it is told to.
pub(crate) struct Shards {
    plan: Arc<Plan>,
    train: Loader,
    validation: Loader,
    train_usable: Vec<u32>,
    validation_usable: Vec<u32>,
    remote: Option<Arc<RunFiles>>,
    state: Mutex<LoadedAhead>,
}

#[derive(Default)]
struct LoadedAhead {
    /// The order of the epoch asked for last.
    order: Option<(u32, Arc<EpochOrder>)>,
    /// Training shards asked for ahead, by step; those of old steps are dropped.
    requests: Vec<(StepId, Request)>,
}

impl Shards {
    /// Loaders with `threads` threads each for the samples of `data`.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub(crate) fn new(plan: Arc<Plan>, data: &RunData, threads: usize) -> io::Result<Self> {
        let capacity = 8 * threads + 8;
        Ok(Shards {
            train_usable: data.train().images().split().usable(),
            validation_usable: data.validation().images().split().usable(),
            train: Loader::new(data.train().clone(), threads, capacity)?,
            validation: Loader::new(data.validation().clone(), threads, capacity)?,
            remote: data.remote().cloned(),
            state: Mutex::default(),
            plan,
        })
    }

    /// The epoch, from 0, that `step` belongs to.
    pub(crate) fn epoch(&self, step: StepId) -> u32 {
        (step.0 / self.plan.train_cut().steps()) as u32
    }

    /// Which samples the shard has, and how they are prepared.
    fn request(&self, work: Work, step: StepId, shard: u32) -> Request {
        match work {
            Work::Evaluate => {
                let positions = self.plan.evaluate_cut().shard(0, shard);
                let order = EpochOrder::sequential(&self.validation_usable);
                Request { mode: Mode::Evaluate, samples: order.samples(positions).to_vec() }
            }
            Work::Train => {
                let cut = self.plan.train_cut();
                let epoch = self.epoch(step);
                let positions = cut.shard(step.0 % cut.steps(), shard);
                let samples = self.order(epoch).samples(positions).to_vec();
                Request { mode: Mode::Train { seed: self.plan.spec.seed, epoch }, samples }
            }
        }
    }

    fn order(&self, epoch: u32) -> Arc<EpochOrder> {
        let mut state = self.state.lock();
        if let Some((known, order)) = &state.order
            && *known == epoch
        {
            return order.clone();
        }
        let order = Arc::new(EpochOrder::shuffled(self.plan.spec.seed, epoch, &self.train_usable));
        state.order = Some((epoch, order.clone()));
        order
    }

    /// Begins to prepare the shards of `node`, and those that the next step is likely to ask for: a worker mostly
    /// gets the same place in every step.
    pub(crate) fn prepare(&self, work: Work, step: StepId, node: Node) {
        self.fetch_ahead(work, step, node);
        if work == Work::Evaluate {
            let shards = self.plan.evaluate_cut().shards(0);
            for shard in node.leaves().filter(|shard| shard.0 < shards) {
                self.validation.request(self.request(work, step, shard.0));
            }
            return;
        }
        self.forget_before(step);
        let cut = self.plan.train_cut();
        for step in [step, step.next()] {
            if step.0 >= self.plan.total_steps() {
                return;
            }
            let shards = cut.shards(step.0 % cut.steps());
            for shard in node.leaves().filter(|shard| shard.0 < shards) {
                let request = self.request(work, step, shard.0);
                if self.train.request(request.clone()) {
                    self.state.lock().requests.push((step, request));
                }
            }
        }
    }

    /// Has the files of `node` fetched, and of the same place in the next steps of the epoch.
    fn fetch_ahead(&self, work: Work, step: StepId, node: Node) {
        let Some(remote) = &self.remote else { return };
        let (train, validation) = (self.train.dataset(), self.validation.dataset());
        let split = if work == Work::Train { train } else { validation }.images().split();
        let cut = self.plan.train_cut();
        let steps = if work == Work::Train { FETCH_AHEAD.min(cut.steps() - step.0 % cut.steps()) } else { 1 };
        for ahead in 0..steps {
            let step = StepId(step.0 + ahead);
            let shards = match work {
                Work::Train => cut.shards(step.0 % cut.steps()),
                Work::Evaluate => self.plan.evaluate_cut().shards(0),
            };
            for shard in node.leaves().filter(|shard| shard.0 < shards) {
                let request = self.request(work, step, shard.0);
                let files = request.samples.iter().map(|sample| split.samples.at(*sample as usize).file);
                remote.will_need(work == Work::Train, files);
            }
        }
    }

    /// Drops the training shards that were asked for ahead of steps before `step`.
    fn forget_before(&self, step: StepId) {
        let mut state = self.state.lock();
        let (keep, stale) = std::mem::take(&mut state.requests).into_iter().partition(|(asked, _)| *asked >= step);
        state.requests = keep;
        drop(state);
        let stale: Vec<(StepId, Request)> = stale;
        if !stale.is_empty() {
            self.train.retain(|request| stale.iter().all(|(_, old)| old != request));
        }
    }

    /// The samples of a shard, and how long they were waited for.
    pub(crate) fn take(&self, work: Work, step: StepId, shard: u32) -> (Result<Batch, LoadError>, Duration) {
        let request = self.request(work, step, shard);
        match work {
            Work::Train => self.train.take(&request),
            Work::Evaluate => self.validation.take(&request),
        }
    }
}

#[cfg(test)]
mod tests;
