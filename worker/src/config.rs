//! How a worker is set up, and how it ends.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use convoy_nn::Device;
use convoy_proto::channel::Link;
use tokio::sync::{mpsc, watch};

use crate::disk_cache::DiskCache;
use crate::peer_end::PeerConfig;
use crate::run_data::RunData;

/// How a worker is set up. Nothing here can change a bit of the result; `device` decides which runs it may join.
#[derive(Debug)]
pub struct Config {
    /// How the coordinator is reached; whoever holds the other end may exchange the identity in it.
    pub link: watch::Receiver<Link>,
    /// A name for people.
    pub name: String,
    /// Shards computed at a time. 0 where it computes nothing and only adds gradients for other workers, which have to
    /// reach it: it needs no data then, and its device does not matter.
    pub threads: usize,
    /// Where they are computed.
    pub device: Device,
    /// The run's data, where it is in memory already; otherwise the manifest's files are opened.
    pub data: Option<Arc<RunData>>,
    /// Where files that come from the coordinator are kept; without it they are fetched again in every epoch.
    pub cache: Option<Arc<DiskCache>>,
    /// A folder of this machine that may hold data sets (`NAME/...`) and shared data, which then is not fetched.
    pub sees: Option<PathBuf>,
    /// Lines that were logged, to be kept with the job they belong to.
    pub log: Option<mpsc::Receiver<String>>,
    /// For how long an unreachable coordinator is tried again; `None` for as long as it takes.
    pub patience: Option<Duration>,
    /// Bytes of memory that it may take, if fewer than the machine has.
    pub most_memory: Option<u64>,
    /// Whether a job that it cannot do is declined, so that it stays for others; else it ends with the reason.
    pub declines: bool,
    /// Whether and where it listens for other workers.
    pub peers: PeerConfig,
}

/// How a worker's life ended well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// There is nothing more to do.
    RunOver,
    /// It was asked to go and finished what it held.
    Drained,
}
