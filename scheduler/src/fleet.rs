//! The fleet: which worker serves which job. A second pure state machine beside [`Run`](crate::Run), of the same shape.

mod event;
mod roster;
mod shares;
mod waiting;

use std::collections::{BTreeMap, BTreeSet};

pub use event::{FleetEffect, FleetEvent, FleetIgnore, JobRequest};
pub use waiting::JobWaiting;

use crate::ids::{JobId, Micros, RunTime, WorkerId};
use roster::{Assignment, Job, JobPhase, Worker};
use shares::Shares;

/// Limits of a fleet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FleetPlan {
    /// A worker that was not heard of for longer is lost.
    pub heartbeat_silence: Micros,
    /// Jobs that may run at once.
    pub running: usize,
}

impl Default for FleetPlan {
    fn default() -> Self {
        FleetPlan { heartbeat_silence: Micros::seconds(2), running: 16 }
    }
}

/// All jobs and all workers of a coordinator.
///
/// A worker serves one job at a time and moves as a whole, at a step boundary of the run that it leaves. The same
/// events give the same effects.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Fleet {
    plan: FleetPlan,
    jobs: BTreeMap<JobId, Job>,
    workers: BTreeMap<WorkerId, Worker>,
    now: RunTime,
}

impl Fleet {
    /// A fleet without jobs and workers.
    pub fn new(plan: FleetPlan) -> Fleet {
        Fleet { plan, jobs: BTreeMap::new(), workers: BTreeMap::new(), now: RunTime(0) }
    }

    /// Takes one event that happened at `now` and appends to `effects` everything that must be done about it. Cannot
    /// fail.
    ///
    /// All effects must be carried out, in order, before the next event is handled.
    pub fn handle(&mut self, now: RunTime, event: FleetEvent, effects: &mut Vec<FleetEffect>) {
        self.handle_all(now, [event], effects);
    }

    /// As [`Fleet::handle`], of events that have all happened by `now`: jobs get their shares once, after the last.
    pub fn handle_all(
        &mut self,
        now: RunTime,
        events: impl IntoIterator<Item = FleetEvent>,
        effects: &mut Vec<FleetEffect>,
    ) {
        self.now = self.now.max(now);
        for event in events {
            let what = event.name();
            if let Err(why) = self.take(event, effects) {
                effects.push(FleetEffect::Ignore { what, why });
            }
        }
        self.settle(effects);
    }

    /// Notes that a worker was heard of at `at`. Nothing follows from that before [`FleetEvent::Deadline`].
    pub fn heard(&mut self, worker: WorkerId, at: RunTime) {
        if let Some(worker) = self.workers.get_mut(&worker) {
            worker.heard = at.max(worker.heard);
        }
    }

    /// When to send [`FleetEvent::Deadline`] if no other event comes first; `None` if never.
    pub fn deadline(&self) -> Option<RunTime> {
        let silent_at = |worker: &Worker| RunTime(worker.heard.0 + self.plan.heartbeat_silence.0 + 1);
        let again_at = |worker: &Worker| worker.declined.values().map(|declined| declined.until).collect::<Vec<_>>();
        let again = self.workers.values().flat_map(again_at).filter(|until| *until > self.now);
        self.workers.values().map(silent_at).chain(again).min()
    }

    /// All jobs, in the order of their submission.
    pub fn jobs(&self) -> impl Iterator<Item = JobId> {
        self.jobs.keys().copied()
    }

    /// The workers of a job, without those that want to leave.
    pub fn workers_of(&self, job: JobId) -> impl Iterator<Item = WorkerId> {
        let serves = move |worker: &Worker| worker.assignment == Assignment::At(job) && !worker.draining;
        self.workers.iter().filter(move |(_, worker)| serves(worker)).map(|(id, _)| *id)
    }

    fn take(&mut self, event: FleetEvent, effects: &mut Vec<FleetEffect>) -> Result<(), FleetIgnore> {
        match event {
            FleetEvent::WorkerJoined { worker, numerics, computes } => {
                if self.workers.contains_key(&worker) {
                    return Err(FleetIgnore::AlreadyThere);
                }
                let numerics = BTreeSet::from_iter(numerics);
                let (heard, draining, assignment) = (self.now, false, Assignment::Free);
                let declined = BTreeMap::new();
                let joined = Worker { numerics, computes, heard, draining, assignment, declined };
                self.workers.insert(worker, joined);
            }
            FleetEvent::WorkerDraining { worker } => self.worker(worker)?.draining = true,
            FleetEvent::WorkerGone { worker } => {
                self.workers.remove(&worker).ok_or(FleetIgnore::UnknownWorker)?;
            }
            FleetEvent::WorkerReleased { worker } => self.worker(worker)?.assignment = Assignment::Free,
            FleetEvent::WorkerDeclined { worker, job, reason } => self.declined(worker, job, reason)?,
            FleetEvent::AskAgain => self.workers.values_mut().for_each(|worker| worker.declined.clear()),
            FleetEvent::JobAdded { job, request, started } => {
                if self.jobs.contains_key(&job) {
                    return Err(FleetIgnore::AlreadyThere);
                }
                let phase = if started { JobPhase::Running } else { JobPhase::Queued };
                if started {
                    effects.push(FleetEffect::Start { job });
                }
                self.jobs.insert(job, Job { request, phase });
            }
            FleetEvent::JobPaused { job } => self.pause(job, effects)?,
            FleetEvent::JobContinued { job } => {
                let job = self.jobs.get_mut(&job).ok_or(FleetIgnore::UnknownJob)?;
                job.phase = match job.phase {
                    JobPhase::Paused => JobPhase::Queued,
                    JobPhase::Suspending { .. } => JobPhase::Suspending { again: true },
                    JobPhase::Queued | JobPhase::Running => return Err(FleetIgnore::NotPaused),
                };
            }
            FleetEvent::JobSuspended { job } => {
                let job = self.jobs.get_mut(&job).ok_or(FleetIgnore::UnknownJob)?;
                job.phase = if job.phase == (JobPhase::Suspending { again: true }) {
                    JobPhase::Queued
                } else {
                    JobPhase::Paused
                };
            }
            FleetEvent::JobEnded { job } => {
                self.jobs.remove(&job).ok_or(FleetIgnore::UnknownJob)?;
                self.workers.values_mut().for_each(|worker| _ = worker.declined.remove(&job));
            }
            FleetEvent::Deadline => self.lose_silent(effects),
        }
        Ok(())
    }

