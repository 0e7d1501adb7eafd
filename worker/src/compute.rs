//! Threads that compute shards. Tokio never waits on arithmetic.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use convoy_common::spec::Compression;
use convoy_common::{Plan, panic_text};
use convoy_model::Network;
use convoy_nn::{ChunkTaker, ComputeError, Device, Executor, GradientTarget};
use convoy_proto::CHUNK_ELEMENTS;
use convoy_reduce::{FrozenChunks, forget_spare};
use convoy_scheduler::{Failure, Lease, LeaseRef, StepId, Work};
use tokio::sync::mpsc::UnboundedSender;

use crate::evaluated_weights::EvaluatedWeights;
use crate::lease_queue::{LeaseQueue, NextShard};
use crate::lease_work::{ComputedShard, LeaseFailure, LeaseWork};
use crate::node_parts::NodeSender;
use crate::shards::Shards;
use crate::spare_buffers::SpareBuffers;
use crate::stages;

/// The threads of a worker. They end when it is dropped, each after the shard it has in hand.
pub(crate) struct ComputePool {
    shared: Arc<PoolShared>,
    threads: Vec<JoinHandle<()>>,
}

/// What the threads share.
struct PoolShared {
    queue: LeaseQueue,
    shards: Shards,
    /// Memory for gradients and parameters.
    buffers: Arc<SpareBuffers>,
    failures: UnboundedSender<LeaseFailure>,
    /// Chunks that steps leave as they are.
    frozen: Arc<FrozenChunks>,
    /// How exact nodes are.
    compression: Compression,
    /// What the network's weights become for evaluations.
    evaluated: EvaluatedWeights,
}

impl ComputePool {
    /// Starts `threads` threads (at least one) that compute shards of `plan` on `network`, on `device`. Leases that
    /// could not be done go to `failures`.
    ///
    /// # Errors
    /// When a thread cannot be started, or the device cannot be had.
    pub(crate) fn start(
        plan: &Arc<Plan>,
        network: &Arc<Network>,
        shards: Shards,
        (device, threads): (Device, usize),
        failures: UnboundedSender<LeaseFailure>,
    ) -> Result<Self, ComputeError> {
        let buffers = Arc::new(SpareBuffers::new(network.len()));
        let evaluated = EvaluatedWeights::new(plan.clone(), network.clone());
        let frozen = Arc::new(FrozenChunks::of(plan, network));
        let (queue, compression) = (LeaseQueue::default(), plan.spec.train.compression);
        let shared = Arc::new(PoolShared { queue, shards, buffers, failures, frozen, compression, evaluated });
        let mut pool = ComputePool { shared, threads: Vec::new() };
        for executor in Executor::team(device, plan, network, threads.max(1))? {
            let thread = ShardThread { shared: pool.shared.clone(), executor, loaded: None };
            let thread = std::thread::Builder::new().name("shards".to_owned()).spawn(move || thread.work());
            pool.threads.push(thread.map_err(|error| ComputeError::Thread(error.to_string()))?);
        }
        Ok(pool)
    }

    /// Takes a lease in, whose node goes to `sender` as it is computed, and begins to load its samples.
    pub(crate) fn add(&self, lease: Lease, sender: NodeSender) {
        self.shared.shards.prepare(lease.work, lease.at.step, lease.node);
        let PoolShared { queue, buffers, compression, .. } = &*self.shared;
        queue.add(LeaseWork::new(lease, buffers.elements(), *compression, sender));
    }

    /// Drops a lease; shards of it that are being computed are thrown away.
    pub(crate) fn revoke(&self, at: LeaseRef) {
        if let Some(work) = self.shared.queue.remove(at) {
            work.give_up();
        }
    }

    /// The parameters of `step` are committed and here.
    pub(crate) fn set_parameters(&self, step: StepId, flat: Arc<Vec<f32>>) {
        let old = self.shared.queue.set_parameters(step, flat);
        self.shared.evaluated.forget();
        old.into_iter().for_each(|flat| self.shared.buffers.give_when_free(flat));
    }

    /// Memory for gradients and parameters, to be written over.
    pub(crate) fn buffers(&self) -> &Arc<SpareBuffers> {
        &self.shared.buffers
    }
}

impl Drop for ComputePool {
    fn drop(&mut self) {
        self.shared.queue.close();
        for thread in self.threads.drain(..) {
            _ = thread.join();
        }
        forget_spare();
    }
}

