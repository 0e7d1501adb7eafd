//! The queue of jobs: what was submitted, where it stands, what people want of it, and carrying it.
//!
//! What it must not know: gRPC, images, which worker computes what.

pub(crate) mod carry;
mod data_claims;
pub(crate) mod limits;
pub(crate) mod news;
pub(crate) mod queue;
pub(crate) mod record;
pub(crate) mod store;
pub(crate) mod tail;
mod trouble;
