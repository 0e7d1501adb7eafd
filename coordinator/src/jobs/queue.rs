//! The queue of jobs: what was submitted, where it stands, and what people want of it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use convoy_common::data_place::{DataName, DataPlace};
use convoy_common::file_tree::FileTree;
use convoy_common::planner::{Planned, Planner, Refusal};
use convoy_common::spec::{self, SpecError};
use convoy_model::{InitError, Network, NetworkError, initial_values};
use convoy_scheduler::{FleetEvent, JobId};
use parking_lot::{Mutex, MutexGuard};
use serde::Serialize;
use tokio::sync::watch;

use super::limits::{JobLimits, LimitError};
use super::news::JobNews;
use super::record::{self, JobRecord, JobState};
use super::store::JobStore;
use crate::fleet::waiting::WaitingReasons;
use crate::queue::QueueSender;
use crate::run::folder::run_dir::RunDir;
use crate::run::folder::run_dir_error::RunDirError;
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
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: std::io::Error },
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
    /// One in so many shards that a worker computes is computed by another one as well, and compared; 0 for none.
    pub(crate) audit_every: u32,
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
}

/// All jobs of a coordinator.
pub(crate) struct Jobs {
    folder: PathBuf,
    store: JobStore,
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
}

impl Jobs {
    /// Opens the jobs in `folder` and tells the fleet of those that are not over.
    pub(crate) fn open(folder: &Path, terms: JobTerms, around: JobSurroundings) -> Result<Jobs, JobError> {
        let path = folder.join("jobs");
        fs::create_dir_all(&path).map_err(|source| JobError::Io { path, source })?;
        let store = JobStore::open(&folder.join("jobs.redb"))?;
        let jobs = Jobs {
            folder: folder.to_owned(),
            terms,
            around,
            live: Mutex::default(),
            records: watch::Sender::new(()),
            carried: watch::Sender::new(0),
            closing: watch::Sender::new(false),
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
            jobs.tell_of(&record);
            jobs.live().insert(record.id(), LiveJob { record, status: None });
        }
        Ok(jobs)
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
        let Planned { plan, manifest, taken, .. } = self.plan(spec)?;
        let id = self.store.next_id()?;
        let record = JobRecord {
            id,
            job: format!("{}-{id}", record::name_of(&plan.spec.name)),
            state: JobState::Queued,
            priority: wishes.priority,
            min_workers: wishes.min_workers.max(1),
            max_workers: wishes.max_workers,
            numerics: plan.spec.numerics.clone(),
            submitted_by: wishes.submitted_by,
            submitted: now(),
            started: None,
            ended: None,
            data: plan.spec.paths().into_iter().filter_map(|(_, path)| data_set_of(path)).collect(),
            taken,
            error: None,
            result: None,
        };
        RunDir::create(&self.folder_of(id), &plan, &manifest)?;
        self.store.put(&record)?;
        tracing::info!(job = record.job, "submitted");
        self.live().insert(record.id(), LiveJob { record: record.clone(), status: None });
        self.tell_of(&record);
        self.view(record.id()).ok_or(JobError::Unknown(record.job))
    }

