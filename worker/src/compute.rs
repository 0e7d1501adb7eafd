//! Threads that compute shards. Tokio never waits on arithmetic.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use convoy_common::Plan;
use convoy_common::tree_sum::{TreeSum, add_f64};
use convoy_kernels::tree::add_into;
use convoy_model::Network;
use convoy_nn::{ComputeError, Device, Executor, GradientTarget};
use convoy_scheduler::{Failure, Lease, LeaseRef, Node, StepId, Work};
use tokio::sync::mpsc::UnboundedSender;

use crate::data::Shards;
use crate::stages;

/// What became of a lease.
#[derive(Debug)]
pub(crate) enum Output {
    /// Its node.
    Done(Computed),
    /// It could not be done.
    Failed { at: LeaseRef, failure: Failure, reason: String },
}

/// A node, ready to be sent.
#[derive(Debug)]
pub(crate) struct Computed {
    pub(crate) lease: Lease,
    /// Sum of gradients and statistics; empty for an evaluation and where something is not finite.
    pub(crate) gradient: Vec<f32>,
    pub(crate) sums: Vec<f64>,
    pub(crate) not_finite: Option<u32>,
    pub(crate) times: Times,
}

/// Thread time that went into a lease.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Times {
    pub(crate) computing: Duration,
    pub(crate) data: Duration,
    pub(crate) parameters: Duration,
}

/// The threads of a worker and what they share.
pub(crate) struct Pool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    shards: Shards,
    state: Mutex<State>,
    changed: Condvar,
    /// Memory for gradients and parameters, to be written over.
    spare: Mutex<Vec<Vec<f32>>>,
    elements: usize,
    outputs: UnboundedSender<Output>,
}

#[derive(Default)]
struct State {
    /// Shards nobody computes yet, in order.
    queue: VecDeque<(Arc<InWork>, u32)>,
    leases: BTreeMap<LeaseRef, Arc<InWork>>,
    parameters: Option<(StepId, Arc<Vec<f32>>)>,
    closed: bool,
}

/// A lease in work.
struct InWork {
    lease: Lease,
    sum: Mutex<Sum>,
}

struct Sum {
    left: u32,
    gradient: TreeSum<Vec<f32>>,
    sums: TreeSum<Vec<f64>>,
    not_finite: Option<u32>,
    failed: bool,
    times: Times,
}

/// What a thread does next.
struct Next {
    work: Arc<InWork>,
    shard: u32,
    /// Whose parameters these are.
    step: StepId,
    parameters: Arc<Vec<f32>>,
    /// How long the shard had to wait for them.
    waited: Duration,
}

impl Pool {
    /// Starts `threads` threads that compute shards of `plan` on `network`, on `device`.
    pub(crate) fn start(
        plan: &Arc<Plan>,
        network: &Arc<Network>,
        shards: Shards,
        (device, threads): (Device, usize),
        outputs: UnboundedSender<Output>,
    ) -> Result<Self, ComputeError> {
        let shared = Arc::new(Shared {
            shards,
            state: Mutex::default(),
            changed: Condvar::new(),
            spare: Mutex::default(),
            elements: network.len(),
            outputs,
        });
        let mut pool = Pool { shared, threads: Vec::new() };
        for executor in Executor::team(device, plan, network, threads.max(1))? {
            let shared = pool.shared.clone();
            let thread = std::thread::Builder::new().name("shards".to_owned()).spawn(move || shared.work(executor));
            pool.threads.push(thread.map_err(|error| ComputeError::Thread(error.to_string()))?);
        }
        Ok(pool)
    }

    /// Takes a lease in.
    pub(crate) fn add(&self, lease: Lease) {
        self.shared.shards.prepare(lease.work, lease.at.step, lease.node);
        let work = Arc::new(InWork {
            lease,
            sum: Mutex::new(Sum {
                left: lease.node.size(),
                gradient: TreeSum::new(lease.node),
                sums: TreeSum::new(lease.node),
                not_finite: None,
                failed: false,
                times: Times::default(),
            }),
        });
        let mut state = self.shared.lock();
        state.leases.insert(lease.at, work.clone());
        state.queue.extend(lease.node.leaves().map(|shard| (work.clone(), shard.0)));
        drop(state);
        self.shared.changed.notify_all();
    }

    /// Drops a lease; shards of it that are being computed are thrown away.
    pub(crate) fn revoke(&self, at: LeaseRef) {
        self.shared.drop_lease(at);
    }

    /// The parameters of `step` are committed and here.
    pub(crate) fn set_parameters(&self, step: StepId, flat: Arc<Vec<f32>>) {
        let mut state = self.shared.lock();
        let old = state.parameters.replace((step, flat));
        // Leases of earlier parameters are stale.
        state.queue.retain(|(work, _)| work.lease.at.step >= step);
        state.leases.retain(|at, _| at.step >= step);
        drop(state);
        self.shared.changed.notify_all();
        // A thread that still loads them keeps their memory.
        old.and_then(|(_, flat)| Arc::into_inner(flat)).into_iter().for_each(|flat| self.recycle(flat));
    }

    /// Memory for a gradient or parameters, to be written over.
    pub(crate) fn buffer(&self) -> Vec<f32> {
        self.shared.buffer()
    }

    /// Takes a gradient's memory back.
    pub(crate) fn recycle(&self, gradient: Vec<f32>) {
        self.shared.recycle(gradient);
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.changed.notify_all();
        for thread in self.threads.drain(..) {
            _ = thread.join();
        }
    }
}

