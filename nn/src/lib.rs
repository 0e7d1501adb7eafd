//! Running a network forward and backward: candle is the tensor and the tape, the operations are ours
//! (`convoy_kernels`).
//!
//! An [`Executor`] computes shards. What it computes depends on the plan, the network, the loaded numbers, the batch
//! and the epoch; not on the thread, nor on what was computed before.

mod error;
mod executor;
mod ops;
mod pass;

pub use error::ComputeError;
pub use executor::{Executor, ShardResult};
