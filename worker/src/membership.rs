//! A worker's part in one run: fetch plan and data, compute leases, send nodes.

use std::path::PathBuf;
use std::sync::Arc;

use convoy_common::manifest::Manifest;
use convoy_common::spec::CPU_BF16_V1;
use convoy_common::{Digest, Plan};
use convoy_kernels::bf16;
use convoy_kernels::cpu::{self, Level};
use convoy_model::{Network, ParameterFormat};
use convoy_nn::{ComputeError, Device};
use convoy_proto::channel::PLAN_LIMIT;
use convoy_proto::v1;
use convoy_proto::v1::coordinator_client::CoordinatorClient;
use convoy_proto::v1::coordinator_message::Message;
use convoy_reduce::{FrozenChunks, StepRules};
use convoy_scheduler::{Lease, Work};
use tokio::sync::mpsc;
use tonic::transport::Channel;

use crate::arrival::Arrival;
use crate::assignment::Assignment;
use crate::compute::ComputePool;
use crate::disk_cache::DiskCache;
use crate::error::WorkerError;
use crate::exchange::{ExchangeOnDemand, ExchangeParts};
use crate::lease_work::LeaseFailure;
use crate::machine_memory::{memory_for, threads_that_fit};
use crate::node_parts::NodeSender;
use crate::open_error::OpenError;
use crate::outbox::Outbox;
use crate::parameter_checks::WrongParameters;
use crate::parameters::{Fetched, ParameterFetches};
use crate::peer_end::PeerEnd;
use crate::peer_probes::PeerProbes;
use crate::push::{NodePushes, failure_message};
use crate::run_data::RunData;
use crate::run_files::{Fetching, RunFiles};
use crate::shards::Shards;
use crate::step_parameters::StepParameters;

/// What a membership begins with.
#[derive(Debug)]
pub(crate) struct SetUp {
    pub(crate) assignment: Assignment,
    pub(crate) threads: usize,
    pub(crate) device: Device,
    /// Bytes of memory that it may take.
    pub(crate) most_memory: Option<u64>,
    /// Data of an earlier membership; used again where the plan is the same.
    pub(crate) data: Option<Arc<RunData>>,
    pub(crate) cache: Option<Arc<DiskCache>>,
    pub(crate) sees: Option<PathBuf>,
    pub(crate) outbox: Outbox,
    pub(crate) peers: Arc<PeerEnd>,
}

/// What a membership waits for.
#[derive(Debug)]
pub(crate) enum Progress {
    /// A lease could not be done.
    Failed(LeaseFailure),
    /// Parameters came, or did not.
    Parameters(Fetched),
}

/// One membership. It ends when it is dropped: leases in work are thrown away, nodes that are computed still arrive.
pub(crate) struct Membership {
    assignment: Assignment,
    client: CoordinatorClient<Channel>,
    outbox: Outbox,
    data: Arc<RunData>,
    /// Shards that it computes at a time.
    threads: u32,
    /// Keeps files coming.
    _fetching: Option<Fetching>,
    pool: ComputePool,
    failures: mpsc::UnboundedReceiver<LeaseFailure>,
    parameters: ParameterFetches,
    pushes: NodePushes,
    peers: PeerProbes,
    exchange: ExchangeOnDemand,
}

