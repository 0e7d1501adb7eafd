//! The gRPC service for workers: turns the wire into inputs for the loop and commands for the reducer. It decides nothing.

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use convoy_common::Plan;
use convoy_common::file_tree::Files;
use convoy_common::manifest::Manifest;
use convoy_common::spec::{CUDA_F32_V1, NUMERICS, is_numerics};
use convoy_proto::channel::PIECE;
use convoy_proto::v1::coordinator_server::Coordinator;
use convoy_proto::{CHUNK_ELEMENTS, Chunk, TRAIN_SUMS, VERSION, WireError, chunk_count, chunk_range, v1};
use convoy_scheduler::{Check, Event, GoneReason, Lease, Node, NodeResult, RunGeneration, Work, WorkerId};
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::{Stream, StreamExt, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming};

use crate::access::Caller;
use crate::buffer::Buffer;
use crate::hub::Hub;
use crate::inputs::Input;
use crate::leases::{Leases, Opening};
use crate::numerics_number;
use crate::published::Board;
use crate::received::{Look, Received};
use crate::reducer::Command;
use crate::tracker::Waits;
use crate::worker_logs::WorkerLogs;

/// Messages that may wait for one worker; one for which more wait is cut off.
const OUTBOX: usize = 1024;
/// Files in one call.
const MOST_FILES: usize = 1024;
/// Numerics classes that one worker may offer.
const MOST_NUMERICS: usize = 16;
/// How often workers say that they live.
pub(crate) const HEARTBEAT: Duration = Duration::from_millis(500);

type Reply<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// What the calls of one run share.
#[derive(Debug)]
pub(crate) struct Shared {
    /// The plan as JSON.
    pub(crate) plan: Bytes,
    /// The manifest as JSON.
    pub(crate) manifest: Bytes,
    /// The same, to find files in.
    pub(crate) data: Arc<Manifest>,
    /// Where its files are read.
    pub(crate) files: Arc<dyn Files>,
    /// The start of the coordinator.
    pub(crate) generation: RunGeneration,
    /// What the run means.
    pub(crate) meaning: Arc<Plan>,
    /// Elements of parameters and buffers.
    pub(crate) elements: usize,
    /// Sums of an evaluation.
    pub(crate) evaluate_sums: usize,
    /// To the loop.
    pub(crate) inputs: mpsc::UnboundedSender<Input>,
    /// To the reducer.
    pub(crate) commands: mpsc::UnboundedSender<Command>,
    /// Parameters on their way out.
    pub(crate) board: Arc<Board>,
    /// What is lent.
    pub(crate) leases: Arc<Leases>,
    /// Room for chunks that wait for the reducer.
    pub(crate) room: Arc<Semaphore>,
    /// What workers log.
    pub(crate) worker_logs: WorkerLogs,
}

/// The service.
#[derive(Debug, Clone)]
pub(crate) struct Service(pub(crate) Arc<Hub>);

#[tonic::async_trait]
impl Coordinator for Service {
    type ControlStream = ReceiverStream<Result<v1::CoordinatorMessage, Status>>;
    type PlanStream = Reply<v1::PlanChunk>;
    type FilesStream = ReceiverStream<Result<v1::FilePiece, Status>>;
    type ParametersStream = Reply<Chunk>;

    async fn control(
        &self,
        request: Request<Streaming<v1::WorkerMessage>>,
    ) -> Result<Response<Self::ControlStream>, Status> {
        let caller = Caller::of(&request);
        let mut messages = request.into_inner();
        let first = messages.message().await?.and_then(|message| message.message);
        let Some(v1::worker_message::Message::Hello(hello)) = first else {
            return Err(Status::invalid_argument("a control stream begins with hello"));
        };
        let numerics = check_hello(&hello, self.0.only_numerics())?;
        let name: String = hello.name.chars().filter(|c| !c.is_control()).take(128).collect();
        if let Some(reason) = self.0.distrusted(&name) {
            return Err(Status::failed_precondition(reason));
        }
        let (outbox, replies) = mpsc::channel(OUTBOX);
        let worker = self.0.connect(name, hello.threads, numerics, caller, outbox);
        let hub = self.0.clone();
        tokio::spawn(async move {
            while let Some(Ok(message)) = messages.next().await {
                if let Err(error) = hub.heard(worker, message) {
                    tracing::warn!(%worker, %error, "cut off");
                    break;
                }
            }
            hub.gone(worker, GoneReason::Closed);
        });
        Ok(Response::new(ReceiverStream::new(replies)))
    }

