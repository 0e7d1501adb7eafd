use std::sync::atomic::Ordering;

use bytes::Bytes;
use convoy_common::spec::Compression;
use convoy_proto::v1::brought_wanted::What;
use convoy_proto::v1::push_message::Message as Pushed;
use convoy_proto::{Chunk, Values, channel};
use convoy_reduce::{ChunkBuffer, ChunkState};
use convoy_scheduler::{Node, Work};
use convoy_testing::{Answers, Replies, connect};
use tokio::time::timeout;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Code, Status, Streaming};

use super::*;
use crate::chunk_sources::ChunkSources;
use crate::fixtures::{ASSIGNMENT, Job, ROOT, lease};
use crate::held_parameters::HeldParameters;
use crate::peer_end::{PeerConfig, PeerEnd};

/// The worker that is the owner, and another one.
const OWNER: u32 = ASSIGNMENT.worker;
const OTHER: u32 = 1;

/// A coordinator that has the state of a step, and passes on the sums that it gets.
struct Sums {
    state: Vec<f32>,
    /// Calls with sums that it ends after the first of them.
    fails: std::sync::atomic::AtomicUsize,
    roots: mpsc::UnboundedSender<v1::root_message::Message>,
    /// What it is told for audits.
    audits: mpsc::UnboundedSender<AuditAnswer>,
}

/// What a worker answers to an audit.
#[derive(Debug)]
enum AuditAnswer {
    Kept(Vec<v1::kept_message::Message>),
    Brought(v1::BroughtDigests),
}

fn le(values: &[f32]) -> Bytes {
    values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>().into()
}

#[tonic::async_trait]
impl Answers for Sums {
    async fn state(&self, request: v1::StateRequest) -> Result<Replies<v1::ChunkState>, Status> {
        assert_eq!((request.worker, request.step, &request.chunks[..]), (OWNER, 0, &[0][..]));
        let moments = vec![le(&vec![0.0; self.state.len()])];
        let state = v1::ChunkState { chunk: 0, values: le(&self.state), moments };
        Ok(Box::pin(tokio_stream::iter([Ok(state)])))
    }

    async fn roots(&self, mut messages: Streaming<v1::RootMessage>) -> Result<v1::RootsReply, Status> {
        while let Some(v1::RootMessage { message: Some(message) }) = messages.message().await? {
            let is_sum = matches!(message, v1::root_message::Message::Sum(_));
            let fails = |left: usize| left.checked_sub(1);
            if is_sum && self.fails.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fails).is_ok() {
                return Err(Status::unavailable("the line is cut"));
            }
            _ = self.roots.send(message);
        }
        Ok(v1::RootsReply {})
    }

    async fn kept(&self, mut messages: Streaming<v1::KeptMessage>) -> Result<v1::AuditReply, Status> {
        let mut all = Vec::new();
        while let Some(v1::KeptMessage { message: Some(message) }) = messages.message().await? {
            all.push(message);
        }
        _ = self.audits.send(AuditAnswer::Kept(all));
        Ok(v1::AuditReply {})
    }

    async fn brought(&self, said: v1::BroughtDigests) -> Result<v1::AuditReply, Status> {
        _ = self.audits.send(AuditAnswer::Brought(said));
        Ok(v1::AuditReply {})
    }
}

/// A worker that owns the one chunk of a run, and another worker, which it was told of.
struct Bench {
    job: Job,
    exchange: Exchange,
    end: Arc<PeerEnd>,
    other: PeerEnd,
    address: String,
    roots: mpsc::UnboundedReceiver<v1::root_message::Message>,
    audits: mpsc::UnboundedReceiver<AuditAnswer>,
    coordinator: CoordinatorClient<Channel>,
    said: mpsc::Receiver<v1::WorkerMessage>,
}

impl Bench {
    async fn new() -> Self {
        Bench::whose_sums_fail(0).await
    }

