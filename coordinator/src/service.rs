//! The gRPC service: turns the wire into inputs for the loop and commands for the reducer. It decides nothing.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use convoy_proto::v1::coordinator_server::Coordinator;
use convoy_proto::{TRAIN_SUMS, VERSION, WireError, chunk_count, chunk_range, v1};
use convoy_scheduler::{
    Event, Failure, LeaseRef, LeaveReason, Node, NodeResult, RunGeneration, StepId, Work, WorkerId,
};
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::{Stream, StreamExt, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming};

use crate::inputs::Input;
use crate::leases::Leases;
use crate::published::Board;
use crate::reducer::Command;
use crate::tracker::Waits;

/// Messages that may wait for one worker; one for which more wait is cut off.
const OUTBOX: usize = 1024;
/// Workers that have joined and not yet opened their control stream.
const ADMITTED: usize = 4096;
const MANIFEST_PIECE: usize = 256 << 10;
/// How often workers say that they live.
pub const HEARTBEAT: Duration = Duration::from_millis(500);

type Reply<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// What all calls share.
#[derive(Debug)]
pub struct Shared {
    /// The plan as JSON.
    pub plan: Bytes,
    /// The manifest as JSON.
    pub manifest: Bytes,
    /// Class of arithmetic.
    pub numerics: String,
    /// The start of the coordinator.
    pub generation: RunGeneration,
    /// Elements of parameters and buffers.
    pub elements: usize,
    /// Sums of an evaluation.
    pub evaluate_sums: usize,
    /// To the loop.
    pub inputs: mpsc::UnboundedSender<Input>,
    /// To the reducer.
    pub commands: mpsc::UnboundedSender<Command>,
    /// Parameters on their way out.
    pub board: Arc<Board>,
    /// What is lent.
    pub leases: Arc<Leases>,
    /// Room for chunks that wait for the reducer.
    pub room: Arc<Semaphore>,
    /// Workers that were admitted: name and threads.
    pub admitted: Mutex<BTreeMap<u32, (String, u32)>>,
    /// The next worker's number.
    pub next_worker: AtomicU32,
}

/// The service.
#[derive(Debug, Clone)]
pub struct Service(pub Arc<Shared>);

#[tonic::async_trait]
impl Coordinator for Service {
    type ManifestStream = Reply<v1::ManifestChunk>;
    type ControlStream = ReceiverStream<Result<v1::CoordinatorMessage, Status>>;
    type ParametersStream = Reply<v1::ParametersChunk>;

    async fn join(&self, request: Request<v1::JoinRequest>) -> Result<Response<v1::JoinReply>, Status> {
        let request = request.into_inner();
        if request.version != VERSION {
            return Err(Status::failed_precondition(format!(
                "the worker is Convoy {}, the coordinator {VERSION}; install the same version on both",
                request.version
            )));
        }
        if !request.numerics.contains(&self.0.numerics) {
            return Err(Status::failed_precondition(format!(
                "the run computes `{}`, the worker only {:?}",
                self.0.numerics, request.numerics
            )));
        }
        if !(1..=4096).contains(&request.threads) {
            return Err(Status::invalid_argument(format!("a worker has 1 to 4096 threads, not {}", request.threads)));
        }
        let worker = self.0.next_worker.fetch_add(1, Ordering::Relaxed);
        let name: String = request.name.chars().filter(|c| !c.is_control()).take(128).collect();
        let mut admitted = self.0.admitted.lock().unwrap_or_else(PoisonError::into_inner);
        if admitted.len() >= ADMITTED {
            return Err(Status::resource_exhausted("too many workers are joining; try again later"));
        }
        admitted.insert(worker, (name, request.threads));
        drop(admitted);
        Ok(Response::new(v1::JoinReply {
            worker,
            generation: self.0.generation.0,
            plan: self.0.plan.clone(),
            heartbeat_ms: HEARTBEAT.as_millis() as u32,
        }))
    }

    async fn manifest(&self, _: Request<v1::ManifestRequest>) -> Result<Response<Self::ManifestStream>, Status> {
        let manifest = self.0.manifest.clone();
        let pieces = (0..manifest.len()).step_by(MANIFEST_PIECE).map(move |start| {
            Ok(v1::ManifestChunk { json: manifest.slice(start..(start + MANIFEST_PIECE).min(manifest.len())) })
        });
        Ok(Response::new(Box::pin(tokio_stream::iter(pieces))))
    }

