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
use crate::machine_memory::{adding_fits, memory_for, threads_that_fit};
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
    /// `None` where it computes nothing: it only adds for others.
    computing: Option<Computing>,
    failures: mpsc::UnboundedReceiver<LeaseFailure>,
    pushes: NodePushes,
    peers: PeerProbes,
    exchange: ExchangeOnDemand,
}

/// What a member has that computes.
struct Computing {
    data: Arc<RunData>,
    /// Shards that it computes at a time.
    threads: u32,
    /// Keeps files coming.
    _fetching: Option<Fetching>,
    pool: ComputePool,
    parameters: ParameterFetches,
}

impl Membership {
    /// Fetches plan and manifest through `client`, opens the data and starts the threads that compute, if it is to
    /// compute.
    ///
    /// # Errors
    /// When the coordinator has no such run, the plan does not fit this worker, or the data cannot be opened.
    pub(crate) async fn open(set_up: SetUp, mut client: CoordinatorClient<Channel>) -> Result<Membership, OpenError> {
        let SetUp { assignment, threads, device, most_memory, data, cache, sees, outbox, peers } = set_up;
        let (plan, manifest) = fetch_plan(&mut client, assignment, memory_for(most_memory)).await?;
        let data = data.filter(|data| data.plan() == plan.digest());
        // Opening the data may want files already.
        let files = match &data {
            _ if threads == 0 => None,
            Some(data) => data.remote().cloned(),
            None => Some(Arc::new(RunFiles::new(&manifest, sees, cache))),
        };
        let fetching = files.as_ref().map(|files| files.fetch_from(client.clone(), assignment));
        let (sender, failures) = mpsc::unbounded_channel();
        let failures_of_pushes = sender.clone();
        let adds = peers.listens();
        let plan = Arc::new(plan);
        let opening = RunOpening { plan, manifest, data, files, device, threads, most_memory, adds, failures: sender };
        let opened = tokio::task::spawn_blocking(move || opening.open());
        let opened = opened.await.map_err(|error| OpenError::Unreachable(error.to_string()))?;
        let OpenedRun { threads: fitting, plan, network, format, frozen, changes } = opened?;
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
            computes: threads > 0,
        });
        let computing = fitting.map(|OpenedThreads { data, pool, threads: fitting }| {
            if fitting < threads {
                tracing::warn!(fitting, wanted = threads, "there is not the memory for all threads");
            }
            let arrival = Arrival { buffers: pool.buffers().clone(), format: format.clone(), frozen, changes };
            let digest = Arc::new(move |flat: &[f32]| format.digest(&network, flat));
            let parameters = ParameterFetches::new(client.clone(), assignment, arrival, digest);
            Computing { data, threads: fitting as u32, _fetching: fetching, pool, parameters }
        });
        let peers = PeerProbes::new(peers, assignment.job, outbox.clone());
        Ok(Membership { assignment, client, outbox, computing, failures, pushes, peers, exchange })
    }

    /// Tells the coordinator that this worker is ready to be a member.
    pub(crate) async fn join(&self) {
        let Assignment { job, generation, .. } = self.assignment;
        let threads = self.computing.as_ref().map_or(0, |computing| computing.threads);
        self.outbox.say(v1::worker_message::Message::Joined(v1::Joined { job, generation, threads })).await;
        match &self.computing {
            Some(Computing { pool, .. }) => {
                let elements = pool.buffers().elements();
                tracing::info!(job, threads, elements, "data and network are ready; joined the run");
            }
            None => tracing::info!(job, "joined the run, to add for others"),
        }
    }

    /// Hands a line of this worker's log on.
    pub(crate) async fn log(&self, line: String) {
        self.outbox.say(v1::worker_message::Message::Log(v1::Log { job: self.assignment.job, line })).await;
    }

    /// The job whose run it is.
    pub(crate) fn job(&self) -> u64 {
        self.assignment.job
    }

    /// The run's data, for a later membership, if this one computes.
    pub(crate) fn data(&self) -> Option<Arc<RunData>> {
        self.computing.as_ref().map(|computing| computing.data.clone())
    }

    /// The connection for bulk data, for a later membership.
    pub(crate) fn client(&self) -> CoordinatorClient<Channel> {
        self.client.clone()
    }

    /// Waits for a lease to fail or parameters to come; parameters go first.
    pub(crate) async fn next(&mut self) -> Progress {
        let Membership { computing, failures, .. } = self;
        let fetched = async {
            match computing {
                Some(computing) => computing.parameters.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            fetched = fetched => Progress::Parameters(fetched),
            // What sends nodes holds a sender.
            Some(failed) = failures.recv() => Progress::Failed(failed),
        }
    }

    /// Carries on with what [`Membership::next`] gave.
    ///
    /// # Errors
    /// When this machine's memory does not hold parameters as they come.
    pub(crate) async fn take(&mut self, progress: Progress) -> Result<(), WorkerError> {
        // Who computes nothing has asked for nothing.
        let Some(Computing { pool, parameters, .. }) = &mut self.computing else { return Ok(()) };
        match progress {
            Progress::Parameters(fetched) => {
                if let Some(StepParameters { step, flat }) = parameters.take(fetched)? {
                    pool.set_parameters(step, flat);
                    let ready = v1::Ready { job: self.assignment.job, step: step.0 };
                    self.outbox.say(v1::worker_message::Message::Ready(ready)).await;
                }
                if let Some(WrongParameters { step, workers }) = parameters.misserved() {
                    let (job, workers) = (self.assignment.job, workers.into_iter().map(|worker| worker.0).collect());
                    let wrong = v1::WrongParameters { job, step, workers };
                    self.outbox.say(v1::worker_message::Message::WrongParameters(wrong)).await;
                }
                if parameters.were_wrong()
                    && let Some(exchange) = self.exchange.begun()
                {
                    exchange.doubt_states();
                }
            }
            Progress::Failed(failed) => {
                tracing::warn!(at = %failed.at, reason = failed.reason, "a lease failed");
                // Where its node did not get through, it may still be computed.
                pool.revoke(failed.at);
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

    fn lent(&mut self, lease: v1::Lease) -> Result<(), WorkerError> {
        let (wanted, lease) = (lease.digests, Lease::try_from(lease));
        let lease = lease.map_err(|error| WorkerError::nonsense("a lease", error))?;
        let way = self.way_of(lease, wanted);
        let Some(Computing { pool, parameters, .. }) = &mut self.computing else {
            return Err(WorkerError::nonsense("a lease", "this worker computes nothing, as it has said"));
        };
        pool.add(lease, way);
        if lease.work == Work::Train {
            // Chunks of the next parameters are sent as soon as they are made.
            parameters.ask_for(lease.at.step.0 + 1);
        }
        Ok(())
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
                if let Some(Computing { parameters, .. }) = &mut self.computing {
                    parameters.commit(committed.step, digest);
                }
            }
            Message::Owners(owners) => {
                let state = self.exchange.owners(owners)?;
                self.peers.end().join(state);
            }
            Message::StepOpened(opened) => {
                if let Some(exchange) = self.exchange.begun()
                    && let Some(step) = exchange.opened(opened)?
                    && let Some(Computing { parameters, .. }) = &mut self.computing
                {
                    parameters.ask_owners(step, exchange);
                }
            }
            Message::Lease(lease) => self.lent(lease)?,
            Message::Revoke(revoke) => {
                if let Some(at) = revoke.at {
                    if let Some(Computing { pool, .. }) = &self.computing {
                        pool.revoke(at.into());
                    }
                    if let Some(exchange) = self.exchange.begun() {
                        exchange.revoke(at.into());
                    }
                }
            }
            Message::Abandoned(abandoned) => {
                if let Some(exchange) = self.exchange.begun() {
                    exchange.abandoned();
                }
                if let Some(Computing { parameters, .. }) = &mut self.computing {
                    parameters.abandon(abandoned.step);
                }
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
    plan: Arc<Plan>,
    manifest: Manifest,
    data: Option<Arc<RunData>>,
    files: Option<Arc<RunFiles>>,
    device: Device,
    /// 0 where nothing is computed.
    threads: usize,
    most_memory: Option<u64>,
    /// Whether it may add gradients for other workers.
    adds: bool,
    failures: mpsc::UnboundedSender<LeaseFailure>,
}

/// A run, with threads unless nothing is to be computed.
struct OpenedRun {
    threads: Option<OpenedThreads>,
    plan: Arc<Plan>,
    network: Arc<Network>,
    format: Arc<ParameterFormat>,
    frozen: Arc<FrozenChunks>,
    /// Whether what a step changes may come alone.
    changes: bool,
}

/// What computes.
struct OpenedThreads {
    data: Arc<RunData>,
    pool: ComputePool,
    threads: usize,
}

impl RunOpening {
    fn open(self) -> Result<OpenedRun, WorkerError> {
        let network = Network::of(&self.plan).map_err(|error| WorkerError::nonsense("a plan", error))?;
        let (plan, network) = (self.plan.clone(), Arc::new(network));
        let format = Arc::new(ParameterFormat::of(&plan, &network));
        let frozen = Arc::new(FrozenChunks::of(&plan, &network));
        let threads = match self.threads {
            0 => {
                // What is added, and the optimizer's step, is the same in every class and on every device.
                adding_fits(&plan, &network, self.most_memory)?;
                None
            }
            _ => Some(self.threads(&plan, &network)?),
        };
        let changes = StepRules::new(plan.clone(), network.clone()).rounds_changes;
        Ok(OpenedRun { threads, plan, network, format, frozen, changes })
    }

    fn threads(self, plan: &Arc<Plan>, network: &Arc<Network>) -> Result<OpenedThreads, WorkerError> {
        let RunOpening { manifest, data, files, device, threads, most_memory, adds, failures, .. } = self;
        device.fits(&plan.spec.numerics).map_err(|error| WorkerError::from(ComputeError::from(error)))?;
        check_bf16(plan)?;
        let threads = match device {
            Device::Cpu => threads_that_fit(plan, network, threads, 1, most_memory, adds)?,
            Device::Cuda(_) => threads,
        };
        let data = match (data, files) {
            (Some(data), _) => data,
            (None, Some(files)) => Arc::new(RunData::fetched(plan, manifest, files)?),
            (None, None) => unreachable!("data that is not there has files"),
        };
        let shards = Shards::new(plan.clone(), &data, threads)
            .map_err(|error| WorkerError::from(ComputeError::Thread(error.to_string())))?;
        let pool = ComputePool::start(plan, network, shards, (device, threads), failures)?;
        Ok(OpenedThreads { data, pool, threads })
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