    /// The same, with a coordinator that does not take the sums so many times.
    async fn whose_sums_fail(fails: usize) -> Self {
        let job = Job::at(ROOT);
        let (sender, roots) = mpsc::unbounded_channel();
        let (answers, audits) = mpsc::unbounded_channel();
        let sums = Sums { state: job.parameters(0), fails: fails.into(), roots: sender, audits: answers };
        let client = connect(sums).await;
        let coordinator = client.clone();
        let listen = Some("127.0.0.1:0".parse().unwrap());
        let end = Arc::new(PeerEnd::open(&PeerConfig { listen, addresses: Vec::new() }).await.unwrap());
        let other = PeerEnd::deaf().unwrap();
        let fingerprint = other.identity.fingerprint();
        end.known.insert(fingerprint);
        end.workers.insert(&v1::PeerPlace { worker: OTHER, ..Default::default() }, fingerprint);
        let (outbox, said) = Outbox::new(64);
        let (failures, _) = mpsc::unbounded_channel();
        let pushes = NodePushes::new(client.clone(), ASSIGNMENT, outbox.clone(), failures);
        let exchange = Exchange::begin(ExchangeParts {
            assignment: ASSIGNMENT,
            plan: job.plan.clone(),
            network: job.network.clone(),
            format: Arc::new(ParameterFormat::of(&job.plan, &job.network)),
            client,
            outbox,
            workers: end.workers.clone(),
            pushes,
            computes: true,
        });
        let exchange = exchange.unwrap();
        end.join(exchange.state());
        let mut hello = v1::Hello::default();
        end.introduce(&mut hello);
        let address = format!("127.0.0.1:{}", hello.peer_port);
        Bench { job, exchange, end, other, address, roots, audits, coordinator, said }
    }

    /// The first step is opened once more.
    fn open(&mut self, opening: u64, owner: u32) {
        let job = ASSIGNMENT.job;
        self.exchange.owners(v1::Owners { job, version: opening, of: vec![owner] }).unwrap();
        self.exchange.opened(v1::StepOpened { job, step: 0, opening, shards: 4 }).unwrap();
    }

    /// What the other worker sends, and what it is answered.
    async fn push(&self) -> (mpsc::UnboundedSender<v1::PushMessage>, Streaming<v1::ChunkTaken>) {
        let client = channel::peer(&self.address, self.end.identity.fingerprint(), &self.other.identity);
        let (sender, messages) = mpsc::unbounded_channel();
        let taken = client.await.as_mut().unwrap().push(UnboundedReceiverStream::new(messages)).await.unwrap();
        (sender, taken.into_inner())
    }

    /// The gradients of shards, as a node.
    fn node(&self, node: Node) -> Vec<f32> {
        let add = |left: Vec<f32>, right: Vec<f32>| left.iter().zip(right).map(|(l, r)| l + r).collect();
        match node.children() {
            Some((left, right)) => add(self.node(left), self.node(right)),
            None => self.job.gradient(0, node.first),
        }
    }
}

fn header(opening: u64) -> v1::PushMessage {
    let Assignment { job, generation, .. } = ASSIGNMENT;
    let header = v1::PushHeader { worker: OTHER, job, generation, opening, version: opening };
    v1::PushMessage { message: Some(Pushed::Header(header)) }
}

fn chunk(lease: u64, node: Node, offset: u64, values: &[f32]) -> v1::PushMessage {
    let chunk = Some(Chunk { offset, data: Values::from(le(values)) });
    v1::PushMessage { message: Some(Pushed::Chunk(v1::PushedChunk { lease, node: Some(node.into()), chunk })) }
}

const LEFT: Node = Node { first: 0, last: 2 };
const RIGHT: Node = Node { first: 2, last: 4 };