    async fn control(
        &self,
        request: Request<Streaming<v1::WorkerMessage>>,
    ) -> Result<Response<Self::ControlStream>, Status> {
        let mut messages = request.into_inner();
        let first = messages.message().await?.and_then(|message| message.message);
        let Some(v1::worker_message::Message::Hello(hello)) = first else {
            return Err(Status::invalid_argument("a control stream begins with hello"));
        };
        if hello.generation != self.0.generation.0 {
            return Err(Status::aborted("the coordinator was restarted; join again"));
        }
        let admitted = self.0.admitted.lock().unwrap_or_else(PoisonError::into_inner).remove(&hello.worker);
        let (name, threads) = admitted.ok_or_else(|| Status::aborted("this worker has not joined; join again"))?;
        let worker = WorkerId(hello.worker);
        let (outbox, replies) = mpsc::channel(OUTBOX);
        self.tell(Input::Attach { worker, name, threads, outbox })?;
        let inputs = self.0.inputs.clone();
        tokio::spawn(async move {
            while let Some(Ok(message)) = messages.next().await {
                let Ok(news) = heard(worker, message) else { break };
                if news.into_iter().any(|input| inputs.send(input).is_err()) {
                    return;
                }
            }
            _ = inputs.send(Input::Event(Event::WorkerLeft { worker, reason: LeaveReason::Closed }));
        });
        Ok(Response::new(ReceiverStream::new(replies)))
    }

    async fn parameters(
        &self,
        request: Request<v1::ParametersRequest>,
    ) -> Result<Response<Self::ParametersStream>, Status> {
        let request = request.into_inner();
        if request.generation != self.0.generation.0 {
            return Err(Status::aborted("the coordinator was restarted; join again"));
        }
        let board = self.0.board.clone();
        let published = board
            .get(request.step)
            .await
            .ok_or_else(|| Status::not_found(format!("the parameters of step {} are gone", request.step)))?;
        let chunks = futures_chunks(published);
        Ok(Response::new(Box::pin(chunks)))
    }

    async fn push_node(
        &self,
        request: Request<Streaming<v1::NodeMessage>>,
    ) -> Result<Response<v1::PushNodeReply>, Status> {
        let mut messages = request.into_inner();
        let Some(v1::node_message::Message::Header(header)) = next(&mut messages).await? else {
            return Err(Status::invalid_argument("a node begins with its header"));
        };
        let lease =
            convoy_scheduler::Lease::try_from(v1::Lease { at: header.at, work: header.work, node: header.node })?;
        let worker = WorkerId(header.worker);
        if let Some(ignored) = self.0.leases.refusal(worker, lease.at, lease.work, lease.node) {
            return Ok(Response::new(v1::PushNodeReply { ignored }));
        }
        let mut arrived = vec![false; if lease.work == Work::Train { chunk_count(self.0.elements) } else { 0 }];
        loop {
            match next(&mut messages).await? {
                Some(v1::node_message::Message::Chunk(chunk)) => {
                    self.queue_chunk(lease.at.step, lease.node, chunk, &mut arrived).await?;
                }
                Some(v1::node_message::Message::Summary(summary)) => {
                    if summary.not_finite.is_none() && arrived.contains(&false) {
                        return Err(Status::invalid_argument("the node ends before all of its chunks have come"));
                    }
                    self.queue_summary(worker, lease.at, lease.work, lease.node, summary)?;
                    return Ok(Response::new(v1::PushNodeReply::default()));
                }
                Some(v1::node_message::Message::Header(_)) => {
                    return Err(Status::invalid_argument("a node has one header"));
                }
                None => return Err(Status::cancelled("the node ended before its summary")),
            }
        }
    }
}

impl Service {
    fn tell(&self, input: Input) -> Result<(), Status> {
        self.0.inputs.send(input).map_err(|_| Status::unavailable("the run is over"))
    }

    fn command(&self, command: Command) -> Result<(), Status> {
        self.0.commands.send(command).map_err(|_| Status::unavailable("the run is over"))
    }

    async fn queue_chunk(
        &self,
        step: StepId,
        node: Node,
        chunk: v1::NodeChunk,
        arrived: &mut [bool],
    ) -> Result<(), Status> {
        let index = usize::try_from(chunk.offset).unwrap_or(usize::MAX) / convoy_proto::CHUNK_ELEMENTS;
        let fits = index < arrived.len() && {
            let range = chunk_range(self.0.elements, index);
            range.start as u64 == chunk.offset && range.len() * 4 == chunk.data.len()
        };
        if !fits {
            let value = format!("{} bytes at element {}", chunk.data.len(), chunk.offset);
            return Err(WireError::Invalid { field: "chunk", value }.into());
        }
        let room = self.0.room.clone().acquire_owned().await;
        let permit = room.map_err(|_| Status::unavailable("the run is over"))?;
        arrived[index] = true;
        self.command(Command::Chunk { step, node, index, data: chunk.data, permit })
    }

