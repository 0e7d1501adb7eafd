//! Data sets that the coordinator keeps: files by their content, in tar packs, and names for lists of them.
//!
//! What it must not know: gRPC, jobs, images.

mod pack;
pub(crate) mod sources;
pub(crate) mod store;
