//! The events and effects of a fleet.

use std::fmt;

use crate::ids::{JobId, WorkerId};

/// A job's wishes for workers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct JobRequest {
    /// Higher goes first.
    pub priority: i32,
    /// Workers without which it does not start; at least 1.
    pub least: u32,
    /// Workers beyond which it gets no more.
    pub most: Option<u32>,
    /// The class of arithmetic that its workers must compute, by number.
    pub numerics: u32,
}

impl Default for JobRequest {
    fn default() -> Self {
        JobRequest { priority: 0, least: 1, most: None, numerics: 0 }
    }
}

/// Something that happened, told to [`Fleet::handle`](crate::Fleet::handle).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum FleetEvent {
    /// A worker is connected and serves no job.
    WorkerJoined {
        /// Its number, unused so far.
        worker: WorkerId,
        /// Classes of arithmetic that it can compute, by number.
        numerics: Vec<u32>,
        /// Whether it computes at all. Otherwise it only adds gradients of others, of whatever class: jobs neither wait
        /// for it nor count it, and it goes where workers compute.
        computes: bool,
    },
    /// A worker wants to leave: it gets no new job.
    WorkerDraining {
        /// Which one.
        worker: WorkerId,
    },
    /// A worker is no longer there, for whatever reason.
    WorkerGone {
        /// Which one.
        worker: WorkerId,
    },
    /// A run has released a worker: it holds no lease of it.
    WorkerReleased {
        /// Which one.
        worker: WorkerId,
    },
    /// What kept workers from jobs may be mended: those that have declined are asked again at once.
    AskAgain,
    /// A worker that was sent to a job cannot do it: it serves no job again, and that one not before a while.
    WorkerDeclined {
        /// Which one.
        worker: WorkerId,
        /// The job it cannot do.
        job: JobId,
        /// For people: why not, and what can be done.
        reason: String,
    },
    /// Somebody submitted a job, or it is known from an earlier start of the coordinator.
    JobAdded {
        /// Which one.
        job: JobId,
        /// Its wishes for workers.
        request: JobRequest,
        /// Whether it was running before; it then goes on at once, even without workers.
        started: bool,
    },
    /// Somebody wants a job to pause.
    JobPaused {
        /// Which one.
        job: JobId,
    },
    /// Somebody wants a paused job to go on.
    JobContinued {
        /// Which one.
        job: JobId,
    },
    /// The run of a job has stopped for its pause.
    JobSuspended {
        /// Which one.
        job: JobId,
    },
    /// A job is over, or was removed.
    JobEnded {
        /// Which one.
        job: JobId,
    },
    /// The time of [`Fleet::deadline`](crate::Fleet::deadline) has come. Before this,
    /// [`Fleet::heard`](crate::Fleet::heard) is told of all workers.
    Deadline,
}

impl FleetEvent {
    /// The event in two words, for a log.
    pub fn name(&self) -> &'static str {
        match self {
            FleetEvent::WorkerJoined { .. } => "worker joined",
            FleetEvent::WorkerDraining { .. } => "worker draining",
            FleetEvent::WorkerGone { .. } => "worker gone",
            FleetEvent::WorkerReleased { .. } => "worker released",
            FleetEvent::WorkerDeclined { .. } => "worker declined",
            FleetEvent::AskAgain => "ask again",
            FleetEvent::JobAdded { .. } => "job added",
            FleetEvent::JobPaused { .. } => "job paused",
            FleetEvent::JobContinued { .. } => "job continued",
            FleetEvent::JobSuspended { .. } => "job suspended",
            FleetEvent::JobEnded { .. } => "job ended",
            FleetEvent::Deadline => "deadline",
        }
    }
}

/// Something that must be done, in the order in which it is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum FleetEffect {
    /// Begin to carry a job's run.
    Start {
        /// Which job.
        job: JobId,
    },
    /// Ask a run to finish its step, save and stop; then tell [`FleetEvent::JobSuspended`].
    Suspend {
        /// Which job.
        job: JobId,
    },
    /// Send a worker to a job.
    Assign {
        /// Which worker.
        worker: WorkerId,
        /// Which job.
        job: JobId,
    },
    /// Ask a run to release a worker at a step boundary; then tell [`FleetEvent::WorkerReleased`].
    Release {
        /// Which worker.
        worker: WorkerId,
        /// Which job.
        job: JobId,
    },
    /// Close the connection of a worker that was lost: nothing was heard of it for too long.
    Disconnect {
        /// Which worker.
        worker: WorkerId,
    },
    /// For the log: an event that changed nothing.
    Ignore {
        /// What happened, in two words.
        what: &'static str,
        /// Why it does not count.
        why: FleetIgnore,
    },
}

/// Why an event changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FleetIgnore {
    /// It tells of a worker that is not there.
    UnknownWorker,
    /// It tells of a job that is not there.
    UnknownJob,
    /// The worker or the job is there already.
    AlreadyThere,
    /// The job is paused already.
    AlreadyPaused,
    /// The job is not paused.
    NotPaused,
    /// The worker is not at the job.
    NotThere,
}

impl fmt::Display for FleetIgnore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FleetIgnore::UnknownWorker => "there is no such worker",
            FleetIgnore::UnknownJob => "there is no such job",
            FleetIgnore::AlreadyThere => "it is there already",
            FleetIgnore::AlreadyPaused => "the job is paused already",
            FleetIgnore::NotPaused => "the job is not paused",
            FleetIgnore::NotThere => "the worker is not at the job",
        })
    }
}
