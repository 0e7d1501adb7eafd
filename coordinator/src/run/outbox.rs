//! The way from the coordinator to one worker.

use convoy_proto::v1;
use convoy_proto::v1::coordinator_message::Message;
use tokio::sync::mpsc;

/// A bounded queue of messages for one worker.
pub(crate) type WorkerOutbox = mpsc::Sender<Result<v1::CoordinatorMessage, tonic::Status>>;

/// Queues a message; `false` when the worker does not read, so that its queue is full, or is gone.
pub(crate) fn say(outbox: &WorkerOutbox, message: Message) -> bool {
    outbox.try_send(Ok(v1::CoordinatorMessage { message: Some(message) })).is_ok()
}
