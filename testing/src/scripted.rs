//! A coordinator that hands each call to the test, which answers it when it wants.

use std::collections::BTreeMap;

use convoy_common::Plan;
use convoy_common::manifest::Manifest;
use convoy_proto::v1::node_message::Message;
use convoy_proto::{CHUNK_ELEMENTS, Chunk, Values, chunk_count, chunk_range, v1};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::coordinator::{Answers, Replies};

/// Replies that wait for the worker.
const REPLIES: usize = 64;

/// A coordinator whose answers a test gives one by one, through [`Calls`]. It sends plan and manifest itself.
#[derive(Debug, Clone)]
pub struct Scripted {
    plan: Result<v1::PlanChunk, Status>,
    control: mpsc::UnboundedSender<Control>,
    parameters: mpsc::UnboundedSender<ParametersCall>,
    files: mpsc::UnboundedSender<FilesCall>,
    pushes: mpsc::UnboundedSender<PushCall>,
}

/// What a [`Scripted`] coordinator is asked.
#[derive(Debug)]
pub struct Calls {
    /// Control streams, one for each connection of a worker.
    pub control: mpsc::UnboundedReceiver<Control>,
    /// Requests for parameters.
    pub parameters: mpsc::UnboundedReceiver<ParametersCall>,
    /// Requests for files.
    pub files: mpsc::UnboundedReceiver<FilesCall>,
    /// Nodes, each when all of it came.
    pub pushes: mpsc::UnboundedReceiver<PushCall>,
}

/// A control stream.
#[derive(Debug)]
pub struct Control {
    /// The worker's messages.
    pub messages: Streaming<v1::WorkerMessage>,
    /// The coordinator's; the stream ends when it is dropped.
    pub replies: mpsc::Sender<Result<v1::CoordinatorMessage, Status>>,
}

/// A request for parameters.
#[derive(Debug)]
pub struct ParametersCall {
    /// The request.
    pub request: v1::ParametersRequest,
    /// The reply; it ends when this is dropped.
    pub chunks: mpsc::Sender<Result<Chunk, Status>>,
}

/// A request for files.
#[derive(Debug)]
pub struct FilesCall {
    /// The request.
    pub request: v1::FilesRequest,
    /// The reply; it ends when this is dropped.
    pub pieces: mpsc::Sender<Result<v1::FilePiece, Status>>,
}

/// A node that came whole.
#[derive(Debug)]
pub struct PushCall {
    /// What the node is.
    pub header: v1::NodeHeader,
    /// Its numbers: those of the chunks that came, in the order of their offsets.
    pub gradient: Vec<f32>,
    /// What came after them.
    pub summary: v1::NodeSummary,
    /// The answer; dropped, the call fails.
    pub reply: oneshot::Sender<Result<v1::PushNodeReply, Status>>,
}

impl Scripted {
    /// A coordinator of a run with this plan and manifest, and the calls that it gets.
    pub fn new(plan: &Plan, manifest: &Manifest) -> (Self, Calls) {
        let plan = v1::PlanChunk { plan: plan.to_json().into(), manifest: manifest.to_bytes().into() };
        Scripted::with_plan(Ok(plan))
    }

    /// A coordinator that answers with `plan` when it is asked for one.
    pub fn with_plan(plan: Result<v1::PlanChunk, Status>) -> (Self, Calls) {
        let (control, control_calls) = mpsc::unbounded_channel();
        let (parameters, parameters_calls) = mpsc::unbounded_channel();
        let (files, files_calls) = mpsc::unbounded_channel();
        let (pushes, push_calls) = mpsc::unbounded_channel();
        let scripted = Scripted { plan, control, parameters, files, pushes };
        let calls =
            Calls { control: control_calls, parameters: parameters_calls, files: files_calls, pushes: push_calls };
        (scripted, calls)
    }
}

impl ParametersCall {
    /// Sends all of `flat`.
    pub async fn send(self, flat: &[f32]) {
        self.send_from(flat, 0).await;
    }

    /// Sends the chunks of `flat` from chunk `first` on.
    pub async fn send_from(self, flat: &[f32], first: usize) {
        for index in first..chunk_count(flat.len()) {
            let range = chunk_range(flat.len(), index);
            let vector = std::sync::Arc::new(flat[range.clone()].to_vec());
            let data = Values::shared(vector, 0..range.len());
            _ = self.chunks.send(Ok(Chunk { offset: (index * CHUNK_ELEMENTS) as u64, data })).await;
        }
    }
}

impl FilesCall {
    /// Sends a piece of the current file, the last one or not.
    pub async fn send(&self, bytes: &[u8], last: bool) {
        _ = self.pieces.send(Ok(v1::FilePiece { data: bytes.to_vec().into(), last })).await;
    }
}

/// The streams of a call's reply and its test.
fn replies<T: Send + 'static>() -> (mpsc::Sender<Result<T, Status>>, Replies<T>) {
    let (sender, receiver) = mpsc::channel(REPLIES);
    (sender, Box::pin(ReceiverStream::new(receiver)))
}

/// For calls that no test waits for any more.
fn over<T>(_: T) -> Status {
    Status::unavailable("the test is over")
}

#[tonic::async_trait]
impl Answers for Scripted {
    async fn control(&self, messages: Streaming<v1::WorkerMessage>) -> Result<Replies<v1::CoordinatorMessage>, Status> {
        let (sender, stream) = replies();
        self.control.send(Control { messages, replies: sender }).map_err(over)?;
        Ok(stream)
    }

    async fn plan(&self, _: v1::PlanRequest) -> Result<Replies<v1::PlanChunk>, Status> {
        Ok(Box::pin(tokio_stream::once(Ok(self.plan.clone()?))))
    }

    async fn parameters(&self, request: v1::ParametersRequest) -> Result<Replies<Chunk>, Status> {
        let (chunks, stream) = replies();
        self.parameters.send(ParametersCall { request, chunks }).map_err(over)?;
        Ok(stream)
    }

    async fn files(&self, request: v1::FilesRequest) -> Result<Replies<v1::FilePiece>, Status> {
        let (pieces, stream) = replies();
        self.files.send(FilesCall { request, pieces }).map_err(over)?;
        Ok(stream)
    }

    async fn push_node(&self, mut messages: Streaming<v1::NodeMessage>) -> Result<v1::PushNodeReply, Status> {
        let (mut header, mut chunks, mut summary) = (None, BTreeMap::new(), None);
        while let Some(message) = messages.message().await? {
            match message.message {
                Some(Message::Header(first)) => header = Some(first),
                Some(Message::Summary(last)) => summary = Some(last),
                Some(Message::Chunk(chunk)) => {
                    let mut values = vec![0.0; chunk.data.wire_len() / 4];
                    assert!(chunk.data.copy_to(&mut values), "a chunk is whole numbers");
                    assert!(chunks.insert(chunk.offset, values).is_none(), "a chunk comes once");
                }
                None => {}
            }
        }
        let incomplete = || Status::invalid_argument("a node has a header and a summary");
        let (header, summary) = (header.ok_or_else(incomplete)?, summary.ok_or_else(incomplete)?);
        let gradient = chunks.into_values().flatten().collect();
        let (reply, answer) = oneshot::channel();
        self.pushes.send(PushCall { header, gradient, summary, reply }).map_err(over)?;
        answer.await.map_err(over)?
    }
}
