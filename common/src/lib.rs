//! Types and arithmetic that all rooms of Convoy share.
//!
//! - A job: its [`spec`] as a user writes it, the [`plan`] that it means, the [`planner`] that makes the plan, the
//!   [`manifest`] of its data.
//! - Its data: the [places](data_place) where data lies, [trees of files](file_tree), [tables of pictures](samples),
//!   [batches](batch) of samples.
//! - Its bits: addressed [`random`] numbers, the [order of an epoch](epoch_order), the learning-rate [`schedule`], sums
//!   [over the reduce tree](tree_sum) that [compare all copies](counted_sum), [`metrics`] and [`digest`]s.
//! - [`backoff`]: pauses between attempts; [`leb128`]: numbers in few bytes; [`memory`]: how much of it may be taken.
//!
//! - What must [outlive a crash](durable): the only I/O here.
//!
//! Nothing here makes a thread or computes a gradient.

pub mod backoff;
pub mod batch;
pub mod counted_sum;
mod csv_field;
pub mod data_place;
pub mod digest;
pub mod durable;
pub mod epoch_order;
pub mod file_tree;
mod json;
pub mod leb128;
pub mod manifest;
pub mod memory;
pub mod metrics;
mod panic_text;
pub mod plan;
pub mod planner;
pub mod random;
pub mod samples;
pub mod schedule;
pub mod spec;
pub mod tree_sum;

pub use batch::{Batch, Targets};
pub use csv_field::csv_field;
pub use digest::Digest;
pub use panic_text::panic_text;
pub use plan::Plan;
pub use spec::Spec;
