//! A coordinator that people leave running: a queue of jobs, and workers that come and go.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use convoy_common::planner::Planner;
use convoy_scheduler::JobId;
use convoy_security::{Limits, incoming};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};

use crate::access::{Access, AccessError, AccessLayer, AccessService, CallsLayer};
use crate::data::{DataError, DataService, DataStore, Sources};
use crate::fleet_loop::{FleetLoop, Waiting};
use crate::hub::Hub;
use crate::jobs::{JobError, JobLimits, Jobs, JobsService, StoreError, Terms};
use crate::service::Service;

/// How long connections may take to end.
const GOODBYE: Duration = Duration::from_secs(2);

/// What a coordinator of jobs needs.
pub struct ClusterConfig {
    /// Where jobs and all that belongs to them are kept.
    pub state: PathBuf,
    /// A folder that workers see, too, for data whose path begins with `shared:`.
    pub shared: Option<PathBuf>,
    /// One in so many shards that a worker computes is computed by another one as well, and compared; 0 for none.
    pub audit_every: u32,
    /// Makes plans of specs.
    pub planner: Arc<dyn Planner>,
    /// The most that a submitted job may ask for.
    pub limits: JobLimits,
    /// Life of the certificates that the cluster's authority signs.
    pub certificate_life: Duration,
}

/// Why a coordinator of jobs cannot work.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// Its folder cannot be used.
    #[error("{}: {source}; make the folder writable, or choose another --state", path.display())]
    Io {
        /// What could not be read or written.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Its job store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Its data cannot be used.
    #[error(transparent)]
    Data(#[from] DataError),
    /// Its authority, members or tokens cannot be used.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The socket failed.
    #[error("the coordinator's socket failed: {0}")]
    Socket(String),
}

/// Serves jobs and workers on `listener` until `stop`; then all runs finish their step and save, and go on when the
/// coordinator is started again.
///
/// # Errors
/// When its folder cannot be used or the socket fails.
pub async fn serve_cluster(
    config: ClusterConfig,
    listener: TcpListener,
    stop: impl Future<Output = ()>,
) -> Result<(), ClusterError> {
    let ClusterConfig { state, shared, audit_every, planner, limits, certificate_life } = config;
    fs::create_dir_all(&state).map_err(|source| ClusterError::Io { path: state.clone(), source })?;
    let access = Access::open(&state, certificate_life)?;
    let (events, fleet_events) = mpsc::unbounded_channel();
    let hub = Arc::new(Hub::new(events.clone()));
    let waiting = Waiting::default();
    let store = Arc::new(DataStore::open(&state.join("data"))?);
    let sources = Arc::new(Sources { store: store.clone(), shared });
    let jobs =
        Jobs::open(&state, Terms { planner, limits, audit_every }, sources, events, waiting.clone(), hub.clone())
            .map_err(|error| match error {
                JobError::Store(error) => ClusterError::Store(error),
                JobError::Io { path, source } => ClusterError::Io { path, source },
                error => ClusterError::Socket(error.to_string()),
            })?;
    let jobs = Arc::new(jobs);
    let carrier = jobs.clone();
    let start = move |job: JobId, stop| {
        let folder = carrier.folder_of(job.0);
        let span = tracing::info_span!("job", %job, folder = %folder.display());
        tracing::Instrument::instrument(carrier.clone().carry(job, stop), span)
    };
    let fleet = tokio::spawn(FleetLoop::new(hub.clone(), fleet_events, waiting, start).run());
    let (close, closed) = oneshot::channel::<()>();
    let connections = incoming(listener, access.tls(), Limits::default());
    let fresh = tokio::spawn(access.clone().keep_fresh(hub.clone()));
    let server = convoy_proto::channel::server()
        .layer(AccessLayer(access.clone()))
        .layer(CallsLayer::default())
        .add_service(convoy_proto::channel::access_service(AccessService { access, hub: hub.clone() }))
        .add_service(convoy_proto::channel::service(Service(hub.clone())))
        .add_service(convoy_proto::channel::jobs_service(JobsService(jobs.clone())))
        .add_service(convoy_proto::channel::data_service(DataService { store, jobs: jobs.clone() }))
        .serve_with_incoming_shutdown(connections, async { _ = closed.await });
    let mut server = tokio::spawn(server);
    tokio::select! {
        () = stop => {}
        ended = &mut server => return Err(ClusterError::Socket(format!("{ended:?}"))),
    }
    jobs.close().await;
    hub.farewell(false, "the coordinator stops");
    _ = close.send(());
    if tokio::time::timeout(GOODBYE, server).await.is_err() {
        tracing::debug!("some connections did not end");
    }
    fleet.abort();
    fresh.abort();
    Ok(())
}