impl Membership {
    /// Fetches plan and manifest through `client`, opens the data and starts the threads that compute.
    ///
    /// # Errors
    /// When the coordinator has no such run, the plan does not fit this worker, or the data cannot be opened.
    pub(crate) async fn open(set_up: SetUp, mut client: CoordinatorClient<Channel>) -> Result<Membership, OpenError> {
        let SetUp { assignment, threads, device, most_memory, data, cache, sees, outbox, peers } = set_up;
        let (plan, manifest) = fetch_plan(&mut client, assignment, memory_for(most_memory)).await?;
        let data = data.filter(|data| data.plan() == plan.digest());
        // Opening the data may want files already.
        let files = match &data {
            Some(data) => data.remote().cloned(),
            None => Some(Arc::new(RunFiles::new(&manifest, sees, cache))),
        };
        let _fetching = files.as_ref().map(|files| files.fetch_from(client.clone(), assignment));
        let (sender, failures) = mpsc::unbounded_channel();
        let failures_of_pushes = sender.clone();
        let adds = peers.listens();
        let opening = RunOpening { plan, manifest, data, files, device, threads, most_memory, adds, failures: sender };
        let opened = tokio::task::spawn_blocking(move || opening.open());
        let opened = opened.await.map_err(|error| OpenError::Unreachable(error.to_string()))?;
        let OpenedRun { data, pool, threads: fitting, plan, network, format, frozen, changes } = opened?;
        if fitting < threads {
            tracing::warn!(fitting, wanted = threads, "there is not the memory for all threads");
        }
        let pushes = NodePushes::new(client.clone(), assignment, outbox.clone(), failures_of_pushes);
        let exchange = ExchangeOnDemand::new(ExchangeParts {
            assignment,
            plan,
            network: network.clone(),
            format: format.clone(),
            client: client.clone(),
            outbox: outbox.clone(),
            workers: peers.workers.clone(),
            pushes: pushes.clone(),
        });
        let arrival = Arrival { buffers: pool.buffers().clone(), format: format.clone(), frozen, changes };
        let digest = Arc::new(move |flat: &[f32]| format.digest(&network, flat));
        let parameters = ParameterFetches::new(client.clone(), assignment, arrival, digest);
        let peers = PeerProbes::new(peers, assignment.job, outbox.clone());
        let threads = fitting as u32;
        Ok(Membership {
            assignment,
            client,
            outbox,
            data,
            threads,
            _fetching,
            pool,
            failures,
            parameters,
            pushes,
            peers,
            exchange,
        })
    }

    /// Tells the coordinator that this worker is ready to be a member.
    pub(crate) async fn join(&self) {
        let Assignment { job, generation, .. } = self.assignment;
        self.outbox
            .say(v1::worker_message::Message::Joined(v1::Joined { job, generation, threads: self.threads }))
            .await;
        tracing::info!(
            job,
            threads = self.threads,
            elements = self.pool.buffers().elements(),
            "data and network are ready; joined the run"
        );
    }

    /// Hands a line of this worker's log on.
    pub(crate) async fn log(&self, line: String) {
        self.outbox.say(v1::worker_message::Message::Log(v1::Log { job: self.assignment.job, line })).await;
    }

    /// The job whose run it is.
    pub(crate) fn job(&self) -> u64 {
        self.assignment.job
    }

    /// The run's data, for a later membership.
    pub(crate) fn data(&self) -> Arc<RunData> {
        self.data.clone()
    }

    /// The connection for bulk data, for a later membership.
    pub(crate) fn client(&self) -> CoordinatorClient<Channel> {
        self.client.clone()
    }

    /// Waits for a lease to fail or parameters to come; parameters go first.
    pub(crate) async fn next(&mut self) -> Progress {
        tokio::select! {
            biased;
            fetched = self.parameters.next() => Progress::Parameters(fetched),
            // The pool holds a sender.
            Some(failed) = self.failures.recv() => Progress::Failed(failed),
        }
    }

    /// Carries on with what [`Membership::next`] gave.
    ///
    /// # Errors
    /// When this machine's memory does not hold parameters as they come.
    pub(crate) async fn take(&mut self, progress: Progress) -> Result<(), WorkerError> {
        match progress {
            Progress::Parameters(fetched) => {
                if let Some(StepParameters { step, flat }) = self.parameters.take(fetched)? {
                    self.pool.set_parameters(step, flat);
                    let ready = v1::Ready { job: self.assignment.job, step: step.0 };
                    self.outbox.say(v1::worker_message::Message::Ready(ready)).await;
                }
                if let Some(WrongParameters { step, workers }) = self.parameters.misserved() {
                    let (job, workers) = (self.assignment.job, workers.into_iter().map(|worker| worker.0).collect());
                    let wrong = v1::WrongParameters { job, step, workers };
                    self.outbox.say(v1::worker_message::Message::WrongParameters(wrong)).await;
                }
                if self.parameters.were_wrong()
                    && let Some(exchange) = self.exchange.begun()
                {
                    exchange.doubt_states();
                }
            }
            Progress::Failed(failed) => {
                tracing::warn!(at = %failed.at, reason = failed.reason, "a lease failed");
                // Where its node did not get through, it may still be computed.
                self.pool.revoke(failed.at);
                self.outbox.say(failure_message(self.assignment, failed)).await;
            }
        }
        Ok(())
    }

