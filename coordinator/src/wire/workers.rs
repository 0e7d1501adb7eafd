//! The gRPC service for workers: turns the wire into inputs for the loop and commands for the reducer. It decides
//! nothing.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use convoy_common::file_tree::Files;
use convoy_common::manifest::Manifest;
use convoy_common::spec::{CUDA_F32_V1, NUMERICS, is_numerics};
use convoy_proto::channel::PIECE;
use convoy_proto::v1::coordinator_server::Coordinator;
use convoy_proto::{Chunk, VERSION, v1};
use convoy_scheduler::WorkerId;
use tokio::sync::mpsc;
use tokio_stream::{Stream, StreamExt, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming};

use super::access_layer::caller_of;
use super::node_push::NodePush;
use super::replies::Reply;
use crate::fleet::allowance::Allowance;
use crate::fleet::connections::Connections;
use crate::numerics::numerics_number;
use crate::run::handle::RunHandle;
use crate::run::outbox::WorkerOutbox;
use crate::run::reduction::parameter_board::PublishedParameters;
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
    type PlanStream = Reply<v1::PlanChunk>;
    type FilesStream = ReceiverStream<Result<v1::FilePiece, Status>>;
    type ParametersStream = Reply<Chunk>;

    async fn control(
        &self,
        request: Request<Streaming<v1::WorkerMessage>>,
    ) -> Result<Response<Self::ControlStream>, Status> {
        let caller = caller_of(&request);
        let mut messages = request.into_inner();
        let first = messages.message().await?.and_then(|message| message.message);
        let Some(v1::worker_message::Message::Hello(hello)) = first else {
            return Err(Status::invalid_argument("a control stream begins with hello"));
        };
        let numerics = check_hello(&hello, self.0.only_numerics())?;
        let name: String = hello.name.chars().filter(|c| !c.is_control()).take(128).collect();
        let machine = caller.machine(&hello.process);
        if let Some(reason) = self.0.evicted(&machine) {
            return Err(Status::failed_precondition(reason));
        }
        let (outbox, replies) = WorkerOutbox::new(OUTBOX);
        let contact = outbox.contact().clone();
        let worker = self.0.connect(machine, name, hello.threads, numerics, caller, outbox);
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
        Ok(Response::new(Box::pin(chunks_of(published, self.contact(request.worker)?))))
    }

    async fn files(&self, request: Request<v1::FilesRequest>) -> Result<Response<Self::FilesStream>, Status> {
        let caller = caller_of(&request);
        let request = request.into_inner();
        let run = self.0.run_for(&caller, request.worker, request.job)?;
        check_generation(&run, request.generation)?;
        if request.files.len() > MOST_FILES {
            return Err(Status::invalid_argument(format!("ask for at most {MOST_FILES} files at a time")));
        }
        let paths = request.files.iter().map(|file| path_of(&run.manifest, *file)).collect::<Result<Vec<_>, _>>()?;
        let (sender, replies) = mpsc::channel(4);
        let files = run.files.clone();
        // Disks are waited for on a thread that may.
        let contact = self.contact(request.worker)?;
        tokio::task::spawn_blocking(move || send_files(&*files, &paths, &sender, &contact));
        Ok(Response::new(ReceiverStream::new(replies)))
    }

    async fn push_node(
        &self,
        request: Request<Streaming<v1::NodeMessage>>,
    ) -> Result<Response<v1::PushNodeReply>, Status> {
        let caller = caller_of(&request);
        let mut messages = request.into_inner();
        let Some(v1::node_message::Message::Header(header)) = next(&mut messages).await? else {
            return Err(Status::invalid_argument("a node begins with its header"));
        };
        let run = self.0.run_for(&caller, header.worker, header.job)?;
        let contact = self.contact(header.worker)?;
        let mut push = match NodePush::admit(&run, contact, header).await? {
            Ok(push) => push,
            Err(ignored) => return Ok(Response::new(v1::PushNodeReply { ignored })),
        };
        loop {
            let message = next(&mut messages).await?;
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

/// The classes of arithmetic that a worker of this version can compute, by number; or why it may not join. `only` is
/// the class of all that it could do here, if there is just one.
fn check_hello(hello: &v1::Hello, only: Option<&str>) -> Result<Vec<u32>, Status> {
    if hello.version != VERSION {
        return Err(Status::failed_precondition(format!(
            "the worker is Convoy {}, the coordinator {VERSION}; install the same version on both",
            hello.version
        )));
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
        threads => Err(Status::invalid_argument(format!("a worker has 1 to 4096 threads, not {threads}"))),
    }
}

/// Sends the files at `paths`, one after the other, until one cannot be read or nobody listens.
fn send_files(
    files: &dyn Files,
    paths: &[PathBuf],
    sender: &mpsc::Sender<Result<v1::FilePiece, Status>>,
    contact: &WorkerContact,
) {
    for path in paths {
        let sent = match files.read(path) {
            Ok(bytes) => send_file(sender, bytes.into(), contact),
            Err(error) => {
                let status = Status::data_loss(format!("{} cannot be read: {error}", path.display()));
                _ = sender.blocking_send(Err(status));
                false
            }
        };
        if !sent {
            return;
        }
    }
}

/// Sends a file in pieces, at least one; `false` when nobody listens.
fn send_file(sender: &mpsc::Sender<Result<v1::FilePiece, Status>>, bytes: Bytes, contact: &WorkerContact) -> bool {
    let mut pieces: Vec<Bytes> = pieces(bytes).collect();
    let end = pieces.pop().unwrap_or_default();
    let pieces = pieces.into_iter().map(|data| v1::FilePiece { data, last: false });
    pieces.chain([v1::FilePiece { data: end, last: true }]).all(|piece| {
        contact.heard();
        sender.blocking_send(Ok(piece)).is_ok()
    })
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

/// Where file number `file` of the manifest is read: training files first, then those of the validation split.
fn path_of(manifest: &Manifest, file: u32) -> Result<PathBuf, Status> {
    let (train, validation) = (&manifest.train, &manifest.validation);
    let (split, file) = match (file as usize).checked_sub(train.files.len()) {
        None => (train, file as usize),
        Some(rest) => (validation, rest),
    };
    let entry = split.files.get(file).ok_or_else(|| Status::not_found("the manifest has no such file"))?;
    Ok(Path::new(&split.root).join(entry.path))
}

async fn next(messages: &mut Streaming<v1::NodeMessage>) -> Result<Option<v1::node_message::Message>, Status> {
    Ok(messages.message().await?.and_then(|message| message.message))
}

/// Chunks in the order in which they are finished.
fn chunks_of(
    published: Arc<PublishedParameters>,
    contact: Arc<WorkerContact>,
) -> impl Stream<Item = Result<Chunk, Status>> {
    let (sender, receiver) = mpsc::channel(2);
    tokio::spawn(async move {
        for position in 0.. {
            let item = match published.chunk(position).await {
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
