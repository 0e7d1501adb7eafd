//! The life of a worker: join, compute, send, come back when the connection is lost, leave.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use convoy_common::Plan;
use convoy_common::manifest::Manifest;
use convoy_common::spec::CPU_F32_V1;
use convoy_model::Network;
use convoy_nn::ComputeError;
use convoy_proto::channel::connect;
use convoy_proto::v1::coordinator_client::CoordinatorClient;
use convoy_proto::v1::coordinator_message::Message;
use convoy_proto::{VERSION, v1};
use convoy_scheduler::{Lease, StepId};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use crate::compute::{Computed, Output, Pool};
use crate::data::{RunData, Shards};
use crate::{Config, Ended, WorkerError, parameters, push};

const BACKOFF_FIRST: Duration = Duration::from_millis(100);
const BACKOFF_LAST: Duration = Duration::from_secs(2);
/// Messages that wait for the control stream.
const OUTBOX: usize = 256;
/// How long a worker that wants to go waits for leave.
const DRAIN: Duration = Duration::from_secs(10);

/// Works for the coordinator until the run is over or `stop` asks it to go; then it finishes what it holds.
///
/// A lost connection is opened again, with growing pauses, for as long as [`Config::patience`].
///
/// # Errors
/// When the coordinator cannot be reached or does not want this worker, or the data or network cannot be used.
pub async fn run(mut config: Config, stop: impl Future<Output = ()>) -> Result<Ended, WorkerError> {
    tokio::pin!(stop);
    let (mut pause, mut alone_since) = (BACKOFF_FIRST, Instant::now());
    loop {
        let lost = match Session::open(&mut config).await {
            Ok(session) => {
                let begun = Instant::now();
                let ended = session.run(&mut stop).await;
                // A coordinator that puts this worker out as soon as it comes is as good as none.
                if begun.elapsed() >= BACKOFF_LAST {
                    (pause, alone_since) = (BACKOFF_FIRST, Instant::now());
                }
                match ended? {
                    Some(ended) => return Ok(ended),
                    None => "the connection was lost".to_owned(),
                }
            }
            Err(OpenError::Fatal(error)) => return Err(error),
            Err(OpenError::Unreachable(reason)) => reason,
        };
        if alone_since.elapsed() + pause > config.patience {
            return Err(WorkerError::Unreachable { address: config.coordinator, reason: lost });
        }
        tracing::info!(reason = lost, again_in = ?pause, "no coordinator");
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = &mut stop => return Ok(Ended::Drained),
        }
        pause = (pause * 2).min(BACKOFF_LAST);
    }
}

enum OpenError {
    Fatal(WorkerError),
    Unreachable(String),
}

impl From<WorkerError> for OpenError {
    fn from(error: WorkerError) -> Self {
        OpenError::Fatal(error)
    }
}

impl From<Status> for OpenError {
    fn from(status: Status) -> Self {
        match status.code() {
            Code::FailedPrecondition | Code::InvalidArgument | Code::PermissionDenied | Code::Unauthenticated => {
                OpenError::Fatal(WorkerError::Refused { reason: status.message().to_owned() })
            }
            _ => OpenError::Unreachable(status.message().to_owned()),
        }
    }
}

/// One membership.
struct Session {
    worker: u32,
    generation: u64,
    bulk: CoordinatorClient<Channel>,
    outbox: mpsc::Sender<v1::WorkerMessage>,
    inbox: Streaming<v1::CoordinatorMessage>,
    heartbeat: Duration,
    pool: Arc<Pool>,
    outputs: mpsc::UnboundedReceiver<Output>,
    elements: usize,
    /// The newest committed parameters that were heard of.
    committed: Option<u64>,
    /// Parameters that came before their commit.
    early: BTreeMap<u64, Vec<f32>>,
    /// Steps whose parameters are on their way.
    fetching: BTreeMap<u64, AbortHandle>,
    /// The newest step whose parameters came.
    newest: Option<u64>,
    fetched: mpsc::UnboundedReceiver<(u64, Result<Vec<f32>, Status>)>,
    fetches: mpsc::UnboundedSender<(u64, Result<Vec<f32>, Status>)>,
}

