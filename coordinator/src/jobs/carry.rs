//! Carrying a job's run, and what becomes of the job after it.

use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use convoy_common::durable::{full_disk, is_full};
use convoy_common::panic_text;
use convoy_scheduler::JobId;
use futures_util::FutureExt;
use tokio::sync::watch;

use super::queue::{JobError, Jobs};
use super::record::{JobState, now};
use super::trouble::Trouble;
use crate::fleet::fleet_loop::Ended;
use crate::run::carry::carry;
use crate::run::export::export;
use crate::run::folder::run_dir::RunDir;
use crate::run::patience::{PAUSES, TRY_EVERY};
use crate::run::ready::{Ready, ReadyError};
use crate::run::start::load;
use crate::run::status::Status;

/// How often a run is carried anew that does not get on.
const STARTS: u32 = 5;

/// How a run went, as far as its job is concerned.
enum Went {
    /// It stopped because somebody asked, and can go on.
    Stopped,
    Completed(serde_json::Value),
    Failed(String),
}

/// A run counts as carried as long as this lives.
struct CarriedCount<'a>(&'a watch::Sender<usize>);

impl<'a> CarriedCount<'a> {
    fn new(carried: &'a watch::Sender<usize>) -> Self {
        carried.send_modify(|carried| *carried += 1);
        CarriedCount(carried)
    }
}

impl Drop for CarriedCount<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|carried| *carried -= 1);
    }
}

/// What one job's run is carried with.
#[derive(Clone)]
struct Carrying {
    jobs: Arc<Jobs>,
    id: JobId,
    status: watch::Sender<Status>,
    stop: watch::Receiver<bool>,
    closing: watch::Receiver<bool>,
}

impl Jobs {
    /// Carries the run of a job until it is over or `stop` turns true.
    pub(crate) async fn carry(self: Arc<Self>, id: JobId, stop: watch::Receiver<bool>) -> Ended {
        if *self.closing.borrow() {
            return Ended::Over;
        }
        let _carried = CarriedCount::new(&self.carried);
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
        let closing = self.closing.subscribe();
        let carrying = Carrying { jobs: self.clone(), id, status: sender, stop, closing };
        let went = carrying.until_it_ends().await;
        self.settle(id, went)
    }

    /// The run in `folder`, after its data was compared with the manifest.
    fn ready(&self, folder: &Path) -> Result<Ready, JobError> {
        let (dir, plan, manifest) = RunDir::open(folder)?;
        let lost = manifest.is_none();
        let planned = self.terms.planner.unchanged(&self.around.data, plan, manifest)?;
        if lost {
            dir.write_manifest(&planned.manifest)?;
        }
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

impl Carrying {
    /// Carries the run, and anew from its last checkpoint where a disk failed or something crashed: as often as it gets
    /// on in between, and [`STARTS`] times where it does not.
    async fn until_it_ends(mut self) -> Went {
        let (mut starts, mut step) = (0, 0);
        loop {
            let once = AssertUnwindSafe(self.clone().once()).catch_unwind().await;
            let trouble = match once {
                Ok(Ok(went)) => return went,
                Ok(Err(trouble)) => trouble,
                Err(panic) => Trouble::crashed("carrying the run", panic_text(panic.as_ref())),
            };
            let reached = self.status.borrow().step;
            starts = if reached > step { 1 } else { starts + 1 };
            step = step.max(reached);
            let (reason, pause) = match trouble {
                Trouble::Final(reason) => return Went::Failed(reason),
                Trouble::Full(reason) => (reason, TRY_EVERY),
                Trouble::Passing(reason) if starts > STARTS => return Went::Failed(reason),
                Trouble::Passing(reason) => (reason, PAUSES.longest(starts - 1)),
            };
            tracing::error!(reason, "the run goes on from its last checkpoint");
            if self.waits(reason, pause).await {
                return Went::Stopped;
            }
        }
    }

    async fn once(mut self) -> Result<Went, Trouble> {
        let (jobs, folder) = (self.jobs.clone(), self.jobs.folder_of(self.id.0));
        let status = self.status.clone();
        let loading = self.while_full("opening the run", move || {
            let ready = jobs.ready(&folder)?;
            let (plan, network) = (ready.plan.clone(), ready.network.clone());
            let config = ready.config(jobs.around.data.clone(), jobs.terms.carriage, status.clone());
            Ok((plan, network, load(config)?))
        });
        let Some((plan, network, loaded)) = loading.await? else { return Ok(Went::Stopped) };
        let (links, mut until) = (self.jobs.around.links.clone(), self.clone());
        let report = match carry(loaded, self.id, links, async move { until.stopped().await }).await {
            Ok(report) => report,
            Err(error) if error.is_unsaved() && self.is_stopped() => {
                tracing::error!(%error, "stopped without saving");
                return Ok(Went::Stopped);
            }
            Err(error) => return Err(error.into()),
        };
        if report.can_resume {
            return Ok(Went::Stopped);
        }
        let folder = self.jobs.folder_of(self.id.0);
        let exporting = self.while_full("writing the model", move || {
            let summary = export(&folder, &plan, &network, &report).map_err(|error| match is_full(&error.source) {
                true => Trouble::Full(full_disk(&error.path)),
                false => Trouble::Passing(error.to_string()),
            })?;
            Ok(serde_json::to_value(summary).expect("a summary is plain data"))
        });
        Ok(exporting.await?.map_or(Went::Stopped, Went::Completed))
    }

    /// Does `work` as often as the disk is full; `None` when the run shall stop before there is room.
    async fn while_full<T: Send + 'static>(
        &mut self,
        what: &'static str,
        work: impl Fn() -> Result<T, Trouble> + Send + Sync + 'static,
    ) -> Result<Option<T>, Trouble> {
        let work = Arc::new(work);
        loop {
            let again = work.clone();
            match tokio::task::spawn_blocking(move || again()).await {
                Ok(Ok(done)) => return Ok(Some(done)),
                Ok(Err(Trouble::Full(reason))) => {
                    if self.waits(reason, TRY_EVERY).await {
                        return Ok(None);
                    }
                }
                Ok(Err(trouble)) => return Err(trouble),
                Err(error) => return Err(Trouble::crashed(what, &error.to_string())),
            }
        }
    }

    /// Says why the run waits, and waits; whether it shall stop.
    async fn waits(&mut self, reason: String, pause: Duration) -> bool {
        self.status.send_modify(|status| status.held_up = Some(reason));
        tokio::select! {
            () = self.stopped() => true,
            () = tokio::time::sleep(pause) => false,
        }
    }

    /// Returns when the run shall stop.
    async fn stopped(&mut self) {
        tokio::select! {
            _ = self.stop.wait_for(|stop| *stop) => {}
            _ = self.closing.wait_for(|closing| *closing) => {}
        }
    }

    fn is_stopped(&self) -> bool {
        *self.stop.borrow() || *self.closing.borrow()
    }
}

#[cfg(test)]
mod tests;
