//! Running a network forward and backward: candle's autograd is the tape, the operations are ours (`convoy_kernels`),
//! and so are the buffers that they work on. On a GPU, a second engine composes candle's own operations ([`Device`]).
//!
//! An [`Executor`] computes shards. What it computes depends on the plan, the network, the loaded numbers, the batch
//! and the epoch; not on the threads, nor on what was computed before.

mod compose;
mod device;
mod error;
mod executor;
mod flow;
mod fusion;
mod loss;
mod ops;
mod pass;
mod tape;
mod team;
mod timed;

pub use device::{Device, DeviceError};
pub use error::ComputeError;
pub use executor::{Executor, ShardResult};
pub use timed::{LayerTime, LayerTimes};
