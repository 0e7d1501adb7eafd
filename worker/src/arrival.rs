//! What whoever fetches parameters needs, wherever they come from.

use std::sync::Arc;

use convoy_model::ParameterFormat;
use convoy_proto::Values;
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
    /// Whether what a step changes may come alone, as bf16.
    pub(crate) changes: bool,
}

impl Arrival {
    /// Writes the elements from `start` on to `part`, as they came: all of them, or what is added to them as they were
    /// `before` the step. False where what came is neither.
    pub(crate) fn read(&self, start: usize, data: &Values, before: Option<&[f32]>, part: &mut [f32]) -> bool {
        match before.filter(|_| self.changes) {
            Some(before) if data.copy_halves_to(part) => {
                part.iter_mut().zip(before).for_each(|(changed, before)| *changed += before);
                true
            }
            _ => self.format.read(start, &data.to_bytes(), part),
        }
    }
}
