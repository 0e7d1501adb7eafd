//! The arithmetic of a run: chunks of nodes come in, are added over the reduce tree, and become the next parameters,
//! which go out from where they were made.
//!
//! What it must not know: leases, files, the clock (but for the log); of workers it passes on the numbers.

pub(crate) mod chunk_buffer;
pub(crate) mod opening;
pub(crate) mod parameter_board;
pub(crate) mod parameter_state;
pub(crate) mod received_chunks;
pub(crate) mod reducer;
pub(crate) mod reducer_queue;
pub(crate) mod stages;
pub(crate) mod update;
