//! The executor: shards in, gradients and metrics out.

use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use convoy_common::batch::{Batch, Targets};
use convoy_common::metrics::MetricSums;
use convoy_common::panic_text;
use convoy_common::plan::Plan;
use convoy_common::spec::{CPU_BF16_V1, CPU_F32_V1, Task};
use convoy_kernels::{math, softmax};
use convoy_model::Network;
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::compose::Composed;
use crate::halves::{self, HalfBuffers, SharedWeights};
use crate::kernel_engine::KernelEngine;
use crate::loss::LossFunction;
use crate::mode::{Mode, ShardAddress, TrainingShard};
use crate::pass_buffers::PassBuffers;
use crate::pass_plan::{PassKind, PassPlan};
use crate::shard_check::{check_batch, check_length};
use crate::shard_metrics::{correct, metric_sums};
use crate::thread_team::Team;
use crate::{ComputeError, Device, GradientTarget, LayerTimes};

/// Stack of the compute thread: candle walks and drops the tape by recursion, one level an operation.
const STACK_BYTES: usize = 64 << 20;

/// Runs one network, one shard at a time.
///
/// An executor owns a thread on which everything is computed, so that its methods may be called from any thread
/// with any stack, and so that candle never finds a pool of more threads. Use one executor for each core that
/// computes, all of one [`Executor::team`]: where fewer of them have something to compute than there are, the others'
/// threads help with the larger operations. They may share the network's numbers.
///
/// # Examples
///
/// A shard of two samples, whose gradient is written, and a second one that hands it on chunk by chunk:
///
/// ```
/// use std::sync::Arc;
///
/// use convoy_common::batch::{Batch, Targets};
/// use convoy_common::manifest::LabelKind;
/// use convoy_common::plan::{DataFacts, Plan};
/// use convoy_common::{Digest, spec};
/// use convoy_model::Network;
/// use convoy_nn::{ChunkTaker, Executor, GradientTarget};
///
/// let spec = r#"
///     [data]
///     train = "images"
///     [prepare]
///     normalize = "unit"
///     [network]
///     layers = [
///         { type = "conv", out = 4, kernel = 3 }, { type = "batch_norm" }, { type = "relu" },
///         { type = "global_avg_pool" }, { type = "flatten" }, { type = "linear", out = 2 },
///     ]
/// "#;
/// let facts = DataFacts {
///     names: vec!["cat".to_owned(), "dog".to_owned()],
///     labels: LabelKind::Class,
///     train_samples: 4,
///     validation_samples: 0,
///     class_counts: vec![2, 2],
///     targets: None,
///     size: [8, 8],
///     channels: 3,
///     measured: None,
///     measured_global: None,
///     manifest: Digest::default(),
///     init: None,
/// };
/// let plan = Arc::new(Plan::resolve(spec::parse(spec, &[])?, &facts)?);
/// let network = Arc::new(Network::of(&plan)?);
/// let mut executor = Executor::new(plan.clone(), network.clone())?;
/// executor.load(&Arc::new(network.initial(plan.spec.seed)))?;
///
/// let shard = |samples: Vec<u32>| Batch {
///     x_nhwc: samples.iter().flat_map(|&sample| vec![sample as f32; 8 * 8 * 3]).collect(),
///     targets: Targets::Classes(samples.iter().map(|sample| sample % 2).collect()),
///     samples,
/// };
/// let mut gradient = vec![0.0; network.len()];
/// let first = executor.train_shard(&shard(vec![0, 1]), 0, GradientTarget::Write(&mut gradient), None)?;
/// assert!(first.finite && gradient.iter().any(|value| *value != 0.0));
///
/// let sums = Arc::new(std::sync::Mutex::new(gradient.clone()));
/// let taker = ChunkTaker::new(100, {
///     let sums = sums.clone();
///     move |index, chunk| {
///         let mut sums = sums.lock().expect("no panic");
///         sums[100 * index..].iter_mut().zip(chunk).for_each(|(sum, value)| *sum += value);
///     }
/// });
/// let second = executor.train_shard(&shard(vec![2, 3]), 0, GradientTarget::Chunks(&mut gradient, taker), None)?;
/// assert_eq!(first.count + second.count, 4);
/// assert_ne!(*sums.lock().expect("no panic"), gradient, "it has the first one's, too");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Executor {
    plan: Arc<Plan>,
    network: Arc<Network>,
    loss: LossFunction,
    engine: Engine,
    /// One thread.
    thread: ThreadPool,
}

