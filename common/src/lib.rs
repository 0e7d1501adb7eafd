//! Words that everybody in Convoy shares: the job [`spec`] and the [`plan`] it means, the data [`manifest`], the [`place`]s and [`files`] of data,
//! addressed [`random`]ness, the [`order`] of samples, the learning-rate [`schedule`] and [`digest`]s.
//!
//! Nothing here does I/O, knows a thread or computes a gradient.

pub mod batch;
pub mod digest;
pub mod files;
pub mod manifest;
pub mod metrics;
pub mod order;
pub mod place;
pub mod plan;
pub mod random;
pub mod schedule;
pub mod spec;
pub mod tree_sum;

pub use batch::{Batch, Targets};
pub use digest::Digest;
pub use plan::Plan;
pub use spec::Spec;
