//! The gRPC service for workers: turns the wire into inputs for the loop and commands for the reducer. It decides
//! nothing.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use convoy_common::Digest;
use convoy_common::file_tree::Files;
use convoy_common::manifest::Manifest;
use convoy_common::spec::{CUDA_F32_V1, NUMERICS, is_numerics};
use convoy_proto::channel::PIECE;
use convoy_proto::v1::coordinator_server::Coordinator;
use convoy_proto::{CHUNK_ELEMENTS, Chunk, VERSION, v1};
use convoy_reduce::PublishedParameters;
use convoy_scheduler::WorkerId;
use convoy_security::Peer;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::{Stream, StreamExt, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming};

use super::access_layer::caller_of;
use super::calls_layer::STALLED;
use super::node_push::NodePush;
use super::owners::{self, KeptPush, RootPush};
use super::replies::Answers;
use crate::fleet::allowance::Allowance;
use crate::fleet::connections::{Connections, Newcomer};
use crate::fleet::peers::PeerPlace;
use crate::numerics::numerics_number;
use crate::run::handle::RunHandle;
use crate::run::outbox::WorkerOutbox;
use crate::run::worker_contact::{WorkerContact, excused};
use crate::run::worker_links::WorkerLinks;

/// Messages that may wait for one worker; one for which more wait is lost.
const OUTBOX: usize = 1024;
/// Files in one call.
const MOST_FILES: usize = 1024;
/// Numerics classes that one worker may offer.
const MOST_NUMERICS: usize = 16;

/// The service.
#[derive(Debug, Clone)]
pub(crate) struct WorkersService(pub(crate) Arc<Connections>);

#[tonic::async_trait]
impl Coordinator for WorkersService {
    type ControlStream = ReceiverStream<Result<v1::CoordinatorMessage, Status>>;
    type PlanStream = Answers<v1::PlanChunk>;
    type FilesStream = ReceiverStream<Result<v1::FilePiece, Status>>;
    type ParametersStream = Answers<Chunk>;
    type StateStream = ReceiverStream<Result<v1::ChunkState, Status>>;

