//! Planning, as a coordinator of jobs asks for it.
//!
//! The coordinator keeps specs and data and knows no images; planning knows images and no coordinator. So the trait
//! lies here, below both, beside the [`FileTree`] through which the coordinator shows its data: neither crate is built
//! or tested with the other. It is a trait and not two closures, since its two functions must agree:
//! [`Planner::unchanged`] compares what [`Planner::plan`] saw.

use std::sync::Arc;

use crate::file_tree::FileTree;
use crate::manifest::Manifest;
use crate::{Plan, Spec};

/// What planning makes of a spec and its data.
#[derive(Debug, Clone)]
pub struct Planned {
    /// What the spec means.
    pub plan: Plan,
    /// The data. Its digest is `plan.manifest`.
    pub manifest: Manifest,
    /// The bytes of the model file that `network.init` names, if it names one. Their digest is `plan.init`.
    pub init: Option<Vec<u8>>,
    /// What was taken of the data and why, in words for people; `None` where data is compared with what it was.
    pub taken: Option<String>,
}

/// Makes plans of specs. Called on threads that it may block for as long as it takes to read all data.
pub trait Planner: Send + Sync {
    /// Looks at the data of `spec` in `data` and makes the plan. `text` is what `spec` was read from, for line numbers
    /// in messages. Takes no memory for parameters.
    ///
    /// # Errors
    /// When the data cannot be used, or spec, data and network do not fit.
    fn plan(&self, data: &Arc<dyn FileTree>, spec: Spec, text: &str) -> Result<Planned, Refusal>;

    /// Compares the data of `plan`, as it lies in `data` now, with the `manifest` of a run that was planned before; or,
    /// where that is lost, with the digest that the plan has of it.
    ///
    /// # Errors
    /// When the data has changed, or cannot be read.
    fn unchanged(&self, data: &Arc<dyn FileTree>, plan: Plan, manifest: Option<Manifest>) -> Result<Planned, Refusal>;
}

/// Why nothing is planned: each variant with what is wrong and what to do about it, in words for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The spec makes no sense, or does not fit its data, its network or the model file that it starts from.
    #[error("{0}")]
    BadSpec(String),
    /// The data makes no sense, or holds broken images where the spec does not allow any.
    #[error("{0}")]
    BadData(String),
    /// A file that the spec names is not there.
    #[error("{0}")]
    Missing(String),
    /// The system does not let a file be read.
    #[error("{0}")]
    NotAllowed(String),
    /// A file cannot be read for any other reason.
    #[error("{0}")]
    Unreadable(String),
    /// The data is not what it was when the run was planned.
    #[error("{0}")]
    DataChanged(String),
}
