//! A worker's part in one run: fetch what it needs, compute leases, send nodes.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use convoy_common::Plan;
use convoy_common::manifest::Manifest;
use convoy_model::Network;
use convoy_nn::{ComputeError, Device};
use convoy_proto::v1;
use convoy_proto::v1::coordinator_client::CoordinatorClient;
use convoy_proto::v1::coordinator_message::Message;
use convoy_scheduler::{Lease, StepId};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::AbortHandle;
use tonic::Status;
use tonic::transport::Channel;

use crate::cache::Cache;
use crate::compute::{Computed, Output, Pool};
use crate::data::{RunData, Shards};
use crate::files::{Fetching, RunFiles, Source};
use crate::session::OpenError;
use crate::{WorkerError, parameters, push, stages};

/// Nodes on their way at a time; a coordinator takes twice as many, those of a connection that was lost included.
const PUSHES: usize = 8;
/// Before parameters that did not come are asked for again.
const PAUSE: Duration = Duration::from_millis(100);

/// What a membership begins with.
pub(crate) struct SetUp {
    pub(crate) job: u64,
    pub(crate) generation: u64,
    pub(crate) worker: u32,
    pub(crate) threads: usize,
    pub(crate) device: Device,
    /// Data of an earlier membership; used again where the plan is the same.
    pub(crate) data: Option<Arc<RunData>>,
    pub(crate) cache: Option<Arc<Cache>>,
    pub(crate) sees: Option<PathBuf>,
    pub(crate) outbox: mpsc::Sender<v1::WorkerMessage>,
}

/// Something that a membership waited for.
pub(crate) enum News {
    Output(Output),
    Fetched(Fetched),
}

/// Parameters that were asked for.
pub(crate) struct Fetched {
    step: u64,
    /// Counts how often steps were given up: what was asked for before is not taken.
    attempt: u64,
    flat: Result<Vec<f32>, Status>,
}

/// One membership.
pub(crate) struct Membership {
    job: u64,
    generation: u64,
    worker: u32,
    bulk: CoordinatorClient<Channel>,
    outbox: mpsc::Sender<v1::WorkerMessage>,
    data: Arc<RunData>,
    /// Keeps files coming.
    _fetching: Option<Fetching>,
    pool: Arc<Pool>,
    pushes: Arc<Semaphore>,
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
    attempt: u64,
    fetched: mpsc::UnboundedReceiver<Fetched>,
    fetches: mpsc::UnboundedSender<Fetched>,
}

impl Membership {
    /// Fetches plan and manifest, opens the data and starts the threads that compute.
    pub(crate) async fn open(set_up: SetUp, mut bulk: CoordinatorClient<Channel>) -> Result<Membership, OpenError> {
        let (plan, manifest) = fetch_plan(&mut bulk, &set_up).await?;
        let SetUp { job, generation, worker, threads, device, data, cache, sees, outbox } = set_up;
        let data = data.filter(|data| data.plan() == plan.digest());
        // Opening the data may want files already.
        let files = match &data {
            Some(data) => data.remote().cloned(),
            None => Some(Arc::new(RunFiles::new(&manifest, sees, cache))),
        };
        let source = || Source { bulk: bulk.clone(), worker, job, generation };
        let fetching = files.as_ref().map(|files| files.fetch_from(source()));
        let (output_sender, outputs) = mpsc::unbounded_channel();
        let opened = tokio::task::spawn_blocking(move || {
            device.fits(&plan.spec.numerics).map_err(|error| WorkerError::from(ComputeError::from(error)))?;
            let network = Network::of(&plan).map_err(|error| nonsense("a plan", error.to_string()))?;
            let data = match (data, files) {
                (Some(data), _) => data,
                (None, Some(files)) => Arc::new(RunData::fetched(&plan, manifest, files)?),
                (None, None) => unreachable!("data that is not there has files"),
            };
            let (plan, network) = (Arc::new(plan), Arc::new(network));
            let shards = Shards::new(plan.clone(), &data, threads)
                .map_err(|error| WorkerError::from(ComputeError::Thread(error.to_string())))?;
            let pool = Pool::start(&plan, &network, shards, (device, threads), output_sender)?;
            Ok::<_, WorkerError>((data, Arc::new(pool), network.len()))
        });
        let opened = opened.await.map_err(|error| OpenError::Unreachable(error.to_string()))?;
        let (data, pool, elements) = opened?;
        let (fetches, fetched) = mpsc::unbounded_channel();
        Ok(Membership {
            job,
            generation,
            worker,
            bulk,
            outbox,
            data,
            _fetching: fetching,
            pool,
            pushes: Arc::new(Semaphore::new(PUSHES)),
            outputs,
            elements,
            committed: None,
            early: BTreeMap::new(),
            fetching: BTreeMap::new(),
            newest: None,
            attempt: 0,
            fetched,
            fetches,
        })
    }

