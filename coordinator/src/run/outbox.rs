//! The way from the coordinator to one worker.

use std::sync::Arc;

use convoy_proto::v1;
use convoy_proto::v1::coordinator_message::Message;
use tokio::sync::mpsc;

use super::worker_contact::WorkerContact;

/// What a worker reads.
pub(crate) type WorkerInbox = mpsc::Receiver<Result<v1::CoordinatorMessage, tonic::Status>>;

/// A bounded queue of messages for one worker, and when it was last in contact.
#[derive(Debug, Clone)]
pub(crate) struct WorkerOutbox {
    messages: mpsc::Sender<Result<v1::CoordinatorMessage, tonic::Status>>,
    contact: Arc<WorkerContact>,
}

impl WorkerOutbox {
    /// A queue of at most `room` messages for a worker that comes now, and the end that it reads.
    pub(crate) fn new(room: usize) -> (Self, WorkerInbox) {
        let (messages, inbox) = mpsc::channel(room);
        (WorkerOutbox { messages, contact: Arc::new(WorkerContact::new()) }, inbox)
    }

    /// Queues a message; `false` when the worker does not read, so that its queue is full, or is gone.
    pub(crate) fn say(&self, message: Message) -> bool {
        self.contact.told();
        self.messages.try_send(Ok(v1::CoordinatorMessage { message: Some(message) })).is_ok()
    }

    /// When the worker was last in contact.
    pub(crate) fn contact(&self) -> &Arc<WorkerContact> {
        &self.contact
    }
}
