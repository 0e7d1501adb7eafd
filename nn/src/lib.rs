//! Running a network forward and backward: candle's autograd is the tape, the operations are ours (`convoy_kernels`),
//! and so are the buffers that they work on. On a GPU, a second engine composes candle's own operations ([`Device`]).
//!
//! An [`Executor`] computes shards. What it computes depends on the plan, the network, the loaded weights, the batch
//! and the epoch; not on the threads, nor on what was computed before.
//!
//! # In which order to read it
//!
//! | file | what it says |
//! |---|---|
//! | `executor.rs` | what is asked of an engine, on a thread of its own |
//! | `kernel_engine.rs` | a pass from the samples to the gradient |
//! | `pass_plan.rs` | what a pass does, resolved once: groups of nodes (`fusion.rs`), shapes (`lowering.rs`), how long values live (`liveness.rs`) |
//! | `ops/operation.rs`, then one of `ops/` | how one layer is computed |
//! | `handover.rs`, then `ops/norm.rs` and `ops/conv/bands.rs` | what norms and convolutions do for each other |
//! | `pass_buffers.rs` | what operations read and write: `values.rs`, gradients, `shard_gradient.rs` |
//! | `tape.rs` | how candle calls the operations in reverse |
//! | `thread_team.rs` | how idle threads help |
//! | `halves/` | the class of bf16: its buffers and operations, on the same plans, tape and engine |
//! | `compose/` | the other engine |

mod buffer_pool;
mod compose;
mod device;
mod error;
mod executor;
mod fusion;
mod gradients;
mod halves;
mod handover;
mod kernel_engine;
mod liveness;
mod loss;
mod lowering;
mod mode;
mod number;
mod op_timings;
mod ops;
mod pass_buffers;
mod pass_plan;
mod pass_state;
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
pub use shard_gradient::{ChunkTaker, GradientTarget};
