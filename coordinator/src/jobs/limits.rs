//! What a job may ask of the coordinator that keeps it: the most that its memory, its disk and its time are good for.

use convoy_common::Plan;
use convoy_common::manifest::Manifest;
use convoy_common::spec::{Size, Spec};
use convoy_model::{Network, NetworkError, memory_estimate};
use convoy_reduce::moment_names;

/// Why a job is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LimitError {
    /// It asks for too much.
    #[error(
        "{what} is {value}, but this coordinator takes at most {limit}; {remedy}, or have it started with a larger \
         {flag}"
    )]
    TooMuch {
        /// The key, or what follows from it.
        what: &'static str,
        /// What is asked for.
        value: u64,
        /// The most that is given.
        limit: u64,
        /// What to change in the spec.
        remedy: &'static str,
        /// The coordinator's option.
        flag: &'static str,
    },
    /// There is no room for one more.
    #[error(
        "this coordinator keeps {kept} jobs and takes no more than {most}; remove some with `convoy rm`, or have it \
         started with a larger --max-jobs"
    )]
    Full {
        /// Jobs that are kept.
        kept: usize,
        /// The most that are.
        most: u64,
    },
}

/// The most that a submitted job may ask for. Jobs that are there already keep what they have.
///
/// # Examples
/// A coordinator that keeps few jobs, and takes what is usual otherwise:
/// ```
/// use convoy_coordinator::JobLimits;
///
/// let limits = JobLimits { jobs: 10, ..JobLimits::default() };
/// assert!(limits.batch >= 65_536);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JobLimits {
    /// Elements of a network's parameters and buffers.
    pub parameters: u64,
    /// Samples of a step.
    pub batch: u64,
    /// Height and width of the network's input.
    pub image_side: u64,
    /// `data.max_image_side`: width and height of images that are decoded to look at them.
    pub decoded_side: u64,
    /// Shards of a step, and of an evaluation.
    pub shards: u64,
    /// Steps of the whole run, each of which is a record in the journal.
    pub steps: u64,
    /// `checkpoint.keep`.
    pub checkpoints: u64,
    /// Memory that the run takes at the coordinator, in MiB.
    pub memory_mib: u64,
    /// Jobs that are kept, those that are over included.
    pub jobs: u64,
}

impl Default for JobLimits {
    fn default() -> Self {
        JobLimits {
            parameters: 1_000_000_000,
            batch: 65_536,
            image_side: 4_096,
            decoded_side: 16_384,
            shards: 65_536,
            steps: 10_000_000,
            checkpoints: 100,
            memory_mib: 65_536,
            jobs: 10_000,
        }
    }
}

impl JobLimits {
    /// Checks what can be checked before the data is looked at.
    ///
    /// # Errors
    /// The first key that asks for too much, with its value, the limit and what to do.
    pub(super) fn check_spec(&self, spec: &Spec) -> Result<(), LimitError> {
        if let Size::Fixed(size) = spec.prepare.size {
            self.check_side(size)?;
        }
        let decoded = spec.data.max_image_side.into();
        within("data.max_image_side", decoded, self.decoded_side, "lower it", "--max-decoded-side")?;
        within("train.batch", spec.train.batch.into(), self.batch, "lower it", "--max-batch")?;
        within("checkpoint.keep", spec.checkpoint.keep.into(), self.checkpoints, "lower it", "--max-checkpoints")
    }

    /// Checks what the data and the network show, before memory is taken for any parameter.
    ///
    /// # Errors
    /// As [`JobLimits::check_spec`].
    pub(super) fn check_plan(&self, plan: &Plan, network: &Network) -> Result<(), LimitError> {
        // What was "auto" in the spec is known now.
        self.check_side([plan.input.height, plan.input.width])?;
        let (train, evaluate) = (plan.train_cut(), plan.evaluate_cut());
        let longest = train.shards(0).max(if plan.validation_samples == 0 { 0 } else { evaluate.shards(0) });
        let remedy = "raise train.shard, or use fewer validation samples";
        within("shards of a step or evaluation", longest.into(), self.shards, remedy, "--max-shards")?;
        within(
            "train.epochs, in steps,",
            plan.total_steps(),
            self.steps,
            "lower it, or raise train.batch",
            "--max-steps",
        )?;
        let remedy = "choose a smaller network";
        within("parameters of [network]", network.len() as u64, self.parameters, remedy, "--max-parameters")?;
        let memory = memory(plan, network, longest).div_ceil(1 << 20);
        let remedy = "choose a smaller network, fewer classes, an optimizer with less state, or a larger train.shard";
        within("memory of the run, in MiB,", memory, self.memory_mib, remedy, "--max-memory-mib")
    }

    /// Whether there is room for one more job beside `kept`.
    pub(super) fn check_jobs(&self, kept: usize) -> Result<(), LimitError> {
        if (kept as u64) < self.jobs {
            return Ok(());
        }
        Err(LimitError::Full { kept, most: self.jobs })
    }

    fn check_side(&self, size: [u32; 2]) -> Result<(), LimitError> {
        let side = size[0].max(size[1]).into();
        within("prepare.size", side, self.image_side, "set it to a smaller one", "--max-image-side")
    }
}

/// Bytes that the run takes at the coordinator. Sums of an evaluation wait at each level of its tree, as gradients do.
fn memory(plan: &Plan, network: &Network, shards: u32) -> u64 {
    let levels = u64::from(shards.max(1).ilog2()) + 2;
    let sums = (plan.metric_layout().len() as u64).saturating_mul(8 * levels);
    memory_estimate(plan, network, 1).coordinator().saturating_add(sums)
}

/// Bytes that a job's files take on the coordinator's disk, at most, roughly: the checkpoints that are kept, the best
/// one, and one that is being written; both models; the manifest. What a run writes of each step is not counted: it
/// comes as slowly as the steps do.
pub(super) fn disk_bytes(plan: &Plan, manifest: &Manifest) -> Result<u64, NetworkError> {
    /// Bytes of small files.
    const OTHERS: u64 = 1 << 20;
    let elements = Network::of(plan)?.len() as u64;
    let checkpoint = (4 * elements).saturating_mul(1 + moment_names(&plan.spec.optimizer).len() as u64);
    let checkpoints = checkpoint.saturating_mul(u64::from(plan.spec.checkpoint.keep) + 2);
    let samples = manifest.to_bytes().len() as u64;
    Ok([checkpoints, 8 * elements, samples, OTHERS].into_iter().fold(0, u64::saturating_add))
}

fn within(
    what: &'static str,
    value: u64,
    limit: u64,
    remedy: &'static str,
    flag: &'static str,
) -> Result<(), LimitError> {
    if value <= limit {
        return Ok(());
    }
    Err(LimitError::TooMuch { what, value, limit, remedy, flag })
}
