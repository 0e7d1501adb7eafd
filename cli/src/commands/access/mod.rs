//! Commands about who belongs to a cluster.

pub mod cluster;
pub mod login;
pub mod token;