#[tokio::test]
async fn an_owner_adds_what_workers_send_and_hands_out_what_it_makes() {
    let mut bench = Bench::new().await;
    bench.open(1, OWNER);
    let (sender, mut taken) = bench.push().await;
    let (left, right) = (bench.node(LEFT), bench.node(RIGHT));
    sender.send(header(1)).unwrap();
    sender.send(chunk(7, LEFT, 0, &left)).unwrap();
    assert_eq!(taken.message().await.unwrap(), Some(v1::ChunkTaken { lease: 7, chunk: 0 }));
    // The other node is its own.
    let own = lease(Work::Train, 0, 8, 2..4);
    let node = bench.exchange.node(own).expect("its chunks go to an owner");
    node.chunk(0, ChunkBuffer::of(&right));
    let Assignment { job, generation, .. } = ASSIGNMENT;
    let request = v1::SlicesRequest { worker: OTHER, job, generation, opening: 1, chunks: vec![0], changes: false };
    let mut client =
        channel::peer(&bench.address, bench.end.identity.fingerprint(), &bench.other.identity).await.unwrap();
    let made = client.slices(request).await.unwrap().into_inner().message().await.unwrap().expect("a chunk");

    let sum: Vec<f32> = left.iter().zip(&right).map(|(left, right)| left + right).collect();
    let rules = StepRules::new(bench.job.plan.clone(), bench.job.network.clone());
    let state = |values: &[f32]| Arc::new(ChunkBuffer::of(values));
    let before = ChunkState { values: state(&bench.job.parameters(0)), moments: vec![state(&vec![0.0; sum.len()])] };
    let scales = rules.early_scales(0).expect("there is no clipping");
    let expected = rules.make_chunk(0, 0, scales, ChunkBuffer::of(&sum), &before).state;
    let mut values = vec![0.0; sum.len()];
    assert!(made.data.copy_to(&mut values) && made.offset == 0);
    assert_eq!(values, expected.values[..]);
    let Some(v1::root_message::Message::Header(header)) = bench.roots.recv().await else { panic!("a header") };
    assert_eq!((header.worker, header.opening), (OWNER, 1));
    let Some(v1::root_message::Message::Sum(root)) = bench.roots.recv().await else { panic!("a sum") };
    assert!(root.data.copy_to(&mut values));
    assert_eq!(values, sum, "the coordinator gets the sum");
}

#[tokio::test]
async fn sums_that_did_not_get_through_are_sent_again() {
    let mut bench = Bench::whose_sums_fail(2).await;
    bench.open(1, OWNER);
    let whole = Node { first: 0, last: 4 };
    let node = bench.exchange.node(lease(Work::Train, 0, 8, 0..4)).expect("its chunks go to an owner");
    node.chunk(0, ChunkBuffer::of(&bench.node(whole)));
    let sum = async {
        loop {
            if let Some(v1::root_message::Message::Sum(sum)) = bench.roots.recv().await {
                return sum;
            }
        }
    };
    let sum = timeout(Duration::from_secs(20), sum).await.expect("it comes");
    assert_eq!(sum.data.to_bytes(), le(&bench.node(whole)));
}

/// How the owner ends a push of the other worker.
async fn refused(bench: &Bench, messages: impl IntoIterator<Item = v1::PushMessage>) -> Status {
    let (sender, mut taken) = bench.push().await;
    messages.into_iter().for_each(|message| sender.send(message).unwrap());
    taken.message().await.expect_err("it is refused")
}

#[tokio::test]
async fn what_no_worker_sends_is_refused() {
    let mut bench = Bench::new().await;
    bench.open(1, OWNER);
    let values = bench.node(LEFT);
    let of_another = |change: fn(&mut v1::PushHeader)| {
        let Some(Pushed::Header(mut other)) = header(1).message else { unreachable!() };
        change(&mut other);
        v1::PushMessage { message: Some(Pushed::Header(other)) }
    };
    let mut nan = values.clone();
    nan[3] = f32::NAN;
    let mut absurd = values.clone();
    absurd[3] = f32::MAX;
    let nobody = Node { first: 2, last: 2 };
    for (what, messages, code) in [
        ("no header", vec![chunk(7, LEFT, 0, &values)], Code::InvalidArgument),
        ("nothing at all", vec![v1::PushMessage::default()], Code::InvalidArgument),
        ("a node without shards", vec![header(1), chunk(7, nobody, 0, &values)], Code::InvalidArgument),
        ("a chunk that is none", vec![header(1), chunk(7, LEFT, 1, &values)], Code::InvalidArgument),
        ("a chunk behind the last", vec![header(1), chunk(7, LEFT, 1 << 40, &values)], Code::InvalidArgument),
        ("a short one", vec![header(1), chunk(7, LEFT, 0, &values[1..])], Code::InvalidArgument),
        ("a NaN", vec![header(1), chunk(7, LEFT, 0, &nan)], Code::InvalidArgument),
        ("a huge number", vec![header(1), chunk(7, LEFT, 0, &absurd)], Code::InvalidArgument),
        ("another worker's number", vec![of_another(|header| header.worker = OWNER)], Code::PermissionDenied),
        ("another job", vec![of_another(|header| header.job += 1)], Code::Aborted),
        ("another start", vec![of_another(|header| header.generation += 1)], Code::Aborted),
    ] {
        assert_eq!(refused(&bench, messages).await.code(), code, "{what}");
    }
    bench.end.workers.remove(OTHER);
    let gone = refused(&bench, [header(1), chunk(7, LEFT, 0, &values)]).await;
    assert_eq!(gone.code(), Code::PermissionDenied, "it is gone: {gone}");
}

