//! The coordinator of one run: it owns parameters, optimizer state, the order of samples and the ledger, lends
//! shards to workers over gRPC, adds their gradients, and writes checkpoints.
//!
//! [`serve`] takes a listener and the wish to stop from its caller, so that a process, a test and `convoy train`
//! run the very same code.

pub mod checkpoint;
mod events;
mod inputs;
mod journal;
mod leases;
mod published;
mod reducer;
mod run_dir;
mod run_loop;
mod serve;
mod service;
mod shell;
mod status;
mod tracker;
mod update;
mod writer;

pub use events::{EpochRow, RunEvent};
pub use journal::JournalError;
pub use run_dir::{RunDir, RunDirError};
pub use serve::{Config, RunError, RunReport, serve};
pub use status::Status;
pub use tracker::{Best, History, Waits};
