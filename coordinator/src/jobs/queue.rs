//! The queue of jobs: what was submitted, where it stands, and what people want of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use convoy_common::Plan;
use convoy_common::data_place::DataName;
use convoy_common::file_tree::FileTree;
use convoy_common::manifest::Manifest;
use convoy_common::planner::{Planned, Planner, Refusal};
use convoy_common::spec::{self, Spec, SpecError};
use convoy_model::{InitError, Network, NetworkError, initial_values};
use convoy_scheduler::{FleetEvent, JobId};
use parking_lot::{Mutex, MutexGuard};
use serde::Serialize;
use tokio::sync::watch;

use super::data_claims::{Claim, DataClaims};
use super::limits::{JobLimits, LimitError, disk_bytes};
use super::news::JobNews;
use super::record::{JobRecord, JobState, data_sets_of, now};
use super::store::JobStore;
use crate::disk_use::{DiskUse, NoRoom};
use crate::fleet::open_runs::OpenRuns;
use crate::fleet::waiting::WaitingReasons;
use crate::queue::QueueSender;
use crate::run::config::Carriage;
use crate::run::folder::run_dir::RunDir;
use crate::run::folder::run_dir_error::RunDirError;
use crate::run::patience::TRY_EVERY;
use crate::run::status::Status;
use crate::run::worker_links::WorkerLinks;
use crate::store_error::StoreError;