/// What computes.
enum Engine {
    /// Convoy's kernels, in f32.
    Kernels(KernelEngine<PassBuffers>),
    /// Convoy's kernels, in bf16, with what the executors of a team share.
    Halves(KernelEngine<HalfBuffers>, Arc<SharedWeights>),
    /// Compositions of candle's operations.
    Composed(Composed),
}

fn resolve_with_winograd(network: &Network, kind: PassKind) -> Result<PassPlan, ComputeError> {
    PassPlan::resolve(network, kind, true)
}

fn resolve_direct(network: &Network, kind: PassKind) -> Result<PassPlan, ComputeError> {
    PassPlan::resolve(network, kind, false)
}

/// What a training shard gives beside its gradient.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ShardResult {
    /// Samples.
    pub count: u32,
    /// Sum of the samples' losses, in sample order.
    pub loss_sum: f64,
    /// Sum of the samples' weights; the count unless classes are weighted.
    pub weight_sum: f64,
    /// Samples whose class was found; 0 for tasks other than multiclass and binary.
    pub correct: f64,
    /// Whether the loss and the shard's gradient are finite.
    pub finite: bool,
}

impl Executor {
    /// An executor for `network` under `plan`. All weights are 0 until [`Executor::load`].
    ///
    /// # Errors
    /// When its thread cannot be started.
    pub fn new(plan: Arc<Plan>, network: Arc<Network>) -> Result<Self, ComputeError> {
        Executor::by_kernels(plan, network, Arc::new(Team::new(1)?), Arc::default())
    }

    /// `threads` executors, computing on `device`.
    ///
    /// # Errors
    /// When a thread cannot be started, or the device cannot be had.
    pub fn team(
        device: Device,
        plan: &Arc<Plan>,
        network: &Arc<Network>,
        threads: usize,
    ) -> Result<Vec<Self>, ComputeError> {
        let (team, shared) = (Arc::new(Team::new(threads)?), Arc::<SharedWeights>::default());
        let executor = |_| match device.open()? {
            None => Executor::by_kernels(plan.clone(), network.clone(), team.clone(), shared.clone()),
            Some(device) => Executor::composed(plan.clone(), network.clone(), device),
        };
        (0..threads).map(executor).collect()
    }

    /// What [`Device::Cuda`] computes, on candle's CPU device, much slower than the kernels: for tests without a GPU.
    ///
    /// # Errors
    /// As [`Executor::new`].
    pub fn composed_on_cpu(plan: Arc<Plan>, network: Arc<Network>) -> Result<Self, ComputeError> {
        Executor::composed(plan, network, candle_core::Device::Cpu)
    }

    fn by_kernels(
        plan: Arc<Plan>,
        network: Arc<Network>,
        team: Arc<Team>,
        shared: Arc<SharedWeights>,
    ) -> Result<Self, ComputeError> {
        let weights = Arc::new(vec![0.0; network.len()]);
        let engine = match plan.spec.numerics.as_str() {
            CPU_BF16_V1 => {
                let weights = shared.of(&network, &weights);
                Engine::Halves(KernelEngine::new(network.clone(), weights, halves::resolve, team), shared)
            }
            CPU_F32_V1 => Engine::Kernels(KernelEngine::new(network.clone(), weights, resolve_with_winograd, team)),
            _ => Engine::Kernels(KernelEngine::new(network.clone(), weights, resolve_direct, team)),
        };
        Executor::with(engine, plan, network)
    }

    fn composed(plan: Arc<Plan>, network: Arc<Network>, device: candle_core::Device) -> Result<Self, ComputeError> {
        let engine = Engine::Composed(Composed::new(network.clone(), device)?);
        Executor::with(engine, plan, network)
    }

