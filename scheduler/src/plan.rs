//! The facts that the heart must know about a run before it starts. Every queue, every retry and every wait has its
//! bound in [`RunPlan`].

use std::fmt;

use crate::ids::{Micros, RunGeneration, StepId};

/// One start of one run, as the heart sees it: counts and bounds, nothing of images or networks.
///
/// Timeouts, intervals and limits decide who computes which shards and when. They never change a bit of the result.
///
/// Many fields: each is a fact of its own about the run.
///
/// # Examples
/// Two epochs of 100 steps of 8 shards, one shard in a hundred audited:
/// ```
/// use convoy_scheduler::{RunPlan, StepId};
///
/// let plan = RunPlan { audit_every: 100, ..RunPlan::new(2, 100, 8, 8) };
/// assert_eq!(plan.check(), Ok(()));
/// assert_eq!(plan.last_parameters(), StepId(200));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RunPlan {
    /// The start of the coordinator for this run, counted from 1.
    pub generation: RunGeneration,
    /// Epochs in the run.
    pub epochs: u32,
    /// Steps in each epoch.
    pub steps_per_epoch: u64,
    /// Shards in every step but an epoch's last.
    pub shards_full_step: u32,
    /// Shards in the last step of an epoch.
    pub shards_last_step: u32,
    /// Shards of the validation split; 0 where there is none.
    pub evaluate_shards: u32,
    /// Chunks of a step's gradient, each of which is added by one owner. Where there is only one, that is the
    /// coordinator.
    pub chunks: u32,
    /// The parameters this start begins with: those of a checkpoint, or `StepId(0)`.
    pub first_step: StepId,
    /// Whether `first_step` is the end of an epoch whose evaluation is not in the checkpoint: the evaluation then comes
    /// first.
    pub evaluation_pending: bool,
    /// When checkpoints are written, besides those at the end of each epoch and of the run.
    pub checkpoint: CheckpointIntervals,
    /// One in so many shards that a worker computes is computed by another one as well, and compared; 0 for none.
    pub audit_every: u32,
    /// How long workers and leases are waited for.
    pub timeouts: Timeouts,
    /// Bounds on queues, sizes and retries.
    pub limits: Limits,
}

/// When checkpoints are written, besides those at the end of each epoch and of the run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct CheckpointIntervals {
    /// A checkpoint whenever the number of committed steps is a multiple of this; 0 for none.
    pub steps: u64,
    /// A checkpoint when the last one is so old and there is a newer step; 0 for none.
    pub time: Micros,
}

/// How long workers and leases are waited for.
///
/// *Expected* is the time that a lease should take: the time that a shard may take its worker, times the rounds of the
/// worker's threads. It is measured, and the same for all leases of a kind until a worker has shown that it is slower.
///
/// Many fields: each is a bound of one clock.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Timeouts {
    /// A worker that is not heard of for so long is lost.
    pub heartbeat_silence: Micros,
    /// A worker that is not heard of for so long gets no lease, as long as there are others.
    pub quiet: Micros,
    /// The clock of a lease starts when its worker holds the parameters. A worker that does not hold them so long after
    /// the lease was sent, and took no byte of parameters for as long, is overdue, and slow at the latest.
    pub ready_grace: Micros,
    /// A node that was computed is overdue, and slow at the latest, when no byte of its worker's nodes came for as
    /// long as this.
    pub stall: Micros,
    /// A node that was computed is not slow before no byte of its worker's nodes came for so long, and neither is a
    /// lease whose worker took no byte of parameters for as long.
    pub spare_stall: Micros,
    /// A node that was computed and has not come for so long is not slow, whatever nodes of others take: so long may an
    /// honest worker with a slow link need. Nodes that a worker sends beside one another have this time for each.
    pub send_floor: Micros,
    /// A node that was computed is slow and overdue, though bytes of it come, after this many times the median of what
    /// nodes took to be sent.
    pub send_factor: u32,
    /// No lease is overdue before this.
    pub lease_floor: Micros,
    /// A lease is overdue after this many times the expected time.
    pub lease_factor: u32,
    /// Before the first measurement, a lease is overdue after this for each round of its worker's threads.
    pub lease_unmeasured: Micros,
    /// No lease is slow before this. An idle worker computes a slow lease as well.
    pub spare_floor: Micros,
    /// A lease is slow after this many times the expected time.
    pub spare_factor: u32,
    /// Before the first measurement, a lease is slow after this.
    pub spare_unmeasured: Micros,
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        Timeouts {
            heartbeat_silence: Micros::seconds(2),
            quiet: Micros::seconds(1),
            ready_grace: Micros::seconds(10),
            stall: Micros::seconds(2),
            spare_stall: Micros::millis(500),
            send_floor: Micros::seconds(10),
            send_factor: 8,
            lease_floor: Micros::seconds(2),
            lease_factor: 4,
            lease_unmeasured: Micros::seconds(60),
            spare_floor: Micros::millis(200),
            spare_factor: 2,
            spare_unmeasured: Micros::seconds(10),
        }
    }
}

