//! Running a network forward and backward: candle's autograd is the tape, the operations are ours (`convoy_kernels`),
//! and so are the buffers that they work on. On a GPU, a second engine composes candle's own operations ([`Device`]).
//!
//! An [`Executor`] computes shards. What it computes depends on the plan, the network, the loaded numbers, the batch
//! and the epoch; not on the threads, nor on what was computed before.

mod buffer_pool;
mod compose;
mod device;
mod error;
mod executor;
mod fusion;
mod handover;
mod kernel_engine;
mod liveness;
mod loss;
mod lowering;
mod mode;
mod op_timings;
mod ops;
mod pass_buffers;
mod pass_plan;
mod shard_check;
mod shard_gradient;
mod shard_metrics;
mod tape;
mod thread_team;
mod values;

pub use device::{Device, DeviceError};
pub use error::ComputeError;
pub use executor::{Executor, ShardResult};
pub use op_timings::{LayerTime, LayerTimes};
pub use shard_gradient::GradientTarget;