    /// Tells the coordinator that this worker is ready to be a member.
    pub(crate) async fn join(&self) {
        let joined = v1::Joined { job: self.job, generation: self.generation };
        self.say(v1::worker_message::Message::Joined(joined)).await;
        tracing::info!(job = self.job, elements = self.elements, "data and network are ready; joined the run");
    }

    /// Hands a line of this worker's log on.
    pub(crate) async fn log(&self, line: String) {
        self.say(v1::worker_message::Message::Log(v1::Log { job: self.job, line })).await;
    }

    /// The run's data, for a later membership.
    pub(crate) fn data(&self) -> Arc<RunData> {
        self.data.clone()
    }

    /// The connection for what is large.
    pub(crate) fn bulk(&self) -> CoordinatorClient<Channel> {
        self.bulk.clone()
    }

    /// What comes next: a node that is computed, or parameters.
    pub(crate) async fn next(&mut self) -> News {
        tokio::select! {
            biased;
            Some(fetched) = self.fetched.recv() => News::Fetched(fetched),
            Some(output) = self.outputs.recv() => News::Output(output),
            // The membership itself holds a sender of the first, the pool one of the second.
            else => std::future::pending().await,
        }
    }

    /// Takes in what came.
    pub(crate) async fn take(&mut self, news: News) {
        match news {
            News::Fetched(fetched) if fetched.attempt == self.attempt => {
                self.fetched(fetched.step, fetched.flat).await;
            }
            News::Fetched(_) => {}
            News::Output(output) => self.output(output).await,
        }
    }

    /// What the coordinator said of this run.
    pub(crate) fn heard(&mut self, message: Message) -> Result<(), WorkerError> {
        match message {
            Message::Committed(committed) => {
                self.committed = Some(committed.step);
                // Nobody computes with older ones any more.
                let wanted = self.fetching.split_off(&committed.step);
                std::mem::replace(&mut self.fetching, wanted).into_values().for_each(|fetch| fetch.abort());
                self.ask_for(committed.step);
                if let Some(flat) = self.early.remove(&committed.step) {
                    // Through the queue, so that there is one way to take parameters over.
                    _ = self.fetches.send(Fetched { step: committed.step, attempt: self.attempt, flat: Ok(flat) });
                }
                self.early.retain(|step, _| *step > committed.step);
            }
            Message::Lease(lease) => {
                let lease = Lease::try_from(lease).map_err(|error| nonsense("a lease", error.to_string()))?;
                self.pool.add(lease);
                if lease.work == convoy_scheduler::Work::Train {
                    // Chunks of the next parameters are sent as soon as they are made.
                    self.ask_for(lease.at.step.0 + 1);
                }
            }
            Message::Revoke(revoke) => {
                if let Some(at) = revoke.at {
                    self.pool.revoke(at.into());
                }
            }
            Message::Abandoned(abandoned) => self.abandon(abandoned.step),
            Message::Welcome(_) | Message::Assigned(_) | Message::Released(_) | Message::Goodbye(_) => {}
        }
        Ok(())
    }

