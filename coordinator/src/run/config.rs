//! What one start of a run needs.

use std::sync::Arc;

use convoy_common::Plan;
use convoy_common::file_tree::Files;
use convoy_common::manifest::Manifest;
use convoy_model::Network;
use tokio::sync::{mpsc, watch};

use super::folder::events::RunEvent;
use super::folder::run_dir::RunDir;
use super::status::Status;

/// How runs are carried, whatever their specs say. The bits do not depend on it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Carriage {
    /// One in so many shards that a worker computes is computed by another one as well, and compared, and one in so
    /// many chunks that it adds is added by the coordinator as well; 0 for none.
    pub audit_every: u32,
    /// Who adds gradients.
    pub exchange: Exchange,
}

/// Who adds the gradients of a step, and makes its next parameters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Exchange {
    /// The coordinator.
    #[default]
    Star,
    /// Workers that all others reach, each for chunks of its own; the coordinator where there are none.
    Sliced,
}

/// What one start needs.
#[derive(Debug, Clone)]
pub struct Config {
    /// The run's folder.
    pub dir: Arc<RunDir>,
    /// The plan.
    pub plan: Arc<Plan>,
    /// The network that the plan means.
    pub network: Arc<Network>,
    /// The data.
    pub manifest: Arc<Manifest>,
    /// Where the data is read, for workers that do not see it themselves.
    pub files: Arc<dyn Files>,
    /// Initial parameters and buffers; used when there is no checkpoint.
    pub initial: Vec<f32>,
    /// How it is carried.
    pub carriage: Carriage,
    /// Who wants to hear of events.
    pub listener: Option<mpsc::UnboundedSender<RunEvent>>,
    /// Where the state of the run is shown.
    pub status: watch::Sender<Status>,
}
