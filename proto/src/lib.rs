//! The wire: messages and services of `convoy.proto` (package `convoy.v1`), one conversion each way between them
//! and the words of the scheduler, and the settings of channels.
//!
//! # Examples
//! ```
//! use convoy_proto::v1;
//! use convoy_scheduler::Node;
//!
//! let node = Node::try_from(v1::Node { first: 4, last: 8 })?;
//! assert_eq!((node.size(), v1::Node::from(node)), (4, v1::Node { first: 4, last: 8 }));
//! // What makes no sense is refused with the field's name.
//! let error = Node::try_from(v1::Node { first: 4, last: 4 }).unwrap_err();
//! assert!(error.to_string().starts_with("`node` makes no sense: [4, 4)"));
//! # Ok::<(), convoy_proto::WireError>(())
//! ```

mod chunk;
mod convert;
mod peer_address;

pub mod channel;
pub mod codec;
pub mod patience;

pub use chunk::{CHUNK_ELEMENTS, Chunk, Values, chunk_count, chunk_range};
pub use convert::WireError;
pub use peer_address::{MOST_PEER_ADDRESSES, is_peer_address};

/// Generated code.
#[allow(missing_docs, clippy::all)]
pub mod v1 {
    tonic::include_proto!("convoy.v1");
}

/// Sums that the summary of a training node holds: samples, loss, loss weights, correct.
pub const TRAIN_SUMS: usize = 4;

/// Convoy's version, which both ends of a connection must share.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