/// Bounds on queues, sizes and retries.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Limits {
    /// Workers at the same time; one more is turned away.
    pub workers: u32,
    /// Leases that a worker holds at once, for each of its threads.
    pub queue_per_thread: u32,
    /// Shards in one lease. A larger node is leased in parts, so that a lost worker loses little.
    pub lease_shards: u32,
    /// Attempts at a node whose data cannot be read, before the run ends. This and the next two are attempts of as many
    /// machines, or of all that are there.
    pub data_attempts: u32,
    /// Attempts at a node that fails inside a worker, before the run ends.
    pub internal_attempts: u32,
    /// Attempts at a node that must come out with a NaN, an infinity or absurdly large before that is believed.
    pub doubtful_attempts: u32,
    /// Times that workers die while they compute a node and nothing of its step gets done, before the run ends. As with
    /// attempts, on as many machines or on all that are there. Those that die within
    /// [`Timeouts::heartbeat_silence`] count once.
    pub deaths: u32,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            workers: 1024,
            queue_per_thread: 2,
            lease_shards: 64,
            data_attempts: 2,
            internal_attempts: 3,
            doubtful_attempts: 2,
            deaths: 5,
        }
    }
}

impl RunPlan {
    /// A plan of so many epochs, steps and shards from the beginning: without validation, audits and checkpoints by
    /// interval, with the usual timeouts and limits. Other fields are set with struct update syntax.
    pub fn new(epochs: u32, steps_per_epoch: u64, shards_full_step: u32, shards_last_step: u32) -> RunPlan {
        RunPlan {
            generation: RunGeneration(1),
            epochs,
            steps_per_epoch,
            shards_full_step,
            shards_last_step,
            evaluate_shards: 0,
            chunks: 1,
            first_step: StepId(0),
            evaluation_pending: false,
            checkpoint: CheckpointIntervals::default(),
            audit_every: 0,
            timeouts: Timeouts::default(),
            limits: Limits::default(),
        }
    }

