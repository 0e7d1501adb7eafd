//! Commands for a coordinator that keeps a queue of jobs, one file for each group.

pub mod access;
pub mod change;
pub mod fetch;
pub mod list;
pub mod logs;
pub mod submit;
pub mod watch;