#[tokio::test]
async fn chunks_of_an_earlier_opening_are_not_added_and_those_of_a_later_one_wait() {
    let mut bench = Bench::new().await;
    bench.open(2, OWNER);
    let values = bench.node(LEFT);
    let (sender, mut taken) = bench.push().await;
    sender.send(header(1)).unwrap();
    sender.send(chunk(5, LEFT, 0, &values)).unwrap();
    sender.send(header(2)).unwrap();
    sender.send(chunk(6, LEFT, 0, &values)).unwrap();
    assert_eq!(taken.message().await.unwrap().expect("an answer").lease, 6, "nothing is said of the stale one");
    sender.send(header(3)).unwrap();
    sender.send(chunk(7, LEFT, 0, &values)).unwrap();
    let early = timeout(Duration::from_millis(50), taken.message()).await;
    assert!(early.is_err(), "this worker was not told of it yet: {early:?}");
    bench.open(3, OWNER);
    assert_eq!(taken.message().await.unwrap().expect("an answer").lease, 7);
    bench.open(4, OTHER);
    sender.send(header(4)).unwrap();
    sender.send(chunk(8, LEFT, 0, &values)).unwrap();
    let others = timeout(Duration::from_millis(50), taken.message()).await;
    assert!(others.is_err(), "the chunk is not its own: {others:?}");
}

#[tokio::test]
async fn two_copies_of_a_node_that_differ_are_told_of() {
    let mut bench = Bench::new().await;
    bench.open(1, OWNER);
    let values = bench.node(LEFT);
    let mut other = values.clone();
    other[0] += 1.0;
    let (sender, mut taken) = bench.push().await;
    sender.send(header(1)).unwrap();
    sender.send(chunk(7, LEFT, 0, &values)).unwrap();
    assert!(taken.message().await.unwrap().is_some());
    sender.send(chunk(8, LEFT, 0, &other)).unwrap();
    let told = loop {
        if let Some(Message::NodeContradicted(told)) = bench.said.recv().await.expect("it is told").message {
            break told;
        }
    };
    assert_eq!((told.opening, told.node, &told.workers[..]), (1, Some(LEFT.into()), &[OTHER, OTHER][..]));
}

#[tokio::test]
async fn an_owner_that_is_not_there_is_complained_of() {
    let mut bench = Bench::new().await;
    bench.open(1, OTHER);
    let node = bench.exchange.node(lease(Work::Train, 0, 8, 0..4)).expect("its chunks go to an owner");
    node.chunk(0, ChunkBuffer::of(&bench.node(Node { first: 0, last: 4 })));
    let lost = loop {
        if let Some(Message::PeerLost(lost)) = bench.said.recv().await.expect("it is told").message {
            break lost;
        }
    };
    assert_eq!((lost.worker, lost.version, &lost.reason[..]), (OTHER, 1, "it takes nothing"));
}

