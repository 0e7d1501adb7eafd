//! Carrying a job's run, and what becomes of the job after it.

use std::path::Path;
use std::sync::Arc;

use convoy_scheduler::JobId;
use tokio::sync::watch;

use super::queue::{JobError, Jobs};
use super::record::{JobState, now};
use crate::fleet::fleet_loop::Ended;
use crate::run::carry::carry;
use crate::run::export::export;
use crate::run::folder::run_dir::RunDir;
use crate::run::ready::{Ready, ReadyError};
use crate::run::report::RunReport;
use crate::run::start::load;
use crate::run::status::Status;

/// How a run went, as far as its job is concerned.
enum Went {
    /// It stopped because somebody asked, and can go on.
    Stopped,
    Completed(serde_json::Value),
    Failed(String),
}

impl Jobs {
    /// Carries the run of a job until it is over or `stop` turns true.
    pub(crate) async fn carry(self: Arc<Self>, id: JobId, stop: watch::Receiver<bool>) -> Ended {
        if *self.closing.borrow() {
            return Ended::Over;
        }
        self.carried.send_modify(|carried| *carried += 1);
        let (sender, status) = watch::channel(Status::default());
        self.note(id, |job| {
            job.status = Some(status);
            if job.record.state == JobState::Queued {
                job.record.state = JobState::Running;
            }
            if job.record.started.is_none() {
                job.record.started = Some(now());
                job.record.taken.iter().flat_map(|taken| taken.lines()).for_each(|line| tracing::info!("{line}"));
            }
        });
        let went = self.clone().run(id, sender, stop).await;
        let ended = self.settle(id, went);
        self.carried.send_modify(|carried| *carried -= 1);
        ended
    }

    async fn run(self: Arc<Self>, id: JobId, status: watch::Sender<Status>, mut stop: watch::Receiver<bool>) -> Went {
        let (jobs, folder) = (self.clone(), self.folder_of(id.0));
        let loading = tokio::task::spawn_blocking(move || {
            let ready = jobs.ready(&folder).map_err(|error| error.to_string())?;
            let (plan, network) = (ready.plan.clone(), ready.network.clone());
            let config = ready.config(jobs.around.data.clone(), jobs.terms.audit_every, status);
            let loaded = load(config).map_err(|error| error.to_string())?;
            Ok::<_, String>((plan, network, loaded))
        });
        let (plan, network, loaded) = match loading.await {
            Ok(Ok(loaded)) => loaded,
            Ok(Err(reason)) => return Went::Failed(reason),
            Err(error) => return Went::Failed(format!("opening the run crashed: {error}")),
        };
        let mut closing = self.closing.subscribe();
        let stopped = async move {
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => {}
                _ = closing.wait_for(|closing| *closing) => {}
            }
        };
        let report = match carry(loaded, id, self.around.links.clone(), stopped).await {
            Ok(report) => report,
            Err(error) => return Went::Failed(error.to_string()),
        };
        if report.can_resume {
            return Went::Stopped;
        }
        let folder = self.folder_of(id.0);
        let exporting = tokio::task::spawn_blocking(move || {
            let report: RunReport = report;
            export(&folder, &plan, &network, &report)
                .map(|summary| serde_json::to_value(summary).expect("a summary is plain data"))
                .map_err(|error| error.to_string())
        });
        match exporting.await {
            Ok(Ok(result)) => Went::Completed(result),
            Ok(Err(reason)) => Went::Failed(reason),
            Err(error) => Went::Failed(format!("writing the model crashed: {error}")),
        }
    }

    /// The run in `folder`, after its data was compared with the manifest.
    fn ready(&self, folder: &Path) -> Result<Ready, JobError> {
        let (dir, plan, manifest) = RunDir::open(folder)?;
        let planned = self.terms.planner.unchanged(&self.around.data, plan, manifest)?;
        Ready::new(dir, planned).map_err(|error| match error {
            ReadyError::Network(error) => error.into(),
            ReadyError::Init(error) => error.into(),
        })
    }

    /// What the job is now, and what the fleet shall think of it.
    fn settle(&self, id: JobId, went: Went) -> Ended {
        let closing = *self.closing.borrow();
        let mut ended = Ended::Over;
        self.note(id, |job| {
            job.status = None;
            let record = &mut job.record;
            match went {
                // The coordinator goes; the job goes on at its next start.
                Went::Stopped if closing && record.state == JobState::Running => {}
                Went::Stopped => {
                    (record.state, ended) = match record.state {
                        JobState::Pausing => (JobState::Paused, Ended::Suspended),
                        JobState::Stopping => (JobState::Stopped, Ended::Over),
                        // Somebody paused it and has changed their mind since.
                        _ => (JobState::Queued, Ended::Suspended),
                    };
                }
                Went::Completed(result) => (record.state, record.result) = (JobState::Completed, Some(result)),
                Went::Failed(reason) => {
                    tracing::error!(job = record.job, reason, "failed");
                    (record.state, record.error) = (JobState::Failed, Some(reason));
                }
            }
            if record.state.is_over() {
                record.ended = Some(now());
                tracing::info!(job = record.job, state = %record.state, "over");
            }
        });
        ended
    }
}