    async fn control(
        &self,
        request: Request<Streaming<v1::WorkerMessage>>,
    ) -> Result<Response<Self::ControlStream>, Status> {
        let caller = caller_of(&request);
        let peer = request.extensions().get::<Peer>();
        let (seen, beside) = (peer.map(|peer| peer.address.ip()), peer.is_some_and(|peer| peer.beside));
        let mut messages = request.into_inner();
        let first = messages.message().await?.and_then(|message| message.message);
        let Some(v1::worker_message::Message::Hello(hello)) = first else {
            return Err(Status::invalid_argument("a control stream begins with hello"));
        };
        let numerics = check_hello(&hello, self.0.only_numerics())?;
        let place = PeerPlace::of(&hello, seen, beside)?;
        if hello.threads == 0 && !place.listens() {
            return Err(Status::failed_precondition(
                "a worker that computes nothing adds what others send it, and no other would reach this one: give it \
                 --peer-listen, and --peer-address with an address that others reach it at",
            ));
        }
        let name: String = hello.name.chars().filter(|c| !c.is_control()).take(128).collect();
        let machine = caller.machine(&hello.process);
        if let Some(reason) = self.0.evicted(&machine) {
            return Err(Status::failed_precondition(reason));
        }
        let (outbox, replies) = WorkerOutbox::new(OUTBOX);
        let contact = outbox.contact().clone();
        let newcomer = Newcomer { machine, name, threads: hello.threads, numerics, caller, place };
        let worker = self.0.connect(newcomer, outbox);
        let connections = self.0.clone();
        tokio::spawn(async move {
            match read(worker, &connections, &contact, &mut messages).await {
                Ok(()) => connections.lose(worker),
                Err(reason) => {
                    tracing::warn!(%worker, reason, "cut off");
                    connections.disconnect(worker, &reason);
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(replies)))
    }

    async fn plan(&self, request: Request<v1::PlanRequest>) -> Result<Response<Self::PlanStream>, Status> {
        let caller = caller_of(&request);
        let request = request.into_inner();
        let run = self.0.run_for(&caller, request.worker, request.job)?;
        check_generation(&run, request.generation)?;
        let contact = self.contact(request.worker)?;
        let plan = pieces(run.plan_json.clone()).map(|plan| v1::PlanChunk { plan, manifest: Bytes::new() });
        let manifest =
            pieces(run.manifest_bytes.clone()).map(|manifest| v1::PlanChunk { plan: Bytes::new(), manifest });
        Ok(Response::new(Box::pin(tokio_stream::iter(plan.chain(manifest)).map(move |piece| {
            contact.heard();
            Ok(piece)
        }))))
    }

    async fn parameters(
        &self,
        request: Request<v1::ParametersRequest>,
    ) -> Result<Response<Self::ParametersStream>, Status> {
        let caller = caller_of(&request);
        let request = request.into_inner();
        let run = self.0.run_for(&caller, request.worker, request.job)?;
        check_generation(&run, request.generation)?;
        let board = run.board.clone();
        let published = board
            .get(request.step)
            .await
            .ok_or_else(|| Status::not_found(format!("the parameters of step {} are gone", request.step)))?;
        let contact = self.contact(request.worker)?;
        let changed = request.held.is_some_and(|held| held.checked_add(1) == Some(request.step));
        if !request.chunks.is_empty() {
            return Ok(Response::new(Box::pin(those_of(published, request.chunks, changed, contact))));
        }
        let held = request.held.is_some_and(|held| held < request.step);
        let first = if held { published.kept() } else { 0 };
        Ok(Response::new(Box::pin(chunks_of(published, first, changed, contact))))
    }

    async fn state(&self, request: Request<v1::StateRequest>) -> Result<Response<Self::StateStream>, Status> {
        let caller = caller_of(&request);
        let request = request.into_inner();
        let run = self.0.run_for(&caller, request.worker, request.job)?;
        check_generation(&run, request.generation)?;
        let contact = self.contact(request.worker)?;
        Ok(Response::new(owners::state(&run, request, contact).await?))
    }

    async fn roots(&self, request: Request<Streaming<v1::RootMessage>>) -> Result<Response<v1::RootsReply>, Status> {
        let caller = caller_of(&request);
        let mut messages = request.into_inner();
        let first = messages.message().await?.and_then(|message| message.message);
        let Some(v1::root_message::Message::Header(header)) = first else {
            return Err(Status::invalid_argument("sums begin with their header"));
        };
        let run = self.0.run_for(&caller, header.worker, header.job)?;
        check_generation(&run, header.generation)?;
        let push = RootPush::new(run, self.contact(header.worker)?, &header);
        while let Some(v1::RootMessage { message: Some(message) }) = messages.message().await? {
            push.take(message).await?;
        }
        Ok(Response::new(v1::RootsReply {}))
    }

    async fn kept(&self, request: Request<Streaming<v1::KeptMessage>>) -> Result<Response<v1::AuditReply>, Status> {
        let caller = caller_of(&request);
        let mut messages = request.into_inner();
        let first = messages.message().await?.and_then(|message| message.message);
        let Some(v1::kept_message::Message::Header(header)) = first else {
            return Err(Status::invalid_argument("what is kept begins with its header"));
        };
        let run = self.0.run_for(&caller, header.worker, header.job)?;
        check_generation(&run, header.generation)?;
        let push = KeptPush::new(run, self.contact(header.worker)?, &header);
        while let Some(v1::KeptMessage { message: Some(message) }) = messages.message().await? {
            let v1::kept_message::Message::Chunk(chunk) = message else {
                return Err(Status::invalid_argument("what is kept has one header"));
            };
            push.take(chunk).await?;
        }
        push.end()?;
        Ok(Response::new(v1::AuditReply {}))
    }

    async fn brought(&self, request: Request<v1::BroughtDigests>) -> Result<Response<v1::AuditReply>, Status> {
        let caller = caller_of(&request);
        let said = request.into_inner();
        let run = self.0.run_for(&caller, said.worker, said.job)?;
        check_generation(&run, said.generation)?;
        owners::brought(&run, said)?;
        Ok(Response::new(v1::AuditReply {}))
    }

    async fn files(&self, request: Request<v1::FilesRequest>) -> Result<Response<Self::FilesStream>, Status> {
        let caller = caller_of(&request);
        let request = request.into_inner();
        let run = self.0.run_for(&caller, request.worker, request.job)?;
        check_generation(&run, request.generation)?;
        if request.files.len() > MOST_FILES {
            return Err(Status::invalid_argument(format!("ask for at most {MOST_FILES} files at a time")));
        }
        let wanted = request.files.iter().map(|file| wanted(&run.manifest, *file)).collect::<Result<Vec<_>, _>>()?;
        let (sender, replies) = mpsc::channel(1);
        let contact = self.contact(request.worker)?;
        tokio::spawn(send_files(run.files.clone(), wanted, sender, contact));
        Ok(Response::new(ReceiverStream::new(replies)))
    }

    async fn push_node(
        &self,
        request: Request<Streaming<v1::NodeMessage>>,
    ) -> Result<Response<v1::PushNodeReply>, Status> {
        let caller = caller_of(&request);
        let mut messages = request.into_inner();
        let header = timeout(STALLED, next(&mut messages)).await;
        let header =
            header.map_err(|_| Status::deadline_exceeded("a node begins with its header, and none came"))??;
        let Some(v1::node_message::Message::Header(header)) = header else {
            return Err(Status::invalid_argument("a node begins with its header"));
        };
        let run = self.0.run_for(&caller, header.worker, header.job)?;
        let contact = self.contact(header.worker)?;
        let mut push = match NodePush::admit(&run, contact, header).await? {
            Ok(push) => push,
            Err(ignored) => return Ok(Response::new(v1::PushNodeReply { ignored })),
        };
        loop {
            let message = push.wait_for(next(&mut messages)).await??;
            if let Some(ignored) = push.take(message).await? {
                return Ok(Response::new(v1::PushNodeReply { ignored }));
            }
        }
    }
}

impl WorkersService {
    /// Where it is noted when `worker` was in contact.
    fn contact(&self, worker: u32) -> Result<Arc<WorkerContact>, Status> {
        self.0.contact(worker).ok_or_else(|| Status::aborted("this worker is not connected"))
    }
}

/// Passes on what a worker says on its control stream, until the stream ends.
///
/// # Errors
/// Why nothing more is read of it.
async fn read(
    worker: WorkerId,
    connections: &Connections,
    contact: &WorkerContact,
    messages: &mut Streaming<v1::WorkerMessage>,
) -> Result<(), String> {
    let mut allowance = Allowance::new();
    while let Some(Ok(message)) = messages.next().await {
        contact.heard();
        allowance.take(contact.times_told()).map_err(|error| error.to_string())?;
        excused(connections.room(worker, &message), || contact.heard()).await;
        connections.heard(worker, message).map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// The classes of arithmetic that a worker of this version can compute, by number, none where it computes nothing; or
/// why it may not join. `only` is the class of all that it could do here, if there is just one.
fn check_hello(hello: &v1::Hello, only: Option<&str>) -> Result<Vec<u32>, Status> {
    if hello.version != VERSION {
        return Err(Status::failed_precondition(format!(
            "the worker is Convoy {}, the coordinator {VERSION}; install the same version on both",
            hello.version
        )));
    }
    if hello.threads == 0 {
        // Sums and the optimizer's step are the same in every class.
        return Ok(Vec::new());
    }
    let offered = || hello.numerics.iter().take(MOST_NUMERICS).filter(|name| is_numerics(name));
    let numerics: Vec<u32> = offered().map(|name| numerics_number(name)).collect();
    if numerics.is_empty() {
        return Err(Status::failed_precondition(format!(
            "this coordinator knows {NUMERICS:?} and {CUDA_F32_V1}/..., the worker computes only {:?}",
            hello.numerics
        )));
    }
    if let Some(only) = only.filter(|only| !offered().any(|name| name == only)) {
        return Err(Status::failed_precondition(format!(
            "the run is of the numerics class `{only}`, and the worker computes `{}`; bits are equal within one class only, so \
             use a device of the run's class, or start a run with `numerics` set to the worker's",
            offered().cloned().collect::<Vec<_>>().join("` and `")
        )));
    }
    match hello.threads {
        1..=4096 => Ok(numerics),
        threads => Err(Status::invalid_argument(format!(
            "a worker has 1 to 4096 threads, or 0 where it computes nothing, and not {threads}"
        ))),
    }
}

/// A file on its way to a worker.
struct Wanted {
    path: PathBuf,
    size: u64,
    blake3: Digest,
}

/// Sends files, one after the other, until one cannot be read or nobody listens. No more of them is in memory than two
/// pieces, and no thread is held while the worker does not read.
async fn send_files(
    files: Arc<dyn Files>,
    wanted: Vec<Wanted>,
    sender: mpsc::Sender<Result<v1::FilePiece, Status>>,
    contact: Arc<WorkerContact>,
) {
    for file in wanted {
        let size = file.size;
        let (mut offset, mut hasher) = (0, blake3::Hasher::new());
        loop {
            let length = (size - offset).min(PIECE as u64);
            let piece = match read_piece(&files, &file, offset, length, &mut hasher).await {
                Ok(data) => Ok(v1::FilePiece { data: data.into(), last: offset + length == size }),
                // The worker knows which file it asked for, and says so.
                Err(error) => Err(Status::data_loss(error.to_string())),
            };
            let over = piece.is_err();
            if sender.send(piece).await.is_err() || over {
                return;
            }
            contact.heard();
            offset += length;
            if offset == size {
                break;
            }
        }
    }
}

/// Reads on a thread that may wait for a disk. The last piece is given only if all of them had the file's digest.
async fn read_piece(
    files: &Arc<dyn Files>,
    file: &Wanted,
    offset: u64,
    length: u64,
    hasher: &mut blake3::Hasher,
) -> std::io::Result<Vec<u8>> {
    let (files, path, mut hashed) = (files.clone(), file.path.clone(), hasher.clone());
    let expected = (offset + length == file.size).then_some(file.blake3);
    let reading = tokio::task::spawn_blocking(move || {
        let bytes = files.read_range(&path, offset, length)?;
        hashed.update(&bytes);
        if expected.is_some_and(|digest| digest.0 != *hashed.finalize().as_bytes()) {
            files.doubt(&path)?;
            let text = "it has other bytes than the manifest names: it was changed";
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, text));
        }
        Ok((bytes, hashed))
    });
    let (bytes, hashed) = reading.await.map_err(std::io::Error::other)??;
    *hasher = hashed;
    Ok(bytes)
}

fn pieces(bytes: Bytes) -> impl Iterator<Item = Bytes> {
    (0..bytes.len()).step_by(PIECE).map(move |start| bytes.slice(start..(start + PIECE).min(bytes.len())))
}

fn check_generation(run: &RunHandle, generation: u64) -> Result<(), Status> {
    match run.generation.0 == generation {
        true => Ok(()),
        false => Err(Status::aborted("the run was started again; join again")),
    }
}

/// File number `file` of the manifest: training files first, then those of the validation split.
fn wanted(manifest: &Manifest, file: u32) -> Result<Wanted, Status> {
    let (train, validation) = (&manifest.train, &manifest.validation);
    let (split, file) = match (file as usize).checked_sub(train.files.len()) {
        None => (train, file as usize),
        Some(rest) => (validation, rest),
    };
    let entry = split.files.get(file).ok_or_else(|| Status::not_found("the manifest has no such file"))?;
    Ok(Wanted { path: Path::new(&split.root).join(entry.path), size: entry.size, blake3: entry.blake3 })
}

async fn next(messages: &mut Streaming<v1::NodeMessage>) -> Result<Option<v1::node_message::Message>, Status> {
    Ok(messages.message().await?.and_then(|message| message.message))
}

/// The chunks of `wanted`, in the order in which they are finished.
fn those_of(
    published: Arc<PublishedParameters>,
    wanted: Vec<u32>,
    changed: bool,
    contact: Arc<WorkerContact>,
) -> impl Stream<Item = Result<Chunk, Status>> {
    let wanted: BTreeSet<u64> = wanted.into_iter().map(|chunk| u64::from(chunk) * CHUNK_ELEMENTS as u64).collect();
    chunks_of(published, 0, changed, contact).filter(move |chunk| match chunk {
        Ok(chunk) => wanted.contains(&chunk.offset),
        Err(_) => true,
    })
}

/// Chunks in the order in which they are finished, without the `first` ones; of each what was `changed`, if that will
/// do.
fn chunks_of(
    published: Arc<PublishedParameters>,
    first: usize,
    changed: bool,
    contact: Arc<WorkerContact>,
) -> impl Stream<Item = Result<Chunk, Status>> {
    let (sender, receiver) = mpsc::channel(2);
    tokio::spawn(async move {
        for position in first.. {
            let item = match published.chunk(position, changed).await {
                Ok(Some(chunk)) => Ok(chunk),
                Ok(None) => return,
                Err(_) => Err(Status::aborted("the step was given up")),
            };
            let last = item.is_err();
            if sender.send(item).await.is_err() || last {
                return;
            }
            contact.fetched();
        }
    });
    ReceiverStream::new(receiver)
}

#[cfg(test)]
mod tests {
    use convoy_model::ParameterFormat;
    use convoy_reduce::{Flat, ParameterBoard};

    use super::*;

    /// A file of so many bytes at every path.
    #[derive(Debug)]
    struct Zeros(usize);

    impl Files for Zeros {
        fn read(&self, _: &Path) -> std::io::Result<Vec<u8>> {
            Ok(vec![0; self.0])
        }
    }

    fn wanted(size: usize) -> Vec<Wanted> {
        vec![Wanted { path: "x".into(), size: size as u64, blake3: Digest::of(&vec![0; size]) }]
    }

    /// A file of zeros that is known to be damaged once somebody doubts it.
    #[derive(Debug)]
    struct Doubtful;

    impl Files for Doubtful {
        fn read(&self, _: &Path) -> std::io::Result<Vec<u8>> {
            Ok(vec![0; 2 * PIECE])
        }

        fn doubt(&self, path: &Path) -> std::io::Result<()> {
            Err(std::io::Error::other(format!("push {} again", path.display())))
        }
    }

    #[test]
    fn who_computes_nothing_names_no_class() {
        let hello = |threads, numerics: &[&str]| {
            let numerics = numerics.iter().map(ToString::to_string).collect();
            v1::Hello { version: VERSION.to_owned(), threads, numerics, ..Default::default() }
        };
        let class = NUMERICS[0];
        assert_eq!(check_hello(&hello(0, &[]), Some("cuda-f32-v1/H200/12.4")).unwrap(), Vec::<u32>::new());
        assert_eq!(check_hello(&hello(4, &[class]), Some(class)).unwrap(), [numerics_number(class)]);
        assert!(check_hello(&hello(4, &[]), None).is_err() && check_hello(&hello(5000, &[class]), None).is_err());
    }

    #[tokio::test]
    async fn a_file_with_other_bytes_is_not_sent_whole_and_its_place_looks_at_it() {
        let files: [(Arc<dyn Files>, &str); 2] =
            [(Arc::new(Doubtful), "push x again"), (Arc::new(Zeros(2 * PIECE)), "other bytes than the manifest names")];
        for (files, expected) in files {
            let (sender, mut replies) = mpsc::channel(4);
            let wanted = vec![Wanted { path: "x".into(), size: 2 * PIECE as u64, blake3: Digest::of(b"others") }];
            send_files(files, wanted, sender, Arc::new(WorkerContact::new())).await;
            assert!(!replies.recv().await.expect("the first piece").expect("it can be read").last);
            let status = replies.recv().await.expect("an end").expect_err("it is wrong");
            assert_eq!(status.code(), tonic::Code::DataLoss);
            assert!(status.message().contains(expected), "{}", status.message());
            assert!(replies.recv().await.is_none());
        }
    }

    #[tokio::test]
    async fn files_come_in_pieces_of_which_the_last_one_says_so() {
        for (size, pieces) in [(0, 1), (1, 1), (PIECE, 1), (PIECE + 1, 2), (3 * PIECE, 3)] {
            let (sender, mut replies) = mpsc::channel(1);
            tokio::spawn(send_files(Arc::new(Zeros(size)), wanted(size), sender, Arc::new(WorkerContact::new())));
            let mut came = Vec::new();
            while let Some(piece) = replies.recv().await {
                came.push(piece.expect("it can be read"));
            }
            assert_eq!(came.iter().map(|piece| piece.data.len()).sum::<usize>(), size);
            let last: Vec<bool> = came.iter().map(|piece| piece.last).collect();
            assert_eq!(last, [vec![false; pieces - 1], vec![true]].concat(), "{size} bytes");
        }
        let (sender, mut replies) = mpsc::channel(1);
        tokio::spawn(send_files(Arc::new(Zeros(5)), wanted(6), sender, Arc::new(WorkerContact::new())));
        let status = replies.recv().await.expect("an answer").expect_err("the file is shorter than it was");
        assert_eq!(status.code(), tonic::Code::DataLoss);
    }

    #[tokio::test]
    async fn calls_that_are_not_read_hold_no_threads() {
        let size = 8 * PIECE;
        // More than there are threads for waiting.
        let calls = (0..600).map(|_| {
            let (sender, replies) = mpsc::channel(1);
            tokio::spawn(send_files(Arc::new(Zeros(size)), wanted(size), sender, Arc::new(WorkerContact::new())));
            replies
        });
        let calls: Vec<_> = calls.collect();
        let limit = std::time::Duration::from_secs(60);
        let begun = async {
            while calls.iter().any(mpsc::Receiver::is_empty) {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(limit, begun).await.expect("each has a piece");
        let others = tokio::time::timeout(limit, tokio::task::spawn_blocking(|| 7)).await;
        assert_eq!(others.expect("a thread is free").expect("no panic"), 7);
    }

    #[tokio::test]
    async fn of_parameters_the_chunks_that_are_asked_for_come_or_the_news_that_they_never_will() {
        let elements = 3 * CHUNK_ELEMENTS + 5;
        let flat = Flat::of(&vec![1.0; elements]);
        let board = ParameterBoard::new(4, &flat, ParameterFormat::default());
        let those_of = async |step, wanted: &[u32]| {
            let published = board.get(step).await.expect("it has begun");
            let chunks: Vec<_> =
                those_of(published, wanted.to_vec(), false, Arc::new(WorkerContact::new())).collect().await;
            let index = |chunk: Chunk| chunk.offset as usize / CHUNK_ELEMENTS;
            chunks.into_iter().map(|chunk| chunk.map(index).map_err(|status| status.code())).collect::<Vec<_>>()
        };
        assert_eq!(those_of(4, &[3, 1, 9]).await, [Ok(1), Ok(3)]);
        let next = board.open(5, elements, []);
        next.finish(1, flat.chunks()[1].clone(), None);
        let (told, ()) = tokio::join!(those_of(5, &[0, 1]), async { board.abandon(5) });
        assert_eq!(told, [Ok(1), Err(tonic::Code::Aborted)]);
    }
}
