//! What a job waits for, as an operator would say it.

use std::fmt;

use super::Fleet;
use super::roster::{Assignment, JobPhase, Worker};
use super::shares::in_order;
use crate::ids::{JobId, WorkerId};

/// What a job waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobWaiting {
    /// It is in the queue.
    Workers {
        /// Workers it needs to start.
        least: u32,
        /// Connected workers that can compute it, those of other jobs included.
        there: usize,
        /// Jobs before it.
        ahead: usize,
    },
    /// As many jobs run as may.
    Places {
        /// The number of running jobs.
        running: usize,
    },
    /// It was paused.
    Pause,
    /// It finishes its step before the pause.
    Suspending,
    /// It runs, and a worker is on its way from another job.
    Move {
        /// Which worker.
        worker: WorkerId,
        /// From which job.
        from: JobId,
    },
    /// Workers are connected, but too few of them can do it.
    Declined {
        /// How many have declined it.
        workers: usize,
        /// What one of them said.
        reason: String,
    },
    /// It runs and no worker is there for it.
    AnyWorker,
    /// Nothing: it runs.
    Nothing {
        /// The number of its workers that compute.
        workers: usize,
    },
}

impl fmt::Display for JobWaiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JobWaiting::Workers { least, there: 0, .. } => {
                write!(f, "waiting for workers: it needs {least}, and none is connected that can compute it")
            }
            JobWaiting::Workers { least, there, ahead } => {
                write!(f, "queued behind {ahead} jobs: it needs {least} workers, {there} are connected")
            }
            JobWaiting::Places { running } => write!(f, "queued: {running} jobs run, as many as may"),
            JobWaiting::Pause => write!(f, "paused"),
            JobWaiting::Suspending => write!(f, "finishing its step before the pause"),
            JobWaiting::Move { worker, from } => write!(f, "waiting for {worker} to leave {from}"),
            JobWaiting::Declined { workers: 1, reason } => {
                write!(f, "waiting for a worker that can do it: one that is connected cannot: {reason}")
            }
            JobWaiting::Declined { workers, reason } => {
                write!(
                    f,
                    "waiting for a worker that can do it: {workers} that are connected cannot; one says: {reason}"
                )
            }
            JobWaiting::AnyWorker => write!(f, "waiting for a worker"),
            JobWaiting::Nothing { workers } => write!(f, "running with {workers} workers"),
        }
    }
}

impl Fleet {
    /// What a job waits for; `None` when there is no such job.
    pub fn waiting_for(&self, id: JobId) -> Option<JobWaiting> {
        let job = self.jobs.get(&id)?;
        let held = self.workers_of(id).filter(|worker| self.workers[worker].computes).count();
        Some(match job.phase {
            JobPhase::Paused => JobWaiting::Pause,
            JobPhase::Suspending { .. } => JobWaiting::Suspending,
            JobPhase::Queued => {
                let fits = |worker: &&Worker| worker.fits(id, job, self.now);
                let there = self.workers.values().filter(fits).count();
                let running = self.jobs.values().filter(|job| job.phase == JobPhase::Running).count();
                let ahead = in_order(&self.jobs).iter().take_while(|other| **other != id).count();
                match self.declined_by_workers(id) {
                    _ if running >= self.plan.running => JobWaiting::Places { running },
                    Some(declined) if there < job.request.least as usize => declined,
                    _ => JobWaiting::Workers { least: job.request.least, there, ahead },
                }
            }
            JobPhase::Running if held > 0 => JobWaiting::Nothing { workers: held },
            JobPhase::Running => {
                self.on_the_way().or_else(|| self.declined_by_workers(id)).unwrap_or(JobWaiting::AnyWorker)
            }
        })
    }

    /// Who among the workers has declined a job; `None` when nobody has.
    fn declined_by_workers(&self, job: JobId) -> Option<JobWaiting> {
        let computing = self.workers.values().filter(|worker| worker.computes);
        let mut reasons = computing.filter_map(|worker| worker.declined.get(&job));
        let reason = reasons.next()?.reason.clone();
        Some(JobWaiting::Declined { workers: 1 + reasons.count(), reason })
    }

    fn on_the_way(&self) -> Option<JobWaiting> {
        self.workers.iter().find_map(|(worker, state)| match state.assignment {
            Assignment::Leaving(from) if state.computes => Some(JobWaiting::Move { worker: *worker, from }),
            _ => None,
        })
    }
}