    fn queue_summary(
        &self,
        worker: WorkerId,
        at: LeaseRef,
        work: Work,
        node: Node,
        summary: v1::NodeSummary,
    ) -> Result<(), Status> {
        check_summary(&summary, node, if work == Work::Train { TRAIN_SUMS } else { self.0.evaluate_sums })?;
        let computing = summary.shard_micros.saturating_mul(u64::from(node.size()));
        self.tell(Input::Worked(Waits {
            computing: seconds(computing),
            data: seconds(summary.data_wait_micros),
            parameters: seconds(summary.parameters_wait_micros),
        }))?;
        let not_finite = summary.not_finite;
        let result = if not_finite.is_some() { NodeResult::NotFinite } else { NodeResult::Good };
        let done = Event::NodeDone { worker, at, shard_micros: summary.shard_micros, result };
        self.command(Command::Summary { step: at.step, work, node, sums: summary.sums, not_finite, done })
    }
}

/// What a worker of this version never sends.
fn check_summary(summary: &v1::NodeSummary, node: Node, sums: usize) -> Result<(), WireError> {
    let invalid = |field, value: String| Err(WireError::Invalid { field, value });
    if summary.sums.len() != sums {
        return invalid("sums", format!("{} of {sums}", summary.sums.len()));
    }
    match summary.not_finite {
        Some(shard) if !(node.first..node.last).contains(&shard) => invalid("not_finite", shard.to_string()),
        None if !summary.sums.iter().all(|sum| sum.is_finite()) => invalid("sums", "not finite".to_owned()),
        _ => Ok(()),
    }
}

fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}

async fn next(messages: &mut Streaming<v1::NodeMessage>) -> Result<Option<v1::node_message::Message>, Status> {
    Ok(messages.message().await?.and_then(|message| message.message))
}

fn futures_chunks(
    published: Arc<crate::published::Published>,
) -> impl Stream<Item = Result<v1::ParametersChunk, Status>> {
    let (sender, receiver) = mpsc::channel(2);
    tokio::spawn(async move {
        for position in 0.. {
            let item = match published.chunk(position).await {
                Ok(Some((offset, data))) => Ok(v1::ParametersChunk { offset, data }),
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

/// What a worker's message means for the loop.
fn heard(worker: WorkerId, message: v1::WorkerMessage) -> Result<Vec<Input>, WireError> {
    use v1::worker_message::Message;
    Ok(match message.message.ok_or(WireError::Missing { field: "message" })? {
        Message::Hello(_) => return Err(WireError::Invalid { field: "message", value: "a second hello".to_owned() }),
        Message::Heartbeat(_) => vec![Input::Event(Event::Heartbeat { worker })],
        Message::Ready(ready) => vec![Input::Event(Event::WorkerReady { worker, step: StepId(ready.step) })],
        Message::Draining(_) => vec![Input::Event(Event::WorkerDraining { worker })],
        Message::LeaseFailed(failed) => {
            let failure = Failure::try_from(failed.failure())?;
            let at = failed.at.ok_or(WireError::Missing { field: "at" })?.into();
            vec![
                Input::LeaseFailed { worker, reason: failed.reason },
                Input::Event(Event::LeaseFailed { worker, at, failure }),
            ]
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_that_cannot_be_true_is_refused() {
        let node = Node { first: 4, last: 6 };
        let refused = |sums: Vec<f64>, not_finite: Option<u32>| {
            let summary = v1::NodeSummary { sums, not_finite, ..Default::default() };
            check_summary(&summary, node, TRAIN_SUMS).is_err()
        };
        assert!(!refused(vec![1.0; TRAIN_SUMS], None));
        assert!(!refused(vec![f64::NAN; TRAIN_SUMS], Some(5)));
        assert!(refused(vec![1.0; TRAIN_SUMS - 1], None), "too few sums");
        assert!(refused(vec![f64::NAN; TRAIN_SUMS], None), "NaN in a node that is said to be finite");
        assert!(refused(vec![1.0; TRAIN_SUMS], Some(6)), "a shard of another node");
    }
}
