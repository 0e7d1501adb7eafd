//! What lies in a run folder: journal, checkpoints, events, metrics and logs; and what can be said of a run from its
//! folder alone (`audit`, `replay`).
//!
//! What it must not know: connections, queues, which step is open.

pub(crate) mod audit;
pub(crate) mod change;
pub mod checkpoint;
pub(crate) mod earlier_plans;
pub(crate) mod events;
pub(crate) mod files;
pub(crate) mod history;
pub(crate) mod journal;
pub(crate) mod planned;
pub(crate) mod replay;
pub(crate) mod run_dir;
pub(crate) mod run_dir_error;
pub(crate) mod sealed_plans;
pub(crate) mod worker_logs;