    fn ask_for(&mut self, step: u64) {
        if self.fetching.contains_key(&step) || self.newest.is_some_and(|newest| newest >= step) {
            return;
        }
        let request = v1::ParametersRequest { worker: self.worker, job: self.job, generation: self.generation, step };
        let fetch = parameters::fetch(self.bulk.clone(), request, self.pool.buffer());
        let (fetches, attempt) = (self.fetches.clone(), self.attempt);
        let fetch = async move { _ = fetches.send(Fetched { step, attempt, flat: fetch.await }) };
        let fetch = tokio::spawn(fetch);
        self.fetching.insert(step, fetch.abort_handle());
    }

    /// What came of the parameters of `step` and later ones is nothing worth.
    fn abandon(&mut self, step: u64) {
        self.attempt += 1;
        self.early.retain(|early, _| *early < step);
        // Those of the committed step may be among them: they are asked for again.
        let asked: Vec<u64> = std::mem::take(&mut self.fetching)
            .into_iter()
            .map(|(step, fetch)| {
                fetch.abort();
                step
            })
            .collect();
        self.newest = self.newest.map(|newest| newest.min(step.saturating_sub(1)));
        asked.into_iter().filter(|asked| *asked < step).for_each(|asked| self.ask_for(asked));
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
                self.say(v1::worker_message::Message::Ready(v1::Ready { job: self.job, step })).await;
            }
            Ok(_) => {}
            Err(status) => {
                tracing::debug!(step, %status, "parameters did not come");
                if step == committed {
                    tokio::time::sleep(PAUSE).await;
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
                let failed = v1::LeaseFailed { job: self.job, at: Some(at.into()), failure, reason };
                self.say(v1::worker_message::Message::LeaseFailed(failed)).await;
            }
        }
    }

    fn send_node(&self, computed: Computed) {
        let (bulk, pool, worker, job) = (self.bulk.clone(), self.pool.clone(), self.worker, self.job);
        let (outbox, at) = (self.outbox.clone(), computed.lease.at);
        let pushes = self.pushes.clone();
        tokio::spawn(async move {
            // Never closed.
            let _turn = pushes.acquire_owned().await;
            let begun = Instant::now();
            let (reply, gradient) = push::push(bulk, worker, job, computed).await;
            stages::over("upload", at.step, begun);
            gradient.into_iter().for_each(|gradient| pool.recycle(gradient));
            match reply {
                Ok(ignored) if ignored.is_empty() => {}
                Ok(ignored) => tracing::debug!(%at, ignored, "node ignored"),
                Err(status) => {
                    tracing::warn!(%at, %status, "a node did not get through");
                    let (failure, reason) = (v1::Failure::Internal.into(), status.message().to_owned());
                    let failed = v1::LeaseFailed { job, at: Some(at.into()), failure, reason };
                    let message = v1::worker_message::Message::LeaseFailed(failed);
                    _ = outbox.send(v1::WorkerMessage { message: Some(message) }).await;
                }
            }
        });
    }

    async fn say(&self, message: v1::worker_message::Message) {
        _ = self.outbox.send(v1::WorkerMessage { message: Some(message) }).await;
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.fetching.values().for_each(AbortHandle::abort);
    }
}

fn nonsense(what: &'static str, reason: String) -> WorkerError {
    WorkerError::Nonsense { what, reason }
}

async fn fetch_plan(client: &mut CoordinatorClient<Channel>, set_up: &SetUp) -> Result<(Plan, Manifest), OpenError> {
    let request = v1::PlanRequest { worker: set_up.worker, job: set_up.job, generation: set_up.generation };
    let mut pieces = client.plan(request).await?.into_inner();
    let (mut plan, mut manifest) = (Vec::new(), Vec::new());
    while let Some(piece) = pieces.message().await? {
        plan.extend_from_slice(&piece.plan);
        manifest.extend_from_slice(&piece.manifest);
    }
    let plan: Plan = serde_json::from_slice(&plan).map_err(|error| nonsense("a plan", error.to_string()))?;
    let manifest: Manifest =
        serde_json::from_slice(&manifest).map_err(|error| nonsense("a manifest", error.to_string()))?;
    if manifest.digest() != plan.manifest {
        let reason = "it does not have the digest that the plan names".to_owned();
        return Err(nonsense("a manifest", reason).into());
    }
    Ok((plan, manifest))
}