    async fn plan(&self, request: Request<v1::PlanRequest>) -> Result<Response<Self::PlanStream>, Status> {
        let caller = Caller::of(&request);
        let request = request.into_inner();
        let run = self.0.run_for(&caller, request.worker, request.job)?;
        run.check_generation(request.generation)?;
        let plan = pieces(run.plan.clone()).map(|plan| v1::PlanChunk { plan, manifest: Bytes::new() });
        let manifest = pieces(run.manifest.clone()).map(|manifest| v1::PlanChunk { plan: Bytes::new(), manifest });
        Ok(Response::new(Box::pin(tokio_stream::iter(plan.chain(manifest).map(Ok)))))
    }

    async fn parameters(
        &self,
        request: Request<v1::ParametersRequest>,
    ) -> Result<Response<Self::ParametersStream>, Status> {
        let caller = Caller::of(&request);
        let request = request.into_inner();
        let run = self.0.run_for(&caller, request.worker, request.job)?;
        run.check_generation(request.generation)?;
        let board = run.board.clone();
        let published = board
            .get(request.step)
            .await
            .ok_or_else(|| Status::not_found(format!("the parameters of step {} are gone", request.step)))?;
        let chunks = futures_chunks(published);
        Ok(Response::new(Box::pin(chunks)))
    }

