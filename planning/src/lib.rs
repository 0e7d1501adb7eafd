//! From a spec, or a folder of images and no spec at all, to all that a run needs: the plan, the manifest of the data,
//! the network and what it starts from.
//!
//! Data is seen through a [`FileTree`](convoy_common::file_tree::FileTree): the disk of this machine for
//! `convoy train`, what a coordinator keeps for `convoy submit` ([`LocalPlanner`]). Nothing here knows a network
//! connection, an asynchronous runtime or the command line.
//!
//! # Examples
//! ```
//! use convoy_planning::{Assumed, SpecFile, plan_without_data};
//!
//! let file = SpecFile::of_overrides(&["data.train=photos".to_owned(), "network.name=lenet5".to_owned()])?;
//! let (plan, network) = plan_without_data(file, Assumed::default())?;
//! assert_eq!((plan.input.height, plan.input.channels, network.outputs), (32, 3, 10));
//! # Ok::<(), convoy_planning::PlanningError>(())
//! ```

mod changed;
mod error;
mod job;
mod look;
mod planner;
mod recipe;
mod spec_file;
mod unchanged;
mod without_data;

pub use changed::changed;
pub use error::PlanningError;
pub use job::{Job, spec_here};
pub use look::{Counters, Looking, disk, init_file, look, look_here, survey_here};
pub use planner::LocalPlanner;
pub use spec_file::{SpecFile, is_spec, text_override};
pub use unchanged::unchanged;
pub use without_data::{Assumed, plan_without_data, spec_or_network};
