//! Words that everybody in Convoy shares: the job [`spec`] and the [`plan`] it means, the data [`manifest`], the [places](data_place) and [file trees](file_tree) of data,
//! addressed [`random`]ness, the [`epoch_order`] of samples, the learning-rate [`schedule`] and [`digest`]s.
//!
//! Nothing here does I/O, knows a thread or computes a gradient.

pub mod batch;
pub mod data_place;
pub mod digest;
pub mod epoch_order;
pub mod file_tree;
pub mod manifest;
pub mod metrics;
pub mod plan;
pub mod random;
pub mod schedule;
pub mod spec;
pub mod tree_sum;

pub use batch::{Batch, Targets};
pub use digest::Digest;
pub use plan::Plan;
pub use spec::Spec;