impl Session {
    async fn open(config: &mut Config) -> Result<Session, OpenError> {
        let unreachable = |error: tonic::transport::Error| {
            let source = std::error::Error::source(&error).map(ToString::to_string);
            OpenError::Unreachable(source.unwrap_or_else(|| error.to_string()))
        };
        let mut control = connect(&config.coordinator).await.map_err(unreachable)?;
        let bulk = connect(&config.coordinator).await.map_err(unreachable)?;
        let join = v1::JoinRequest {
            version: VERSION.to_owned(),
            name: config.name.clone(),
            threads: config.threads as u32,
            numerics: vec![CPU_F32_V1.to_owned()],
        };
        let reply = control.join(join).await?.into_inner();
        let plan: Plan = serde_json::from_slice(&reply.plan)
            .map_err(|error| WorkerError::Nonsense { what: "a plan", reason: error.to_string() })?;
        let network =
            Network::of(&plan).map_err(|error| WorkerError::Nonsense { what: "a plan", reason: error.to_string() })?;
        let data = match &config.data {
            // The coordinator may serve another job by now.
            Some(data) if data.plan() == plan.digest() => data.clone(),
            _ => {
                let manifest = fetch_manifest(&mut control, &plan).await?;
                let data = Arc::new(RunData::open(&plan, manifest).map_err(WorkerError::from)?);
                config.data.insert(data).clone()
            }
        };
        let (plan, network) = (Arc::new(plan), Arc::new(network));
        let (output_sender, outputs) = mpsc::unbounded_channel();
        let shards = Shards::new(plan.clone(), &data, config.threads)
            .map_err(|error| WorkerError::from(ComputeError::Thread(error.to_string())))?;
        let pool = Pool::start(&plan, &network, shards, config.threads, output_sender).map_err(WorkerError::from)?;
        let (outbox, messages) = mpsc::channel(OUTBOX);
        let hello = v1::Hello { worker: reply.worker, generation: reply.generation };
        let hello = v1::WorkerMessage { message: Some(v1::worker_message::Message::Hello(hello)) };
        // The channel is new and has room.
        _ = outbox.try_send(hello);
        let inbox = control.control(ReceiverStream::new(messages)).await?.into_inner();
        let (fetches, fetched) = mpsc::unbounded_channel();
        Ok(Session {
            worker: reply.worker,
            generation: reply.generation,
            bulk,
            outbox,
            inbox,
            heartbeat: Duration::from_millis(u64::from(reply.heartbeat_ms.max(10))),
            pool: Arc::new(pool),
            outputs,
            elements: network.len(),
            committed: None,
            early: BTreeMap::new(),
            fetching: BTreeMap::new(),
            newest: None,
            fetched,
            fetches,
        })
    }

    /// `None` when the connection was lost.
    async fn run(mut self, stop: &mut (impl Future<Output = ()> + Unpin)) -> Result<Option<Ended>, WorkerError> {
        let mut heartbeat = tokio::time::interval(self.heartbeat);
        let mut leaving: Option<tokio::time::Instant> = None;
        loop {
            let goes = leaving.unwrap_or_else(|| tokio::time::Instant::now() + DRAIN);
            tokio::select! {
                biased;
                message = self.inbox.message() => match message {
                    Ok(Some(v1::CoordinatorMessage { message: Some(Message::Goodbye(goodbye)) })) => {
                        return self.goodbye(goodbye, leaving.is_some());
                    }
                    Ok(Some(message)) => self.heard(message)?,
                    Ok(None) | Err(_) if leaving.is_some() => return Ok(Some(Ended::Drained)),
                    Ok(None) | Err(_) => return Ok(None),
                },
                _ = heartbeat.tick() => self.say(v1::worker_message::Message::Heartbeat(v1::Heartbeat {})).await,
                Some((step, flat)) = self.fetched.recv() => self.fetched(step, flat).await,
                Some(output) = self.outputs.recv() => self.output(output).await,
                () = &mut *stop, if leaving.is_none() => {
                    leaving = Some(tokio::time::Instant::now() + DRAIN);
                    self.say(v1::worker_message::Message::Draining(v1::Draining {})).await;
                }
                () = tokio::time::sleep_until(goes), if leaving.is_some() => return Ok(Some(Ended::Drained)),
            }
        }
    }

    fn goodbye(&self, goodbye: v1::Goodbye, leaving: bool) -> Result<Option<Ended>, WorkerError> {
        match (goodbye.run_over, leaving) {
            (true, _) => {
                tracing::info!(reason = goodbye.reason, "the run is over");
                Ok(Some(Ended::RunOver))
            }
            (false, true) => Ok(Some(Ended::Drained)),
            (false, false) => {
                tracing::warn!(reason = goodbye.reason, "put out by the coordinator; joining again");
                Ok(None)
            }
        }
    }

