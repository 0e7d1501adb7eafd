//! The executor: shards in, sums out.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::Tensor;
use convoy_common::batch::{Batch, Targets};
use convoy_common::metrics::{COUNT, LOSS, MetricSums, WEIGHT, argmax};
use convoy_common::plan::Plan;
use convoy_common::spec::{CPU_F32_V1, Task};
use convoy_kernels::tree::add_into;
use convoy_kernels::{math, softmax};
use convoy_model::Network;
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::compose::Composed;
use crate::flow::{Flow, Memory, Sums};
use crate::loss::{LossFunction, LossOutput, numbers};
use crate::pass::{Mode, Pass};
use crate::tape::{self, Numbers};
use crate::team::Team;
use crate::timed::LayerTimes;
use crate::{ComputeError, Device};

/// Stack of the compute thread: candle walks and drops the tape by recursion, one level an operation.
const STACK_BYTES: usize = 64 << 20;

/// Runs one network, one shard at a time.
///
/// An executor owns a thread on which everything is computed, so that its methods may be called from any thread
/// with any stack, and so that candle never finds a pool of more threads. Use one executor for each core that
/// computes, all of one [`Executor::team`]: where fewer of them have something to compute than there are, the others'
/// threads help with the larger operations. They may share the network's numbers.
pub struct Executor {
    plan: Arc<Plan>,
    network: Arc<Network>,
    loss: LossFunction,
    /// Parameters and buffers, flat as [`Network`] says.
    weights: Arc<Vec<f32>>,
    /// The engine in place of the kernels, if it is not they that compute.
    composed: Option<Composed>,
    /// Buffers of earlier passes, with the number of samples that they were for.
    memory: Mutex<(usize, Memory)>,
    /// One thread.
    thread: ThreadPool,
    team: Arc<Team>,
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
    /// Whether the loss and all sums are finite.
    pub finite: bool,
}

impl Executor {
    /// An executor for `network` under `plan`. All numbers are 0 until [`Executor::load`].
    ///
    /// # Errors
    /// When its thread cannot be started.
    pub fn new(plan: Arc<Plan>, network: Arc<Network>) -> Result<Self, ComputeError> {
        Executor::with(None, plan, network, Arc::new(Team::new(1)?))
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
        let team = Arc::new(Team::new(threads)?);
        let executor = |_| {
            let composed = device.open()?.map(|device| Composed::new(network.clone(), device)).transpose()?;
            Executor::with(composed, plan.clone(), network.clone(), team.clone())
        };
        (0..threads).map(executor).collect()
    }

    /// What [`Device::Cuda`] computes, on candle's CPU device, much slower than the kernels: for tests without a GPU.
    ///
    /// # Errors
    /// As [`Executor::new`].
    pub fn composed_on_cpu(plan: Arc<Plan>, network: Arc<Network>) -> Result<Self, ComputeError> {
        let composed = Composed::new(network.clone(), candle_core::Device::Cpu)?;
        Executor::with(Some(composed), plan, network, Arc::new(Team::new(1)?))
    }

    fn with(
        composed: Option<Composed>,
        plan: Arc<Plan>,
        network: Arc<Network>,
        team: Arc<Team>,
    ) -> Result<Self, ComputeError> {
        let thread = ThreadPoolBuilder::new()
            .num_threads(1)
            .stack_size(STACK_BYTES)
            .thread_name(|_| "compute".to_owned())
            .build()
            .map_err(|error| ComputeError::Thread(error.to_string()))?;
        let weights = Arc::new(vec![0.0; network.len()]);
        Ok(Executor {
            loss: LossFunction::of(&plan),
            plan,
            network,
            weights,
            composed,
            memory: Mutex::default(),
            thread,
            team,
        })
    }

    /// Takes over the numbers of one generation: parameters and buffers, flat as [`Network`] says.
    ///
    /// # Errors
    /// When `flat` has another length than [`Network::len`], or the device refuses.
    pub fn load(&mut self, flat: &Arc<Vec<f32>>) -> Result<(), ComputeError> {
        check_length("the network's state", flat.len(), self.network.len())?;
        if let Some(composed) = &mut self.composed {
            return composed.load(flat);
        }
        self.weights = flat.clone();
        Ok(())
    }

