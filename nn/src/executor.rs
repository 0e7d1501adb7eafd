//! The executor: shards in, sums out.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use candle_core::backprop::GradStore;
use candle_core::{CpuStorage, DType, Device, InplaceOp1, Layout, Tensor, Var};
use convoy_common::batch::{Batch, Targets};
use convoy_common::metrics::{COUNT, LOSS, MetricSums, WEIGHT, argmax};
use convoy_common::plan::Plan;
use convoy_common::spec::{CPU_F32_V1, Task};
use convoy_kernels::finite::all_finite;
use convoy_kernels::{math, softmax};
use convoy_model::{Network, Role};
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::ComputeError;
use crate::ops::{self, LossFunction, LossOutput, with_values};
use crate::pass::{Forward, Measured, Mode, Pass};

/// Stack of the compute thread: candle walks and drops the tape by recursion, one level an operation.
const STACK_BYTES: usize = 64 << 20;

/// Runs one network, one shard at a time.
///
/// An executor owns a thread on which everything is computed, so that its methods may be called from any thread
/// with any stack, and so that candle never finds a pool of more threads. It owns a copy of the network's numbers.
/// Use one executor for each core that computes.
pub struct Executor {
    plan: Arc<Plan>,
    network: Arc<Network>,
    loss: LossFunction,
    /// Parameters and buffers in network order.
    weights: Vec<Var>,
    /// One thread.
    thread: ThreadPool,
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
        let thread = ThreadPoolBuilder::new()
            .num_threads(1)
            .stack_size(STACK_BYTES)
            .thread_name(|_| "compute".to_owned())
            .build()
            .map_err(|error| ComputeError::Thread(error.to_string()))?;
        let zeros = |tensor: &convoy_model::Tensor| Var::zeros(tensor.shape.as_slice(), DType::F32, &Device::Cpu);
        let weights = network.tensors.iter().map(zeros).collect::<Result<_, _>>()?;
        Ok(Executor { loss: LossFunction::of(&plan), plan, network, weights, thread })
    }

    /// Takes over the numbers of one generation: parameters and buffers, flat as [`Network`] says.
    ///
    /// # Errors
    /// When `flat` has another length than [`Network::len`].
    pub fn load(&mut self, flat: &[f32]) -> Result<(), ComputeError> {
        check_length("the network's state", flat.len(), self.network.len())?;
        for (tensor, weight) in self.network.tensors.iter().zip(&self.weights) {
            weight.inplace_op1(&Overwrite(&flat[tensor.range()]))?;
        }
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
    pub fn train_shard(&self, batch: &Batch, epoch: u32, sum: &mut [f32]) -> Result<ShardResult, ComputeError> {
        self.check_batch(batch)?;
        check_length("the sum", sum.len(), self.network.len())?;
        self.compute(|| {
            let frozen = epoch < self.plan.spec.network.freeze_epochs;
            let mode = Mode::Train { seed: self.plan.spec.seed, epoch, samples: &batch.samples, frozen };
            let Forward { outputs, measured } = self.forward(&batch.x_nhwc, batch.samples.len(), mode)?;
            let (loss, correct) = with_values([&outputs], |[outputs]| {
                let loss = self.loss.apply(outputs, self.network.outputs as usize, &batch.targets);
                (loss, self.correct(outputs, &batch.targets))
            })?;
            let loss = loss?;
            let LossOutput { loss: loss_sum, weight: weight_sum, .. } = loss;
            let gradients = outputs.apply_op1(ops::Loss(loss))?.backward()?;
            self.write_gradients(&gradients, sum)?;
            self.write_statistics(&measured, batch.samples.len(), sum);
            let finite = loss_sum.is_finite() && all_finite(sum);
            Ok(ShardResult { count: batch.samples.len() as u32, loss_sum, weight_sum, correct, finite })
        })
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
        let numbers = ops::numbers(&batch.targets);
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
        self.compute(|| {
            let outputs = self.forward(x_nhwc, count, Mode::Evaluate)?.outputs;
            Ok(with_values([&outputs], |[outputs]| outputs.to_vec())?)
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

    /// Runs `f` on the compute thread; a panic becomes an error.
    fn compute<R: Send>(&self, f: impl FnOnce() -> Result<R, ComputeError> + Send) -> Result<R, ComputeError> {
        // A pass only reads what the executor holds, so that nothing is left half changed.
        catch_unwind(AssertUnwindSafe(|| self.thread.install(f)))
            .unwrap_or_else(|panic| Err(ComputeError::Panicked { message: message(&*panic) }))
    }

    fn forward(&self, x_nhwc: &[f32], count: usize, mode: Mode<'_>) -> Result<Forward, ComputeError> {
        let [h, w, c] = [self.plan.input.height, self.plan.input.width, self.plan.input.channels].map(|d| d as usize);
        let x = Tensor::from_slice(x_nhwc, (count, h, w, c), &Device::Cpu)?;
        let winograd = self.plan.spec.numerics == CPU_F32_V1;
        Pass { network: &self.network, weights: &self.weights, count, mode, winograd }.forward(x)
    }

    fn write_gradients(&self, gradients: &GradStore, sum: &mut [f32]) -> Result<(), ComputeError> {
        for (tensor, weight) in self.network.tensors.iter().zip(&self.weights) {
            let place = &mut sum[tensor.range()];
            match (tensor.role, gradients.get(weight)) {
                (Role::Parameter { .. }, Some(gradient)) => with_values([gradient], |[g]| place.copy_from_slice(g))?,
                (Role::Parameter { .. }, None) | (Role::Buffer { .. }, _) => place.fill(0.0),
            }
        }
        Ok(())
    }

    fn write_statistics(&self, measured: &[Measured], count: usize, sum: &mut [f32]) {
        for Measured { running_mean, running_var, rows, statistics } in measured {
            let statistics = statistics.get().expect("the forward pass is done");
            let unbiased = *rows as f64 / (*rows - 1) as f64;
            let parts = [(running_mean, &statistics.mean, 1.0), (running_var, &statistics.var, unbiased)];
            for (index, values, factor) in parts {
                let factor = count as f64 * factor;
                for (sum, value) in sum[self.network.tensors[*index].range()].iter_mut().zip(values) {
                    *sum = (f64::from(*value) * factor) as f32;
                }
            }
        }
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

/// Writes numbers into a tensor that exists.
struct Overwrite<'a>(&'a [f32]);

impl InplaceOp1 for Overwrite<'_> {
    fn name(&self) -> &'static str {
        "overwrite"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, _layout: &Layout) -> candle_core::Result<()> {
        let CpuStorage::F32(values) = storage else { candle_core::bail!("a weight is not f32") };
        values.copy_from_slice(self.0);
        Ok(())
    }
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
