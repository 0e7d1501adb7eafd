//! A run that can be carried: its folder is held, its data was looked at.

use std::sync::Arc;

use convoy_common::Plan;
use convoy_common::file_tree::Files;
use convoy_common::manifest::Manifest;
use convoy_common::planner::Planned;
use convoy_model::{InitError, Network, NetworkError, initial_values};
use tokio::sync::watch;

use super::config::{Carriage, Config};
use super::folder::run_dir::RunDir;
use super::status::Status;

/// A run that can be carried.
#[derive(Debug)]
pub struct Ready {
    /// Its folder.
    pub dir: RunDir,
    /// What it means.
    pub plan: Arc<Plan>,
    /// Its network.
    pub network: Arc<Network>,
    /// Its data.
    pub manifest: Manifest,
    /// Parameters and buffers before the first step: the flat vector of the network.
    pub initial: Vec<f32>,
}

/// Why a run whose data is in order cannot be carried.
#[derive(Debug, thiserror::Error)]
pub enum ReadyError {
    /// Its network makes no sense.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The network cannot start from the model file that the spec names.
    #[error(transparent)]
    Init(#[from] InitError),
}

impl Ready {
    /// The run in `dir`, as it was planned.
    ///
    /// # Errors
    /// When plan and model file do not make a network.
    pub fn new(dir: RunDir, planned: Planned) -> Result<Ready, ReadyError> {
        let Planned { plan, manifest, init, .. } = planned;
        let network = Network::of(&plan)?;
        let (initial, _) = initial_values(&plan, &network, init.as_deref())?;
        Ok(Ready { dir, plan: Arc::new(plan), network: Arc::new(network), manifest, initial })
    }

    /// What one start of the run needs. Workers get the data from `files`, and the state of the run is shown in
    /// `status`. Nobody listens to its events yet.
    pub fn config(self, files: Arc<dyn Files>, carriage: Carriage, status: watch::Sender<Status>) -> Config {
        Config {
            dir: Arc::new(self.dir),
            plan: self.plan,
            network: self.network,
            manifest: Arc::new(self.manifest),
            files,
            initial: self.initial,
            carriage,
            listener: None,
            status,
        }
    }
}