    fn heard(&mut self, message: v1::CoordinatorMessage) -> Result<(), WorkerError> {
        match message.message {
            Some(Message::Committed(committed)) => {
                self.committed = Some(committed.step);
                // Nobody computes with older ones any more.
                let wanted = self.fetching.split_off(&committed.step);
                std::mem::replace(&mut self.fetching, wanted).into_values().for_each(|fetch| fetch.abort());
                self.ask_for(committed.step);
                if let Some(flat) = self.early.remove(&committed.step) {
                    // Through the queue, so that there is one way to take parameters over.
                    _ = self.fetches.send((committed.step, Ok(flat)));
                }
                self.early.retain(|step, _| *step > committed.step);
            }
            Some(Message::Lease(lease)) => {
                let lease = Lease::try_from(lease)
                    .map_err(|error| WorkerError::Nonsense { what: "a lease", reason: error.to_string() })?;
                self.pool.add(lease);
                if lease.work == convoy_scheduler::Work::Train {
                    // Chunks of the next parameters are sent as soon as they are made.
                    self.ask_for(lease.at.step.0 + 1);
                }
            }
            Some(Message::Revoke(revoke)) => {
                if let Some(at) = revoke.at {
                    self.pool.revoke(at.into());
                }
            }
            Some(Message::Goodbye(_)) | None => {}
        }
        Ok(())
    }

    fn ask_for(&mut self, step: u64) {
        if self.fetching.contains_key(&step) || self.newest.is_some_and(|newest| newest >= step) {
            return;
        }
        let fetch = parameters::fetch(self.bulk.clone(), self.generation, step, self.elements);
        let fetches = self.fetches.clone();
        let fetch = tokio::spawn(async move { _ = fetches.send((step, fetch.await)) });
        self.fetching.insert(step, fetch.abort_handle());
    }

    async fn fetched(&mut self, step: u64, flat: Result<Vec<f32>, Status>) {
        let committed = self.committed.unwrap_or(0);
        self.fetching.remove(&step);
        if flat.is_ok() {
            self.newest = self.newest.max(Some(step));
        }
        match flat {
            Ok(flat) if step > committed => _ = self.early.insert(step, flat),
            Ok(flat) if step == committed => {
                self.pool.set_parameters(StepId(step), Arc::new(flat));
                self.say(v1::worker_message::Message::Ready(v1::Ready { step })).await;
            }
            Ok(_) => {}
            Err(status) => {
                tracing::debug!(step, %status, "parameters did not come");
                if step == committed {
                    tokio::time::sleep(BACKOFF_FIRST).await;
                    self.ask_for(step);
                }
            }
        }
    }

    async fn output(&mut self, output: Output) {
        match output {
            Output::Done(computed) => self.send_node(computed),
            Output::Failed { at, failure, reason } => {
                tracing::warn!(%at, reason, "a lease failed");
                let failure = v1::Failure::from(failure).into();
                let failed = v1::LeaseFailed { at: Some(at.into()), failure, reason };
                self.say(v1::worker_message::Message::LeaseFailed(failed)).await;
            }
        }
    }

    fn send_node(&self, computed: Computed) {
        let (bulk, pool, worker) = (self.bulk.clone(), self.pool.clone(), self.worker);
        let (outbox, at) = (self.outbox.clone(), computed.lease.at);
        tokio::spawn(async move {
            let (reply, gradient) = push::push(bulk, worker, computed).await;
            pool.recycle(gradient);
            match reply {
                Ok(ignored) if ignored.is_empty() => {}
                Ok(ignored) => tracing::debug!(%at, ignored, "node ignored"),
                Err(status) => {
                    tracing::warn!(%at, %status, "a node did not get through");
                    let failure = v1::Failure::Internal.into();
                    let failed = v1::LeaseFailed { at: Some(at.into()), failure, reason: status.message().to_owned() };
                    let message = v1::worker_message::Message::LeaseFailed(failed);
                    _ = outbox.send(v1::WorkerMessage { message: Some(message) }).await;
                }
            }
        });
    }

    /// A closed stream shows itself at the inbox.
    async fn say(&self, message: v1::worker_message::Message) {
        _ = self.outbox.send(v1::WorkerMessage { message: Some(message) }).await;
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.fetching.values().for_each(AbortHandle::abort);
    }
}

async fn fetch_manifest(client: &mut CoordinatorClient<Channel>, plan: &Plan) -> Result<Manifest, OpenError> {
    let mut pieces = client.manifest(v1::ManifestRequest {}).await?.into_inner();
    let mut json = Vec::new();
    while let Some(piece) = pieces.message().await? {
        json.extend_from_slice(&piece.json);
    }
    let manifest: Manifest = serde_json::from_slice(&json)
        .map_err(|error| WorkerError::Nonsense { what: "a manifest", reason: error.to_string() })?;
    if manifest.digest() != plan.manifest {
        let reason = "it does not have the digest that the plan names".to_owned();
        return Err(WorkerError::Nonsense { what: "a manifest", reason }.into());
    }
    Ok(manifest)
}