    /// Forward and backward. Writes all of `sum`, flat as [`Network`] says: for parameters the gradient of the sum
    /// of the samples' losses; for buffers count times the mean, and count times the unbiased variance, that batch
    /// norms measured, since running statistics take the count-weighted mean over shards.
    ///
    /// In the first `freeze_epochs` epochs only the head learns: other gradients are 0, batch norms use their running
    /// statistics and their buffers' places are 0.
    ///
    /// # Errors
    /// When the batch does not fit plan and network, or an operation fails or panics. `sum` is then unspecified.
    pub fn train_shard(&self, batch: &Batch, epoch: u32, sum: &mut Vec<f32>) -> Result<ShardResult, ComputeError> {
        self.train(batch, epoch, sum, Sums::Written, None)
    }

    /// As [`Executor::train_shard`], but adds to what stands in `sum`, tensor by tensor as soon as it is there: to the node
    /// of the shard's sibling, with the bits of an addition afterwards. What is said to be finite is the shard's own part.
    ///
    /// # Errors
    /// As [`Executor::train_shard`].
    pub fn add_shard(&self, batch: &Batch, epoch: u32, sum: &mut Vec<f32>) -> Result<ShardResult, ComputeError> {
        self.train(batch, epoch, sum, Sums::Added, None)
    }

    /// As [`Executor::train_shard`], and adds the time of each layer to `times`, a table for the same network; nothing is
    /// added where it is not the kernels that compute.
    ///
    /// # Errors
    /// As [`Executor::train_shard`].
    pub fn train_shard_timed(
        &self,
        batch: &Batch,
        epoch: u32,
        sum: &mut Vec<f32>,
        times: &Arc<LayerTimes>,
    ) -> Result<ShardResult, ComputeError> {
        self.train(batch, epoch, sum, Sums::Written, Some(times))
    }

    /// [`Executor::add_shard`] with the times of [`Executor::train_shard_timed`].
    ///
    /// # Errors
    /// As [`Executor::train_shard`].
    pub fn add_shard_timed(
        &self,
        batch: &Batch,
        epoch: u32,
        sum: &mut Vec<f32>,
        times: &Arc<LayerTimes>,
    ) -> Result<ShardResult, ComputeError> {
        self.train(batch, epoch, sum, Sums::Added, Some(times))
    }

    /// `sums` says what is done with what stands in `sum`.
    fn train(
        &self,
        batch: &Batch,
        epoch: u32,
        sum: &mut Vec<f32>,
        sums: fn(Vec<f32>) -> Sums,
        times: Option<&Arc<LayerTimes>>,
    ) -> Result<ShardResult, ComputeError> {
        self.check_batch(batch)?;
        check_length("the sum", sum.len(), self.network.len())?;
        let frozen = epoch < self.plan.spec.network.freeze_epochs;
        let mode = Mode::Train { seed: self.plan.spec.seed, epoch, samples: &batch.samples, frozen };
        let count = batch.samples.len();
        let sums = sums(std::mem::take(sum));
        if let Some(composed) = &self.composed {
            let result;
            (result, *sum) = self.train_composed(composed, batch, mode, sums);
            return result;
        }
        let result = self.pass(&batch.x_nhwc, count, mode, times, sums, |numbers, outputs| {
            let last = self.network.nodes.len() - 1;
            let (loss, correct) = {
                let flow = numbers.lock();
                let outputs = flow.numbers.value(last);
                let loss = self.loss.apply(outputs, self.network.outputs as usize, &batch.targets)?;
                (loss, self.correct(outputs, &batch.targets))
            };
            let LossOutput { loss: loss_sum, weight: weight_sum, doutputs } = loss;
            tape::loss(numbers, last, &outputs, doutputs)?.backward()?;
            let mut flow = numbers.lock();
            flow.sum.fill_rest();
            let finite = loss_sum.is_finite() && flow.sum.finite;
            Ok(ShardResult { count: count as u32, loss_sum, weight_sum, correct, finite })
        });
        let (result, flat) = result;
        *sum = flat;
        sum.resize(self.network.len(), 0.0);
        result
    }

