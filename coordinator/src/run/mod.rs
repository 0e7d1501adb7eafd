//! One run, from its folder to its report: the loop around the scheduler, what its effects do, and the arithmetic and
//! the files behind them.
//!
//! A start of a run goes through `start` (the folder is read), `carry` (threads and queues are made) and `run_loop`
//! (one input, all its effects, then the next) to `report`. Others reach an open run through its [`handle`]; the run
//! reaches its workers through [`worker_links`].
//!
//! What it must not know: who calls and how, jobs and their queue, other runs, images.

pub(crate) mod brought_questions;
pub(crate) mod carry;
pub(crate) mod checkpoint_writer;
pub(crate) mod complaints;
pub(crate) mod config;
pub(crate) mod delivery;
#[cfg(test)]
mod disk_tests;
pub(crate) mod effects;
pub(crate) mod error;
pub(crate) mod export;
pub(crate) mod folder;
pub(crate) mod handle;
#[cfg(test)]
pub(crate) mod honest;
pub(crate) mod leases;
pub(crate) mod members;
pub(crate) mod outbox;
pub(crate) mod patience;
pub(crate) mod ready;
pub(crate) mod reduction;
pub(crate) mod report;
pub(crate) mod run_inputs;
pub(crate) mod run_log;
pub(crate) mod run_loop;
pub(crate) mod start;
pub(crate) mod status;
pub(crate) mod tracker;
pub(crate) mod worker_contact;
pub(crate) mod worker_links;