    /// Where the node of a lease goes as it is computed; of some only digests are wanted.
    fn way_of(&self, lease: Lease, digests: bool) -> NodeSender {
        let version = self.exchange.version();
        if digests {
            return self.pushes.begin_digests(lease, version);
        }
        self.exchange.node(lease).unwrap_or_else(|| self.pushes.begin(lease, version))
    }

    /// Carries on with a message of the coordinator about this run.
    ///
    /// # Errors
    /// When the message breaks the protocol.
    pub(crate) fn heard(&mut self, message: Message) -> Result<(), WorkerError> {
        match message {
            Message::Committed(committed) => {
                let digest = match &committed.digest[..] {
                    [] => None,
                    bytes => Some(Digest(bytes.try_into().map_err(|error| WorkerError::nonsense("a digest", error))?)),
                };
                if let Some(exchange) = self.exchange.begun() {
                    exchange.committed(committed.step);
                }
                self.parameters.commit(committed.step, digest);
            }
            Message::Owners(owners) => {
                let state = self.exchange.owners(owners)?;
                self.peers.end().join(state);
            }
            Message::StepOpened(opened) => {
                if let Some(exchange) = self.exchange.begun()
                    && let Some(step) = exchange.opened(opened)?
                {
                    self.parameters.ask_owners(step, exchange);
                }
            }
            Message::Lease(lease) => {
                let (wanted, lease) = (lease.digests, Lease::try_from(lease));
                let lease = lease.map_err(|error| WorkerError::nonsense("a lease", error))?;
                self.pool.add(lease, self.way_of(lease, wanted));
                if lease.work == Work::Train {
                    // Chunks of the next parameters are sent as soon as they are made.
                    self.parameters.ask_for(lease.at.step.0 + 1);
                }
            }
            Message::Revoke(revoke) => {
                if let Some(at) = revoke.at {
                    self.pool.revoke(at.into());
                    if let Some(exchange) = self.exchange.begun() {
                        exchange.revoke(at.into());
                    }
                }
            }
            Message::Abandoned(abandoned) => {
                if let Some(exchange) = self.exchange.begun() {
                    exchange.abandoned();
                }
                self.parameters.abandon(abandoned.step);
            }
            Message::Scales(_) | Message::KeptWanted(_) | Message::BroughtWanted(_) => {
                if let Some(exchange) = self.exchange.begun() {
                    exchange.heard(message, self.client.clone());
                }
            }
            Message::Peers(peers) => self.peers.heard(peers)?,
            Message::Welcome(_) | Message::Assigned(_) | Message::Released(_) | Message::Goodbye(_) => {}
        }
        Ok(())
    }
}

/// What a run is opened with, on a thread that may take its time.
struct RunOpening {
    plan: Plan,
    manifest: Manifest,
    data: Option<Arc<RunData>>,
    files: Option<Arc<RunFiles>>,
    device: Device,
    threads: usize,
    most_memory: Option<u64>,
    /// Whether it may add gradients for other workers.
    adds: bool,
    failures: mpsc::UnboundedSender<LeaseFailure>,
}

/// A run with its threads.
struct OpenedRun {
    data: Arc<RunData>,
    pool: ComputePool,
    threads: usize,
    plan: Arc<Plan>,
    network: Arc<Network>,
    format: Arc<ParameterFormat>,
    frozen: Arc<FrozenChunks>,
    /// Whether what a step changes may come alone.
    changes: bool,
}