/// The whole way round in one worker: nothing of it is another one's.
#[tokio::test]
async fn parameters_are_put_together_from_what_is_made_here() {
    let mut bench = Bench::new().await;
    bench.open(1, OWNER);
    let job = &bench.job;
    let arrival = Arrival {
        buffers: Arc::new(crate::spare_buffers::SpareBuffers::new(job.network.len())),
        format: Arc::new(ParameterFormat::of(&job.plan, &job.network)),
        frozen: Arc::default(),
        changes: false,
    };
    let (committed, watching) = watch::channel(CommittedStep::default());
    let client = bench.coordinator.clone();
    let held = || (None, HeldParameters::none(false).before(1, watching.clone()));
    let fetch = |step, held| bench.exchange.fetch(step, client.clone(), arrival.clone(), held, watching.clone());
    assert!(fetch(2, held()).is_none(), "another step");
    let fetch = fetch(1, held()).expect("the open step makes them");
    let fetching = tokio::spawn(fetch.run());
    let node = bench.exchange.node(lease(Work::Train, 0, 8, 0..4)).expect("its chunks go to an owner");
    node.chunk(0, ChunkBuffer::of(&bench.node(Node { first: 0, last: 4 })));
    let (flat, sources) = timeout(Duration::from_secs(20), fetching).await.expect("they come").unwrap();
    assert!(flat.len() == job.network.len() && flat != job.parameters(0));
    assert_eq!(sources, ChunkSources::none(chunk_count(flat.len())), "nobody else made them");
    drop(committed);
}

async fn answer(bench: &mut Bench) -> AuditAnswer {
    timeout(Duration::from_secs(20), bench.audits.recv()).await.expect("it answers").expect("the worker lives")
}

#[tokio::test]
async fn audits_are_answered_with_what_is_kept_and_what_was_brought() {
    let mut bench = Bench::new().await;
    bench.open(1, OWNER);
    let (job, opening) = (ASSIGNMENT.job, 1);
    let whole = Node { first: 0, last: 4 };
    let values = ChunkBuffer::of(&bench.node(whole));
    let digest = convoy_model::digest_elements(&values);
    let node = bench.exchange.node(lease(Work::Train, 0, 8, 0..4)).expect("its chunks go to an owner");
    node.chunk(0, values);
    // Its sum is told once it was added.
    let sum = timeout(Duration::from_secs(20), bench.roots.recv()).await.expect("it is told");
    assert!(matches!(sum, Some(v1::root_message::Message::Header(_))));
    timeout(Duration::from_secs(20), bench.roots.recv()).await.expect("it is told");

    bench
        .exchange
        .heard(CoordinatorMessage::KeptWanted(v1::KeptWanted { job, opening, chunk: 0 }), bench.coordinator.clone());
    let AuditAnswer::Kept(kept) = answer(&mut bench).await else { panic!("another answer") };
    let [v1::kept_message::Message::Header(header), v1::kept_message::Message::Chunk(chunk)] = &kept[..] else {
        panic!("{kept:?}")
    };
    assert_eq!((*header, chunk.node), (ASSIGNMENT.kept(Opening(1), 0), Some(whole.into())));
    let (chunk, elements) = (chunk.chunk.as_ref().expect("it is there"), bench.job.network.len());
    let (_, sent) = ChunkBuffer::received(chunk, elements, Compression::None).unwrap();
    assert_eq!(convoy_model::digest_elements(&sent), digest);
    let earlier = v1::KeptWanted { job, opening: 2, chunk: 0 };
    bench.exchange.heard(CoordinatorMessage::KeptWanted(earlier), bench.coordinator.clone());
    let AuditAnswer::Kept(kept) = answer(&mut bench).await else { panic!("another answer") };
    assert_eq!(kept.len(), 1, "of another opening nothing is kept, and that is said");

    for (question, what) in [(7, What::Node(whole.into())), (8, What::Chunk(0))] {
        let wanted = v1::BroughtWanted { job, opening, question, what: Some(what) };
        bench.exchange.heard(CoordinatorMessage::BroughtWanted(wanted), bench.coordinator.clone());
        let AuditAnswer::Brought(said) = answer(&mut bench).await else { panic!("another answer") };
        let brought = v1::BroughtDigest { node: Some(whole.into()), chunk: 0, digest: digest.0.to_vec().into() };
        assert_eq!(said, ASSIGNMENT.brought(question, vec![brought]));
    }
}
