//! How fast nodes travel, plain and over TLS: `cargo bench -p convoy-proto --bench uploads -- [REPETITIONS]`.
//! Both ends are here, with the settings of worker and coordinator; the receiver counts what it gets and drops it.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use convoy_proto::channel::{self, Link};
use convoy_proto::v1::coordinator_client::CoordinatorClient;
use convoy_proto::v1::node_message::Message;
use convoy_proto::{CHUNK_ELEMENTS, Chunk, Values, chunk_count, chunk_range, v1};
use convoy_security::{Authority, Identity, Limits, NewKey, ServerTls, incoming};
use convoy_testing::{Answers, FakeCoordinator};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

type Failure = Box<dyn Error + Send + Sync>;

// As in the binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Elements of a node: parameters and buffers of a ResNet-18, 44.7 MB.
const ELEMENTS: usize = 11_181_642;
const LIFE: Duration = Duration::from_secs(3600);

/// Takes nodes and keeps nothing.
#[derive(Debug, Clone)]
struct Sink;

#[tonic::async_trait]
impl Answers for Sink {
    async fn push_node(&self, mut messages: Streaming<v1::NodeMessage>) -> Result<v1::PushNodeReply, Status> {
        let mut bytes = 0;
        while let Some(message) = messages.message().await? {
            if let Some(Message::Chunk(chunk)) = message.message {
                bytes += chunk.data.wire_len();
            }
        }
        match bytes == ELEMENTS * 4 {
            true => Ok(v1::PushNodeReply::default()),
            false => Err(Status::data_loss(format!("{bytes} bytes came"))),
        }
    }
}

/// A server, and a connection to it.
async fn connect(tls: Option<(ServerTls, Identity)>) -> Result<CoordinatorClient<Channel>, Failure> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let mut link = Link::plain(listener.local_addr()?.to_string());
    let (server_tls, member) = tls.unzip();
    link.cluster = member.map(|member| (member.pin(), Some(member)));
    let server = channel::server().add_service(channel::service(FakeCoordinator(Sink)));
    tokio::spawn(server.serve_with_incoming(incoming(listener, server_tls, Limits::default())));
    Ok(link.coordinator().await?)
}

fn identities() -> Result<(ServerTls, Identity), Failure> {
    let (folder, now) = (tempfile::tempdir()?, SystemTime::now());
    let authority = Authority::create(folder.path(), now)?;
    let server = authority.server(&["127.0.0.1".to_owned()], LIFE, now)?;
    let key = NewKey::generate()?;
    let signed = authority.sign(&key.public()?, "worker", LIFE, now)?;
    Ok((ServerTls::new(&server)?, key.with(signed.chain_pem)?))
}

/// What some uploads took.
#[derive(Default)]
struct Cost {
    /// MB/s of the fastest.
    fastest: f64,
    /// Seconds of all cores, both ends together.
    cpu: f64,
    /// Megabytes.
    sent: f64,
}

impl Cost {
    /// Sends one node as a worker does.
    async fn upload(
        &mut self,
        mut client: CoordinatorClient<Channel>,
        gradient: &Arc<Vec<f32>>,
    ) -> Result<(), Failure> {
        let (sender, messages) = mpsc::channel(4);
        let (cpu, begun) = (cpu_seconds()?, Instant::now());
        let feed = async {
            for index in 0..chunk_count(gradient.len()) {
                let data = Values::shared(gradient.clone(), chunk_range(gradient.len(), index));
                let chunk = Chunk { offset: (index * CHUNK_ELEMENTS) as u64, data };
                if sender.send(v1::NodeMessage { message: Some(Message::Chunk(chunk)) }).await.is_err() {
                    break;
                }
            }
            drop(sender);
        };
        let (reply, ()) = tokio::join!(client.push_node(ReceiverStream::new(messages)), feed);
        reply?;
        let megabytes = (gradient.len() * 4) as f64 / 1e6;
        self.fastest = self.fastest.max(megabytes / begun.elapsed().as_secs_f64());
        self.cpu += cpu_seconds()? - cpu;
        self.sent += megabytes;
        Ok(())
    }
}

/// What this process has computed so far. Other work on the machine does not show in it.
fn cpu_seconds() -> Result<f64, Failure> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit_once(')').ok_or("no process")?.1.split_whitespace();
    // User and system, in hundredths.
    let ticks = fields.skip(11).take(2).map(str::parse::<u64>).sum::<Result<u64, _>>()?;
    Ok(ticks as f64 / 100.0)
}

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<(), Failure> {
    let repetitions: u32 = std::env::args().nth(1).map_or(Ok(40), |count| count.parse())?;
    let gradient: Arc<Vec<f32>> = Arc::new((0..ELEMENTS).map(|index| index as f32).collect());
    let connections = [connect(None).await?, connect(Some(identities()?)).await?];
    let mut costs = [Cost::default(), Cost::default()];
    // In turn, so that what else the machine does meets both.
    for _ in 0..repetitions {
        for (cost, client) in costs.iter_mut().zip(&connections) {
            cost.upload(client.clone(), &gradient).await?;
        }
    }
    println!("{repetitions} nodes of {:.1} MB each way", (ELEMENTS * 4) as f64 / 1e6);
    for (name, cost) in ["plain", "TLS"].iter().zip(&costs) {
        println!("{name}: {:.0} MB/s the fastest, {:.2} CPU seconds a GB", cost.fastest, 1e3 * cost.cpu / cost.sent);
    }
    println!("TLS is {:.0} % slower", 100.0 * (1.0 - costs[1].fastest / costs[0].fastest));
    Ok(())
}
