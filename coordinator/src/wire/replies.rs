//! What several services need to answer with.

use std::pin::Pin;

use tokio_stream::Stream;
use tonic::Status;

/// A stream of answers.
pub(super) type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;
