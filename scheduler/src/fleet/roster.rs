//! The jobs and workers that a fleet knows.

use std::collections::BTreeSet;

use super::event::JobRequest;
use crate::ids::{JobId, RunTime};

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
    /// When something was heard of it last.
    pub heard: RunTime,
    /// It wants to leave.
    pub draining: bool,
    pub assignment: Assignment,
}

/// The job that a worker serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Assignment {
    Free,
    At(JobId),
    /// It was asked back from the job, whose run has not released it yet.
    Leaving(JobId),
}
