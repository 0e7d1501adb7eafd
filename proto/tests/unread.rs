//! Messages that nobody has read yet, on a connection with the settings of both ends.

use std::sync::Arc;

use convoy_proto::channel::Link;
use convoy_proto::v1;
use convoy_testing::{Answers, DEADLINE, Replies};
use tokio::sync::{Notify, mpsc};
use tokio_stream::{Stream, StreamExt};
use tonic::{Status, Streaming};

const MESSAGES: usize = 10_000;

/// A coordinator that says much at once and reads nothing until it is woken.
#[derive(Debug, Clone)]
struct Sleeper {
    /// All that it has to say was handed to the connection.
    said: Arc<Notify>,
    wake: Arc<Notify>,
    /// How many messages it read once it was awake.
    read: mpsc::UnboundedSender<usize>,
}

/// `MESSAGES` times `message`, each in a frame of its own; then `handed_over` hears of it.
fn one_by_one<T: Clone>(message: T, handed_over: Arc<Notify>) -> impl Stream<Item = T> {
    tokio_stream::iter(1..=MESSAGES).then(move |number| {
        let (message, handed_over) = (message.clone(), handed_over.clone());
        async move {
            // What is ready at the same time travels in the same frame.
            tokio::task::yield_now().await;
            if number == MESSAGES {
                handed_over.notify_one();
            }
            message
        }
    })
}

#[tonic::async_trait]
impl Answers for Sleeper {
    async fn control(
        &self,
        mut heartbeats: Streaming<v1::WorkerMessage>,
    ) -> Result<Replies<v1::CoordinatorMessage>, Status> {
        let sleeper = self.clone();
        tokio::spawn(async move {
            sleeper.wake.notified().await;
            let mut read = 0;
            while let Ok(Some(_)) = heartbeats.message().await {
                read += 1;
            }
            sleeper.read.send(read)
        });
        let committed = v1::coordinator_message::Message::Committed(v1::Committed { step: 1, ..Default::default() });
        let message = v1::CoordinatorMessage { message: Some(committed) };
        Ok(Box::pin(one_by_one(message, self.said.clone()).map(Ok)))
    }

    async fn plan(&self, _: v1::PlanRequest) -> Result<Replies<v1::PlanChunk>, Status> {
        Ok(Box::pin(tokio_stream::once(Ok(v1::PlanChunk::default()))))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_small_messages_wait_for_a_reader_that_sleeps() {
    let (said, wake, heard) = (Arc::new(Notify::new()), Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (read, mut counted) = mpsc::unbounded_channel();
    let sleeper = Sleeper { said: said.clone(), wake: wake.clone(), read };
    let server = convoy_testing::serve(sleeper).await;

    let mut client = Link::plain(server.address.clone()).coordinator().await.unwrap();
    let heartbeat = v1::worker_message::Message::Heartbeat(v1::Heartbeat {});
    let message = v1::WorkerMessage { message: Some(heartbeat) };
    let mut inbox = client.control(one_by_one(message, heard.clone())).await.unwrap().into_inner();
    let handed_over = async { tokio::join!(said.notified(), heard.notified()) };
    tokio::time::timeout(DEADLINE, handed_over).await.expect("the connection takes all messages");
    client.plan(v1::PlanRequest::default()).await.expect("a call beside 20,000 unread messages");
    wake.notify_one();
    let mut got = 0;
    while let Some(message) = inbox.message().await.expect("the connection lives") {
        got += usize::from(message.message.is_some());
    }
    assert_eq!((got, counted.recv().await), (MESSAGES, Some(MESSAGES)));
    let mut plan = client.plan(v1::PlanRequest::default()).await.expect("the connection lives").into_inner();
    assert!(plan.message().await.unwrap().is_some());
}
