//! A worker's answer to a lease, on its way through a run.

use crate::event::NodeResult;
use crate::ids::{Micros, OwnersVersion, WorkerId};
use crate::lease::LeaseRef;
use crate::node_digest::NodeDigest;

/// A worker's answer to a lease, as [`Event::NodeDone`](crate::Event::NodeDone) tells it.
#[derive(Clone, Debug)]
pub(crate) struct NodeAnswer {
    pub worker: WorkerId,
    pub at: LeaseRef,
    /// Time that a shard took on one thread; not zero.
    pub per_shard: Micros,
    pub version: OwnersVersion,
    pub result: NodeResult,
    pub digest: Option<NodeDigest>,
}