/// One thread and its executor.
struct ShardThread {
    shared: Arc<PoolShared>,
    executor: Executor,
    /// The step whose parameters the executor has, and for which work.
    loaded: Option<(StepId, Work)>,
}

impl ShardThread {
    fn work(mut self) {
        while let Some(next) = self.shared.queue.next() {
            let work = next.work.clone();
            // A defect of the program costs the lease, not the thread.
            let computed = catch_unwind(AssertUnwindSafe(|| self.compute(next))).unwrap_or_else(|panic| {
                let text = panic_text(panic.as_ref());
                Err((Failure::Internal, format!("computing a shard panicked: {text}")))
            });
            match computed {
                Ok(computed) => self.shared.add(&work, computed),
                Err((failure, reason)) => self.shared.fail(&work, failure, reason),
            }
        }
    }

    fn compute(&mut self, next: NextShard) -> Result<ComputedShard, (Failure, String)> {
        let (work, shard) = (next.work.clone(), next.shard);
        self.load(next)?;
        match work.lease.work {
            Work::Train => self.train(&work, shard),
            Work::Evaluate => self.evaluate(&work, shard),
        }
    }

    /// Loads the parameters of the shard, unless they are those of the shard before.
    fn load(&mut self, next: NextShard) -> Result<(), (Failure, String)> {
        next.work.waited_for_parameters(next.waited);
        let wanted = (next.step, next.work.lease.work);
        if self.loaded.is_none_or(|loaded| loaded != wanted && self.shared.evaluated.differ(loaded.0, wanted.0)) {
            let begun = Instant::now();
            let weights = match wanted.1 {
                Work::Train => next.parameters,
                Work::Evaluate => self.shared.evaluated.of(next.step, next.parameters),
            };
            self.executor.load(&weights).map_err(internal)?;
            self.loaded = Some(wanted);
            stages::over("load", next.step, begun);
        }
        Ok(())
    }

    fn train(&self, work: &Arc<LeaseWork>, shard: u32) -> Result<ComputedShard, (Failure, String)> {
        let step = work.lease.at.step;
        let (batch, data) = self.shared.shards.take(Work::Train, step, shard);
        let batch = batch.map_err(|error| (Failure::DataUnreadable, error.to_string()))?;
        let begun = Instant::now();
        let mut gradient = self.shared.buffers.take();
        let (to, frozen) = (work.clone(), self.shared.frozen.clone());
        let taker = ChunkTaker::new(CHUNK_ELEMENTS, move |index, values| {
            if !frozen.contain(step.0, index) {
                to.add_chunk(shard, index, values);
            }
        });
        let target = GradientTarget::Chunks(&mut gradient, taker);
        let result = self.executor.train_shard(&batch, self.shared.shards.epoch(step), target, None);
        self.shared.buffers.give(gradient);
        let result = result.map_err(internal)?;
        stages::over("shard", step, begun);
        Ok(ComputedShard {
            shard,
            sums: vec![f64::from(result.count), result.loss_sum, result.weight_sum, result.correct],
            finite: result.finite,
            computing: begun.elapsed(),
            data,
        })
    }

    fn evaluate(&self, work: &LeaseWork, shard: u32) -> Result<ComputedShard, (Failure, String)> {
        let (batch, data) = self.shared.shards.take(Work::Evaluate, work.lease.at.step, shard);
        let batch = batch.map_err(|error| (Failure::DataUnreadable, error.to_string()))?;
        let begun = Instant::now();
        let sums = self.executor.evaluate_shard(&batch).map_err(internal)?;
        let finite = sums.iter().all(|sum| sum.is_finite());
        Ok(ComputedShard { shard, sums, finite, computing: begun.elapsed(), data })
    }
}

fn internal(error: ComputeError) -> (Failure, String) {
    (Failure::Internal, error.to_string())
}

impl PoolShared {
    /// Counts a shard, and ends the node after the last one unless the lease is gone.
    fn add(&self, work: &LeaseWork, computed: ComputedShard) {
        if let Some(node) = work.add(computed)
            && self.queue.remove(work.lease.at).is_some()
        {
            work.finish(node);
        }
    }

    fn fail(&self, work: &LeaseWork, failure: Failure, reason: String) {
        if work.fail() && self.queue.remove(work.lease.at).is_some() {
            work.give_up();
            _ = self.failures.send(LeaseFailure { at: work.lease.at, failure, reason });
        }
    }
}

#[cfg(test)]
mod tests;
