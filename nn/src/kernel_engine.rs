//! The engine that computes by Convoy's kernels, on the CPU.

use std::sync::Arc;

use convoy_model::Network;
use parking_lot::Mutex;

use crate::buffer_pool::BufferPool;
use crate::mode::{Mode, ShardAddress, TrainingShard};
use crate::pass_buffers::PassBuffers;
use crate::pass_plan::{PassKind, PassPlan, PlanCache};
use crate::shard_gradient::{GradientTarget, ShardGradient};
use crate::tape::SharedPass;
use crate::thread_team::Team;
use crate::{ComputeError, LayerTimes};

/// A network with its weights, and what passes leave to the next ones.
pub(crate) struct KernelEngine {
    network: Arc<Network>,
    /// Parameters and buffers, flat as [`Network`] says.
    weights: Arc<Vec<f32>>,
    /// Whether convolutions are computed by Winograd's algorithm where it pays.
    winograd: bool,
    plans: PlanCache,
    /// Buffers of earlier passes, with the number of samples that they were for.
    pool: Mutex<(usize, BufferPool)>,
    team: Arc<Team>,
}

impl KernelEngine {
    /// An engine with all weights 0.
    pub fn new(network: Arc<Network>, winograd: bool, team: Arc<Team>) -> Self {
        let weights = Arc::new(vec![0.0; network.len()]);
        KernelEngine { network, weights, winograd, plans: PlanCache::default(), pool: Mutex::default(), team }
    }

    /// Takes over parameters and buffers, flat.
    pub fn load(&mut self, flat: &Arc<Vec<f32>>) {
        self.weights = flat.clone();
    }

    /// The plan for passes of one kind.
    ///
    /// # Errors
    /// When a layer does not fit its input, or a batch norm would normalise by a single value.
    pub fn plan(&self, kind: PassKind) -> Result<Arc<PassPlan>, ComputeError> {
        self.plans.get(kind, || PassPlan::resolve(&self.network, kind, self.winograd))
    }

    /// What the network puts out for `count` samples (NHWC), row after row.
    ///
    /// # Errors
    /// As [`KernelEngine::plan`].
    pub fn outputs(&self, x_nhwc: &[f32], count: usize) -> Result<Vec<f32>, ComputeError> {
        let plan = self.plan(PassKind { mode: Mode::Evaluate, images: count })?;
        let mut pool = self.take_pool(count);
        let x = pool.take_copy(x_nhwc);
        let gradient = ShardGradient::new(self.network.clone(), Vec::new(), None);
        let pass = SharedPass::new(plan, None, self.buffers(ShardAddress::default(), gradient, pool));
        let outputs = self.busy(|| {
            pass.forward(x)?;
            Ok(pass.lock().values.output(self.last()).to_vec())
        });
        self.end(pass, count);
        outputs
    }

    /// Forward and backward: `loss` makes of the outputs the gradient with respect to them, and whatever else is wanted
    /// of them. The gradient goes to `target`, as [`Executor::train_shard`](crate::Executor::train_shard) says. Also
    /// returns whether it is finite.
    ///
    /// # Errors
    /// As [`KernelEngine::plan`]; those of `loss`.
    pub fn train<R>(
        &self,
        shard: &TrainingShard<'_>,
        target: &mut GradientTarget<'_>,
        times: Option<&Arc<LayerTimes>>,
        loss: impl FnOnce(&[f32]) -> Result<(R, Vec<f32>), ComputeError>,
    ) -> Result<(R, bool), ComputeError> {
        let count = shard.count();
        let plan = self.plan(PassKind { mode: shard.mode, images: count })?;
        let mut pool = self.take_pool(count);
        let x = pool.take_copy(shard.x_nhwc);
        let longest = self.network.tensors.iter().map(|tensor| tensor.len()).max().unwrap_or(0);
        let aside = target.is_added_to().then(|| pool.take(longest));
        let gradient = ShardGradient::new(self.network.clone(), std::mem::take(target.flat()), aside);
        let pass = SharedPass::new(plan, times.cloned(), self.buffers(shard.address.clone(), gradient, pool));
        let trained = self.busy(|| {
            let outputs = pass.forward(x)?;
            let (result, doutputs) = loss(pass.lock().values.output(self.last()))?;
            pass.backward(self.last(), &outputs, doutputs)?;
            let mut buffers = pass.lock();
            buffers.shard_gradient.fill_rest();
            Ok((result, buffers.shard_gradient.is_finite()))
        });
        *target.flat() = self.end(pass, count);
        trained
    }

    /// Buffers for a pass with the weights that are loaded.
    fn buffers(&self, address: ShardAddress, gradient: ShardGradient, pool: BufferPool) -> PassBuffers {
        let (network, weights) = (self.network.clone(), self.weights.clone());
        PassBuffers::new(network, weights, address, gradient, pool, self.team.clone())
    }

    /// Does `work` as a pass, which takes one of the team's threads.
    fn busy<R>(&self, work: impl FnOnce() -> Result<R, ComputeError>) -> Result<R, ComputeError> {
        let _busy = self.team.begin_pass();
        work()
    }

    /// Keeps the buffers of a pass that is over; its gradient, flat.
    fn end(&self, pass: SharedPass, count: usize) -> Vec<f32> {
        let buffers = pass.into_buffers().expect("nothing of the pass is left on the tape");
        let (flat, pool) = buffers.end();
        *self.pool.lock() = (count, pool);
        flat
    }

    /// Buffers for a pass of `count` samples; those for another number are let go.
    fn take_pool(&self, count: usize) -> BufferPool {
        let (of, pool) = std::mem::take(&mut *self.pool.lock());
        if of == count { pool } else { BufferPool::default() }
    }

    /// The node that puts out the network's outputs.
    fn last(&self) -> usize {
        self.network.nodes.len() - 1
    }
}