    /// What the spec in `text` means. The limits are asked before time or memory is taken for what they bound.
    fn plan(&self, text: &str) -> Result<Planned, JobError> {
        let JobTerms { planner, limits, .. } = &self.terms;
        let spec = spec::parse(text, &[])?;
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
        self.folder.join("jobs").join(id.to_string())
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
        drop(live);
        let waiting_for = self.around.waiting.get(id);
        Some(JobView { waiting_for: waiting_for.filter(|_| !record.state.is_over()), record, status })
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

    /// A job that is not over and needs this data set.
    pub(crate) fn user_of(&self, data: &DataName) -> Option<String> {
        let live = self.live();
        let mut records = live.values().map(|live| &live.record);
        records.find(|record| !record.state.is_over() && record.data.contains(data)).map(|record| record.job.clone())
    }

    /// Ends a job; its run saves first.
    pub(crate) fn stop(&self, id: JobId) -> Result<JobView, JobError> {
        let state = self.change(id, "stopped", |state| match state {
            JobState::Queued | JobState::Paused => Some(JobState::Stopped),
            JobState::Running | JobState::Pausing | JobState::Stopping => Some(JobState::Stopping),
            JobState::Completed | JobState::Stopped | JobState::Failed => None,
        })?;
        self.tell(match state {
            JobState::Stopped => FleetEvent::JobEnded { job: id },
            _ => FleetEvent::JobPaused { job: id },
        });
        self.existing(id)
    }

    /// Lets a job wait.
    pub(crate) fn pause(&self, id: JobId) -> Result<JobView, JobError> {
        self.change(id, "paused", |state| match state {
            JobState::Queued | JobState::Paused => Some(JobState::Paused),
            JobState::Running | JobState::Pausing => Some(JobState::Pausing),
            _ => None,
        })?;
        self.tell(FleetEvent::JobPaused { job: id });
        self.existing(id)
    }

    /// Lets a paused job go on; one that was stopped or failed tries again.
    pub(crate) fn resume(&self, id: JobId) -> Result<JobView, JobError> {
        let before = self.existing(id)?.record.state;
        self.change(id, "resumed", |state| match state {
            JobState::Paused | JobState::Stopped | JobState::Failed => Some(JobState::Queued),
            JobState::Pausing => Some(JobState::Running),
            _ => None,
        })?;
        if before.is_over() {
            let record = self.existing(id)?.record;
            self.tell_of(&record);
        } else {
            self.tell(FleetEvent::JobContinued { job: id });
        }
        self.existing(id)
    }

    /// Removes a job that is over, with its files.
    pub(crate) fn remove(&self, id: JobId) -> Result<JobView, JobError> {
        let view = self.existing(id)?;
        let JobRecord { job, state, .. } = view.record.clone();
        if !state.is_over() {
            return Err(JobError::State { job, state, wanted: "removed; stop it first" });
        }
        self.store.remove(id.0)?;
        self.live().remove(&id);
        self.records.send_replace(());
        let path = self.folder_of(id.0);
        match fs::remove_dir_all(&path) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => Err(JobError::Io { path, source }),
            _ => Ok(view),
        }
    }

    /// Moves a job to another state, on disk first.
    fn change(
        &self,
        id: JobId,
        wanted: &'static str,
        to: impl FnOnce(JobState) -> Option<JobState>,
    ) -> Result<JobState, JobError> {
        let mut live = self.live();
        let job = live.get_mut(&id).ok_or_else(|| JobError::Unknown(id.0.to_string()))?;
        let state = job.record.state;
        let Some(next) = to(state) else {
            return Err(JobError::State { job: job.record.job.clone(), state, wanted });
        };
        let mut record = JobRecord { state: next, ..job.record.clone() };
        record.ended = next.is_over().then(now).or(record.ended.filter(|_| next.is_over()));
        if next == JobState::Queued {
            (record.error, record.result) = (None, None);
        }
        self.store.put(&record)?;
        job.record = record;
        self.records.send_replace(());
        Ok(next)
    }

    fn existing(&self, id: JobId) -> Result<JobView, JobError> {
        self.view(id).ok_or_else(|| JobError::Unknown(id.0.to_string()))
    }

    /// Changes what is kept of a job; a disk that fails is logged, since the run itself is in its journal.
    pub(super) fn note(&self, id: JobId, change: impl FnOnce(&mut LiveJob)) {
        let mut live = self.live();
        let Some(job) = live.get_mut(&id) else { return };
        change(job);
        self.records.send_replace(());
        if let Err(error) = self.store.put(&job.record) {
            tracing::error!(job = job.record.job, %error, "the job's record is not up to date");
        }
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
    }
}

fn data_set_of(path: &str) -> Option<DataName> {
    match DataPlace::parse(path) {
        Ok(DataPlace::DataSet(name, _)) => Some(name),
        _ => None,
    }
}

/// The time it is, in UTC.
pub(super) fn now() -> String {
    jiff::Timestamp::now().to_string()
}
