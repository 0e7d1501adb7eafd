//! What the tests of this crate share.

use std::ops::Range;
use std::sync::Arc;

use convoy_common::manifest::{FileEntry, Manifest, Sample, SampleList};
use convoy_common::{Digest, Plan};
use convoy_model::Network;
use convoy_nn::{Executor, GradientTarget};
use convoy_scheduler::{Lease, LeaseId, LeaseRef, Node, RunGeneration, StepId, Work};
use convoy_testing::Stripes;

use crate::assignment::Assignment;
use crate::run_data::RunData;
use crate::shards::Shards;

/// 24 images to train on: 2 epochs of 3 steps of 4 shards of 2 images; 8 to validate with.
pub(crate) const STRIPES: Stripes = Stripes { train: 24, validation: 8 };
/// A network of 195 numbers.
pub(crate) const SPEC: &str = "seed = 5\n[network]\nlayers = [{ type = \"flatten\" }, { type = \"linear\", out = 3 }]\n\
                               [train]\nepochs = 2\nbatch = 8\nshard = 2";
/// Where the images are, in memory.
pub(crate) const ROOT: &str = "stripes";

pub(crate) const ASSIGNMENT: Assignment = Assignment { worker: 3, job: 7, generation: 2 };

/// A lease of generation 2, epoch 0.
pub(crate) fn lease(work: Work, step: u64, lease: u64, shards: Range<u32>) -> Lease {
    let at = LeaseRef { generation: RunGeneration(2), step: StepId(step), lease: LeaseId(lease), epoch: 0 };
    Lease { at, work, node: Node { first: shards.start, last: shards.end } }
}

/// A run of [`STRIPES`].
pub(crate) struct Job {
    pub(crate) plan: Arc<Plan>,
    pub(crate) manifest: Manifest,
    pub(crate) network: Arc<Network>,
}

impl Job {
    /// The run of [`SPEC`], with its files below `root`.
    pub(crate) fn at(root: &str) -> Self {
        Job::of(STRIPES.plan(root, SPEC), STRIPES.manifest(root))
    }

    /// The run of `plan`.
    pub(crate) fn of(plan: Plan, manifest: Manifest) -> Self {
        let network = Arc::new(Network::of(&plan).unwrap());
        Job { plan: Arc::new(plan), manifest, network }
    }

    /// The same run with training samples whose files are not there.
    pub(crate) fn without_training_files() -> Self {
        let mut manifest = STRIPES.manifest(ROOT);
        let train = Arc::make_mut(&mut manifest.train);
        let paths: Vec<String> = (0..STRIPES.train).map(|number| format!("missing/{number}")).collect();
        train.files = paths.iter().map(|path| FileEntry { path, size: 1, blake3: Digest::of(b"x") }).collect();
        train.samples = a_file_each(&train.samples);
        let mut plan = STRIPES.plan(ROOT, SPEC);
        plan.manifest = manifest.digest();
        Job::of(plan, manifest)
    }

    /// Its data, in memory.
    pub(crate) fn data(&self) -> Arc<RunData> {
        Arc::new(RunData::open(&self.plan, self.manifest.clone(), Arc::new(STRIPES.files(ROOT))).unwrap())
    }

    /// Its shards, loaded by one thread.
    pub(crate) fn shards(&self) -> Shards {
        Shards::new(self.plan.clone(), &self.data(), 1).unwrap()
    }

    /// Parameters that differ for each step.
    pub(crate) fn parameters(&self, step: u64) -> Vec<f32> {
        self.network.initial(self.plan.spec.seed + step)
    }

    /// The gradient of one shard with the parameters of its step, computed here.
    pub(crate) fn gradient(&self, step: u64, shard: u32) -> Vec<f32> {
        let mut executor = Executor::new(self.plan.clone(), self.network.clone()).unwrap();
        executor.load(&Arc::new(self.parameters(step))).unwrap();
        let shards = self.shards();
        let batch = shards.take(Work::Train, StepId(step), shard).0.unwrap();
        let mut gradient = vec![0.0; self.network.len()];
        executor.train_shard(&batch, shards.epoch(StepId(step)), GradientTarget::Write(&mut gradient), None).unwrap();
        gradient
    }
}

/// The samples, each in a file of its own.
pub(crate) fn a_file_each(samples: &SampleList) -> SampleList {
    (0..).zip(samples.iter()).map(|(file, sample)| Sample { file, index: 0, ..sample }).collect()
}
