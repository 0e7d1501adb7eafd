//! Data sets that the coordinator keeps: files by their content, in tar packs, and names for lists of them.

mod pack;
mod service;
mod sources;
mod store;

pub(crate) use service::DataService;
pub(crate) use sources::Sources;
pub(crate) use store::DataStore;
pub use store::{DataError, DataSet};