    fn train_composed(
        &self,
        composed: &Composed,
        batch: &Batch,
        mode: Mode<'_>,
        sums: Sums,
    ) -> (Result<ShardResult, ComputeError>, Vec<f32>) {
        let count = batch.samples.len();
        let loss = |outputs: &[f32]| {
            let loss = self.loss.apply(outputs, self.network.outputs as usize, &batch.targets)?;
            Ok(((loss.loss, loss.weight, self.correct(outputs, &batch.targets)), loss.doutputs))
        };
        let (mut flat, sibling) = match sums {
            Sums::Written(flat) => (flat, None),
            Sums::Added(flat) => (vec![0.0; flat.len()], Some(flat)),
        };
        let trained = self.compute(|| composed.train(&batch.x_nhwc, count, &mode, &mut flat, loss));
        sibling.iter().for_each(|sibling| add_into(&mut flat, sibling));
        let result = trained.map(|((loss_sum, weight_sum, correct), finite)| {
            let finite = finite && loss_sum.is_finite();
            ShardResult { count: count as u32, loss_sum, weight_sum, correct, finite }
        });
        (result, flat)
    }

    /// Sums for the plan's metrics over a shard, in sample order, with running statistics and without dropout;
    /// laid out by [`Plan::metric_layout`].
    ///
    /// # Errors
    /// When the batch does not fit plan and network, or an operation fails or panics.
    pub fn evaluate_shard(&self, batch: &Batch) -> Result<MetricSums, ComputeError> {
        self.check_batch(batch)?;
        let width = self.network.outputs as usize;
        let outputs = self.logits(&batch.x_nhwc, batch.samples.len())?;
        let loss = self.loss.apply(&outputs, width, &batch.targets)?;
        let layout = self.plan.metric_layout();
        let mut sums = vec![0.0; layout.len()];
        (sums[COUNT], sums[LOSS], sums[WEIGHT]) = (batch.samples.len() as f64, loss.loss, loss.weight);
        let numbers = numbers(&batch.targets);
        for (sample, scores) in outputs.chunks_exact(width).enumerate() {
            match (layout.task, &batch.targets) {
                (Task::Binary, _) => layout.add_binary(&mut sums, numbers[sample] == 1.0, scores[0]),
                (Task::Regression, _) => layout.add_regression(&mut sums, &numbers[sample * width..][..width], scores),
                (Task::Multilabel, _) => {
                    let truth: Vec<bool> = numbers[sample * width..][..width].iter().map(|t| *t == 1.0).collect();
                    layout.add_multilabel(&mut sums, &truth, scores);
                }
                (_, Targets::Classes(classes)) => layout.add_multiclass(&mut sums, classes[sample] as usize, scores),
                (_, Targets::Values { .. }) => unreachable!("check_batch asks for classes"),
            }
        }
        Ok(sums)
    }

