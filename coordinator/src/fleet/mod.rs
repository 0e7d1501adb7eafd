//! Who is connected, which run each worker computes for, and the loop around the scheduler's [`Fleet`] that shares
//! workers between runs.
//!
//! What it must not know: plans, parameters, gRPC methods, how a run is carried.
//!
//! [`Fleet`]: convoy_scheduler::Fleet

pub(crate) mod allowance;
pub(crate) mod connections;
pub(crate) mod fleet_loop;
pub(crate) mod open_runs;
pub(crate) mod peers;
pub(crate) mod waiting;
