//! Messages that nobody has read yet, on a connection with the settings of both ends.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use convoy_proto::channel::{self, Link};
use convoy_proto::v1;
use convoy_proto::v1::coordinator_server::Coordinator;
use convoy_security::{Limits, incoming};
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc};
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

const MESSAGES: usize = 10_000;
const DEADLINE: Duration = Duration::from_secs(60);

type Reply<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

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
impl Coordinator for Sleeper {
    type ControlStream = Reply<v1::CoordinatorMessage>;
    type PlanStream = Reply<v1::PlanChunk>;
    type FilesStream = Reply<v1::FilePiece>;
    type ParametersStream = Reply<convoy_proto::Chunk>;

    async fn control(
        &self,
        request: Request<Streaming<v1::WorkerMessage>>,
    ) -> Result<Response<Self::ControlStream>, Status> {
        let (mut heartbeats, sleeper) = (request.into_inner(), self.clone());
        tokio::spawn(async move {
            sleeper.wake.notified().await;
            let mut read = 0;
            while let Ok(Some(_)) = heartbeats.message().await {
                read += 1;
            }
            sleeper.read.send(read)
        });
        let committed = v1::coordinator_message::Message::Committed(v1::Committed { step: 1 });
        let message = v1::CoordinatorMessage { message: Some(committed) };
        Ok(Response::new(Box::pin(one_by_one(message, self.said.clone()).map(Ok))))
    }

    async fn plan(&self, _: Request<v1::PlanRequest>) -> Result<Response<Self::PlanStream>, Status> {
        Ok(Response::new(Box::pin(tokio_stream::once(Ok(v1::PlanChunk::default())))))
    }

    async fn parameters(&self, _: Request<v1::ParametersRequest>) -> Result<Response<Self::ParametersStream>, Status> {
        Err(Status::unimplemented("nobody asks"))
    }

    async fn files(&self, _: Request<v1::FilesRequest>) -> Result<Response<Self::FilesStream>, Status> {
        Err(Status::unimplemented("nobody asks"))
    }

    async fn push_node(&self, _: Request<Streaming<v1::NodeMessage>>) -> Result<Response<v1::PushNodeReply>, Status> {
        Err(Status::unimplemented("nobody asks"))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_small_messages_wait_for_a_reader_that_sleeps() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (said, wake, heard) = (Arc::new(Notify::new()), Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (read, mut counted) = mpsc::unbounded_channel();
    let sleeper = Sleeper { said: said.clone(), wake: wake.clone(), read };
    let server = channel::server().add_service(channel::service(sleeper));
    tokio::spawn(server.serve_with_incoming(incoming(listener, None, Limits::default())));

    let mut client = Link::plain(address).coordinator().await.unwrap();
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
