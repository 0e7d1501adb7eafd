//! The fault table: real processes, a fault, and what it cost.
//!
//! Each row of [`rows::ROWS`] starts a coordinator and workers of the binary `convoy`, lets a fault happen to them, and
//! compares every step that they commit with an undisturbed run. `bench/faults.sh` prints the table; the end-to-end
//! tests try the quick rows.
//!
//! What happens is asked for and seen from outside: signals, a [`proxy`] between a worker and its coordinator, network
//! namespaces, small file systems, `strace` at a system call. Time is that of the journal, which is read as it grows.

pub mod arena;
pub mod cluster;
pub mod dice;
pub mod herd;
pub mod job;
pub mod journal;
pub mod liar;
pub mod machine;
pub mod network;
pub mod outcome;
pub mod process;
pub mod proxy;
pub mod report;
pub mod rows;
