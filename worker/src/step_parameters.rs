//! Parameters of a step, and which of them are in force.

use std::sync::Arc;

use convoy_common::Digest;
use convoy_scheduler::StepId;

/// Parameters and buffers that a step is computed with.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct StepParameters {
    pub(crate) step: StepId,
    pub(crate) flat: Arc<Vec<f32>>,
}

/// The newest step that is committed, and the digest of its parameters, if it was told.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct CommittedStep {
    pub(crate) step: u64,
    pub(crate) digest: Option<Digest>,
}