/// Why a job cannot be had or changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JobError {
    #[error("there is no job `{0}`; `convoy ls` shows those there are")]
    Unknown(String),
    #[error("{job} is {state}, so it cannot be {wanted}")]
    State { job: String, state: JobState, wanted: &'static str },
    #[error(transparent)]
    Spec(#[from] SpecError),
    #[error(transparent)]
    Limit(#[from] LimitError),
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error(transparent)]
    Network(#[from] NetworkError),
    #[error(transparent)]
    Init(#[from] InitError),
    #[error(transparent)]
    RunDir(#[from] RunDirError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
    #[error("data set `{0}` is being removed")]
    DataGoes(DataName),
}

/// A job with what happens to it right now.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct JobView {
    #[serde(flatten)]
    pub(crate) record: JobRecord,
    /// What it waits for.
    pub(crate) waiting_for: Option<String>,
    /// Its run, while it is open.
    pub(crate) status: Option<Status>,
}

/// What a submission asks for besides its spec.
#[derive(Debug, Clone)]
pub(crate) struct Submission {
    pub(crate) priority: i32,
    pub(crate) min_workers: u32,
    pub(crate) max_workers: Option<u32>,
    pub(crate) submitted_by: String,
}

/// What holds for all jobs.
pub(crate) struct JobTerms {
    /// Makes plans of specs.
    pub(crate) planner: Arc<dyn Planner>,
    /// The most that a job may ask for.
    pub(crate) limits: JobLimits,
    /// How runs are carried.
    pub(crate) carriage: Carriage,
}

/// What jobs have around them in their coordinator.
pub(crate) struct JobSurroundings {
    /// Where their data is.
    pub(crate) data: Arc<dyn FileTree>,
    /// Who shares workers between them.
    pub(crate) fleet: QueueSender<FleetEvent>,
    /// What each of them waits for.
    pub(crate) waiting: WaitingReasons,
    /// The connections of workers.
    pub(crate) links: Arc<dyn WorkerLinks>,
    /// Whose runs are open.
    pub(crate) open_runs: OpenRuns,
    /// What is used of the disk.
    pub(crate) disk: Arc<DiskUse>,
}

/// All jobs of a coordinator.
pub(crate) struct Jobs {
    store: JobStore,
    claims: DataClaims,
    pub(super) terms: JobTerms,
    pub(crate) around: JobSurroundings,
    live: Mutex<BTreeMap<JobId, LiveJob>>,
    /// Told whenever the record of a job changes.
    records: watch::Sender<()>,
    /// Runs that are open.
    pub(super) carried: watch::Sender<usize>,
    pub(super) closing: watch::Sender<bool>,
}

/// A job in memory.
pub(super) struct LiveJob {
    pub(super) record: JobRecord,
    pub(super) status: Option<watch::Receiver<Status>>,
    /// Why the record is not on disk as it is here.
    pub(super) unsaved: Option<String>,
}

impl LiveJob {
    /// Takes over whether the record was written as it is. One that the disk did not take is owed:
    /// see [`keep_records`].
    fn is_written(&mut self, written: Result<(), StoreError>) {
        let (job, owed) = (&self.record.job, self.unsaved.is_some());
        match &written {
            Ok(()) if owed => tracing::info!(job, "the job's record is on disk again"),
            Err(error) if !owed => tracing::error!(job, %error, "the job's record is not on disk; it is tried again"),
            _ => {}
        }
        self.unsaved = written.err().map(|error| error.to_string());
    }
}

impl Jobs {
    /// Opens the jobs in `folder` and tells the fleet of those that are not over.
    pub(crate) fn open(folder: &Path, terms: JobTerms, around: JobSurroundings) -> Result<Jobs, JobError> {
        let store = JobStore::open(&folder.join("jobs"))?;
        let jobs = Jobs {
            terms,
            around,
            live: Mutex::default(),
            records: watch::Sender::new(()),
            carried: watch::Sender::new(0),
            closing: watch::Sender::new(false),
            claims: DataClaims::default(),
            store,
        };
        for mut record in jobs.store.all()? {
            // What was acknowledged before the coordinator died is done now.
            let state = match record.state {
                JobState::Pausing => JobState::Paused,
                JobState::Stopping => JobState::Stopped,
                state => state,
            };
            if state != record.state {
                record.state = state;
                jobs.store.put(&record)?;
            }
            jobs.around.disk.count(&record.submitted_by, record.disk_bytes);
            jobs.add(record);
        }
        Ok(jobs)
    }

    /// Takes a job in and tells the fleet of it, as one: whoever finds the job may change it at once.
    fn add(&self, record: JobRecord) {
        let mut live = self.live();
        self.tell_of(&record);
        live.insert(record.id(), LiveJob { record, status: None, unsaved: None });
    }

    fn tell_of(&self, record: &JobRecord) {
        let (job, request) = (record.id(), record.request());
        if !record.state.is_over() {
            let started = record.state == JobState::Running;
            self.tell(FleetEvent::JobAdded { job, request, started });
        }
        if record.state == JobState::Paused {
            self.tell(FleetEvent::JobPaused { job });
        }
    }

    /// Plans a spec, keeps the job and queues it. Takes as long as looking at the data does.
    pub(crate) fn submit(&self, spec: &str, wishes: Submission) -> Result<JobView, JobError> {
        self.terms.limits.check_jobs(self.live().len())?;
        let spec_text = spec;
        let spec = spec::parse(spec_text, &[])?;
        // Until the job is there and says itself what it needs.
        let _claim = self.claims.look_at(data_sets_of(&spec)).map_err(JobError::DataGoes)?;
        let Planned { plan, manifest, taken, .. } = self.plan(spec, spec_text)?;
        let disk_bytes = disk_bytes(&plan, &manifest)?;
        let mut room = self.around.disk.room(&wishes.submitted_by);
        room.more(disk_bytes)?;
        let id = self.store.next_id()?;
        let record = JobRecord {
            priority: wishes.priority,
            min_workers: wishes.min_workers.max(1),
            max_workers: wishes.max_workers,
            taken,
            disk_bytes,
            ..JobRecord::new(id, &plan, wishes.submitted_by)
        };
        self.make(&record, &plan, &manifest).inspect_err(|_| self.forget(id))?;
        room.keep(disk_bytes);
        tracing::info!(job = record.job, "submitted");
        self.add(record);
        self.existing(JobId(id))
    }

    /// Makes the files of a job.
    fn make(&self, record: &JobRecord, plan: &Plan, manifest: &Manifest) -> Result<(), JobError> {
        self.store.put(record)?;
        RunDir::create(&self.folder_of(record.id), plan, manifest)?;
        Ok(())
    }

    /// Removes what there is of a job that came to nothing.
    fn forget(&self, id: u64) {
        match self.store.remove(id) {
            Ok(removed) => self.store.clear(&removed),
            Err(error) => tracing::warn!(%error, id, "a job that could not be made leaves files behind"),
        }
    }

    /// What `spec`, which was read from `text`, means. The limits are asked before time or memory is taken for what
    /// they bound.
    fn plan(&self, spec: Spec, text: &str) -> Result<Planned, JobError> {
        let JobTerms { planner, limits, .. } = &self.terms;
        limits.check_spec(&spec)?;
        let planned = planner.plan(&self.around.data, spec, text)?;
        let network = Network::of(&planned.plan)?;
        limits.check_plan(&planned.plan, &network)?;
        if let Some(init) = &planned.init {
            // Whether it fits; random values always do.
            initial_values(&planned.plan, &network, Some(init))?;
        }
        Ok(planned)
    }

    /// The run folder of a job.
    pub(crate) fn folder_of(&self, id: u64) -> PathBuf {
        self.store.folder_of(id)
    }

    /// The job that somebody means by a number, a name or `last`.
    pub(crate) fn find(&self, text: &str) -> Result<JobId, JobError> {
        let live = self.live();
        let found = match text {
            "last" => live.keys().next_back().copied(),
            text => live.iter().find(|(_, live)| live.record.is(text)).map(|(id, _)| *id),
        };
        found.ok_or_else(|| JobError::Unknown(text.to_owned()))
    }

    /// A job as it is now.
    pub(crate) fn view(&self, id: JobId) -> Option<JobView> {
        let live = self.live();
        let job = live.get(&id)?;
        let (record, status) = (job.record.clone(), job.status.as_ref().map(|status| status.borrow().clone()));
        // A run that goes on is in its journal.
        let state = record.state;
        let matters = !matches!(state, JobState::Queued | JobState::Running);
        let unsaved = job.unsaved.as_ref().filter(|_| matters).map(|problem| {
            format!("that it is {state} is not on disk yet, and a restart goes on from what was before: {problem}")
        });
        drop(live);
        let held_up = status.as_ref().and_then(|status: &Status| status.held_up.clone());
        let waiting_for = held_up.or_else(|| self.around.waiting.get(id)).filter(|_| !record.state.is_over());
        Some(JobView { waiting_for: unsaved.or(waiting_for), record, status })
    }

    /// Tells when something of a job may be new from now on.
    pub(crate) fn news(&self, id: JobId) -> JobNews {
        let status = self.live().get(&id).and_then(|job| job.status.clone());
        JobNews { records: self.records.subscribe(), waiting: self.around.waiting.changes(), status }
    }

    /// All jobs, the oldest first.
    pub(crate) fn views(&self) -> Vec<JobView> {
        let ids: Vec<JobId> = self.live().keys().copied().collect();
        ids.into_iter().filter_map(|id| self.view(id)).collect()
    }

    /// Claims a data set for whoever removes it: no job comes that needs it until the claim is dropped.
    ///
    /// # Errors
    /// Who needs it: a job that is not over, or one that is being looked at.
    pub(crate) fn claim_removal(&self, data: &DataName) -> Result<Claim<'_>, String> {
        let claim = self.claims.remove(data).ok_or("a job that is being submitted, or a removal")?;
        let live = self.live();
        let mut records = live.values().map(|live| &live.record);
        match records.find(|record| !record.state.is_over() && record.data.contains(data)) {
            Some(record) => Err(record.job.clone()),
            None => Ok(claim),
        }
    }

    /// Ends a job; its run saves first. It needs no disk.
    pub(crate) fn stop(&self, id: JobId) -> Result<JobView, JobError> {
        self.change(id, "stopped", |state| match state {
            JobState::Queued | JobState::Paused => Some((JobState::Stopped, FleetEvent::JobEnded { job: id })),
            JobState::Running | JobState::Pausing | JobState::Stopping => {
                Some((JobState::Stopping, FleetEvent::JobPaused { job: id }))
            }
            JobState::Completed | JobState::Stopped | JobState::Failed => None,
        })
    }

    /// Lets a job wait. It needs no disk.
    pub(crate) fn pause(&self, id: JobId) -> Result<JobView, JobError> {
        self.change(id, "paused", |state| match state {
            JobState::Queued | JobState::Paused => Some((JobState::Paused, FleetEvent::JobPaused { job: id })),
            JobState::Running | JobState::Pausing => Some((JobState::Pausing, FleetEvent::JobPaused { job: id })),
            _ => None,
        })
    }

    /// Lets a paused job go on; one that was stopped or failed tries again.
    pub(crate) fn resume(&self, id: JobId) -> Result<JobView, JobError> {
        self.wait_if_over(id);
        let request = self.existing(id)?.record.request();
        self.change(id, "resumed", |state| match state {
            JobState::Paused => Some((JobState::Queued, FleetEvent::JobContinued { job: id })),
            JobState::Pausing => Some((JobState::Running, FleetEvent::JobContinued { job: id })),
            JobState::Stopped | JobState::Failed => {
                Some((JobState::Queued, FleetEvent::JobAdded { job: id, request, started: false }))
            }
            _ => None,
        })
    }

    /// Removes a job that is over, with its files.
    pub(crate) fn remove(&self, id: JobId) -> Result<JobView, JobError> {
        self.wait_if_over(id);
        let mut live = self.live();
        let LiveJob { record, .. } = live.get(&id).ok_or_else(|| JobError::Unknown(id.0.to_string()))?;
        let record = record.clone();
        if !record.state.is_over() {
            let wanted = "removed; stop it first";
            return Err(JobError::State { job: record.job, state: record.state, wanted });
        }
        let removed = self.store.remove(id.0)?;
        live.remove(&id);
        drop(live);
        self.records.send_replace(());
        self.around.disk.give_back(&record.submitted_by, record.disk_bytes);
        self.store.clear(&removed);
        Ok(JobView { record, waiting_for: None, status: None })
    }

    /// Waits until the fleet knows that a job is over, if it is.
    fn wait_if_over(&self, id: JobId) {
        if self.live().get(&id).is_some_and(|live| live.record.state.is_over()) {
            self.around.open_runs.wait_until_closed(id);
        }
    }

    /// Moves a job to another state, on disk first, and tells the fleet: one change at a time, so that the fleet hears
    /// of them in their order. That a job shall end or wait is so whatever the disk takes.
    fn change(
        &self,
        id: JobId,
        wanted: &'static str,
        to: impl FnOnce(JobState) -> Option<(JobState, FleetEvent)>,
    ) -> Result<JobView, JobError> {
        let mut live = self.live();
        let job = live.get_mut(&id).ok_or_else(|| JobError::Unknown(id.0.to_string()))?;
        let state = job.record.state;
        let Some((next, event)) = to(state) else {
            return Err(JobError::State { job: job.record.job.clone(), state, wanted });
        };
        let mut record = JobRecord { state: next, ..job.record.clone() };
        record.ended = next.is_over().then(now).or(record.ended.filter(|_| next.is_over()));
        if next == JobState::Queued {
            (record.error, record.result) = (None, None);
        }
        let written = match self.store.put(&record) {
            Err(error) if matches!(next, JobState::Queued | JobState::Running) => {
                // The disk may have it all the same, and would say so after a restart.
                job.unsaved = Some(error.to_string());
                drop(live);
                self.records.send_replace(());
                return Err(error.into());
            }
            written => written,
        };
        job.record = record;
        job.is_written(written);
        self.tell(event);
        drop(live);
        self.records.send_replace(());
        self.existing(id)
    }

    fn existing(&self, id: JobId) -> Result<JobView, JobError> {
        self.view(id).ok_or_else(|| JobError::Unknown(id.0.to_string()))
    }

    /// Changes what is kept of a job, whatever the disk takes: the run itself is in its journal.
    pub(super) fn note(&self, id: JobId, change: impl FnOnce(&mut LiveJob)) {
        let mut live = self.live();
        let Some(job) = live.get_mut(&id) else { return };
        change(job);
        job.is_written(self.store.put(&job.record));
        drop(live);
        self.records.send_replace(());
    }

    /// Writes the records that are owed.
    fn save_owed(&self) {
        let mut any = false;
        for job in self.live().values_mut().filter(|job| job.unsaved.is_some()) {
            job.is_written(self.store.put(&job.record));
            any |= job.unsaved.is_none();
        }
        // Whoever watches reads again what it watches.
        self.records.send_if_modified(|()| any);
    }

    fn owes_records(&self) -> bool {
        self.live().values().any(|job| job.unsaved.is_some())
    }

    fn tell(&self, event: FleetEvent) {
        // The fleet's loop ends last.
        _ = self.around.fleet.send(event);
    }

    fn live(&self) -> MutexGuard<'_, BTreeMap<JobId, LiveJob>> {
        self.live.lock()
    }

    /// Asks all runs to finish their step, save and stop, and waits for them.
    pub(crate) async fn close(&self) {
        self.closing.send_replace(true);
        let mut carried = self.carried.subscribe();
        // The sender is this very struct.
        _ = carried.wait_for(|carried| *carried == 0).await;
        self.save_owed();
        for LiveJob { record, .. } in self.live().values().filter(|job| job.unsaved.is_some()) {
            tracing::error!(job = record.job, state = %record.state, "is not on disk; the next start does not know of it");
        }
    }
}

/// Writes records that the disk did not take, as soon as it does, for as long as the coordinator runs.
pub(crate) async fn keep_records(jobs: Arc<Jobs>) {
    let mut changes = jobs.records.subscribe();
    loop {
        // The sender is in `jobs`.
        _ = changes.wait_for(|()| jobs.owes_records()).await;
        tokio::time::sleep(TRY_EVERY).await;
        let writing = jobs.clone();
        if let Err(error) = tokio::task::spawn_blocking(move || writing.save_owed()).await {
            tracing::error!(%error, "writing records of jobs crashed");
        }
    }
}

#[cfg(test)]
mod tests;
