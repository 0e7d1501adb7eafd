//! Tests of the heart through its public face.

mod adders;
mod assign;
mod audits;
mod checkpoints;
mod doubts;
mod driver;
mod evictions;
mod failures;
mod finishing;
mod leases;
mod links;
mod machines;
mod owners;
mod owners_audits;
mod owners_beside;
mod plan;
mod resume;
mod script;
mod stopping;
mod stragglers;
mod tree;
mod waiting;
mod workers;