    /// Checks that the plan can be run.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn check(&self) -> Result<(), PlanError> {
        let positive = [
            ("epochs", u64::from(self.epochs)),
            ("steps_per_epoch", self.steps_per_epoch),
            ("shards_full_step", u64::from(self.shards_full_step)),
            ("shards_last_step", u64::from(self.shards_last_step)),
            ("timeouts.heartbeat_silence", self.timeouts.heartbeat_silence.0),
            ("timeouts.quiet", self.timeouts.quiet.0),
            ("timeouts.stall", self.timeouts.stall.0),
            ("timeouts.send_floor", self.timeouts.send_floor.0),
            ("timeouts.send_factor", u64::from(self.timeouts.send_factor)),
            ("timeouts.lease_floor", self.timeouts.lease_floor.0),
            ("timeouts.lease_factor", u64::from(self.timeouts.lease_factor)),
            ("timeouts.lease_unmeasured", self.timeouts.lease_unmeasured.0),
            ("timeouts.spare_unmeasured", self.timeouts.spare_unmeasured.0),
            ("timeouts.spare_floor", self.timeouts.spare_floor.0),
            ("timeouts.spare_factor", u64::from(self.timeouts.spare_factor)),
            ("limits.queue_per_thread", u64::from(self.limits.queue_per_thread)),
            ("limits.workers", u64::from(self.limits.workers)),
            ("limits.lease_shards", u64::from(self.limits.lease_shards)),
            ("limits.data_attempts", u64::from(self.limits.data_attempts)),
            ("limits.internal_attempts", u64::from(self.limits.internal_attempts)),
            ("limits.doubtful_attempts", u64::from(self.limits.doubtful_attempts)),
            ("limits.deaths", u64::from(self.limits.deaths)),
        ];
        if let Some((field, _)) = positive.into_iter().find(|(_, value)| *value == 0) {
            return Err(PlanError::Zero { field });
        }
        if u64::from(self.epochs).checked_mul(self.steps_per_epoch).is_none() {
            return Err(PlanError::TooManySteps { epochs: self.epochs, steps_per_epoch: self.steps_per_epoch });
        }
        if self.first_step > self.last_parameters() {
            return Err(PlanError::FirstStepBehindTheEnd { first: self.first_step, last: self.last_parameters() });
        }
        if self.evaluation_pending && (self.evaluate_shards == 0 || !self.ends_epoch(self.first_step)) {
            return Err(PlanError::NothingToEvaluate { first: self.first_step });
        }
        Ok(())
    }

    /// The parameters with which the run is complete.
    pub fn last_parameters(&self) -> StepId {
        StepId(u64::from(self.epochs) * self.steps_per_epoch)
    }

    /// Shards of the training step `step`.
    pub fn shards(&self, step: StepId) -> u32 {
        if self.ends_epoch(step.next()) { self.shards_last_step } else { self.shards_full_step }
    }

    /// Whether the parameters `step` are those at the end of an epoch.
    pub fn ends_epoch(&self, step: StepId) -> bool {
        step.0 > 0 && step.0.is_multiple_of(self.steps_per_epoch)
    }

    /// The epoch (from 0) of the training step `step`; the number of epochs once the run is complete.
    pub fn epoch(&self, step: StepId) -> u32 {
        u32::try_from(step.0 / self.steps_per_epoch).unwrap_or(u32::MAX).min(self.epochs)
    }
}

/// Why a plan cannot be run.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PlanError {
    /// A field that must be positive is zero.
    Zero {
        /// Its name.
        field: &'static str,
    },
    /// The number of steps overflows.
    TooManySteps {
        /// Epochs of the plan.
        epochs: u32,
        /// Steps in each.
        steps_per_epoch: u64,
    },
    /// It begins after its own end.
    FirstStepBehindTheEnd {
        /// Where it begins.
        first: StepId,
        /// Where it ends.
        last: StepId,
    },
    /// An evaluation is pending where there is none.
    NothingToEvaluate {
        /// Where the run begins.
        first: StepId,
    },
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PlanError::Zero { field } => write!(f, "{field} is 0; it must be at least 1"),
            PlanError::TooManySteps { epochs, steps_per_epoch } => {
                write!(f, "{epochs} epochs of {steps_per_epoch} steps are too many; lower the epochs")
            }
            PlanError::FirstStepBehindTheEnd { first, last } => {
                write!(f, "the checkpoint stands at {first}, but the run ends at {last}; raise the epochs")
            }
            PlanError::NothingToEvaluate { first } => {
                write!(f, "an evaluation is pending at {first}, where no epoch ends or nothing is there to validate on")
            }
        }
    }
}

impl std::error::Error for PlanError {}