impl RunOpening {
    fn open(self) -> Result<OpenedRun, WorkerError> {
        let RunOpening { plan, manifest, data, files, device, threads, most_memory, adds, failures } = self;
        device.fits(&plan.spec.numerics).map_err(|error| WorkerError::from(ComputeError::from(error)))?;
        check_bf16(&plan)?;
        let network = Network::of(&plan).map_err(|error| WorkerError::nonsense("a plan", error))?;
        let threads = match device {
            Device::Cpu => threads_that_fit(&plan, &network, threads, 1, most_memory, adds)?,
            Device::Cuda(_) => threads,
        };
        let data = match (data, files) {
            (Some(data), _) => data,
            (None, Some(files)) => Arc::new(RunData::fetched(&plan, manifest, files)?),
            (None, None) => unreachable!("data that is not there has files"),
        };
        let (plan, network) = (Arc::new(plan), Arc::new(network));
        let shards = Shards::new(plan.clone(), &data, threads)
            .map_err(|error| WorkerError::from(ComputeError::Thread(error.to_string())))?;
        let pool = ComputePool::start(&plan, &network, shards, (device, threads), failures)?;
        let format = Arc::new(ParameterFormat::of(&plan, &network));
        let frozen = Arc::new(FrozenChunks::of(&plan, &network));
        let changes = StepRules::new(plan.clone(), network.clone()).rounds_changes;
        Ok(OpenedRun { data, pool, threads, plan, network, format, frozen, changes })
    }
}

/// Where a run is of the class of bf16, looks whether this machine gives its bits, and says so where the class is made
/// for other CPUs than this one.
fn check_bf16(plan: &Plan) -> Result<(), WorkerError> {
    let level = cpu::level();
    if plan.spec.numerics != CPU_BF16_V1 {
        return Ok(());
    }
    if !bf16::gives_the_bits() {
        return Err(WorkerError::WrongBits { level: level.name() });
    }
    if level < Level::Amx {
        tracing::warn!(
            "this CPU has no AMX: one that has it computes cpu-bf16-v1 several times as fast, and gets more of the \
             shards; this one may be faster in cpu-f32-v1, as `convoy bench --numerics` shows"
        );
    }
    Ok(())
}

/// The plan and the manifest of a run, which have passed the checks that they pass when they are read from a disk. What
/// comes takes at most `there` bytes of memory.
async fn fetch_plan(
    client: &mut CoordinatorClient<Channel>,
    assignment: Assignment,
    there: Option<u64>,
) -> Result<(Plan, Manifest), OpenError> {
    let mut pieces = client.plan(assignment.plan()).await?.into_inner();
    let (mut plan, mut manifest) = (Vec::new(), Vec::new());
    while let Some(piece) = pieces.message().await? {
        plan.extend_from_slice(&piece.plan);
        manifest.extend_from_slice(&piece.manifest);
        if plan.len() > PLAN_LIMIT {
            let problem = format!("it has more than {} MiB", PLAN_LIMIT >> 20);
            return Err(WorkerError::nonsense("a plan", problem).into());
        }
        let need = manifest.len() as u64;
        if let Some(there) = there.filter(|there| need > *there) {
            return Err(WorkerError::Memory { need, there }.into());
        }
    }
    let plan = Plan::from_json(&plan).map_err(|error| WorkerError::nonsense("a plan", error))?;
    plan.check().map_err(|problem| WorkerError::nonsense("a plan", problem))?;
    let manifest = Manifest::from_bytes(&manifest).map_err(|error| WorkerError::nonsense("a manifest", error))?;
    if manifest.digest() != plan.manifest {
        return Err(WorkerError::nonsense("a manifest", "it does not have the digest that the plan names").into());
    }
    plan.fits(&manifest).map_err(|problem| WorkerError::nonsense("a plan", problem))?;
    Ok((plan, manifest))
}

#[cfg(test)]
mod tests;