    fn worker(&mut self, worker: WorkerId) -> Result<&mut Worker, FleetIgnore> {
        self.workers.get_mut(&worker).ok_or(FleetIgnore::UnknownWorker)
    }

    fn declined(&mut self, id: WorkerId, job: JobId, reason: String) -> Result<(), FleetIgnore> {
        let (now, known) = (self.now, self.jobs.contains_key(&job));
        let worker = self.worker(id)?;
        if ![Assignment::At(job), Assignment::Leaving(job)].contains(&worker.assignment) {
            return Err(FleetIgnore::NotThere);
        }
        match known {
            true => worker.decline(job, reason, now),
            false => worker.assignment = Assignment::Free,
        }
        Ok(())
    }

    /// Workers that nothing was heard of for too long are lost.
    fn lose_silent(&mut self, effects: &mut Vec<FleetEffect>) {
        let (now, silence) = (self.now, self.plan.heartbeat_silence);
        let silent = |worker: &Worker| now.0 > worker.heard.0 + silence.0;
        let found = self.workers.iter().filter(|(_, worker)| silent(worker)).map(|(id, _)| *id);
        for worker in found.collect::<Vec<_>>() {
            self.workers.remove(&worker);
            effects.push(FleetEffect::Disconnect { worker });
        }
    }

    fn pause(&mut self, id: JobId, effects: &mut Vec<FleetEffect>) -> Result<(), FleetIgnore> {
        let job = self.jobs.get_mut(&id).ok_or(FleetIgnore::UnknownJob)?;
        job.phase = match job.phase {
            JobPhase::Queued => JobPhase::Paused,
            JobPhase::Running => {
                effects.push(FleetEffect::Suspend { job: id });
                JobPhase::Suspending { again: false }
            }
            JobPhase::Suspending { .. } => JobPhase::Suspending { again: false },
            JobPhase::Paused => return Err(FleetIgnore::AlreadyPaused),
        };
        Ok(())
    }

    /// Starts jobs, releases and assigns workers, so that all jobs have their shares. A job that starts changes the
    /// order of jobs, so this is done again until nothing more happens.
    fn settle(&mut self, effects: &mut Vec<FleetEffect>) {
        for _ in 0..=self.jobs.len() {
            let before = effects.len();
            self.settle_once(effects);
            if effects.len() == before {
                return;
            }
        }
    }

    fn settle_once(&mut self, effects: &mut Vec<FleetEffect>) {
        let shares = shares::shares(&self.jobs, &self.workers, self.plan.running, self.now);
        for (id, share) in &shares {
            let job = self.jobs.get_mut(id).expect("shares are of known jobs");
            if job.phase == JobPhase::Queued && !share.is_empty() {
                job.phase = JobPhase::Running;
                effects.push(FleetEffect::Start { job: *id });
            }
        }
        self.release(&shares, effects);
        self.assign(&shares, effects);
    }

    /// Asks back the workers that a job holds beyond its share.
    fn release(&mut self, shares: &Shares, effects: &mut Vec<FleetEffect>) {
        for (job, share) in shares {
            let beyond: Vec<WorkerId> = self.workers_of(*job).filter(|worker| !share.contains(worker)).collect();
            for worker in beyond {
                self.workers.get_mut(&worker).expect("the job holds it").assignment = Assignment::Leaving(*job);
                effects.push(FleetEffect::Release { worker, job: *job });
            }
        }
    }

    /// Assigns free workers to the jobs in whose share they are.
    fn assign(&mut self, shares: &Shares, effects: &mut Vec<FleetEffect>) {
        for (job, share) in shares {
            for worker in share {
                let state = self.workers.get_mut(worker).expect("shares are of known workers");
                if state.assignment == Assignment::Free {
                    state.assignment = Assignment::At(*job);
                    effects.push(FleetEffect::Assign { worker: *worker, job: *job });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
