//! Whether all can send to all at once as fast as their links are, over TLS: `bench/mesh.sh` starts a peer in each of
//! several network namespaces.
//!
//!     mesh keys FOLDER HOST...
//!     mesh peer FOLDER MEGABYTES STEPS START HOST OTHER...
//!
//! In each step a peer sends its part of so many megabytes to each other one and takes as much from it, on one
//! connection to each; as workers would that add parts of a gradient for each other. It begins at START, seconds since
//! 1970, and prints the seconds that its steps took.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use convoy_proto::channel::{self, Link};
use convoy_proto::v1::coordinator_client::CoordinatorClient;
use convoy_proto::v1::node_message::Message;
use convoy_proto::{CHUNK_ELEMENTS, Chunk, Values, chunk_count, chunk_range, v1};
use convoy_security::{Authority, Identity, Limits, NewKey, ServerTls, incoming};
use convoy_testing::{Answers, FakeCoordinator, Replies};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

type Failure = Box<dyn Error + Send + Sync>;

// As in the binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const PORT: u16 = 7071;
const LIFE: Duration = Duration::from_secs(3600);
/// Chunks that wait for the socket.
const AHEAD: usize = 4;

/// Takes what it gets, and gives the same part to whoever asks.
#[derive(Debug, Clone)]
struct Peer(Arc<Vec<f32>>);

/// The chunks of `vector`, for a connection that takes them one after the other.
fn chunks(vector: Arc<Vec<f32>>) -> ReceiverStream<Chunk> {
    let (sender, receiver) = mpsc::channel(AHEAD);
    tokio::spawn(async move {
        for index in 0..chunk_count(vector.len()) {
            let data = Values::shared(vector.clone(), chunk_range(vector.len(), index));
            if sender.send(Chunk { offset: (index * CHUNK_ELEMENTS) as u64, data }).await.is_err() {
                return;
            }
        }
    });
    ReceiverStream::new(receiver)
}

#[tonic::async_trait]
impl Answers for Peer {
    async fn push_node(&self, mut messages: Streaming<v1::NodeMessage>) -> Result<v1::PushNodeReply, Status> {
        while messages.message().await?.is_some() {}
        Ok(v1::PushNodeReply::default())
    }

    async fn parameters(&self, _: v1::ParametersRequest) -> Result<Replies<Chunk>, Status> {
        Ok(Box::pin(chunks(self.0.clone()).map(Ok)))
    }
}

/// Sends a part to another peer, and takes one from it.
async fn exchange(mut client: CoordinatorClient<Channel>, part: Arc<Vec<f32>>) -> Result<(), Status> {
    let mut sending = client.clone();
    let messages = chunks(part.clone()).map(|chunk| v1::NodeMessage { message: Some(Message::Chunk(chunk)) });
    let take = async {
        let mut taken = client.parameters(v1::ParametersRequest::default()).await?.into_inner();
        let mut bytes = 0;
        while let Some(chunk) = taken.message().await? {
            bytes += chunk.data.wire_len();
        }
        match bytes == part.len() * 4 {
            true => Ok(()),
            false => Err(Status::data_loss(format!("{bytes} bytes came"))),
        }
    };
    tokio::try_join!(sending.push_node(messages), take).map(|_| ())
}

/// One authority, one server and one member for all.
fn keys(folder: &Path, hosts: &[String]) -> Result<(), Failure> {
    let now = SystemTime::now();
    let authority = Authority::create(folder, now)?;
    authority.server(hosts, LIFE, now)?.save(folder, "server")?;
    let key = NewKey::generate()?;
    let signed = authority.sign(&key.public()?, "peer", LIFE, now)?;
    Ok(key.with(signed.chain_pem)?.save(folder, "member")?)
}

/// A connection to `host`, as soon as somebody listens there.
async fn connect(folder: &Path, host: &str) -> Result<CoordinatorClient<Channel>, Failure> {
    let member = Identity::load(folder, "member")?;
    let link = Link::member(format!("{host}:{PORT}"), member.pin(), Some(member));
    loop {
        match link.coordinator().await {
            Err(convoy_security::ConnectError::Unreachable(_)) => tokio::time::sleep(Duration::from_millis(50)).await,
            connected => return Ok(connected?),
        }
    }
}

async fn peer(folder: &Path, megabytes: f64, steps: u32, start: u64, hosts: &[String]) -> Result<(), Failure> {
    let part = Arc::new(vec![1.0; (megabytes * 1e6) as usize / 4 / hosts.len()]);
    let listener = TcpListener::bind(format!("{}:{PORT}", hosts[0])).await?;
    let tls = ServerTls::new(&Identity::load(folder, "server")?)?;
    let server = channel::server().add_service(channel::service(FakeCoordinator(Peer(part.clone()))));
    tokio::spawn(server.serve_with_incoming(incoming(listener, Some(tls), Limits::default())));
    let mut others = Vec::new();
    for host in &hosts[1..] {
        others.push(connect(folder, host).await?);
    }
    let late = || Failure::from("START is over: not all peers were there in time");
    let start = UNIX_EPOCH + Duration::from_secs(start);
    tokio::time::sleep(start.duration_since(SystemTime::now()).map_err(|_| late())?).await;
    let mut begun = Instant::now();
    for _ in 0..steps {
        let mut exchanges: JoinSet<_> = others.iter().map(|other| exchange(other.clone(), part.clone())).collect();
        while let Some(done) = exchanges.join_next().await {
            done??;
        }
        print!("{:.4} ", begun.elapsed().as_secs_f64());
        begun = Instant::now();
    }
    println!();
    // Others may not have taken all of it yet.
    tokio::time::sleep(Duration::from_secs(3)).await;
    Ok(())
}

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match &arguments[..] {
        [command, folder, hosts @ ..] if command == "keys" => keys(Path::new(folder), hosts),
        [command, folder, megabytes, steps, start, hosts @ ..] if command == "peer" && !hosts.is_empty() => {
            peer(Path::new(folder), megabytes.parse()?, steps.parse()?, start.parse()?, hosts).await
        }
        _ => Err("mesh keys FOLDER HOST..., or mesh peer FOLDER MEGABYTES STEPS START HOST OTHER...".into()),
    }
}
