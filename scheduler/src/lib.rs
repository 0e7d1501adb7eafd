//! The heart of Convoy: who computes which shard, when, and how often.
#![forbid(unsafe_code)]

mod effect;
mod event;
mod ids;
mod lease;
mod plan;
mod record;
pub mod tree;

pub use effect::{
    AbandonReason, CheckpointReason, Effect, EvictReason, IgnoreReason, Outcome, RevokeReason,
};
pub use event::{Event, Failure, LeaveReason, NodeResult};
pub use ids::{LeaseId, Micros, RunGeneration, RunTime, ShardId, StepId, WorkerId};
pub use lease::{Lease, LeaseRef, Work};
pub use plan::{Limits, PlanError, RunPlan};
pub use record::{LedgerEntry, LedgerError, Record, check_ledger};
pub use tree::{Fold, FoldError, Merge, Node};
