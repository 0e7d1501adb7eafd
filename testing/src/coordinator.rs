//! A coordinator of a test's own making, and ways to reach it.

use std::pin::Pin;

use convoy_proto::channel;
use convoy_proto::v1::coordinator_client::CoordinatorClient;
use convoy_proto::v1::coordinator_server::Coordinator;
use convoy_proto::{Chunk, v1};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Request, Response, Status, Streaming};

/// A stream of replies.
pub type Replies<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Bytes that a connection in memory holds unread.
const PIPE: usize = 1 << 20;

/// What a coordinator answers. A test implements the methods that it needs; the others refuse every call.
#[tonic::async_trait]
pub trait Answers: Send + Sync + 'static {
    /// A worker's stream of messages, and the coordinator's.
    async fn control(&self, messages: Streaming<v1::WorkerMessage>) -> Result<Replies<v1::CoordinatorMessage>, Status> {
        drop(messages);
        no_answer()
    }

    /// Pieces of a plan and its manifest.
    async fn plan(&self, request: v1::PlanRequest) -> Result<Replies<v1::PlanChunk>, Status> {
        _ = request;
        no_answer()
    }

    /// The parameters of a step.
    async fn parameters(&self, request: v1::ParametersRequest) -> Result<Replies<Chunk>, Status> {
        _ = request;
        no_answer()
    }

    /// Pieces of files.
    async fn files(&self, request: v1::FilesRequest) -> Result<Replies<v1::FilePiece>, Status> {
        _ = request;
        no_answer()
    }

    /// A node that a worker computed.
    async fn push_node(&self, messages: Streaming<v1::NodeMessage>) -> Result<v1::PushNodeReply, Status> {
        drop(messages);
        no_answer()
    }

    /// What an owner of chunks begins a step with.
    async fn state(&self, request: v1::StateRequest) -> Result<Replies<v1::ChunkState>, Status> {
        _ = request;
        no_answer()
    }

    /// Sums that an owner of chunks brings.
    async fn roots(&self, messages: Streaming<v1::RootMessage>) -> Result<v1::RootsReply, Status> {
        drop(messages);
        no_answer()
    }

    /// A chunk of what a worker keeps.
    async fn kept(&self, messages: Streaming<v1::KeptMessage>) -> Result<v1::AuditReply, Status> {
        drop(messages);
        no_answer()
    }

    /// What an owner was brought.
    async fn brought(&self, said: v1::BroughtDigests) -> Result<v1::AuditReply, Status> {
        _ = said;
        no_answer()
    }
}

/// The answer of a method that a test does not implement.
///
/// # Errors
/// Always.
pub fn no_answer<T>() -> Result<T, Status> {
    Err(Status::unimplemented("this coordinator does not answer the call"))
}

/// The service of the wire that gives these answers.
#[derive(Debug)]
pub struct FakeCoordinator<A>(pub A);

#[tonic::async_trait]
impl<A: Answers> Coordinator for FakeCoordinator<A> {
    type ControlStream = Replies<v1::CoordinatorMessage>;
    type PlanStream = Replies<v1::PlanChunk>;
    type FilesStream = Replies<v1::FilePiece>;
    type ParametersStream = Replies<Chunk>;
    type StateStream = Replies<v1::ChunkState>;

    async fn control(
        &self,
        request: Request<Streaming<v1::WorkerMessage>>,
    ) -> Result<Response<Self::ControlStream>, Status> {
        self.0.control(request.into_inner()).await.map(Response::new)
    }

    async fn plan(&self, request: Request<v1::PlanRequest>) -> Result<Response<Self::PlanStream>, Status> {
        self.0.plan(request.into_inner()).await.map(Response::new)
    }

    async fn parameters(
        &self,
        request: Request<v1::ParametersRequest>,
    ) -> Result<Response<Self::ParametersStream>, Status> {
        self.0.parameters(request.into_inner()).await.map(Response::new)
    }

    async fn files(&self, request: Request<v1::FilesRequest>) -> Result<Response<Self::FilesStream>, Status> {
        self.0.files(request.into_inner()).await.map(Response::new)
    }

    async fn push_node(
        &self,
        request: Request<Streaming<v1::NodeMessage>>,
    ) -> Result<Response<v1::PushNodeReply>, Status> {
        self.0.push_node(request.into_inner()).await.map(Response::new)
    }

    async fn state(&self, request: Request<v1::StateRequest>) -> Result<Response<Self::StateStream>, Status> {
        self.0.state(request.into_inner()).await.map(Response::new)
    }

    async fn roots(&self, request: Request<Streaming<v1::RootMessage>>) -> Result<Response<v1::RootsReply>, Status> {
        self.0.roots(request.into_inner()).await.map(Response::new)
    }

    async fn kept(&self, request: Request<Streaming<v1::KeptMessage>>) -> Result<Response<v1::AuditReply>, Status> {
        self.0.kept(request.into_inner()).await.map(Response::new)
    }

    async fn brought(&self, request: Request<v1::BroughtDigests>) -> Result<Response<v1::AuditReply>, Status> {
        self.0.brought(request.into_inner()).await.map(Response::new)
    }
}

/// A coordinator on a port of this machine, until it is dropped.
#[derive(Debug)]
pub struct Server {
    /// `127.0.0.1:PORT`.
    pub address: String,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Serves `answers` on a free port, on the runtime of the caller, with Convoy's settings.
///
/// # Panics
/// When no port is free.
pub async fn serve(answers: impl Answers) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("the socket is bound").to_string();
    let server = channel::server().add_service(channel::service(FakeCoordinator(answers)));
    let task = tokio::spawn(async move {
        // As a coordinator's sockets: otherwise what is sent in two pieces waits 40 ms for an acknowledgement.
        let sockets = TcpIncoming::from(listener).with_nodelay(Some(true));
        _ = server.serve_with_incoming(sockets).await;
    });
    Server { address, task }
}

/// A client of `answers` over memory: no socket and no timer, so that it works under tokio's paused clock. Both ends
/// run on the runtime of the caller.
///
/// # Panics
/// When the connection is not made, which is a mistake here.
pub async fn connect(answers: impl Answers) -> CoordinatorClient<Channel> {
    let (near, far) = tokio::io::duplex(PIPE);
    let (sender, incoming) = mpsc::channel(1);
    // The channel is new and has room.
    _ = sender.try_send(Ok::<_, std::io::Error>(far));
    let service = channel::service(FakeCoordinator(answers));
    tokio::spawn(async move {
        _ = tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming(ReceiverStream::new(incoming))
            .await;
        drop(sender);
    });
    let mut near = Some(TokioIo::new(near));
    let connector = tower::service_fn(move |_: Uri| {
        let end = near.take().ok_or_else(|| std::io::Error::other("the connection was lost"));
        async move { end }
    });
    let endpoint = Endpoint::from_static("http://memory");
    let channel = endpoint.connect_with_connector(connector).await.expect("a connection over memory");
    CoordinatorClient::new(channel)
        .max_decoding_message_size(channel::MESSAGE_LIMIT)
        .max_encoding_message_size(channel::MESSAGE_LIMIT)
}
