//! The engine that computes by Convoy's kernels, on the CPU, in any class of theirs.

use std::sync::Arc;

use convoy_model::Network;
use parking_lot::Mutex;

use crate::mode::{Mode, ShardAddress, TrainingShard};
use crate::pass_plan::{PassKind, PassPlan, PlanCache};
use crate::pass_state::{PassState, ShardInput};
use crate::shard_gradient::{GradientTarget, ShardGradient};
use crate::tape::SharedPass;
use crate::thread_team::Team;
use crate::{ComputeError, LayerTimes};

/// How a class resolves passes of one kind.
pub(crate) type Resolve<B> = fn(&Network, PassKind) -> Result<PassPlan<B>, ComputeError>;

/// A network with its weights, and what passes leave to the next ones.
pub(crate) struct KernelEngine<B: PassState> {
    network: Arc<Network>,
    weights: B::Weights,
    resolve: Resolve<B>,
    plans: PlanCache<B>,
    /// Buffers of earlier passes, with the number of samples that they were for.
    pool: Mutex<(usize, B::Pool)>,
    team: Arc<Team>,
}

impl<B: PassState> KernelEngine<B> {
    /// An engine with these weights.
    pub fn new(network: Arc<Network>, weights: B::Weights, resolve: Resolve<B>, team: Arc<Team>) -> Self {
        KernelEngine { network, weights, resolve, plans: PlanCache::default(), pool: Mutex::default(), team }
    }

    /// Takes over parameters and buffers.
    pub fn load(&mut self, weights: B::Weights) {
        self.weights = weights;
    }

    /// The plan for passes of one kind.
    ///
    /// # Errors
    /// When a layer does not fit its input, or a batch norm would normalise by a single value.
    pub fn plan(&self, kind: PassKind) -> Result<Arc<PassPlan<B>>, ComputeError> {
        self.plans.get(kind, || (self.resolve)(&self.network, kind))
    }

    /// What the network puts out for `count` samples (NHWC), row after row.
    ///
    /// # Errors
    /// As [`KernelEngine::plan`].
    pub fn outputs(&self, x_nhwc: &[f32], count: usize) -> Result<Vec<f32>, ComputeError> {
        let plan = self.plan(PassKind { mode: Mode::Evaluate, images: count })?;
        let gradient = ShardGradient::new(self.network.clone(), Vec::new(), None);
        let (network, address) = (self.network.clone(), ShardAddress::default());
        let shard = ShardInput { network, x_nhwc, images: count, address, gradient };
        let pass = SharedPass::new(plan, None, self.begin(shard, self.take_pool(count)));
        let outputs = self.busy(|| {
            pass.forward()?;
            Ok(pass.lock().outputs().into_owned())
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
        let flat = std::mem::take(target.flat());
        let gradient = ShardGradient::new(self.network.clone(), flat, target.taker());
        let (network, address) = (self.network.clone(), shard.address.clone());
        let shard = ShardInput { network, x_nhwc: shard.x_nhwc, images: count, address, gradient };
        let pass = SharedPass::new(plan, times.cloned(), self.begin(shard, self.take_pool(count)));
        let trained = self.busy(|| {
            let outputs = pass.forward()?;
            let (result, doutputs) = loss(&pass.lock().outputs())?;
            pass.backward(&outputs, doutputs)?;
            let mut buffers = pass.lock();
            let gradient = buffers.shard_gradient();
            gradient.fill_rest();
            Ok((result, gradient.is_finite()))
        });
        *target.flat() = self.end(pass, count);
        trained
    }

    /// A pass with the weights that are loaded.
    fn begin(&self, shard: ShardInput<'_>, pool: B::Pool) -> B {
        B::begin(shard, self.weights.clone(), pool, self.team.clone())
    }

    /// Does `work` as a pass, which takes one of the team's threads.
    fn busy<R>(&self, work: impl FnOnce() -> Result<R, ComputeError>) -> Result<R, ComputeError> {
        let _busy = self.team.begin_pass();
        work()
    }

    /// Keeps the buffers of a pass that is over; its gradient, flat.
    fn end(&self, pass: SharedPass<B>, count: usize) -> Vec<f32> {
        let buffers = pass.into_buffers().expect("nothing of the pass is left on the tape");
        let (flat, pool) = buffers.end();
        *self.pool.lock() = (count, pool);
        flat
    }

    /// Buffers for a pass of `count` samples; those for another number are let go.
    fn take_pool(&self, count: usize) -> B::Pool {
        let (of, pool) = std::mem::take(&mut *self.pool.lock());
        if of == count { pool } else { B::Pool::default() }
    }
}
