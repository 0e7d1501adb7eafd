//! What the coordinator has done by others, since it knows no images: making a plan of a spec.

use std::path::Path;
use std::sync::Arc;

use convoy_common::Plan;
use convoy_common::file_tree::FileTree;
use convoy_common::manifest::Manifest;
use convoy_model::Network;

use super::JobLimits;
use crate::RunDir;

/// Why a job is refused, in the words of a command line and with its exit code.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// What is wrong and what to do.
    pub message: String,
    /// The exit code that says as much.
    pub code: u8,
}

/// A run that can be opened.
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
    /// What the network starts from.
    pub initial: Vec<f32>,
}

/// Makes runs of specs. Called on threads that may block.
pub trait Planner: Send + Sync {
    /// Looks at the data of `spec` (TOML) in `data` and makes the plan. Asks `limits` before it takes time or memory
    /// for what they bound.
    ///
    /// # Errors
    /// When spec, data and network do not fit, or ask for too much.
    fn plan(&self, data: &Arc<dyn FileTree>, spec: &str, limits: &JobLimits) -> Result<(Plan, Manifest), Refusal>;

    /// Opens the run in `folder`, after its data in `data` was compared with the manifest.
    ///
    /// # Errors
    /// When it is no run, or its data has changed.
    fn open(&self, data: &Arc<dyn FileTree>, folder: &Path) -> Result<Ready, Refusal>;
}