    /// What the network puts out for `count` samples (NHWC), row after row, before any softmax or sigmoid; with
    /// running statistics and without dropout.
    ///
    /// # Errors
    /// When `x_nhwc` does not hold `count` samples, or an operation fails or panics.
    pub fn logits(&self, x_nhwc: &[f32], count: usize) -> Result<Vec<f32>, ComputeError> {
        check_length("the batch", x_nhwc.len(), count * self.plan.input.len())?;
        if let Some(composed) = &self.composed {
            return self.compute(|| composed.outputs(x_nhwc, count));
        }
        let last = self.network.nodes.len() - 1;
        let take = |numbers: &Numbers, _token| Ok(numbers.lock().numbers.value(last).to_vec());
        self.pass(x_nhwc, count, Mode::Evaluate, None, Sums::Written(Vec::new()), take).0
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

    /// Runs `f` on the compute thread; a panic becomes an error.
    fn compute<R: Send>(&self, f: impl FnOnce() -> Result<R, ComputeError> + Send) -> Result<R, ComputeError> {
        // A pass only reads what the executor holds, so that nothing is left half changed.
        catch_unwind(AssertUnwindSafe(|| self.thread.install(f)))
            .unwrap_or_else(|panic| Err(ComputeError::Panicked { message: message(&*panic) }))
    }

    /// Computes the network's outputs, and what `finish` makes of their numbers and their token. Returns the sums, too, as
    /// the pass leaves them; empty after a panic.
    fn pass<R: Send>(
        &self,
        x_nhwc: &[f32],
        count: usize,
        mode: Mode<'_>,
        times: Option<&Arc<LayerTimes>>,
        sums: Sums,
        finish: impl FnOnce(&Numbers, Tensor) -> Result<R, ComputeError> + Send,
    ) -> (Result<R, ComputeError>, Vec<f32>) {
        let mut memory = self.take_memory(count);
        let mut x = memory.take(x_nhwc.len());
        x.copy_from_slice(x_nhwc);
        let numbers =
            Numbers::new(Flow::new(self.network.clone(), self.weights.clone(), sums, memory, self.team.clone()));
        let winograd = self.plan.spec.numerics == CPU_F32_V1;
        let result = self.compute(|| {
            let _busy = self.team.pass();
            let outputs = Pass { network: &self.network, count, mode, winograd, times }.forward(&numbers, x)?;
            finish(&numbers, outputs)
        });
        let Some(flow) = numbers.into_inner() else { return (result, Vec::new()) };
        let (sum, memory) = flow.end();
        *self.memory.lock().unwrap_or_else(PoisonError::into_inner) = (count, memory);
        (result, sum)
    }

    /// Buffers for a pass of `count` samples; those for another number are let go.
    fn take_memory(&self, count: usize) -> Memory {
        let (of, memory) = std::mem::take(&mut *self.memory.lock().unwrap_or_else(PoisonError::into_inner));
        if of == count { memory } else { Memory::default() }
    }

    fn correct(&self, outputs: &[f32], targets: &Targets) -> f64 {
        let Targets::Classes(classes) = targets else { return 0.0 };
        let rows = outputs.chunks_exact(self.network.outputs as usize);
        let found = |scores: &[f32]| match self.plan.spec.task {
            Task::Binary => u32::from(scores[0] > 0.0),
            _ => argmax(scores) as u32,
        };
        rows.zip(classes).filter(|(scores, class)| found(scores) == **class).count() as f64
    }

    /// Whether lengths agree and targets are of the task's kind.
    fn check_batch(&self, batch: &Batch) -> Result<(), ComputeError> {
        let count = batch.samples.len();
        check_length("the batch", batch.x_nhwc.len(), count * self.plan.input.len())?;
        let (task, classes) = match self.plan.spec.task {
            Task::Auto | Task::Multiclass => ("multiclass", true),
            Task::Binary => ("binary", true),
            Task::Multilabel => ("multilabel", false),
            Task::Regression => ("regression", false),
        };
        match &batch.targets {
            Targets::Classes(given) if classes => check_length("the targets", given.len(), count),
            Targets::Values { values, .. } if !classes => {
                check_length("the targets", values.len(), count * self.network.outputs as usize)
            }
            Targets::Classes(_) => Err(ComputeError::Targets { found: "classes", task, needed: "values" }),
            Targets::Values { .. } => Err(ComputeError::Targets { found: "values", task, needed: "classes" }),
        }
    }
}

fn check_length(what: &'static str, actual: usize, expected: usize) -> Result<(), ComputeError> {
    if actual == expected { Ok(()) } else { Err(ComputeError::Length { what, actual, expected }) }
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("without words").to_owned()
}

#[cfg(test)]
mod tests {
    use convoy_common::Digest;
    use convoy_common::manifest::LabelKind;
    use convoy_common::plan::DataFacts;
    use convoy_common::spec::parse;

    use super::*;

    #[test]
    fn a_panic_costs_one_shard() {
        let spec = "[data]\ntrain = \"x\"\n[network]\nname = \"lenet5\"\n[prepare]\nnormalize = \"unit\"";
        let facts = DataFacts {
            names: vec!["a".to_owned(), "b".to_owned()],
            labels: LabelKind::Class,
            train_samples: 8,
            validation_samples: 0,
            class_counts: vec![4, 4],
            size: [28, 28],
            channels: 1,
            measured: None,
            measured_global: None,
            manifest: Digest::default(),
            init: None,
        };
        let plan = Arc::new(Plan::resolve(parse(spec, &[]).unwrap(), &facts).unwrap());
        let network = Arc::new(Network::of(&plan).unwrap());
        let executor = Executor::new(plan, network).unwrap();
        let panicked = executor.compute(|| -> Result<(), ComputeError> { panic!("on purpose {}", 1) });
        assert_eq!(panicked.unwrap_err().to_string(), "an operation panicked: on purpose 1");
        assert_eq!(executor.logits(&[0.0; 784], 1).unwrap(), [0.0; 2]);
    }
}
