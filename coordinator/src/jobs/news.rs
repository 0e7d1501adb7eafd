//! When to look at a job again, for those who follow it.

use tokio::sync::watch;

use crate::fleet::waiting::Reasons;
use crate::run::status::Status;

/// Tells that something of a job may be new since this was made. While nothing happens, nothing is done.
pub(crate) struct JobNews {
    /// Records of jobs.
    pub(super) records: watch::Receiver<()>,
    /// What jobs wait for.
    pub(super) waiting: watch::Receiver<Reasons>,
    /// The job's run, while it is open.
    pub(super) status: Option<watch::Receiver<Status>>,
}

impl JobNews {
    /// Whether the job's run is open.
    pub(crate) fn is_open(&self) -> bool {
        self.status.is_some()
    }

    /// Returns as soon as something may be new.
    pub(crate) async fn wait(&mut self) {
        let status = async {
            let told = match &mut self.status {
                Some(status) => status.changed().await.is_ok(),
                None => false,
            };
            if !told {
                // A run that ends changes the job's record next.
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            _ = self.records.changed() => {}
            _ = self.waiting.changed() => {}
            () = status => {}
        }
    }
}
