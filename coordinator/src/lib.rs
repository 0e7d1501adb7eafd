//! The coordinator of runs: it owns parameters, optimizer state, the order of samples and the ledger, lends shards to
//! workers over gRPC, adds their gradients, and writes checkpoints.
//!
//! [`serve`] carries one run, [`serve_cluster`] a queue of jobs. Both take a listener and the wish to stop from their
//! caller, so that a process, a test and `convoy train` run the very same code.
//!
//! The rooms, each of which uses only those to its right: `wire` (gRPC) -> `jobs` (the queue), `data` (data sets) ->
//! `fleet` (who is connected) -> `access` (who may call), `run` (one run).

mod access;
mod cluster;
mod data;
mod deadline;
mod descriptors;
mod disk_use;
#[cfg(test)]
mod fixtures;
mod fleet;
mod jobs;
mod numerics;
mod queue;
mod run;
mod sealed;
mod serve;
mod server;
mod state_folder;
mod store_backend;
mod store_error;
mod store_file;
#[cfg(test)]
mod store_points;
mod wire;

pub use access::caller::Caller;
pub use access::cluster::{CERTIFICATE_LIFE, create_token, init_cluster, is_cluster};
pub use access::error::AccessError;
pub use access::store::MemberRecord;
pub use cluster::{ClusterConfig, ClusterError, serve_cluster};
pub use data::error::DataError;
pub use data::set::DataSet;
pub use disk_use::{Bytes, DiskLimits, NoRoom};
pub use jobs::limits::JobLimits;
pub use jobs::record::{JobRecord, JobState};
pub use run::config::{Carriage, Config, Exchange};
pub use run::error::RunError;
pub use run::export::{Summary, export};
pub use run::folder::audit::{Audit, Counted, EpochAudit, audit, read_ledger};
pub use run::folder::change::ChangeError;
pub use run::folder::checkpoint;
pub use run::folder::earlier_plans::earlier_plans;
pub use run::folder::events::RunEvent;
pub use run::folder::history::{Best, EpochRow, History};
pub use run::folder::journal::JournalError;
pub use run::folder::planned::read_manifest;
pub use run::folder::replay::{Replay, prepare_replay};
pub use run::folder::run_dir::RunDir;
pub use run::folder::run_dir_error::RunDirError;
pub use run::folder::sealed_plans::EarlierPlan;
pub use run::ready::{Ready, ReadyError};
pub use run::report::RunReport;
pub use run::status::Status;
pub use run::tracker::Waits;
pub use serve::serve;
pub use server::Listener;
pub use state_folder::keep_private;
pub use store_error::StoreError;
