//! Data sets that the coordinator keeps: files by their content, in tar packs, and names for lists of them.
//!
//! What it must not know: gRPC, jobs, images.

pub(crate) mod error;
mod index;
mod pack;
pub(crate) mod receiver;
mod recovery;
pub(crate) mod set;
mod set_list;
pub(crate) mod sources;
pub(crate) mod store;
pub(crate) mod upkeep;

use std::time::SystemTime;

/// Seconds from 1970 to now.
fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}
