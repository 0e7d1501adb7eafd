//! The coordinator of one run: it owns parameters, optimizer state, the order of samples and the ledger, lends
//! shards to workers over gRPC, adds their gradients, and writes checkpoints.
//!
//! [`serve`] takes a listener and the wish to stop from its caller, so that a process, a test and `convoy train`
//! run the very same code.

mod access;
mod audit;
mod buffer;
pub mod checkpoint;
mod cluster;
mod data;
mod events;
mod export;
mod fleet_loop;
mod hub;
mod inputs;
mod jobs;
mod journal;
mod leases;
mod published;
mod ready;
mod received;
mod reducer;
mod replay;
mod run_dir;
mod run_loop;
mod serve;
mod service;
mod shell;
mod stages;
mod status;
mod tracker;
mod update;
mod worker_logs;
mod writer;

pub use access::{AccessError, CERTIFICATE_LIFE, Caller, MemberRecord, create_token, init_cluster, is_cluster};
pub use audit::{Audit, Counted, EpochAudit, audit, read_ledger};
pub use cluster::{ClusterConfig, ClusterError, serve_cluster};
pub use data::{DataError, DataSet};
pub use events::{EpochRow, RunEvent};
pub use export::{Summary, export};
pub use jobs::{JobLimits, JobRecord, JobState, StoreError};
pub use journal::JournalError;
pub use ready::{Ready, ReadyError};
pub use replay::{Replay, prepare_replay};
pub use run_dir::{RunDir, RunDirError};
pub use serve::{Config, RunError, RunReport, serve};
pub use status::Status;
pub use tracker::{Best, History, Waits};
pub use update::{Flat, Generation, Scales, Update, moment_names};

/// The fleet's number for a class of arithmetic, made of its name, for there is one for each kind of GPU. Two names of one
/// number would do no harm: a worker looks at the name before it joins a run.
fn numerics_number(name: &str) -> u32 {
    let [a, b, c, d, ..] = convoy_common::Digest::of(name.as_bytes()).0;
    u32::from_le_bytes([a, b, c, d])
}
