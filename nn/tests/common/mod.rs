//! Plans and batches for tests.

#![allow(dead_code, reason = "each test binary uses some of these")]

use std::sync::{Arc, Mutex};

use convoy_common::batch::{Batch, Targets};
use convoy_common::manifest::LabelKind;
use convoy_common::plan::{DataFacts, Plan};
use convoy_common::random::{Address, Purpose};
use convoy_common::spec::{Task, parse};
use convoy_model::Network;
use convoy_nn::{ChunkTaker, Executor, GradientTarget, ShardResult};

/// Facts about data of `names` classes, labels or targets.
pub fn facts(size: [u32; 3], labels: LabelKind, names: usize) -> DataFacts {
    DataFacts {
        labels,
        class_counts: vec![100; if labels == LabelKind::Class { names } else { 0 }],
        ..convoy_testing::facts(size, names)
    }
}

/// Targets of `task` from numbers, row after row.
pub fn targets(task: Task, numbers: &[f32], names: usize) -> Targets {
    match task {
        Task::Auto | Task::Multiclass | Task::Binary => {
            Targets::Classes(numbers.iter().map(|&class| class as u32).collect())
        }
        Task::Multilabel | Task::Regression => Targets::Values { width: names, values: numbers.to_vec() },
    }
}

/// A chunk that was handed on: its index and the bits of its numbers.
pub type Taken = (usize, Vec<u32>);

/// The bits of numbers.
fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// A plan with its network and its initial numbers.
pub struct Setting {
    pub plan: Arc<Plan>,
    pub network: Arc<Network>,
    /// The flat vector.
    pub state: Vec<f32>,
}

/// The setting of `spec` (without `[data]`) for samples of `size` (height, width, channels).
pub fn setting(spec: &str, size: [u32; 3], names: usize) -> Setting {
    let spec = parse(&format!("seed = 3\n{spec}\n[data]\ntrain = \"x\"\n"), &[]).unwrap();
    let labels = if spec.task == Task::Regression { LabelKind::Values } else { LabelKind::Class };
    let plan = Arc::new(Plan::resolve(spec, &facts(size, labels, names)).unwrap());
    let network = Arc::new(Network::of(&plan).unwrap());
    let state = network.initial(plan.spec.seed);
    Setting { plan, network, state }
}

/// Numbers as after some training: running statistics and scales that are not the initial ones, so that they matter.
pub fn stirred(spec: &str, size: [u32; 3], names: usize) -> Setting {
    let mut setting = setting(spec, size, names);
    for (index, tensor) in setting.network.tensors.iter().enumerate() {
        if tensor.shape.len() == 1 {
            let address = Address::new(9, Purpose::Initialisation, 1, index as u32);
            let values = setting.state[tensor.range()].iter_mut();
            values.zip(0..).for_each(|(value, i)| *value += 0.5 * (address.uniform(i) - 0.5));
        }
    }
    setting
}

impl Setting {
    /// An executor that has loaded `state`.
    pub fn executor(&self) -> Executor {
        let mut executor = Executor::new(self.plan.clone(), self.network.clone()).unwrap();
        executor.load(&Arc::new(self.state.clone())).unwrap();
        executor
    }

    /// `count` samples of noise, from sample `first` on.
    pub fn batch(&self, first: u32, count: u32) -> Batch {
        let names = self.plan.names.len();
        let samples: Vec<u32> = (first..first + count).collect();
        let noise = |sample| Address::new(1, Purpose::Augmentation, 0, sample);
        let width = if self.plan.spec.task == Task::Regression { names as u32 } else { 1 };
        let numbers: Vec<f32> = (0..count * width).map(|i| (i % names as u32) as f32).collect();
        Batch {
            x_nhwc: samples
                .iter()
                .flat_map(|&sample| (0..self.plan.input.len() as u32).map(move |i| noise(sample).normal(i) as f32))
                .collect(),
            targets: targets(self.plan.spec.task, &numbers, names),
            samples,
        }
    }

    /// What a shard gives in epoch 2, and the bits of its sums.
    pub fn train(&self, executor: &Executor, batch: &Batch) -> (ShardResult, Vec<u32>) {
        let mut sum = vec![f32::NAN; self.network.len()];
        let result = executor.train_shard(batch, 2, GradientTarget::Write(&mut sum), None).unwrap();
        (result, bits(&sum))
    }

    /// The same by chunks of `elements` numbers, in the order in which they were handed on.
    pub fn train_by_chunks(&self, executor: &Executor, batch: &Batch, elements: usize) -> (ShardResult, Vec<Taken>) {
        let taken = Arc::new(Mutex::new(Vec::new()));
        let to = taken.clone();
        let taker = ChunkTaker::new(elements, move |index, chunk| to.lock().unwrap().push((index, bits(chunk))));
        let mut flat = vec![f32::NAN; self.network.len()];
        let result = executor.train_shard(batch, 2, GradientTarget::Chunks(&mut flat, taker), None).unwrap();
        let taken = taken.lock().unwrap().clone();
        (result, taken)
    }

    /// Checks that a shard's gradient has the same bits whether it is written or leaves by chunks, each once. The
    /// order in which they leave.
    pub fn check_chunks(&self, executor: &Executor, batch: &Batch, elements: usize) -> Vec<usize> {
        let (result, gradient) = self.train(executor, batch);
        let (same, mut taken) = self.train_by_chunks(executor, batch, elements);
        assert_eq!(same, result);
        let order = taken.iter().map(|(index, _)| *index).collect();
        taken.sort();
        let expected: Vec<Taken> = gradient.chunks(elements).map(<[u32]>::to_vec).enumerate().collect();
        assert!(taken == expected, "all chunks of {elements}, with the bits of the gradient");
        order
    }
}
