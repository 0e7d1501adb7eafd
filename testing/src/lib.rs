//! What the tests of several crates share: plans of made-up data, a tiny data set, waiting for a state; with the
//! feature `wire`, a coordinator that answers as a test wants; with `checks`, tests that are ignored for the lack of
//! what they need.
//!
//! This crate is a dependency of tests, benches and examples only. It knows [`convoy_common`], and the wire behind the
//! feature; a crate below these puts the tests that need it into its folder `tests/`.

mod plans;
mod stripes;
mod waiting;

#[cfg(feature = "checks")]
mod checks;
#[cfg(feature = "wire")]
mod coordinator;
#[cfg(feature = "wire")]
mod scripted;

#[cfg(feature = "checks")]
pub use checks::{Check, run_checks};
#[cfg(feature = "wire")]
pub use coordinator::{Answers, FakeCoordinator, Replies, Server, connect, no_answer, serve};
pub use plans::{facts, plan, plan_of};
#[cfg(feature = "wire")]
pub use scripted::{Calls, Control, FilesCall, ParametersCall, PushCall, Scripted};
pub use stripes::{MemoryFiles, Stripes};
pub use waiting::{DEADLINE, wait_for};
