//! What whoever fetches parameters needs, wherever they come from.

use std::sync::Arc;

use convoy_model::ParameterFormat;
use convoy_reduce::FrozenChunks;

use crate::spare_buffers::SpareBuffers;

/// How parameters arrive.
#[derive(Debug, Clone)]
pub(crate) struct Arrival {
    /// Memory that they are written to, of their length.
    pub(crate) buffers: Arc<SpareBuffers>,
    /// The format in which they travel.
    pub(crate) format: Arc<ParameterFormat>,
    /// Chunks that need not come where those of an earlier step are here.
    pub(crate) frozen: Arc<FrozenChunks>,
}
