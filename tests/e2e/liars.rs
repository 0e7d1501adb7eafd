//! A machine that computes wrongly: a worker of sound mind behind a connection that changes bits of what it sends.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use convoy_proto::v1;
use convoy_proto::v1::coordinator_client::CoordinatorClient;
use convoy_proto::v1::node_message::Message;
use convoy_testing::{Answers, Replies, Server};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Response, Status, Streaming};

use crate::cluster::{Cluster, digest};
use crate::faults::worker;
use crate::job::{Process, convoy, local_link, wait_for};

/// How it is lied about a node.
#[derive(Clone, Copy, PartialEq)]
enum Lie {
    /// A bit of each chunk is another.
    Bit,
    /// Each chunk comes twice, and is wrong the first time.
    Twice,
    /// The first chunk is wrong, and nothing more comes: as of a worker that dies.
    Half,
}

/// Passes on what a worker and its coordinator say, and lies about gradients.
#[derive(Clone)]
struct Liar {
    lie: Lie,
    real: CoordinatorClient<Channel>,
    /// So many nodes are passed on as they are, then so many that have several shards are changed, then all.
    honest: Arc<AtomicI64>,
}

/// Several times the steps in which a newcomer has its first audit.
const LONG: [&str; 4] = ["--set", "train.epochs=120", "--set", "checkpoint.every_steps=10"];
/// Lies about nodes of several shards, which no audit looks at, before all others.
const UNSEEN: i64 = 3;

impl Liar {
    fn lies_about(&self, header: &v1::NodeHeader) -> bool {
        let several = header.node.is_some_and(|node| node.last - node.first > 1);
        let left = self.honest.load(Ordering::SeqCst);
        if left > 0 || (left > -UNSEEN && several) {
            self.honest.fetch_sub(1, Ordering::SeqCst);
        }
        // Who dies too often is not lent anything.
        (left <= -UNSEEN && self.lie != Lie::Half) || (left <= 0 && several && left > -UNSEEN)
    }
}

#[tonic::async_trait]
impl Answers for Liar {
    async fn control(&self, messages: Streaming<v1::WorkerMessage>) -> Result<Replies<v1::CoordinatorMessage>, Status> {
        passed_on(self.real.clone().control(messages.map_while(Result::ok)).await)
    }

    async fn plan(&self, request: v1::PlanRequest) -> Result<Replies<v1::PlanChunk>, Status> {
        passed_on(self.real.clone().plan(request).await)
    }

    async fn files(&self, request: v1::FilesRequest) -> Result<Replies<v1::FilePiece>, Status> {
        passed_on(self.real.clone().files(request).await)
    }

    async fn parameters(&self, request: v1::ParametersRequest) -> Result<Replies<convoy_proto::Chunk>, Status> {
        passed_on(self.real.clone().parameters(request).await)
    }

