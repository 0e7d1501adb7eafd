//! A coordinator that people leave running: a queue of jobs, and workers that come and go.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use convoy_common::planner::Planner;
use convoy_files::Archives;
use convoy_proto::channel;
use convoy_scheduler::{FleetEvent, JobId};
use convoy_security::Secret;
use futures_core::future::BoxFuture;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tonic::service::Routes;

use crate::access::caller::Caller;
use crate::access::cluster::Access;
use crate::access::error::AccessError;
use crate::data::error::DataError;
use crate::data::sources::Sources;
use crate::data::store::DataStore;
use crate::data::upkeep;
use crate::disk_use::{DiskLimits, DiskUse};
use crate::fleet::connections::Connections;
use crate::fleet::fleet_loop::{EVENTS_WAITING, FleetLoop};
use crate::fleet::open_runs::OpenRuns;
use crate::fleet::waiting::WaitingReasons;
use crate::jobs::limits::JobLimits;
use crate::jobs::queue::{JobError, JobSurroundings, JobTerms, Jobs, keep_records};
use crate::queue::{QueueSender, queue};
use crate::run::config::Carriage;
use crate::server::Server;
use crate::state_folder::{hold, private_folder};
use crate::store_error::StoreError;
use crate::wire::access::AccessService;
use crate::wire::data::DataService;
use crate::wire::jobs::JobsService;
use crate::wire::workers::WorkersService;

/// What a coordinator of jobs needs.
pub struct ClusterConfig {
    /// Where jobs and all that belongs to them are kept.
    pub state: PathBuf,
    /// A folder that workers see, too, for data whose path begins with `shared:`.
    pub shared: Option<PathBuf>,
    /// How runs are carried.
    pub carriage: Carriage,
    /// Makes plans of specs.
    pub planner: Arc<dyn Planner>,
    /// The most that a submitted job may ask for.
    pub limits: JobLimits,
    /// The most that data sets and jobs may take of the disk.
    pub disk: DiskLimits,
    /// Life of the certificates that the cluster's authority signs.
    pub certificate_life: Duration,
    /// What callers show where there is no cluster: they are processes of one user of this machine.
    pub secret: Secret,
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
///
/// Both futures are boxed, so that all of this is compiled here and not in each crate that awaits it.
pub fn serve_cluster(
    config: ClusterConfig,
    listener: TcpListener,
    stop: BoxFuture<'_, ()>,
) -> BoxFuture<'_, Result<(), ClusterError>> {
    Box::pin(serve_cluster_until(config, listener, stop))
}

async fn serve_cluster_until(
    config: ClusterConfig,
    listener: TcpListener,
    stop: BoxFuture<'_, ()>,
) -> Result<(), ClusterError> {
    let ClusterConfig { state, shared, carriage, planner, limits, disk: disk_limits, certificate_life, secret } =
        config;
    private_folder(&state).map_err(|source| ClusterError::Io { path: state.clone(), source })?;
    let _held = hold(&state)?;
    let access = Access::open(&state, certificate_life, secret)?;
    let (events, fleet_events) = queue(EVENTS_WAITING);
    let connections = Arc::new(Connections::new(events.clone()));
    let waiting = WaitingReasons::default();
    let disk = DiskUse::new(&state, disk_limits);
    let store = Arc::new(DataStore::open(&state.join("data"), disk.clone())?);
    let sources = Arc::new(Sources { store: store.clone(), shared });
    let data = Arc::new(Archives::limited(sources, state.join("unpacked"), disk.clone()));
    let (links, open_runs, asking) = (connections.clone(), OpenRuns::default(), events.clone());
    let surroundings =
        JobSurroundings { data, fleet: events, waiting: waiting.clone(), links, open_runs: open_runs.clone(), disk };
    let terms = JobTerms { planner, limits, carriage };
    let jobs = Arc::new(Jobs::open(&state, terms, surroundings)?);
    let carrier = jobs.clone();
    let start = move |job: JobId, stop| {
        let folder = carrier.folder_of(job.0);
        let span = tracing::info_span!("job", %job, folder = %folder.display());
        tracing::Instrument::instrument(carrier.clone().carry(job, stop), span)
    };
    let fleet = tokio::spawn(FleetLoop::new(connections.clone(), fleet_events, (waiting, open_runs), start).run());
    let services = services(&access, &connections, &jobs, store.clone());
    let (fresh_access, links) = (access.clone(), connections.clone());
    let expired = move |has_expired: &dyn Fn(&Caller) -> bool| {
        links.disconnect_where(has_expired, "its certificate has expired");
    };
    let (again, kept_up) = (ask_again(store.mended(), asking), upkeep::keep_up(store.clone()));
    let records = keep_records(jobs.clone());
    let upkeep = tokio::spawn(async move { tokio::join!(again, kept_up, records) });
    let fresh = tokio::spawn(async move { fresh_access.keep_fresh(expired).await });
    let mut server = Server::start(listener.into(), access, services);
    tokio::select! {
        () = stop => {}
        how = server.failed() => return Err(ClusterError::Socket(how)),
    }
    jobs.close().await;
    connections.disconnect_all(false, "the coordinator stops");
    server.close().await;
    fleet.abort();
    fresh.abort();
    upkeep.abort();
    Ok(())
}

/// Has workers that declined jobs asked again whenever damaged data may be `mended`.
async fn ask_again(mut mended: watch::Receiver<()>, fleet: QueueSender<FleetEvent>) {
    while mended.changed().await.is_ok() {
        fleet.send(FleetEvent::AskAgain);
    }
}

fn services(access: &Arc<Access>, connections: &Arc<Connections>, jobs: &Arc<Jobs>, store: Arc<DataStore>) -> Routes {
    let (access, connections, jobs) = (access.clone(), connections.clone(), jobs.clone());
    Routes::new(channel::access_service(AccessService::new(access, connections.clone())))
        .add_service(channel::service(WorkersService(connections.clone())))
        .add_service(channel::jobs_service(JobsService { jobs: jobs.clone(), connections }))
        .add_service(channel::data_service(DataService { store, jobs }))
}

impl From<JobError> for ClusterError {
    fn from(error: JobError) -> Self {
        match error {
            JobError::Store(error) => ClusterError::Store(error),
            error => ClusterError::Socket(error.to_string()),
        }
    }
}
