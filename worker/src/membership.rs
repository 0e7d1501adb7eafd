//! A worker's part in one run: fetch plan and data, compute leases, send nodes.

use std::path::PathBuf;
use std::sync::Arc;

use convoy_common::Plan;
use convoy_common::manifest::Manifest;
use convoy_model::Network;
use convoy_nn::{ComputeError, Device};
use convoy_proto::v1;
use convoy_proto::v1::coordinator_client::CoordinatorClient;
use convoy_proto::v1::coordinator_message::Message;
use convoy_scheduler::{Lease, Work};
use tokio::sync::mpsc;
use tonic::transport::Channel;

use crate::assignment::Assignment;
use crate::compute::ComputePool;
use crate::disk_cache::DiskCache;
use crate::error::WorkerError;
use crate::lease_work::LeaseResult;
use crate::open_error::OpenError;
use crate::outbox::Outbox;
use crate::parameters::{Fetched, ParameterFetches};
use crate::push::{NodePushes, failure_message};
use crate::run_data::RunData;
use crate::run_files::{Fetching, RunFiles};
use crate::shards::Shards;

/// What a membership begins with.
#[derive(Debug)]
pub(crate) struct SetUp {
    pub(crate) assignment: Assignment,
    pub(crate) threads: usize,
    pub(crate) device: Device,
    /// Data of an earlier membership; used again where the plan is the same.
    pub(crate) data: Option<Arc<RunData>>,
    pub(crate) cache: Option<Arc<DiskCache>>,
    pub(crate) sees: Option<PathBuf>,
    pub(crate) outbox: Outbox,
}

/// What a membership waits for.
#[derive(Debug)]
pub(crate) enum Progress {
    /// A lease is computed, or failed.
    Lease(LeaseResult),
    /// Parameters came, or did not.
    Parameters(Fetched),
}

/// One membership. It ends when it is dropped: leases in work are thrown away, nodes on their way still arrive.
pub(crate) struct Membership {
    assignment: Assignment,
    client: CoordinatorClient<Channel>,
    outbox: Outbox,
    data: Arc<RunData>,
    /// Keeps files coming.
    _fetching: Option<Fetching>,
    pool: ComputePool,
    results: mpsc::UnboundedReceiver<LeaseResult>,
    parameters: ParameterFetches,
    pushes: NodePushes,
}

impl Membership {
    /// Fetches plan and manifest through `client`, opens the data and starts the threads that compute.
    ///
    /// # Errors
    /// When the coordinator has no such run, the plan does not fit this worker, or the data cannot be opened.
    pub(crate) async fn open(set_up: SetUp, mut client: CoordinatorClient<Channel>) -> Result<Membership, OpenError> {
        let SetUp { assignment, threads, device, data, cache, sees, outbox } = set_up;
        let (plan, manifest) = fetch_plan(&mut client, assignment).await?;
        let data = data.filter(|data| data.plan() == plan.digest());
        // Opening the data may want files already.
        let files = match &data {
            Some(data) => data.remote().cloned(),
            None => Some(Arc::new(RunFiles::new(&manifest, sees, cache))),
        };
        let _fetching = files.as_ref().map(|files| files.fetch_from(client.clone(), assignment));
        let (sender, results) = mpsc::unbounded_channel();
        let opened = tokio::task::spawn_blocking(move || {
            device.fits(&plan.spec.numerics).map_err(|error| WorkerError::from(ComputeError::from(error)))?;
            let network = Network::of(&plan).map_err(|error| WorkerError::nonsense("a plan", error))?;
            let data = match (data, files) {
                (Some(data), _) => data,
                (None, Some(files)) => Arc::new(RunData::fetched(&plan, manifest, files)?),
                (None, None) => unreachable!("data that is not there has files"),
            };
            let (plan, network) = (Arc::new(plan), Arc::new(network));
            let shards = Shards::new(plan.clone(), &data, threads)
                .map_err(|error| WorkerError::from(ComputeError::Thread(error.to_string())))?;
            let pool = ComputePool::start(&plan, &network, shards, (device, threads), sender)?;
            Ok::<_, WorkerError>((data, pool))
        });
        let opened = opened.await.map_err(|error| OpenError::Unreachable(error.to_string()))?;
        let (data, pool) = opened?;
        let buffers = pool.buffers();
        let parameters = ParameterFetches::new(client.clone(), assignment, buffers.clone());
        let pushes = NodePushes::new(client.clone(), assignment, outbox.clone(), buffers.clone());
        Ok(Membership { assignment, client, outbox, data, _fetching, pool, results, parameters, pushes })
    }

