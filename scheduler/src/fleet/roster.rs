//! The jobs and workers that a fleet knows.

use std::collections::{BTreeMap, BTreeSet};

use super::event::JobRequest;
use crate::ids::{JobId, Micros, RunTime};

/// How long a worker is not sent again to a job that it has declined; twice as long after each further time.
const DECLINED_FIRST: Micros = Micros::seconds(5);
/// What the pauses grow to.
const DECLINED_MOST: Micros = Micros::seconds(320);

/// A job that is not over.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Job {
    pub request: JobRequest,
    pub phase: JobPhase,
}

/// Whether a job runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum JobPhase {
    Queued,
    Running,
    /// It was asked to stop for a pause; `again` when somebody has wanted it to go on since then.
    Suspending {
        again: bool,
    },
    Paused,
}

/// A worker that is connected.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Worker {
    /// Classes of arithmetic that it can compute, by number.
    pub numerics: BTreeSet<u32>,
    /// Whether it computes; otherwise it only adds gradients of others.
    pub computes: bool,
    /// When something was heard of it last.
    pub heard: RunTime,
    /// It wants to leave.
    pub draining: bool,
    pub assignment: Assignment,
    /// Jobs that it cannot do.
    pub declined: BTreeMap<JobId, Declined>,
}

impl Worker {
    /// Whether it can compute what `job` needs and is not in the pause after it declined it.
    pub fn fits(&self, id: JobId, job: &Job, now: RunTime) -> bool {
        self.computes && self.numerics.contains(&job.request.numerics) && self.declines(id, now).is_none()
    }

    /// What it said of a job that it is not to be sent to now.
    pub fn declines(&self, job: JobId, now: RunTime) -> Option<&Declined> {
        self.declined.get(&job).filter(|declined| now < declined.until)
    }

    /// It cannot do `job`, as it says at `now`.
    pub fn decline(&mut self, job: JobId, reason: String, now: RunTime) {
        let pause = match self.declined.get(&job) {
            Some(before) => Micros(before.pause.0.saturating_mul(2).min(DECLINED_MOST.0)),
            None => DECLINED_FIRST,
        };
        self.declined.insert(job, Declined { reason, pause, until: RunTime(now.0.saturating_add(pause.0)) });
        self.assignment = Assignment::Free;
    }
}

/// A job that a worker could not do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Declined {
    /// For people.
    pub reason: String,
    /// How long it is not sent there.
    pub pause: Micros,
    /// The end of the pause.
    pub until: RunTime,
}

/// The job that a worker serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Assignment {
    Free,
    At(JobId),
    /// It was asked back from the job, whose run has not released it yet.
    Leaving(JobId),
}
