//! A worker: it joins a coordinator, computes the shards it is lent and sends their sums back. It holds nothing
//! that a run could miss: it may vanish at any time.

mod cache;
mod compute;
mod data;
mod files;
mod heart;
mod membership;
mod parameters;
mod push;
mod session;
mod stages;

use std::path::PathBuf;
use std::sync::Arc;

use convoy_nn::Device;
use convoy_proto::channel::Link;
use convoy_security::ConnectError;
use tokio::sync::{mpsc, watch};

pub use cache::Cache;
pub use data::RunData;
pub use session::run;

/// How a worker is set up. Nothing here can change a bit of the result; `device` decides which runs it may join.
#[derive(Debug)]
pub struct Config {
    /// How the coordinator is reached; whoever holds the other end may exchange the identity in it.
    pub link: watch::Receiver<Link>,
    /// A name for people.
    pub name: String,
    /// Shards computed at a time.
    pub threads: usize,
    /// Where they are computed.
    pub device: Device,
    /// The run's data, where it is in memory already; otherwise the manifest's files are opened.
    pub data: Option<Arc<RunData>>,
    /// Where files that come from the coordinator are kept; without it they are fetched again in every epoch.
    pub cache: Option<Arc<Cache>>,
    /// A folder of this machine that may hold data sets (`NAME/...`) and shared data, which then is not fetched.
    pub sees: Option<PathBuf>,
    /// Lines that were logged, to be kept with the job they belong to.
    pub log: Option<mpsc::Receiver<String>>,
    /// For how long an unreachable coordinator is tried again; `None` for as long as it takes.
    pub patience: Option<std::time::Duration>,
}

/// How a worker's life ended well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// There is nothing more to do.
    RunOver,
    /// It was asked to go and finished what it held.
    Drained,
}

/// Why a worker gave up.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// Nobody answers.
    #[error(
        "no coordinator answers at {address}: {reason}; check the address and that `convoy coordinator` runs there"
    )]
    Unreachable {
        /// Where it was looked for.
        address: String,
        /// What the system said.
        reason: String,
    },
    /// The coordinator is not trusted, or does not trust this worker.
    #[error("the coordinator is not talked to: {0}")]
    Connect(ConnectError),
    /// The coordinator does not want it.
    #[error("the coordinator refused this worker: {reason}")]
    Refused {
        /// What it said.
        reason: String,
    },
    /// The plan or the manifest makes no sense.
    #[error("the coordinator sent {what} that makes no sense: {reason}; both must run the same version of Convoy")]
    Nonsense {
        /// What it sent.
        what: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The data is not there.
    #[error("the run's data cannot be used: {0}")]
    Data(#[from] convoy_vision::LoadError),
    /// The network cannot be computed.
    #[error("the run's network cannot be computed: {0}")]
    Compute(#[from] convoy_nn::ComputeError),
}
