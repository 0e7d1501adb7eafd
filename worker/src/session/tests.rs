use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use convoy_proto::channel::Link;
use convoy_proto::v1::coordinator_server::Coordinator;
use tokio::sync::watch;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response};

use super::*;

type Reply<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// A coordinator that counts heartbeats and gives nothing to do.
#[derive(Clone, Default)]
struct Listener(Arc<AtomicUsize>);

#[tonic::async_trait]
impl Coordinator for Listener {
    type ControlStream = ReceiverStream<Result<v1::CoordinatorMessage, Status>>;
    type PlanStream = Reply<v1::PlanChunk>;
    type FilesStream = Reply<v1::FilePiece>;
    type ParametersStream = Reply<convoy_proto::Chunk>;

    async fn control(
        &self,
        request: Request<Streaming<v1::WorkerMessage>>,
    ) -> Result<Response<Self::ControlStream>, Status> {
        let (sender, replies) = mpsc::channel(1);
        let welcome = Message::Welcome(v1::Welcome { worker: 1, heartbeat_ms: 20 });
        _ = sender.send(Ok(v1::CoordinatorMessage { message: Some(welcome) })).await;
        let (heard, mut messages) = (self.0.clone(), request.into_inner());
        tokio::spawn(async move {
            while let Some(Ok(message)) = messages.next().await {
                let beat = matches!(message.message, Some(v1::worker_message::Message::Heartbeat(_)));
                heard.fetch_add(beat.into(), Ordering::SeqCst);
            }
            drop(sender);
        });
        Ok(Response::new(ReceiverStream::new(replies)))
    }

    async fn plan(&self, _: Request<v1::PlanRequest>) -> Result<Response<Self::PlanStream>, Status> {
        Err(Status::unimplemented("no plan"))
    }

    async fn files(&self, _: Request<v1::FilesRequest>) -> Result<Response<Self::FilesStream>, Status> {
        Err(Status::unimplemented("no files"))
    }

    async fn parameters(&self, _: Request<v1::ParametersRequest>) -> Result<Response<Self::ParametersStream>, Status> {
        Err(Status::unimplemented("no parameters"))
    }

    async fn push_node(&self, _: Request<Streaming<v1::NodeMessage>>) -> Result<Response<v1::PushNodeReply>, Status> {
        Err(Status::unimplemented("no nodes"))
    }
}

#[test]
fn a_worker_whose_own_runtime_is_busy_is_not_silent() {
    let listener = Listener::default();
    let server = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let socket = server.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = socket.local_addr().unwrap().to_string();
    let service = convoy_proto::channel::service(listener.clone());
    let incoming = tokio_stream::wrappers::TcpListenerStream::new(socket);
    server.spawn(convoy_proto::channel::server().add_service(service).serve_with_incoming(incoming));

    let config = Config {
        link: watch::channel(Link::plain(address)).1,
        name: "busy".to_owned(),
        device: convoy_nn::Device::Cpu,
        threads: 1,
        data: None,
        cache: None,
        sees: None,
        log: None,
        patience: Some(Duration::from_secs(10)),
    };
    let own = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    own.block_on(async {
        let working = tokio::spawn(run(config, std::future::pending()));
        let connected = async {
            while listener.0.load(Ordering::SeqCst) < 2 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), connected).await.expect("it connects");
        let before = listener.0.load(Ordering::SeqCst);
        // The only thread of this runtime.
        std::thread::sleep(Duration::from_secs(1));
        let meanwhile = listener.0.load(Ordering::SeqCst) - before;
        assert!(meanwhile >= 5, "{meanwhile} heartbeats in 1 s, where 50 are due");
        working.abort();
    });
}
