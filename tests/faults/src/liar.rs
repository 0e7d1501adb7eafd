//! A machine that computes wrongly: a worker of sound mind behind a connection that changes what it sends.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use convoy_proto::channel::Link;
use convoy_proto::v1::coordinator_client::CoordinatorClient;
use convoy_proto::v1::node_message::Message;
use convoy_proto::{Chunk, Values, v1};
use convoy_security::Secret;
use convoy_testing::{Answers, Replies, Server};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Response, Status, Streaming};

/// How it is lied about a node: mostly, what the first value of each chunk becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    /// Its lowest bit is another.
    Bit,
    /// It is no number, and the worker says that all are finite.
    NotANumber,
    /// It is as large as a value can be.
    Huge,
    /// Each chunk comes twice, and the first time a bit of it is another.
    Twice,
    /// A bit of the first chunk is another, and nothing more comes: as of a worker that dies.
    Half,
}

/// So many of the first lies are about nodes of several shards, which no audit looks at.
pub const UNSEEN: i64 = 3;

/// A way to a coordinator on which lies are told, while it is held.
pub struct Liar {
    /// Where a worker connects to it.
    pub address: String,
    /// The runtime ends after the server.
    _server: Server,
    _runtime: Runtime,
}

impl Liar {
    /// A way to the plain coordinator at `address`, whose user's folder is `home`, that tells the truth about `honest`
    /// nodes, then lies about [`UNSEEN`] that have several shards, then about all. With minus [`UNSEEN`] it lies about
    /// all from the first. A worker that dies too often is not lent anything: [`Lie::Half`] is told [`UNSEEN`] times.
    ///
    /// # Panics
    /// When the coordinator does not answer.
    pub fn start(address: &str, home: &Path, lie: Lie, honest: i64) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let server = runtime.block_on(async {
            let real = local_link(address, home).coordinator().await.expect("the coordinator answers");
            convoy_testing::serve(Passing { real, lie, honest: Arc::new(AtomicI64::new(honest)) }).await
        });
        Liar { address: server.address.clone(), _server: server, _runtime: runtime }
    }
}

/// A plain connection as processes of the user open it whose folder is `home`.
///
/// # Panics
/// When no process of the user has made the secret yet.
pub fn local_link(address: &str, home: &Path) -> Link {
    let text = std::fs::read_to_string(home.join("local.secret")).expect("the coordinator has made it");
    Link::local(address.to_owned(), Secret::new(text.trim().to_owned()))
}

/// Passes on what a worker and its coordinator say.
#[derive(Clone)]
struct Passing {
    real: CoordinatorClient<Channel>,
    lie: Lie,
    /// Nodes that are still passed on as they are; below zero, how many unseen lies were told.
    honest: Arc<AtomicI64>,
}

impl Passing {
    fn lies_about(&self, header: &v1::NodeHeader) -> bool {
        let several = header.node.is_some_and(|node| node.last - node.first > 1);
        let left = self.honest.load(Ordering::SeqCst);
        if left > 0 || (left > -UNSEEN && several) {
            self.honest.fetch_sub(1, Ordering::SeqCst);
        }
        (left <= -UNSEEN && self.lie != Lie::Half) || (left <= 0 && several && left > -UNSEEN)
    }

    /// What is passed on in the place of `message`, and whether nothing is after it.
    fn told(&self, message: Message, lies: &mut bool) -> (Vec<Message>, bool) {
        match message {
            Message::Header(header) => {
                *lies = self.lies_about(&header);
                (vec![Message::Header(header)], false)
            }
            Message::Chunk(chunk) if *lies => {
                let wrong = Chunk { offset: chunk.offset, data: changed(&chunk.data, self.lie) };
                let mut all = vec![Message::Chunk(wrong)];
                all.extend((self.lie == Lie::Twice).then_some(Message::Chunk(chunk)));
                (all, self.lie == Lie::Half)
            }
            other => (vec![other], false),
        }
    }
}

#[tonic::async_trait]
impl Answers for Passing {
    async fn control(&self, messages: Streaming<v1::WorkerMessage>) -> Result<Replies<v1::CoordinatorMessage>, Status> {
        passed_on(self.real.clone().control(messages.map_while(Result::ok)).await)
    }

    async fn plan(&self, request: v1::PlanRequest) -> Result<Replies<v1::PlanChunk>, Status> {
        passed_on(self.real.clone().plan(request).await)
    }

    async fn files(&self, request: v1::FilesRequest) -> Result<Replies<v1::FilePiece>, Status> {
        passed_on(self.real.clone().files(request).await)
    }

    async fn parameters(&self, request: v1::ParametersRequest) -> Result<Replies<Chunk>, Status> {
        passed_on(self.real.clone().parameters(request).await)
    }

    async fn push_node(&self, mut messages: Streaming<v1::NodeMessage>) -> Result<v1::PushNodeReply, Status> {
        let (liar, mut lies) = (self.clone(), false);
        let (sender, told) = mpsc::channel(4);
        tokio::spawn(async move {
            while let Some(Ok(v1::NodeMessage { message: Some(message) })) = messages.next().await {
                let (all, dies) = liar.told(message, &mut lies);
                for message in all {
                    // Closed when the coordinator has answered.
                    _ = sender.send(v1::NodeMessage { message: Some(message) }).await;
                }
                if dies {
                    return;
                }
            }
        });
        self.real.clone().push_node(ReceiverStream::new(told)).await.map(Response::into_inner)
    }
}

fn changed(data: &Values, lie: Lie) -> Values {
    let mut values = vec![0.0; data.wire_len() / 4];
    assert!(data.copy_to(&mut values), "a worker sends whole values");
    values[0] = match lie {
        Lie::Bit | Lie::Twice | Lie::Half => f32::from_bits(values[0].to_bits() ^ 1),
        Lie::NotANumber => f32::NAN,
        Lie::Huge => f32::MAX,
    };
    let range = 0..values.len();
    Values::shared(Arc::new(values), range)
}

fn passed_on<T: Send + 'static>(answer: Result<Response<Streaming<T>>, Status>) -> Result<Replies<T>, Status> {
    answer.map(|answer| Box::pin(answer.into_inner()) as Replies<T>)
}