    /// Tells the coordinator that this worker is ready to be a member.
    pub(crate) async fn join(&self) {
        let Assignment { job, generation, .. } = self.assignment;
        self.outbox.say(v1::worker_message::Message::Joined(v1::Joined { job, generation })).await;
        tracing::info!(job, elements = self.pool.buffers().elements(), "data and network are ready; joined the run");
    }

    /// Hands a line of this worker's log on.
    pub(crate) async fn log(&self, line: String) {
        self.outbox.say(v1::worker_message::Message::Log(v1::Log { job: self.assignment.job, line })).await;
    }

    /// The run's data, for a later membership.
    pub(crate) fn data(&self) -> Arc<RunData> {
        self.data.clone()
    }

    /// The connection for bulk data, for a later membership.
    pub(crate) fn client(&self) -> CoordinatorClient<Channel> {
        self.client.clone()
    }

    /// Waits for a lease to be done or parameters to come; parameters go first.
    pub(crate) async fn next(&mut self) -> Progress {
        tokio::select! {
            biased;
            fetched = self.parameters.next() => Progress::Parameters(fetched),
            // The pool holds a sender.
            Some(result) = self.results.recv() => Progress::Lease(result),
        }
    }

    /// Carries on with what [`Membership::next`] gave.
    pub(crate) async fn take(&mut self, progress: Progress) {
        match progress {
            Progress::Parameters(fetched) => {
                if let Some((step, flat)) = self.parameters.take(fetched) {
                    self.pool.set_parameters(step, flat);
                    let ready = v1::Ready { job: self.assignment.job, step: step.0 };
                    self.outbox.say(v1::worker_message::Message::Ready(ready)).await;
                }
            }
            Progress::Lease(LeaseResult::Done(node)) => self.pushes.send(node),
            Progress::Lease(LeaseResult::Failed(failed)) => {
                tracing::warn!(at = %failed.at, reason = failed.reason, "a lease failed");
                self.outbox.say(failure_message(self.assignment, failed)).await;
            }
        }
    }

    /// Carries on with a message of the coordinator about this run.
    ///
    /// # Errors
    /// When the message breaks the protocol.
    pub(crate) fn heard(&mut self, message: Message) -> Result<(), WorkerError> {
        match message {
            Message::Committed(committed) => self.parameters.commit(committed.step),
            Message::Lease(lease) => {
                let lease = Lease::try_from(lease).map_err(|error| WorkerError::nonsense("a lease", error))?;
                self.pool.add(lease);
                if lease.work == Work::Train {
                    // Chunks of the next parameters are sent as soon as they are made.
                    self.parameters.ask_for(lease.at.step.0 + 1);
                }
            }
            Message::Revoke(revoke) => {
                if let Some(at) = revoke.at {
                    self.pool.revoke(at.into());
                }
            }
            Message::Abandoned(abandoned) => self.parameters.abandon(abandoned.step),
            Message::Welcome(_) | Message::Assigned(_) | Message::Released(_) | Message::Goodbye(_) => {}
        }
        Ok(())
    }
}

/// The plan and the manifest of a run.
async fn fetch_plan(
    client: &mut CoordinatorClient<Channel>,
    assignment: Assignment,
) -> Result<(Plan, Manifest), OpenError> {
    let mut pieces = client.plan(assignment.plan()).await?.into_inner();
    let (mut plan, mut manifest) = (Vec::new(), Vec::new());
    while let Some(piece) = pieces.message().await? {
        plan.extend_from_slice(&piece.plan);
        manifest.extend_from_slice(&piece.manifest);
    }
    let plan = Plan::from_json(&plan).map_err(|error| WorkerError::nonsense("a plan", error))?;
    let manifest = Manifest::from_bytes(&manifest).map_err(|error| WorkerError::nonsense("a manifest", error))?;
    if manifest.digest() != plan.manifest {
        return Err(WorkerError::nonsense("a manifest", "it does not have the digest that the plan names").into());
    }
    Ok((plan, manifest))
}

#[cfg(test)]
mod tests;
