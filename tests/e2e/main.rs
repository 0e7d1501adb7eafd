//! The binary as its users start it: real processes, real sockets, real files.

mod errors;
mod job;
mod runs;