    fn with(engine: Engine, plan: Arc<Plan>, network: Arc<Network>) -> Result<Self, ComputeError> {
        let thread = ThreadPoolBuilder::new()
            .num_threads(1)
            .stack_size(STACK_BYTES)
            .thread_name(|_| "compute".to_owned())
            .build()
            .map_err(|error| ComputeError::Thread(error.to_string()))?;
        Ok(Executor { loss: LossFunction::of(&plan), plan, network, engine, thread })
    }

    /// Takes over the weights after some step: parameters and buffers, flat as [`Network`] says. Where the plan scales
    /// targets, training shards need the weights as the optimizer makes them, everything else those that
    /// [`Network::in_units`] makes of them, which are also those of a model file.
    ///
    /// # Errors
    /// When `flat` has another length than [`Network::len`], or the device refuses.
    pub fn load(&mut self, flat: &Arc<Vec<f32>>) -> Result<(), ComputeError> {
        check_length("the network's state", flat.len(), self.network.len())?;
        match &mut self.engine {
            Engine::Kernels(kernels) => kernels.load(flat.clone()),
            Engine::Halves(halves, shared) => halves.load(shared.of(&self.network, flat)),
            Engine::Composed(composed) => composed.load(flat)?,
        }
        Ok(())
    }

    /// Forward and backward. Gives `target` all of the shard's gradient, flat as [`Network`] says: for parameters the
    /// gradient of the sum of the samples' losses; for buffers count times the mean, and count times the unbiased
    /// variance, that batch norms measured, since running statistics take the count-weighted mean over shards.
    ///
    /// In the first `freeze_epochs` epochs only the head learns: other gradients are 0, batch norms use their running
    /// statistics and their buffers' places are 0.
    ///
    /// The time of each layer is added to `times`, a table for the same network, if there is one; nothing is added
    /// where it is not the kernels that compute.
    ///
    /// # Errors
    /// When the batch does not fit plan and network, or an operation fails or panics. What stands in `target` is then
    /// unspecified.
    pub fn train_shard(
        &self,
        batch: &Batch,
        epoch: u32,
        mut target: GradientTarget<'_>,
        times: Option<&Arc<LayerTimes>>,
    ) -> Result<ShardResult, ComputeError> {
        check_batch(&self.plan, &self.network, batch)?;
        check_length("the gradient", target.flat().len(), self.network.len())?;
        let mode = if epoch < self.plan.spec.network.freeze_epochs { Mode::TrainHead } else { Mode::Train };
        let address = ShardAddress { seed: self.plan.spec.seed, epoch, samples: batch.samples.clone() };
        let shard = TrainingShard { x_nhwc: &batch.x_nhwc, mode, address };
        let width = self.network.outputs as usize;
        let targets = self.scaled(&batch.targets);
        let loss = |outputs: &[f32]| {
            let loss = self.loss.apply(outputs, width, &targets)?;
            let correct = correct(self.plan.spec.task, outputs, width, &batch.targets);
            Ok(((loss.loss, loss.weight, correct), loss.doutputs))
        };
        let trained = self.compute(|| match &self.engine {
            Engine::Kernels(kernels) => kernels.train(&shard, &mut target, times, loss),
            Engine::Halves(halves, _) => halves.train(&shard, &mut target, times, loss),
            Engine::Composed(composed) => composed.train(&shard, &mut target, loss),
        });
        // A panic may have taken it.
        target.flat().resize(self.network.len(), 0.0);
        let ((loss_sum, weight_sum, correct), finite) = trained?;
        let finite = finite && loss_sum.is_finite();
        Ok(ShardResult { count: batch.samples.len() as u32, loss_sum, weight_sum, correct, finite })
    }

    /// Sums for the plan's metrics over a shard, in sample order, with running statistics and without dropout;
    /// laid out by [`Plan::metric_layout`].
    ///
    /// # Errors
    /// When the batch does not fit plan and network, or an operation fails or panics.
    pub fn evaluate_shard(&self, batch: &Batch) -> Result<MetricSums, ComputeError> {
        check_batch(&self.plan, &self.network, batch)?;
        let width = self.network.outputs as usize;
        let outputs = self.logits(&batch.x_nhwc, batch.samples.len())?;
        let compared = self.plan.target_scale().map(|scale| scale.scaled(&outputs));
        let targets = self.scaled(&batch.targets);
        let loss = self.loss.apply(compared.as_deref().unwrap_or(&outputs), width, &targets)?;
        Ok(metric_sums(&self.plan, &outputs, width, batch, &loss))
    }

