//! Who calls, and what they may do: members, tokens, certificates and the table of methods.
//!
//! What it must not know: runs, jobs, workers, gRPC messages.

pub(crate) mod caller;
pub(crate) mod calls;
pub(crate) mod cluster;
pub(crate) mod error;
pub(crate) mod roles;
pub(crate) mod store;
