//! What a worker says on its control stream.

use convoy_proto::v1;
use convoy_proto::v1::worker_message::Message;
use tokio::sync::mpsc;

/// The worker's end of the control stream. Its clones share one queue.
#[derive(Debug, Clone)]
pub(crate) struct Outbox(mpsc::Sender<v1::WorkerMessage>);

impl Outbox {
    /// A queue of at most `capacity` messages, and the end that the connection reads.
    pub(crate) fn new(capacity: usize) -> (Self, mpsc::Receiver<v1::WorkerMessage>) {
        let (sender, messages) = mpsc::channel(capacity);
        (Outbox(sender), messages)
    }

    /// Queues `message`, waiting for room. A stream that has ended shows itself to whoever reads the coordinator's
    /// messages, so this does not report it.
    pub(crate) async fn say(&self, message: Message) {
        _ = self.0.send(v1::WorkerMessage { message: Some(message) }).await;
    }

    /// Queues `message` if there is room for it. False when the stream has ended.
    pub(crate) fn say_if_there_is_room(&self, message: Message) -> bool {
        let queued = self.0.try_send(v1::WorkerMessage { message: Some(message) });
        !matches!(queued, Err(mpsc::error::TrySendError::Closed(_)))
    }
}
