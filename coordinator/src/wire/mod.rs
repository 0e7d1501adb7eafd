//! The gRPC skins: each service turns messages into calls of another room and answers into messages; two layers before
//! them say whose a call is and bound it. They decide nothing.
//!
//! What it must not know: how anything is kept, added, lent or written.

pub(crate) mod access;
pub(crate) mod access_layer;
pub(crate) mod calls_layer;
pub(crate) mod data;
pub(crate) mod jobs;
pub(crate) mod node_digests;
mod node_push;
mod outgoing;
mod owners;
pub(crate) mod replies;
pub(crate) mod workers;
