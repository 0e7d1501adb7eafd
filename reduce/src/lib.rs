//! From the nodes of a step to its next parameters, chunk by chunk: sums over the reduce tree, the optimizer, the
//! digest, and the parameters on their way out.
//!
//! [`StepSums`] is a step on its way. Nothing here knows who computes what, what is written down, or how bytes travel:
//! whoever owns a chunk does the same with it, and gets the same bits.
//!
//! ```
//! use convoy_reduce::Flat;
//!
//! let parameters = Flat::of(&vec![0.5; 100_000]);
//! assert_eq!(parameters.chunks().len(), 2, "a chunk has 65,536 elements");
//! assert_eq!(parameters.pieces(65_535..65_537), [&[0.5][..], &[0.5]], "a tensor may lie in several");
//! ```

mod chunk_buffer;
mod digest_by_tensor;
#[cfg(feature = "faults")]
pub mod faults;
mod flat;
mod frozen_chunks;
mod node_sums;
mod owned_chunks;
mod parameter_board;
mod parameter_state;
mod received_chunks;
mod step_rules;
mod step_sums;
mod sum_audit;
mod update;

pub use chunk_buffer::{ChunkBuffer, forget_spare};
pub use digest_by_tensor::DigestByTensor;
pub use flat::Flat;
pub use frozen_chunks::FrozenChunks;
pub use node_sums::NodeSums;
pub use owned_chunks::{DigestedChunk, NotAdded, Owned, OwnedChunks};
pub use parameter_board::{Abandoned, ParameterBoard, PublishedParameters};
pub use parameter_state::{ParameterState, moment_names};
pub use received_chunks::{Magnitude, ReceivedChunks, UnwantedChunk};
pub use step_rules::{ChunkState, MadeChunk, StepRules};
pub use step_sums::{MadeStep, StepSums, StepTimes};
pub use sum_audit::{NodeHolders, SumAudit, SumAuditSchedule};
pub use update::{Elements, Scales, Update};
