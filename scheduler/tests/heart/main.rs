//! Tests of the heart through its public face.

mod assign;
mod audits;
mod driver;
mod finishing;
mod leases;
mod plan;
mod resume;
mod script;
mod tree;
mod waiting;
mod workers;
