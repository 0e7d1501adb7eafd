use std::path::Path;

use convoy_proto::channel::{self, Link};
use convoy_proto::v1;
use convoy_security::{Identity, Limits, NewKey, Role, Secret, Token, incoming};
use convoy_testing::{Answers, FakeCoordinator, Replies};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming};
use tonic_prost::ProstCodec;

use super::super::access::AccessService;
use super::super::access_layer::AccessLayer;
use super::*;
use crate::access::cluster::{Access, create_token, init_cluster};
use crate::fleet::connections::Connections;
use crate::queue::queue;

const LONG: Duration = Duration::from_secs(3600);

/// Takes in whatever is sent and answers when it ends.
struct Sink;

#[tonic::async_trait]
impl Answers for Sink {
    async fn control(
        &self,
        mut messages: Streaming<v1::WorkerMessage>,
    ) -> Result<Replies<v1::CoordinatorMessage>, Status> {
        while messages.message().await?.is_some() {}
        Ok(Box::pin(tokio_stream::empty()))
    }

    async fn parameters(&self, _: v1::ParametersRequest) -> Result<Replies<convoy_proto::Chunk>, Status> {
        // They are never made.
        Ok(Box::pin(tokio_stream::pending()))
    }

    async fn push_node(&self, mut messages: Streaming<v1::NodeMessage>) -> Result<v1::PushNodeReply, Status> {
        while messages.message().await?.is_some() {}
        Ok(v1::PushNodeReply::default())
    }
}

/// A server of a new cluster in `state`, its address, and a token for workers.
async fn serve(state: &Path) -> (String, Token) {
    let (address, token, _) = serve_cluster(state).await;
    (address, token)
}

/// As [`serve`], and who belongs to the cluster.
async fn serve_cluster(state: &Path) -> (String, Token, Arc<Access>) {
    let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a socket");
    let address = socket.local_addr().expect("it is bound").to_string();
    init_cluster(state, &["127.0.0.1".to_owned()]).expect("a cluster");
    let token = create_token(state, Role::Worker, LONG, None).expect("a token");
    let access = Access::open(state, LONG, Secret::random()).expect("the cluster");
    let connections = Arc::new(Connections::new(queue(1).0));
    let incoming = incoming(socket, access.tls(), Limits::default());
    let server = channel::server()
        .layer(AccessLayer(access.clone()))
        .layer(CallsLayer::with_patience(LONG))
        .add_service(channel::access_service(AccessService::new(access.clone(), connections)))
        .add_service(channel::service(FakeCoordinator(Sink)));
    tokio::spawn(server.serve_with_incoming(incoming));
    (address, token, access)
}

fn link(address: &str, token: &Token, identity: Option<Identity>) -> Link {
    Link::member(address.to_owned(), token.pin, identity)
}

async fn join(address: &str, token: &Token) -> Link {
    let key = NewKey::generate().expect("randomness");
    let public_key = key.public().expect("a key").bytes().to_vec();
    let request = v1::JoinRequest { token: token.expose(), public_key: public_key.into(), name: "w".to_owned() };
    let mut stranger = link(address, token, None).access().await.expect("a connection");
    let reply = stranger.join(request).await.expect("it joins").into_inner();
    link(address, token, Some(key.with(reply.chain_pem).expect("an identity")))
}

fn chunk(bytes: usize) -> v1::NodeMessage {
    let chunk = convoy_proto::Chunk { offset: 0, data: bytes::Bytes::from(vec![0; bytes]).into() };
    v1::NodeMessage { message: Some(v1::node_message::Message::Chunk(chunk)) }
}

/// A push, and what keeps it going.
type Push = (mpsc::Sender<v1::NodeMessage>, tokio::task::JoinHandle<Result<(), Status>>);

async fn push(link: &Link) -> Push {
    let mut client = link.coordinator().await.expect("a connection");
    let (sender, messages) = mpsc::channel(1);
    let call = async move { client.push_node(ReceiverStream::new(messages)).await.map(|_| ()) };
    (sender, tokio::spawn(call))
}

async fn code(call: impl Future<Output = Result<Result<(), Status>, tokio::task::JoinError>>) -> Option<Code> {
    let done = tokio::time::timeout(Duration::from_secs(60), call).await.expect("an answer in time");
    done.expect("no panic").err().map(|status| status.code())
}

/// A body whose pieces the test sends.
struct Pieces(mpsc::Receiver<Frame<Bytes>>);

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.0.poll_recv(cx).map(|frame| frame.map(Ok))
    }
}

/// What a call sends: pieces of messages, each after a pause; then nothing more, for ever, unless it ends.
fn coming(pieces: Vec<(Duration, Vec<u8>)>, ends: bool) -> Incoming {
    coming_to("/convoy.v1.Data/Push", pieces, ends)
}

/// The same, of the method at `path`.
fn coming_to(path: &str, pieces: Vec<(Duration, Vec<u8>)>, ends: bool) -> Incoming {
    let (sender, frames) = mpsc::channel(1);
    tokio::spawn(async move {
        for (pause, piece) in pieces {
            tokio::time::sleep(pause).await;
            sender.send(Frame::data(Bytes::from(piece))).await.expect("it is read to its end");
        }
        if !ends {
            sender.closed().await;
        }
    });
    let method = roles::find(path).expect("it is in the table");
    Incoming::new(Body::new(Pieces(frames)), method, LONG)
}

