//! The thread on which the arithmetic of a run is done, which `reduce/` knows: what it is told, and what it tells.
//!
//! What it must not know: leases, files, the clock (but for the log); of workers it passes on the numbers.

mod chunk_owners;
pub(crate) mod reducer;
pub(crate) mod reducer_queue;
mod sum_audits;