    async fn push_node(&self, mut messages: Streaming<v1::NodeMessage>) -> Result<v1::PushNodeReply, Status> {
        let (liar, mut lies) = (self.clone(), false);
        let (sender, told) = tokio::sync::mpsc::channel(4);
        tokio::spawn(async move {
            while let Some(Ok(v1::NodeMessage { message: Some(message) })) = messages.next().await {
                let (mut all, mut dies) = (vec![message], false);
                match &all[0] {
                    Message::Header(header) => lies = liar.lies_about(header),
                    Message::Chunk(chunk) if lies => {
                        let wrong = Message::Chunk(wrong(chunk));
                        match liar.lie {
                            Lie::Twice => all.insert(0, wrong),
                            Lie::Bit | Lie::Half => all = vec![wrong],
                        }
                        dies = liar.lie == Lie::Half;
                    }
                    _ => {}
                }
                for message in all {
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

/// The chunk with another bit.
fn wrong(chunk: &convoy_proto::Chunk) -> convoy_proto::Chunk {
    let mut values = vec![0.0; chunk.data.wire_len() / 4];
    assert!(chunk.data.copy_to(&mut values));
    values[0] = f32::from_bits(values[0].to_bits() ^ 1);
    let range = 0..values.len();
    convoy_proto::Chunk { offset: chunk.offset, data: convoy_proto::Values::shared(Arc::new(values), range) }
}

fn passed_on<T: Send + 'static>(answer: Result<Response<Streaming<T>>, Status>) -> Result<Replies<T>, Status> {
    answer.map(|answer| Box::pin(answer.into_inner()) as Replies<T>)
}

/// A way to the coordinator at `address` that lies after `honest` nodes; and what keeps it open.
fn liar(address: &str, lie: Lie, honest: i64) -> (String, (tokio::runtime::Runtime, Server)) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let server = runtime.block_on(async {
        let real = local_link(address).coordinator().await.expect("the coordinator answers");
        convoy_testing::serve(Liar { lie, real, honest: Arc::new(AtomicI64::new(honest)) }).await
    });
    (server.address.clone(), (runtime, server))
}

/// The worker `mallory` behind a liar.
fn mallory(address: &str) -> Process {
    let mut command = convoy();
    command.args(["worker", "--coordinator", address, "--threads", "1", "--name", "mallory"]);
    Process(command.stderr(std::process::Stdio::piped()).spawn().expect("convoy starts"))
}

/// What the run's audit says of a machine that was evicted.
fn evicted(cluster: &Cluster) -> serde_json::Value {
    let audit = cluster.json(&["audit", "last"]);
    assert_eq!((&audit["exact"], &audit["distrusted"]), (&true.into(), &serde_json::json!(["mallory"])), "{audit}");
    audit
}

/// It was told why it may not come back.
fn check_evicted(mut mallory: Process) {
    let ended = wait_for("its end", || mallory.0.try_wait().expect("it was started"));
    assert_eq!(ended.code(), Some(4), "it may not come back");
    let mut said = String::new();
    let stderr = mallory.0.stderr.as_mut().expect("it is piped");
    std::io::Read::read_to_string(stderr, &mut said).expect("it is text");
    assert!(said.contains("mallory") && said.contains("wrongly") && said.contains("agree otherwise"), "{said}");
}

/// A run with two workers that a liar joins. The liar is evicted during the run and leaves no trace in the parameters.
/// It comes when the others have made a step: a worker that is alone has nobody who could find it out. The answer is
/// the run's audit.
fn audit_with_a_liar(honest: i64) -> serde_json::Value {
    let cluster = Cluster::new();
    let alone = cluster.job.train("alone", &LONG);
    let _coordinator = cluster.start();
    let (address, _way) = liar(&cluster.address, Lie::Bit, honest);
    let _workers = [worker(&cluster.address), worker(&cluster.address)];
    wait_for("two workers", || (cluster.workers() == 2).then_some(()));
    cluster.submit(&LONG);
    cluster.when(1, "its first steps", |job| job["status"]["step"].as_u64() > Some(1));
    let mallory = mallory(&address);
    let done = cluster.when(1, "its end", |job| job["state"] == "completed");
    assert_eq!(digest(&done), alone["parameters_digest"].as_str().expect("a digest"));
    let audit = evicted(&cluster);
    check_evicted(mallory);
    audit
}

#[test]
fn a_machine_that_computes_wrongly_is_evicted_with_its_first_shard() {
    let audit = audit_with_a_liar(-UNSEEN);
    assert_eq!((&audit["disbelieved"], &audit["starts"]), (&0.into(), &1.into()), "nothing of it was committed");
}

#[test]
fn what_a_machine_computed_wrongly_before_it_was_found_out_is_computed_again() {
    let audit = audit_with_a_liar(40);
    let (taken_back, starts) = (audit["disbelieved"].as_u64(), audit["starts"].as_u64());
    assert!(taken_back > Some(0) && starts == Some(2), "{audit}");
    let audited = |epoch: &serde_json::Value| epoch["audited"].as_u64().unwrap_or(0);
    let audited: u64 = audit["epochs"].as_array().expect("epochs").iter().map(audited).sum();
    println!("{} steps taken back; {audited} of {} samples audited", taken_back.unwrap_or(0), 400 * 150);
}

/// A run with two workers that a liar joins which never brings a node whole. The answer is what people were told.
fn events_of_a_liar(lie: Lie) -> String {
    let cluster = Cluster::new();
    let alone = cluster.job.train("alone", &LONG);
    let _coordinator = cluster.start();
    let (address, _way) = liar(&cluster.address, lie, 0);
    let _workers = [worker(&cluster.address), worker(&cluster.address)];
    wait_for("two workers", || (cluster.workers() == 2).then_some(()));
    cluster.submit(&LONG);
    cluster.when(1, "its first steps", |job| job["status"]["step"].as_u64() > Some(1));
    let _mallory = mallory(&address);
    let done = cluster.when(1, "its end", |job| job["state"] == "completed");
    assert_eq!(digest(&done), alone["parameters_digest"].as_str().expect("a digest"));
    assert_eq!(cluster.json(&["audit", "last"])["exact"], true);
    std::fs::read_to_string(cluster.job.path("state/jobs/1/events")).expect("the run has events")
}

#[test]
fn a_worker_that_sends_chunks_twice_has_failed_and_leaves_no_trace() {
    let events = events_of_a_liar(Lie::Twice);
    assert!(events.contains("of the node came twice"), "{events}");
}

#[test]
fn half_a_node_of_a_worker_that_dies_is_compared_with_what_others_bring() {
    let events = events_of_a_liar(Lie::Half);
    assert!(events.contains("contradicted") && events.contains("mallory"), "{events}");
}