    async fn files(&self, request: Request<v1::FilesRequest>) -> Result<Response<Self::FilesStream>, Status> {
        let caller = Caller::of(&request);
        let request = request.into_inner();
        let run = self.0.run_for(&caller, request.worker, request.job)?;
        run.check_generation(request.generation)?;
        if request.files.len() > MOST_FILES {
            return Err(Status::invalid_argument(format!("ask for at most {MOST_FILES} files at a time")));
        }
        let paths = request.files.iter().map(|file| run.path_of(*file)).collect::<Result<Vec<_>, _>>()?;
        let (sender, replies) = mpsc::channel(4);
        let files = run.files.clone();
        // Disks are waited for on a thread that may.
        tokio::task::spawn_blocking(move || {
            for path in paths {
                let read = files.read(&path);
                let sent = match read {
                    Ok(bytes) => send_file(&sender, bytes.into()),
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
        });
        Ok(Response::new(ReceiverStream::new(replies)))
    }

    async fn push_node(
        &self,
        request: Request<Streaming<v1::NodeMessage>>,
    ) -> Result<Response<v1::PushNodeReply>, Status> {
        let caller = Caller::of(&request);
        let mut messages = request.into_inner();
        let Some(v1::node_message::Message::Header(header)) = next(&mut messages).await? else {
            return Err(Status::invalid_argument("a node begins with its header"));
        };
        let run = self.0.run_for(&caller, header.worker, header.job)?;
        let lease = Lease::try_from(v1::Lease { at: header.at, work: header.work, node: header.node })?;
        let worker = WorkerId(header.worker);
        let ignored = |ignored: String| Ok(Response::new(v1::PushNodeReply { ignored }));
        let (opening, check) = match run.leases.admit(worker, lease.at, lease.work, lease.node) {
            Ok(admitted) => admitted,
            Err(reason) => return ignored(reason),
        };
        let answer = Answer { worker, lease, opening, check };
        let chunks = if lease.work == Work::Train { chunk_count(run.elements) } else { 0 };
        let mut received = Received::new(chunks, check != Check::Count);
        loop {
            match next(&mut messages).await? {
                Some(v1::node_message::Message::Chunk(chunk)) => {
                    let (index, values) = run.take(chunk, received.chunks())?;
                    if received.look(index, &values) == Look::NotFinite {
                        // A worker of sound mind says so itself, and sends no chunks.
                        let sums = vec![0.0; TRAIN_SUMS];
                        let summary =
                            v1::NodeSummary { sums, not_finite: Some(lease.node.first), ..Default::default() };
                        run.queue_summary(&answer, summary, &received)?;
                        return ignored("it holds a NaN or an infinity".to_owned());
                    }
                    if check != Check::Digest {
                        run.queue_chunk(&answer, index, values).await?;
                    }
                }
                Some(v1::node_message::Message::Summary(summary)) => {
                    if summary.not_finite.is_none() && !received.is_whole() {
                        return Err(Status::invalid_argument("the node ends before all of its chunks have come"));
                    }
                    run.queue_summary(&answer, summary, &received)?;
                    return ignored(String::new());
                }
                Some(v1::node_message::Message::Header(_)) => {
                    return Err(Status::invalid_argument("a node has one header"));
                }
                None => return Err(Status::cancelled("the node ended before its summary")),
            }
        }
    }
}

/// Whose answer a node is, and what is done with it.
struct Answer {
    worker: WorkerId,
    lease: Lease,
    opening: Opening,
    check: Check,
}

/// The classes of arithmetic that a worker of this version can compute, by number; or why it may not join. `only` is the
/// class of all that it could do here, if there is just one.
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

/// Sends a file in pieces, at least one; `false` when nobody listens.
fn send_file(sender: &mpsc::Sender<Result<v1::FilePiece, Status>>, bytes: Bytes) -> bool {
    let mut pieces: Vec<Bytes> = pieces(bytes).collect();
    let end = pieces.pop().unwrap_or_default();
    let pieces = pieces.into_iter().map(|data| v1::FilePiece { data, last: false });
    pieces.chain([v1::FilePiece { data: end, last: true }]).all(|piece| sender.blocking_send(Ok(piece)).is_ok())
}

fn pieces(bytes: Bytes) -> impl Iterator<Item = Bytes> {
    (0..bytes.len()).step_by(PIECE).map(move |start| bytes.slice(start..(start + PIECE).min(bytes.len())))
}

impl Shared {
    fn check_generation(&self, generation: u64) -> Result<(), Status> {
        match self.generation.0 == generation {
            true => Ok(()),
            false => Err(Status::aborted("the run was started again; join again")),
        }
    }

    /// Where file number `file` of the manifest is read.
    fn path_of(&self, file: u32) -> Result<PathBuf, Status> {
        let (train, validation) = (&self.data.train, &self.data.validation);
        let (split, file) = match (file as usize).checked_sub(train.files.len()) {
            None => (train, file as usize),
            Some(rest) => (validation, rest),
        };
        let entry = split.files.get(file).ok_or_else(|| Status::not_found("the manifest has no such file"))?;
        Ok(Path::new(&split.root).join(&entry.path))
    }

    fn tell(&self, input: Input) -> Result<(), Status> {
        self.inputs.send(input).map_err(|_| Status::unavailable("the run is over"))
    }

    fn command(&self, command: Command) -> Result<(), Status> {
        self.commands.send(command).map_err(|_| Status::unavailable("the run is over"))
    }

    /// Which of the node's `chunks` chunks this is, and its elements.
    fn take(&self, chunk: Chunk, chunks: usize) -> Result<(usize, Buffer), WireError> {
        let index = usize::try_from(chunk.offset).unwrap_or(usize::MAX) / CHUNK_ELEMENTS;
        let range = chunk_range(self.elements, index.min(chunks));
        if index < chunks && range.start as u64 == chunk.offset {
            let mut values = Buffer::new(range.len());
            if chunk.data.copy_to(&mut values) {
                return Ok((index, values));
            }
        }
        let value = format!("{} bytes at element {}", chunk.data.wire_len(), chunk.offset);
        Err(WireError::Invalid { field: "chunk", value })
    }

    async fn queue_chunk(&self, answer: &Answer, index: usize, values: Buffer) -> Result<(), Status> {
        let room = self.room.clone().acquire_owned().await;
        let permit = room.map_err(|_| Status::unavailable("the run is over"))?;
        let (opening, node) = (answer.opening, answer.lease.node);
        self.command(Command::Chunk { opening, node, index, values, permit })
    }

    fn queue_summary(&self, answer: &Answer, summary: v1::NodeSummary, received: &Received) -> Result<(), Status> {
        let Answer { worker, lease: Lease { at, work, node }, opening, check } = *answer;
        let samples = match work {
            Work::Train => self.samples(at.step.0, node).map(|samples| (samples, TRAIN_SUMS)),
            Work::Evaluate => None,
        };
        check_summary(&summary, node, samples, self.evaluate_sums)?;
        let computing = summary.shard_micros.saturating_mul(u64::from(node.size()));
        self.tell(Input::Worked(Waits {
            computing: seconds(computing),
            data: seconds(summary.data_wait_micros),
            parameters: seconds(summary.parameters_wait_micros),
        }))?;
        let not_finite = summary.not_finite;
        let result = match (not_finite, received.worst()) {
            (Some(_), _) => NodeResult::NotFinite,
            (None, Look::Absurd) => NodeResult::Absurd,
            (None, _) => NodeResult::Good,
        };
        let digest = received.digest(&summary.sums).filter(|_| not_finite.is_none());
        let done = Event::NodeDone { worker, at, shard_micros: summary.shard_micros, result, digest };
        match check {
            Check::Digest => self.tell(Input::Event(done)),
            Check::Count | Check::CountAndDigest => {
                self.command(Command::Summary { opening, node, sums: summary.sums, not_finite, done })
            }
        }
    }

    /// Samples in the training shards of `node` in step `step`; `None` where the step has no such shards.
    fn samples(&self, step: u64, node: Node) -> Option<f64> {
        let cut = self.meaning.train_cut();
        let step = step % cut.steps();
        let last = cut.shards(step) >= node.last;
        last.then(|| node.leaves().map(|shard| cut.shard(step, shard.0).len()).sum::<usize>() as f64)
    }
}

/// What a worker of this version never sends. `training` is how many samples and sums a training node has.
fn check_summary(
    summary: &v1::NodeSummary,
    node: Node,
    training: Option<(f64, usize)>,
    evaluate_sums: usize,
) -> Result<(), WireError> {
    let invalid = |field, value: String| Err(WireError::Invalid { field, value });
    let sums = training.map_or(evaluate_sums, |(_, sums)| sums);
    if summary.sums.len() != sums {
        return invalid("sums", format!("{} of {sums}", summary.sums.len()));
    }
    match summary.not_finite {
        Some(shard) if !(node.first..node.last).contains(&shard) => invalid("not_finite", shard.to_string()),
        Some(_) => Ok(()),
        None if !summary.sums.iter().all(|sum| sum.is_finite()) => invalid("sums", "not finite".to_owned()),
        None => match training {
            Some((samples, _)) if summary.sums[0] != samples => {
                invalid("sums", format!("{} samples, where {node} has {samples}", summary.sums[0]))
            }
            _ => Ok(()),
        },
    }
}

fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}

async fn next(messages: &mut Streaming<v1::NodeMessage>) -> Result<Option<v1::node_message::Message>, Status> {
    Ok(messages.message().await?.and_then(|message| message.message))
}

fn futures_chunks(published: Arc<crate::published::Published>) -> impl Stream<Item = Result<Chunk, Status>> {
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
        }
    });
    ReceiverStream::new(receiver)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_that_cannot_be_true_is_refused() {
        let node = Node { first: 4, last: 6 };
        let refused = |sums: Vec<f64>, not_finite: Option<u32>| {
            let summary = v1::NodeSummary { sums, not_finite, ..Default::default() };
            check_summary(&summary, node, Some((1.0, TRAIN_SUMS)), 3).is_err()
        };
        assert!(!refused(vec![1.0; TRAIN_SUMS], None));
        assert!(!refused(vec![f64::NAN; TRAIN_SUMS], Some(5)));
        assert!(refused(vec![1.0; TRAIN_SUMS - 1], None), "too few sums");
        assert!(refused(vec![f64::NAN; TRAIN_SUMS], None), "NaN in a node that is said to be finite");
        assert!(refused(vec![1.0; TRAIN_SUMS], Some(6)), "a shard of another node");
        assert!(refused(vec![2.0; TRAIN_SUMS], None), "more samples than the node has");
    }
}
