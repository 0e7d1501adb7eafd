//! What a run shows to the outside: its deadline, what it waits for, how far it is.

use super::{Run, RunPhase};
use crate::dispatch::due;
use crate::ids::{RunTime, StepId};
use crate::lease::Work;
use crate::outcome::Outcome;
use crate::plan::RunPlan;
use crate::step::Step;
use crate::waiting::{Progress, Waiting, WorkerProgress};

impl Run {
    /// When to send [`Event::Deadline`](crate::Event::Deadline) if no other event comes first; `None` if never.
    pub fn deadline(&self) -> Option<RunTime> {
        let step = match &self.phase {
            RunPhase::Unstarted => return Some(self.now),
            RunPhase::Finished(_) => return None,
            RunPhase::Saving(_) => None,
            RunPhase::Working(step) => Some(step),
        };
        let (quiet, silence) = (self.plan.timeouts.quiet, self.plan.timeouts.heartbeat_silence);
        let silence = self.members.iter().map(|(_, member)| member.look_at(quiet, silence)).min();
        // Leases that were found slow or overdue wait for a worker, not for time.
        let leases = step.into_iter().filter(|step| step.covered.is_none()).flat_map(|step| {
            step.running().flat_map(|lease| {
                let due = due(&self.plan, &self.members, &self.timing, step, lease);
                [(due.slow, lease.slow.is_some()), (due.overdue, lease.overdue)]
                    .into_iter()
                    .filter_map(|(at, found)| (!found).then_some(at))
            })
        });
        let sums = self.sums_due().map(|(_, at)| at);
        let interval = self.next_interval().filter(|at| *at > self.now);
        // A lease may be late at once by what was measured of another.
        leases.chain(silence).chain(sums).chain(interval).min().map(|at| at.max(self.now))
    }

    /// What the run waits for, as an operator would say it.
    pub fn waiting_for(&self) -> Waiting {
        let step = match &self.phase {
            RunPhase::Unstarted => return Waiting::Start,
            RunPhase::Finished(outcome) => return Waiting::Nothing { outcome: outcome.clone() },
            RunPhase::Saving(_) => {
                let step = self.checkpoints.being_written.first().copied().unwrap_or(self.committed);
                return Waiting::Checkpoint { step };
            }
            RunPhase::Working(step) => step,
        };
        let (work, id) = (step.work, step.step);
        if let Some(covered) = step.covered {
            let since = self.now.since(covered);
            return match self.sums_due().next() {
                Some((owner, _)) => Waiting::Sums { owner, step: id, since },
                None => Waiting::Reducer { work, step: id, since },
            };
        }
        match step.running().min_by_key(|lease| (lease.started.unwrap_or(lease.sent), lease.at)) {
            None => match step.awaits_judge() {
                Some(node) => Waiting::Judge { work, step: id, node, workers: step.voters(node) },
                None => Waiting::Workers { work, step: id },
            },
            Some(lease) => match lease.started {
                Some(started) => {
                    let (worker, node) = (lease.worker, lease.node);
                    Waiting::Node { worker, work, step: id, node, since: self.now.since(started) }
                }
                None => Waiting::Parameters { worker: lease.worker, step: id, since: self.now.since(lease.sent) },
            },
        }
    }

    /// What only the reducer can still tell: the work in progress and its step, once all of its nodes are counted and
    /// no audit is open. `None` before that, and when nothing is in work.
    pub fn expects(&self) -> Option<(Work, StepId)> {
        match &self.phase {
            RunPhase::Working(step) => step.covered.map(|_| (step.work, step.step)),
            _ => None,
        }
    }

    /// How far the run is.
    pub fn progress(&self) -> Progress {
        let step = match &self.phase {
            RunPhase::Working(step) => Some(step),
            _ => None,
        };
        let loads = step.map(Step::loads).unwrap_or_default();
        let workers = self.members.iter().map(|(worker, member)| {
            let load = loads.get(&worker).copied().unwrap_or_default();
            WorkerProgress {
                worker,
                threads: member.threads,
                ready: member.ready,
                draining: member.draining,
                leases: load.held,
                shards: load.shards,
                shard_micros: member.shown(Work::Train),
            }
        });
        Progress {
            committed: self.committed,
            steps: self.plan.last_parameters().0,
            epoch: self.plan.epoch(self.committed),
            epochs: self.plan.epochs,
            work: step.map(|step| step.work),
            shards_done: step.map_or(0, Step::shards_done),
            shards: step.map_or(0, |step| step.shards),
            workers: workers.collect(),
        }
    }

    /// How the run ended, once it has.
    pub fn outcome(&self) -> Option<&Outcome> {
        match &self.phase {
            RunPhase::Finished(outcome) => Some(outcome),
            _ => None,
        }
    }

    /// The plan that it runs by.
    pub fn plan(&self) -> &RunPlan {
        &self.plan
    }
}