    /// Targets as the loss compares them.
    fn scaled<'a>(&self, targets: &'a Targets) -> Cow<'a, Targets> {
        match (self.plan.target_scale(), targets) {
            (Some(scale), Targets::Values { width, values }) => {
                Cow::Owned(Targets::Values { width: *width, values: scale.scaled(values) })
            }
            _ => Cow::Borrowed(targets),
        }
    }

    /// What the network puts out for `count` samples (NHWC), row after row, before any softmax or sigmoid; with
    /// running statistics and without dropout.
    ///
    /// # Errors
    /// When `x_nhwc` does not hold `count` samples, or an operation fails or panics.
    pub fn logits(&self, x_nhwc: &[f32], count: usize) -> Result<Vec<f32>, ComputeError> {
        check_length("the batch", x_nhwc.len(), count * self.plan.input.len())?;
        self.compute(|| match &self.engine {
            Engine::Kernels(kernels) => kernels.outputs(x_nhwc, count),
            Engine::Halves(halves, _) => halves.outputs(x_nhwc, count),
            Engine::Composed(composed) => composed.outputs(x_nhwc, count),
        })
    }

    /// Predictions for `count` samples (NHWC), row after row: probabilities of classes (softmax), of labels or of
    /// class 1 (sigmoid), or values.
    ///
    /// # Errors
    /// As [`Executor::logits`].
    pub fn predict(&self, x_nhwc: &[f32], count: usize) -> Result<Vec<f32>, ComputeError> {
        let mut outputs = self.logits(x_nhwc, count)?;
        match self.plan.spec.task {
            Task::Auto | Task::Multiclass => {
                let logits = outputs.clone();
                softmax::forward(&logits, self.network.outputs as usize, &mut outputs);
            }
            Task::Binary | Task::Multilabel => outputs.iter_mut().for_each(|x| *x = math::sigmoid(*x)),
            Task::Regression => {}
        }
        Ok(outputs)
    }

    /// What training on a shard of `count` samples does, for people: a line for each operation, with the nodes that it
    /// joins, how it is computed, and what it does for others. Empty where it is not the kernels that compute.
    ///
    /// # Errors
    /// When a layer does not fit its input, or a batch norm would normalise by a single value.
    pub fn describe_training(&self, count: usize) -> Result<String, ComputeError> {
        let kind = PassKind { mode: Mode::Train, images: count };
        match &self.engine {
            Engine::Kernels(kernels) => Ok(kernels.plan(kind)?.describe(&self.network)),
            Engine::Halves(halves, _) => Ok(halves.plan(kind)?.describe(&self.network)),
            Engine::Composed(_) => Ok(String::new()),
        }
    }

    /// Runs `f` on the compute thread; a panic becomes an error.
    fn compute<R: Send>(&self, f: impl FnOnce() -> Result<R, ComputeError> + Send) -> Result<R, ComputeError> {
        // A pass only reads what the executor holds, so that nothing is left half changed.
        catch_unwind(AssertUnwindSafe(|| self.thread.install(f)))
            .unwrap_or_else(|panic| Err(ComputeError::Panicked { message: panic_text(&*panic).to_owned() }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_costs_one_shard() {
        let spec = "[network]\nname = \"lenet5\"\n[prepare]\nnormalize = \"unit\"";
        let plan = Arc::new(convoy_testing::plan(spec, [28, 28, 1], 2));
        let network = Arc::new(Network::of(&plan).unwrap());
        let executor = Executor::new(plan, network).unwrap();
        let panicked = executor.compute(|| -> Result<(), ComputeError> { panic!("on purpose {}", 1) });
        assert_eq!(panicked.unwrap_err().to_string(), "an operation panicked: on purpose 1");
        assert_eq!(executor.logits(&[0.0; 784], 1).unwrap(), [0.0; 2]);
    }
}