impl Shared {
    fn work(&self, mut executor: Executor) {
        let mut loaded = None;
        while let Some(Next { work, shard, step, parameters, waited }) = self.next() {
            work.lock().times.parameters += waited;
            if loaded != Some(step) {
                let begun = Instant::now();
                if let Err(error) = executor.load(&parameters) {
                    self.fail(&work, Failure::Internal, error.to_string());
                    continue;
                }
                loaded = Some(step);
                stages::over("load", step, begun);
            }
            drop(parameters);
            match work.lease.work {
                Work::Train => self.train(&executor, &work, shard),
                Work::Evaluate => self.evaluate(&executor, &work, shard),
            }
        }
    }

    /// The next shard whose parameters are here; `None` when the pool closes.
    fn next(&self) -> Option<Next> {
        let mut state = self.lock();
        let mut waited = Duration::ZERO;
        loop {
            if state.closed {
                return None;
            }
            if let Some((step, parameters)) = state.parameters.clone() {
                let position = state.queue.iter().position(|(work, _)| work.lease.at.step == step);
                if let Some((work, shard)) = position.and_then(|position| state.queue.remove(position)) {
                    return Some(Next { work, shard, step, parameters, waited });
                }
            }
            let (begun, starving) = (Instant::now(), !state.queue.is_empty());
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            if starving {
                waited += begun.elapsed();
            }
        }
    }

    fn train(&self, executor: &Executor, work: &InWork, shard: u32) {
        let step = work.lease.at.step;
        let (batch, waited) = self.shards.take(Work::Train, step, shard);
        let batch = match batch {
            Ok(batch) => batch,
            Err(error) => return self.fail(work, Failure::DataUnreadable, error.to_string()),
        };
        let begun = Instant::now();
        let leaf = Node { first: shard, last: shard + 1 };
        // What is added as it is made needs neither memory nor an addition afterwards.
        let sibling = work.lock().gradient.take_sibling(leaf);
        let adds = sibling.is_some();
        let (node, mut gradient) = sibling.unwrap_or_else(|| (leaf, self.buffer()));
        let target = match adds {
            true => GradientTarget::AddTo(&mut gradient),
            false => GradientTarget::Write(&mut gradient),
        };
        let result = match executor.train_shard(&batch, self.shards.epoch(step), target, None) {
            Ok(result) => result,
            Err(error) => return self.fail(work, Failure::Internal, error.to_string()),
        };
        stages::over("shard", step, begun);
        let sums = vec![f64::from(result.count), result.loss_sum, result.weight_sum, result.correct];
        let mut sum = work.lock();
        sum.times.computing += begun.elapsed();
        sum.times.data += waited;
        if !result.finite {
            sum.not_finite = Some(sum.not_finite.map_or(shard, |first| first.min(shard)));
        }
        let begun = Instant::now();
        let spent = sum.gradient.insert(node, gradient, |left, right| add_into(left, right));
        stages::over("tree", step, begun);
        sum.sums.insert(leaf, sums, add_f64);
        self.finish(work, sum);
        spent.into_iter().for_each(|buffer| self.recycle(buffer));
    }

    fn evaluate(&self, executor: &Executor, work: &InWork, shard: u32) {
        let (batch, waited) = self.shards.take(Work::Evaluate, work.lease.at.step, shard);
        let batch = match batch {
            Ok(batch) => batch,
            Err(error) => return self.fail(work, Failure::DataUnreadable, error.to_string()),
        };
        let begun = Instant::now();
        let sums = match executor.evaluate_shard(&batch) {
            Ok(sums) => sums,
            Err(error) => return self.fail(work, Failure::Internal, error.to_string()),
        };
        let mut sum = work.lock();
        sum.times.computing += begun.elapsed();
        sum.times.data += waited;
        if !sums.iter().all(|sum| sum.is_finite()) {
            sum.not_finite = Some(sum.not_finite.map_or(shard, |first| first.min(shard)));
        }
        sum.sums.insert(Node { first: shard, last: shard + 1 }, sums, add_f64);
        self.finish(work, sum);
    }

    /// Counts a shard, and hands the node on after the last one.
    fn finish(&self, work: &InWork, mut sum: MutexGuard<'_, Sum>) {
        sum.left -= 1;
        if sum.left > 0 || sum.failed {
            return;
        }
        let computed = Computed {
            lease: work.lease,
            gradient: sum.gradient.take().unwrap_or_default(),
            sums: sum.sums.take().unwrap_or_default(),
            not_finite: sum.not_finite,
            times: sum.times,
        };
        drop(sum);
        if self.lock().leases.remove(&work.lease.at).is_some() {
            _ = self.outputs.send(Output::Done(computed));
        } else {
            self.recycle(computed.gradient);
        }
    }

    fn fail(&self, work: &InWork, failure: Failure, reason: String) {
        let first = !std::mem::replace(&mut work.lock().failed, true);
        if first && self.drop_lease(work.lease.at) {
            _ = self.outputs.send(Output::Failed { at: work.lease.at, failure, reason });
        }
    }

    /// Whether it was still there.
    fn drop_lease(&self, at: LeaseRef) -> bool {
        let mut state = self.lock();
        state.queue.retain(|(work, _)| work.lease.at != at);
        state.leases.remove(&at).is_some()
    }

    fn buffer(&self) -> Vec<f32> {
        let spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner).pop();
        spare.unwrap_or_else(|| vec![0.0; self.elements])
    }

    fn recycle(&self, buffer: Vec<f32>) {
        if buffer.len() == self.elements {
            self.spare.lock().unwrap_or_else(PoisonError::into_inner).push(buffer);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl InWork {
    fn lock(&self) -> MutexGuard<'_, Sum> {
        self.sum.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
