//! From a spec, or a folder of images and no spec at all, to all that a run needs: the plan, the manifest of the data,
//! the network and what it starts from.
//!
//! Data is seen through a [`FileTree`](convoy_common::file_tree::FileTree): the disk of this machine for `convoy train`, what a
//! coordinator keeps for `convoy submit` ([`LocalPlanner`]). Nothing here knows a network connection, an asynchronous
//! runtime or the command line.

mod error;
mod job;
mod look;
mod planner;
mod recipe;
mod spec_file;
mod unchanged;
mod without_data;

pub use error::PlanningError;
pub use job::Job;
pub use look::{Counters, disk, init_file, look, look_here};
pub use planner::LocalPlanner;
pub use spec_file::{SpecFile, is_spec, text_override};
pub use unchanged::unchanged;
pub use without_data::{Assumed, plan_without_data, spec_or_network};