/// How many bytes came, and how the call ended.
async fn take_all(mut incoming: Incoming) -> (usize, Option<Code>) {
    let mut bytes = 0;
    loop {
        match std::future::poll_fn(|context| http_body::Body::poll_frame(Pin::new(&mut incoming), context)).await {
            Some(Ok(frame)) => bytes += frame.data_ref().map_or(0, Bytes::len),
            Some(Err(status)) => return (bytes, Some(status.code())),
            None => return (bytes, None),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_sends_nothing_is_given_up_and_a_slow_one_is_not() {
    let almost = LONG - Duration::from_millis(1);
    let slowly = vec![(almost, vec![0]); 16];
    assert_eq!(take_all(coming(slowly.clone(), true)).await, (16, None), "it took 16 hours in all");
    let begun = tokio::time::Instant::now();
    assert_eq!(take_all(coming(slowly, false)).await, (16, Some(Code::DeadlineExceeded)));
    assert_eq!(begun.elapsed().as_secs(), (16 * almost + LONG).as_secs());
    let node = take_all(coming_to("/convoy.v1.Coordinator/PushNode", vec![(almost, vec![0])], false));
    assert!(tokio::time::timeout(100 * LONG, node).await.is_err(), "whoever serves it knows how long it is waited for");
}

#[tokio::test]
async fn a_member_has_so_many_calls_over_all_its_connections() {
    let state = tempfile::tempdir().expect("a folder");
    let (address, token) = serve(state.path()).await;
    let (link, other) = (join(&address, &token).await, join(&address, &token).await);
    let mut pushes = Vec::new();
    for _ in 0..16 {
        let push = push(&link).await;
        push.0.send(chunk(4)).await.expect("it is taken");
        // The second is taken when the first is gone, so the call has begun.
        push.0.send(chunk(4)).await.expect("it is taken");
        pushes.push(push);
    }
    let refused = loop {
        // Calls of other connections may still be on their way.
        let (sender, call) = push(&link).await;
        match tokio::time::timeout(Duration::from_secs(5), call).await {
            Ok(done) => break done.expect("no panic").expect_err("there are too many"),
            Err(_) => pushes.push((sender, tokio::spawn(async { Ok(()) }))),
        }
    };
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(refused.message().contains("16 calls of /convoy.v1.Coordinator/PushNode"), "{refused}");
    assert_eq!(pushes.len(), 16);
    let (sender, call) = push(&other).await;
    drop(sender);
    assert_eq!(code(call).await, None, "another member is not touched");
    let (sender, call) = pushes.pop().expect("sixteen");
    drop(sender);
    assert_eq!(code(call).await, None);
    let (sender, call) = push(&link).await;
    drop(sender);
    assert_eq!(code(call).await, None, "there is room again");
}

#[tokio::test]
async fn replies_that_go_on_count() {
    let state = tempfile::tempdir().expect("a folder");
    let (address, token) = serve(state.path()).await;
    let mut client = join(&address, &token).await.coordinator().await.expect("a connection");
    let mut open = Vec::new();
    for _ in 0..16 {
        open.push(client.parameters(v1::ParametersRequest::default()).await.expect("there is room"));
    }
    let refused = client.parameters(v1::ParametersRequest::default()).await.expect_err("there are too many");
    assert_eq!(refused.code(), Code::ResourceExhausted);
}

#[tokio::test]
async fn calls_of_a_member_that_is_revoked_end_at_once_in_both_directions() {
    let state = tempfile::tempdir().expect("a folder");
    let (address, token, access) = serve_cluster(state.path()).await;
    let (mallory, other) = (join(&address, &token).await, join(&address, &token).await);
    let mut calls = Vec::new();
    for link in [&mallory, &other] {
        let mut client = link.coordinator().await.expect("a connection");
        let reading = client.parameters(v1::ParametersRequest::default()).await.expect("it begins").into_inner();
        let push = push(link).await;
        push.0.send(chunk(4)).await.expect("it is taken");
        push.0.send(chunk(4)).await.expect("it is taken");
        calls.push((reading, push));
    }
    // The admin is the first member.
    access.cluster().expect("a cluster").revoke("2", false).expect("it is the first that joined");
    let (mut reading, (_sender, pushing)) = calls.remove(0);
    let read = tokio::time::timeout(Duration::from_secs(60), reading.message()).await.expect("an answer in time");
    assert_eq!(read.expect_err("nothing more comes").code(), Code::Unauthenticated);
    assert_eq!(code(pushing).await, Some(Code::Unauthenticated));
    let (_reading, (sender, pushing)) = calls.remove(0);
    drop(sender);
    assert_eq!(code(pushing).await, None, "another member is not touched");
}

#[tokio::test]
async fn without_a_cluster_only_who_knows_the_secret_may_call() {
    let state = tempfile::tempdir().expect("a folder");
    let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a socket");
    let address = socket.local_addr().expect("it is bound").to_string();
    let secret = Secret::random();
    let access = Access::open(state.path(), LONG, secret.clone()).expect("there is no cluster");
    let server = channel::server()
        .layer(AccessLayer(access))
        .layer(CallsLayer::with_patience(LONG))
        .add_service(channel::service(FakeCoordinator(Sink)));
    tokio::spawn(server.serve_with_incoming(incoming(socket, None, Limits::default())));
    for (link, refused) in [
        (Link::local(address.clone(), secret), None),
        (Link::local(address.clone(), Secret::random()), Some(Code::Unauthenticated)),
        (Link::plain(address.clone()), Some(Code::Unauthenticated)),
    ] {
        let (sender, call) = push(&link).await;
        drop(sender);
        assert_eq!(code(call).await, refused);
    }
}

#[tokio::test]
async fn messages_have_the_size_of_their_method() {
    let state = tempfile::tempdir().expect("a folder");
    let (address, token) = serve(state.path()).await;
    let link = join(&address, &token).await;
    let say = async |bytes: usize| {
        let log = v1::Log { job: 1, line: "x".repeat(bytes) };
        let message = v1::WorkerMessage { message: Some(v1::worker_message::Message::Log(log)) };
        let mut client = link.coordinator().await.expect("a connection");
        client.control(tokio_stream::iter([message.clone(), message])).await.err().map(|status| status.code())
    };
    assert_eq!(say(32 << 10).await, None);
    assert_eq!(say(65 << 10).await, Some(Code::ResourceExhausted));
    let (sender, call) = push(&link).await;
    sender.send(chunk(8 << 20)).await.expect("it is taken");
    drop(sender);
    assert_eq!(code(call).await, None, "sums of an evaluation are large");
}

#[tokio::test]
async fn a_stranger_has_four_calls_and_only_small_messages() {
    let state = tempfile::tempdir().expect("a folder");
    let (address, token) = serve(state.path()).await;
    let call = async |requests: ReceiverStream<v1::JoinRequest>, path: &'static str, channel| {
        let mut grpc = tonic::client::Grpc::new(channel);
        grpc.ready().await.expect("a connection");
        let codec = ProstCodec::<v1::JoinRequest, v1::CertificateReply>::default();
        let path = tonic::codegen::http::uri::PathAndQuery::from_static(path);
        grpc.client_streaming(tonic::Request::new(requests), path, codec).await.expect_err("nobody joins here")
    };
    let channel = convoy_security::connect(|endpoint| endpoint, &address, token.pin, None).await.expect("a connection");
    let join = "/convoy.v1.Access/Join";
    let mut held = Vec::new();
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..5 {
        let (sender, requests) = mpsc::channel(1);
        held.push(sender);
        let channel = channel.clone();
        waiting.spawn(async move { call(requests.into(), join, channel).await });
    }
    let first = tokio::time::timeout(Duration::from_secs(60), waiting.join_next()).await.expect("an answer in time");
    let refused = first.expect("five wait").expect("no panic");
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    assert!(refused.message().contains("a stranger has 4 calls"), "{refused}");
    waiting.shutdown().await;
    drop(held);
    let large = |path| {
        let (sender, requests) = mpsc::channel(1);
        let request = v1::JoinRequest { name: "n".repeat(1 << 20), ..Default::default() };
        sender.try_send(request).expect("it is empty");
        call(requests.into(), path, channel.clone())
    };
    assert_eq!(large("/convoy.v1.Coordinator/PushNode").await.code(), Code::Unauthenticated);
    let status = large(join).await;
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    assert!(status.message().contains("1048579 bytes") || status.message().contains("10485"), "{status}");
}

#[tokio::test]
async fn calls_of_people_share_memory_and_those_of_workers_have_their_own() {
    let memory: &'static MemoryBudget = Box::leak(Box::default());
    let (list, submit, control) = ("/convoy.v1.Jobs/List", "/convoy.v1.Jobs/Submit", "/convoy.v1.Coordinator/Control");
    memory.bound(2 * (channel::SMALL + HANDED) as u64);
    let bounds = CallsLayer { memory, ..CallsLayer::with_patience(LONG) };
    let admit = |path: &str| {
        let mut request = Request::builder().uri(path).body(Body::empty()).expect("a request");
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        request.extensions_mut().insert(Caller::Local);
        request.extensions_mut().insert(Peer {
            address,
            fingerprint: None,
            encrypted: false,
            beside: false,
            known: Arc::default(),
        });
        bounds.admit(&request).map(|(turn, _)| turn)
    };
    let first = admit(list).expect("there is room for two");
    let _second = admit(list).expect("there is room for two");
    for (path, words) in [(list, "try again later"), (submit, "--memory-mib")] {
        let refused = admit(path).err().expect("all is taken");
        assert_eq!(refused.code(), Code::ResourceExhausted);
        assert!(refused.message().contains(words), "{}", refused.message());
    }
    assert!(admit(control).is_ok());
    drop(first);
    assert!(admit(list).is_ok());
}
