//! The heart of Convoy: who computes which shard, when, and how often.
//!
//! A run is a state machine. [`Event`]s go in, [`Effect`]s come out, and between them stand only integers: no clock,
//! socket, thread, random generator or float can be named here, and the crate has no dependency that could bring one
//! in. Time is a number that comes with each event. The same events give the same effects, always, so that a simulator
//! can run a thousand runs a second and replay any of them.
//!
//! - [`Run`]: one run. [`Run::handle`] is the only way in, [`Run::deadline`] says when time itself must be told. Before
//!   that, [`Run::heard`] notes who was in contact, which by itself has no effect.
//! - [`Driver`]: a run with its journal and its outbox, and the order in which effects are carried out.
//! - [`tree`]: the reduce tree, the one order in which shards are added.
//! - [`Fleet`]: all jobs and workers of a coordinator, and which worker serves which job.
//! - [`assign`]: which worker gets which nodes of a step.
//! - [`Owner`]: who adds which chunk of a step's gradient: workers that all others reach, or the coordinator.
//!
//! A share of all shards is computed twice, by two workers, and compared (*audits*). So a machine that computes wrongly
//! is found, and evicted, whatever name it gives itself.
//!
//! Three promises hold. Every committed step counts every shard exactly once ([`Record::StepCommitted`] carries the
//! proof). No answer that is stale, repeated or foreign is counted. A run with a worker that computes gets on.
#![forbid(unsafe_code)]

pub mod assign;
mod contact;
mod dispatch;
mod driver;
mod effect;
mod event;
mod exchange;
mod fleet;
mod ids;
mod lease;
mod membership;
mod node_answer;
mod node_digest;
mod outcome;
mod owners;
mod plan;
mod reach;
mod record;
mod resume;
mod run;
mod step;
pub mod tree;
mod trust;
mod waiting;

pub use contact::Contact;
pub use driver::{Driver, Halt, Journal, Outbox};
pub use effect::{
    AbandonReason, CheckpointReason, DisconnectReason, Effect, EvictionProof, IgnoreReason, OwnersReason, RevokeReason,
};
pub use event::{Event, Failure, GoneReason, NodeResult, SumFinding};
pub use fleet::{Fleet, FleetEffect, FleetEvent, FleetIgnore, FleetPlan, JobRequest, JobWaiting};
pub use ids::{JobId, LeaseId, Micros, Opening, OwnersVersion, RunGeneration, RunTime, ShardId, StepId, WorkerId};
pub use lease::{Check, Lease, LeaseRef, Work};
pub use node_digest::NodeDigest;
pub use outcome::Outcome;
pub use owners::Owner;
pub use plan::{CheckpointIntervals, Limits, PlanError, RunPlan, Timeouts};
pub use record::{LedgerEntry, LedgerError, Record, check_ledger};
pub use resume::{ResumeError, believed};
pub use run::Run;
pub use tree::Node;
pub use waiting::{Progress, Waiting, WorkerProgress};
