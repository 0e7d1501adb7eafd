//! The loop around the fleet: one event, all its effects, then the next; and the tasks in which runs are carried.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use convoy_scheduler::{Fleet, FleetEffect, FleetEvent, FleetPlan, JobId, RunTime};
use tokio::sync::watch;
use tokio::task::{Id, JoinSet};
use tokio::time::Instant;

use super::connections::Connections;
use super::open_runs::OpenRuns;
use super::waiting::WaitingReasons;
use crate::deadline::{Lookout, sleep_until};
use crate::queue::QueueReceiver;
use crate::run::worker_links::WorkerLinks;

/// Events that may wait for the fleet's loop before workers are read no further.
pub(crate) const EVENTS_WAITING: usize = 4096;
/// Events that are handled at a stretch before anything else has its turn.
const AT_A_STRETCH: usize = 256;

/// What became of a job whose run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// There is nothing more to do for it.
    Over,
    /// It was paused, and can go on.
    Suspended,
}

/// The fleet and what it moves. `start` begins to carry a job; the watch turns true when it shall stop.
pub(crate) struct FleetLoop<S> {
    fleet: Fleet,
    connections: Arc<Connections>,
    events: QueueReceiver<FleetEvent>,
    start: S,
    stops: BTreeMap<JobId, watch::Sender<bool>>,
    runs: JoinSet<(JobId, Ended)>,
    jobs: BTreeMap<Id, JobId>,
    begun: Instant,
    lookout: Lookout,
    waiting: WaitingReasons,
    open_runs: OpenRuns,
}

impl<S, F> FleetLoop<S>
where
    S: FnMut(JobId, watch::Receiver<bool>) -> F,
    F: Future<Output = Ended> + Send + 'static,
{
    /// A fleet without jobs and workers; `waiting` and `open_runs` are kept up to date while the loop runs.
    pub(crate) fn new(
        connections: Arc<Connections>,
        events: QueueReceiver<FleetEvent>,
        (waiting, open_runs): (WaitingReasons, OpenRuns),
        start: S,
    ) -> Self {
        FleetLoop {
            fleet: Fleet::new(FleetPlan::default()),
            connections,
            events,
            start,
            stops: BTreeMap::new(),
            runs: JoinSet::new(),
            jobs: BTreeMap::new(),
            begun: Instant::now(),
            lookout: Lookout::new(),
            waiting,
            open_runs,
        }
    }

    /// Runs until nobody can send events any more.
    pub(crate) async fn run(mut self) {
        loop {
            let waiting: Vec<_> = std::iter::from_fn(|| self.events.try_recv()).take(AT_A_STRETCH).collect();
            if !waiting.is_empty() {
                self.handle(waiting);
            }
            let due = self.lookout.due(self.deadline());
            tokio::select! {
                biased;
                Some(ended) = self.runs.join_next_with_id() => self.ended(ended),
                () = sleep_until(due) => self.look(due),
                event = self.events.recv() => match event {
                    Some(event) => self.handle([event]),
                    None => return,
                },
            }
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.fleet.deadline().map(|at| self.begun + Duration::from_micros(at.0))
    }

    /// Looks for the silent, with what is known of everybody now.
    fn look(&mut self, due: Option<Instant>) {
        for (worker, at) in self.connections.heard_at(self.begun) {
            self.fleet.heard(worker, at);
        }
        if self.deadline().is_some_and(|at| at <= Instant::now()) && self.lookout.is_awake(due) {
            self.handle([FleetEvent::Deadline]);
        }
    }

    fn ended(&mut self, ended: Result<(Id, (JobId, Ended)), tokio::task::JoinError>) {
        let (id, ended) = match ended {
            Ok((id, (_, ended))) => (id, ended),
            Err(error) => {
                tracing::error!(%error, "the task of a run crashed");
                (error.id(), Ended::Over)
            }
        };
        let job = self.jobs.remove(&id).expect("each task carries a job");
        self.stops.remove(&job);
        self.connections.close(job, "the run is over");
        self.handle([match ended {
            Ended::Over => FleetEvent::JobEnded { job },
            Ended::Suspended => FleetEvent::JobSuspended { job },
        }]);
        // It may have been started again at once.
        if !self.stops.contains_key(&job) {
            self.open_runs.end(job);
        }
    }

    fn handle(&mut self, events: impl IntoIterator<Item = FleetEvent>) {
        let now = RunTime(self.begun.elapsed().as_micros() as u64);
        let mut effects = Vec::new();
        self.fleet.handle_all(now, events, &mut effects);
        for effect in effects {
            self.carry_out(effect);
        }
        let said = self.fleet.jobs().filter_map(|job| Some((job, self.fleet.waiting_for(job)?.to_string())));
        self.waiting.set(said.collect());
    }

    fn carry_out(&mut self, effect: FleetEffect) {
        match effect {
            FleetEffect::Start { job } => {
                tracing::info!(%job, "starts");
                let (stop, stopped) = watch::channel(false);
                self.stops.insert(job, stop);
                self.open_runs.begin(job);
                let run = (self.start)(job, stopped);
                let task = self.runs.spawn(async move { (job, run.await) });
                self.jobs.insert(task.id(), job);
            }
            FleetEffect::Suspend { job } => {
                if let Some(stop) = self.stops.get(&job) {
                    stop.send_replace(true);
                }
            }
            FleetEffect::Assign { worker, job } => self.connections.assign(worker, job),
            FleetEffect::Release { worker, job } => self.connections.ask_back(worker, job),
            FleetEffect::Disconnect { worker } => self.connections.disconnect(worker, "silent"),
            FleetEffect::Ignore { what, why } => tracing::debug!(what, %why, "ignored"),
        }
    }
}

impl<S> Drop for FleetLoop<S> {
    fn drop(&mut self) {
        self.open_runs.end_all();
    }
}

#[cfg(test)]
mod tests;
