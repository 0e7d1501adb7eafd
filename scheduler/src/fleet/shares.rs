//! Which workers each job should have.

use std::collections::{BTreeMap, BTreeSet};

use super::roster::{Assignment, Job, JobPhase, Worker};
use crate::ids::{JobId, RunTime, WorkerId};

/// The workers of each job.
pub(super) type Shares = BTreeMap<JobId, BTreeSet<WorkerId>>;

/// Jobs that run or could, the first in line first: by priority, then those that run, then by submission.
pub(super) fn in_order(jobs: &BTreeMap<JobId, Job>) -> Vec<JobId> {
    let active = jobs.iter().filter(|(_, job)| matches!(job.phase, JobPhase::Queued | JobPhase::Running));
    let mut order: Vec<_> =
        active.map(|(id, job)| (-i64::from(job.request.priority), job.phase == JobPhase::Queued, *id)).collect();
    order.sort();
    order.into_iter().map(|(_, _, id)| id).collect()
}

/// The workers that each job that runs or starts now should have.
///
/// First each job, in order, gets its least number of workers; a queued job gets all of them or none. The workers that
/// are left go one by one to the jobs of the highest priority that have room, to the job with the fewest first, and
/// then to jobs of the next priority. Workers that are on their way from one job to another count, those that want to
/// leave do not, nor those that have declined the job and are not asked again yet. A job keeps the workers that it has,
/// as far as its share goes. At most `running` jobs run at once.
///
/// All this is of workers that compute. Those that only add gradients of others then all go to the first job in order
/// in which there is anything to add: that has two workers at least, or else one. They do not count.
pub(super) fn shares(
    jobs: &BTreeMap<JobId, Job>,
    workers: &BTreeMap<WorkerId, Worker>,
    running: usize,
    now: RunTime,
) -> Shares {
    let order = in_order(jobs);
    let mut pool = Pool { workers, left: workers.keys().copied().collect(), fitting: BTreeMap::new(), now };
    pool.left.retain(|worker| workers[worker].computes && !workers[worker].draining);
    let mut shares = BTreeMap::new();
    let mut places = running.saturating_sub(order.iter().filter(|job| jobs[job].phase == JobPhase::Running).count());
    for id in &order {
        let job = &jobs[id];
        let most = job.request.most.unwrap_or(u32::MAX);
        let least = job.request.least.clamp(1, most.max(1));
        if job.phase == JobPhase::Queued {
            if places == 0 || !pool.has_room(*id, job, least as usize) {
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
    add_adders(&order, workers, &mut shares, now);
    shares
}

/// Gives each worker that computes nothing to the first job that it may go to and that has use for it.
fn add_adders(order: &[JobId], workers: &BTreeMap<WorkerId, Worker>, shares: &mut Shares, now: RunTime) {
    let computing: BTreeMap<JobId, usize> = shares.iter().map(|(job, share)| (*job, share.len())).collect();
    let adders = workers.iter().filter(|(_, worker)| !worker.computes && !worker.draining);
    for (id, adder) in adders {
        let open = || order.iter().filter(|job| adder.declines(**job, now).is_none());
        let with = |least: usize| open().find(|job| computing.get(job).is_some_and(|there| *there >= least));
        if let Some(job) = with(2).or_else(|| with(1)) {
            shares.entry(*job).or_default().insert(*id);
        }
    }
}

/// Gives the workers that are left to jobs of one priority, one by one, to the job with the fewest first.
fn share_out(group: &[JobId], jobs: &BTreeMap<JobId, Job>, pool: &mut Pool<'_>, shares: &mut Shares) {
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
    /// For each job that has taken any, those that fit, the best first. Some may be taken by now.
    fitting: BTreeMap<JobId, std::vec::IntoIter<WorkerId>>,
    now: RunTime,
}

impl Pool<'_> {
    fn fitting(&self, id: JobId, job: &Job) -> impl Iterator<Item = WorkerId> {
        self.left.iter().copied().filter(move |worker| self.workers[worker].fits(id, job, self.now))
    }

    /// Whether there are `least` workers for the job.
    fn has_room(&self, id: JobId, job: &Job, least: usize) -> bool {
        self.fitting(id, job).take(least).count() == least
    }

    /// Takes a worker for the job: one that can compute the fewest classes; of those first one that the job holds
    /// already, then one that no job holds, then the one that joined last.
    fn take(&mut self, id: JobId, job: &Job) -> Option<WorkerId> {
        let mut fitting = self.fitting.remove(&id).unwrap_or_else(|| {
            let mut fitting: Vec<WorkerId> = self.fitting(id, job).collect();
            fitting.sort_by_cached_key(|worker| preference(*worker, &self.workers[worker], id));
            fitting.into_iter()
        });
        let best = fitting.find(|worker| self.left.remove(worker));
        self.fitting.insert(id, fitting);
        best
    }
}

/// The lower, the better a worker is for the job.
fn preference(worker: WorkerId, state: &Worker, job: JobId) -> (usize, u8, u32) {
    let (place, age) = match state.assignment {
        Assignment::At(at) if at == job => (0, worker.0),
        Assignment::Free | Assignment::Leaving(_) => (1, worker.0),
        Assignment::At(_) => (2, u32::MAX - worker.0),
    };
    (state.numerics.len(), place, age)
}
