//! Which workers each job should have.

use std::collections::{BTreeMap, BTreeSet};

use super::{Job, Phase, Place, Worker};
use crate::ids::{JobId, WorkerId};

/// Jobs that run or could, the first in line first: by priority, then those that run, then by submission.
pub(super) fn in_order(jobs: &BTreeMap<JobId, Job>) -> Vec<JobId> {
    let active = jobs.iter().filter(|(_, job)| matches!(job.phase, Phase::Queued | Phase::Running));
    let mut order: Vec<_> =
        active.map(|(id, job)| (-i64::from(job.request.priority), job.phase == Phase::Queued, *id)).collect();
    order.sort();
    order.into_iter().map(|(_, _, id)| id).collect()
}

/// The workers that each job that runs or starts now should have.
///
/// First each job, in order, gets its least, a queued one all of it or nothing. What is left goes one by one to the
/// jobs of the highest priority that have room, the one with the fewest first, then to those of the next. Workers that
/// are on their way from one job to another count, those that drain do not. A job keeps what it has as far as it goes.
pub(super) fn shares(
    jobs: &BTreeMap<JobId, Job>,
    workers: &BTreeMap<WorkerId, Worker>,
    running: usize,
) -> BTreeMap<JobId, BTreeSet<WorkerId>> {
    let order = in_order(jobs);
    let mut pool = Pool { workers, left: workers.keys().copied().collect() };
    pool.left.retain(|worker| !workers[worker].draining);
    let mut shares = BTreeMap::new();
    let mut places = running.saturating_sub(order.iter().filter(|job| jobs[job].phase == Phase::Running).count());
    for id in &order {
        let job = &jobs[id];
        let most = job.request.most.unwrap_or(u32::MAX);
        let least = job.request.least.clamp(1, most.max(1));
        if job.phase == Phase::Queued {
            if places == 0 || pool.room_for(job) < least as usize {
                continue;
            }
            places -= 1;
        }
        shares.insert(*id, (0..least).map_while(|_| pool.take(*id, job)).collect());
    }
    let mut begin = 0;
    while begin < order.len() {
        let priority = jobs[&order[begin]].request.priority;
        let end = begin + order[begin..].iter().take_while(|job| jobs[job].request.priority == priority).count();
        share_out(&order[begin..end], jobs, &mut pool, &mut shares);
        begin = end;
    }
    shares
}

/// Gives what is left to jobs of one priority, one by one, to the one with the fewest first.
fn share_out(
    group: &[JobId],
    jobs: &BTreeMap<JobId, Job>,
    pool: &mut Pool<'_>,
    shares: &mut BTreeMap<JobId, BTreeSet<WorkerId>>,
) {
    let mut open: Vec<JobId> = group.iter().copied().filter(|job| shares.contains_key(job)).collect();
    loop {
        open.retain(|job| jobs[job].request.most.is_none_or(|most| shares[job].len() < most as usize));
        let Some(next) = open.iter().copied().min_by_key(|job| shares[job].len()) else { return };
        match pool.take(next, &jobs[&next]) {
            Some(worker) => _ = shares.get_mut(&next).expect("it is open").insert(worker),
            None => open.retain(|job| *job != next),
        }
    }
}

/// Workers that no job has taken yet.
struct Pool<'a> {
    workers: &'a BTreeMap<WorkerId, Worker>,
    left: BTreeSet<WorkerId>,
}

impl Pool<'_> {
    fn fits(&self, worker: WorkerId, job: &Job) -> bool {
        self.workers[&worker].numerics.contains(&job.request.numerics)
    }

    fn room_for(&self, job: &Job) -> usize {
        self.left.iter().filter(|worker| self.fits(**worker, job)).count()
    }

    /// Takes a worker for the job: one that can do little else; of those its own first, then one that no job holds, then
    /// the one that came last.
    fn take(&mut self, id: JobId, job: &Job) -> Option<WorkerId> {
        let fitting = self.left.iter().copied().filter(|worker| self.fits(*worker, job));
        let order = |worker: &WorkerId| {
            let state = &self.workers[worker];
            let (place, age) = match state.place {
                Place::At(at) if at == id => (0, worker.0),
                Place::Free | Place::Leaving(_) => (1, worker.0),
                Place::At(_) => (2, u32::MAX - worker.0),
            };
            (state.numerics.len(), place, age)
        };
        let best = fitting.min_by_key(order)?;
        self.left.take(&best)
    }
}
