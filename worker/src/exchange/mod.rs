//! A worker's part in the exchange of chunks: it sends what it computes to whoever owns a chunk, adds what others send
//! of the chunks that it owns itself, and puts the next parameters together from what the owners make.
//!
//! Which step is open and who owns what the coordinator tells ([`told`]). Recovery is one rule: whatever the present
//! owner has not said to have is sent to it.

mod audits;
mod exchange_state;
mod kept;
mod links;
mod on_demand;
mod owner;
mod owner_news;
mod peer_calls;
mod slices;
mod told;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use convoy_common::Plan;
use convoy_model::{Network, ParameterFormat};
use convoy_nn::ComputeError;
use convoy_proto::v1;
use convoy_proto::v1::coordinator_client::CoordinatorClient;
use convoy_proto::v1::coordinator_message::Message as CoordinatorMessage;
use convoy_proto::{chunk_count, v1::worker_message::Message};
use convoy_reduce::{Magnitude, ParameterBoard, Scales, StepRules};
use convoy_scheduler::{Lease, LeaseRef, Opening, OwnersVersion, WorkerId};
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tonic::transport::Channel;

pub(crate) use exchange_state::ExchangeState;
pub(crate) use on_demand::ExchangeOnDemand;
pub(crate) use peer_calls::{FindExchange, IncomingChunks, slices};
pub(crate) use slices::SlicesFetch;

use kept::{DeliveredNode, KeptNodes};
use owner::{OwnerCommand, OwnerThread};
use owner_news::OwnerMessenger;
use told::{Telling, ToldStep};

use crate::arrival::Arrival;
use crate::assignment::Assignment;
use crate::error::WorkerError;
use crate::held_parameters::StepBefore;
use crate::known_workers::KnownWorkers;
use crate::node_parts::{NodePart, NodeParts, NodeSender, node_parts};
use crate::outbox::Outbox;
use crate::push::{NodePushes, tell_computed};
use crate::step_parameters::CommittedStep;

/// Before the coordinator is told again of a node that it did not take.
const AGAIN: Duration = Duration::from_millis(500);
/// How often it is looked whether owners take what they are sent.
const LOOK: Duration = Duration::from_millis(200);

/// What an exchange begins with.
#[derive(Clone)]
pub(crate) struct ExchangeParts {
    pub(crate) assignment: Assignment,
    pub(crate) plan: Arc<Plan>,
    pub(crate) network: Arc<Network>,
    pub(crate) format: Arc<ParameterFormat>,
    pub(crate) client: CoordinatorClient<Channel>,
    pub(crate) outbox: Outbox,
    pub(crate) workers: Arc<KnownWorkers>,
    pub(crate) pushes: NodePushes,
    /// Whether this worker computes nodes, which go to owners.
    pub(crate) computes: bool,
}

/// A worker's part in the exchange of a run. It begins when owners are told of for the first time, and is over when
/// this is dropped.
pub(crate) struct Exchange {
    state: Arc<ExchangeState>,
    telling: Telling,
    outbox: Outbox,
    /// The ways to owners.
    links: BTreeMap<WorkerId, AbortHandle>,
    tasks: Vec<AbortHandle>,
    elements: usize,
    computes: bool,
}

impl Exchange {
    /// Starts the thread that adds, and what carries its news. Nothing is open.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub(crate) fn begin(parts: ExchangeParts) -> Result<Self, WorkerError> {
        let ExchangeParts { assignment, plan, network, format, client, outbox, workers, pushes, computes } = parts;
        let elements = network.len();
        let rules = Arc::new(StepRules::new(plan, network));
        let board = Arc::new(ParameterBoard::empty(format));
        let (sender, news) = mpsc::unbounded_channel();
        let owner = OwnerThread::start(rules.clone(), WorkerId(assignment.worker), board.clone(), sender);
        let owner = Arc::new(owner.map_err(|error| WorkerError::from(ComputeError::Thread(error.to_string())))?);
        let kept = KeptNodes::new(chunk_count(elements), Arc::new(rules.frozen.clone()));
        let state = Arc::new(ExchangeState::new(assignment, workers, owner.clone(), board, kept, &rules));
        let messenger = OwnerMessenger { client, assignment, outbox: outbox.clone(), rules, owner };
        let tasks = [
            tokio::spawn(messenger.run(news)),
            tokio::spawn(exchange_state::add_own(state.clone())),
            tokio::spawn(tell_delivered(state.clone(), pushes)),
            tokio::spawn(look(state.clone(), outbox.clone())),
        ];
        let tasks = tasks.iter().map(|task| task.abort_handle()).collect();
        let (telling, links) = (Telling::default(), BTreeMap::new());
        Ok(Exchange { state, telling, outbox, links, tasks, elements, computes })
    }

    /// What others of this worker's process may ask of it.
    pub(crate) fn state(&self) -> &Arc<ExchangeState> {
        &self.state
    }

    /// Chunks have other owners from now on.
    ///
    /// # Errors
    /// When the message makes no sense.
    pub(crate) fn owners(&mut self, owners: v1::Owners) -> Result<(), WorkerError> {
        self.telling.owners(owners, chunk_count(self.elements))?;
        self.told();
        Ok(())
    }

    /// A training step is open. Where workers own its chunks, the answer is the step that it makes parameters of.
    ///
    /// # Errors
    /// When the message makes no sense.
    pub(crate) fn opened(&mut self, opened: v1::StepOpened) -> Result<Option<u64>, WorkerError> {
        self.telling.opened(opened)?;
        self.told();
        Ok(self.sliced().map(|told| told.step + 1))
    }

    fn scales(&self, scales: v1::Scales) {
        let v1::Scales { opening, gradient, statistics, .. } = scales;
        let (opening, scales) = (Opening(opening), Scales { gradient, statistics });
        self.state.owner.send(OwnerCommand::Scales { opening, scales });
    }

    /// The parameters of `step` are committed.
    pub(crate) fn committed(&mut self, step: u64) {
        if let Some(before) = step.checked_sub(1) {
            self.state.owner.send(OwnerCommand::Commit { step: before });
        }
        if self.telling.step().is_some_and(|told| told.step < step) {
            self.close();
        }
    }

    /// Parameters that owners made were wrong: it may be what this one has that is.
    pub(crate) fn doubt_states(&self) {
        self.state.owner.send(OwnerCommand::Forget);
    }

    /// The open step is given up.
    pub(crate) fn abandoned(&mut self) {
        self.state.owner.send(OwnerCommand::Abandon);
        self.close();
    }

    fn close(&mut self) {
        self.telling.closed();
        self.state.with_kept(KeptNodes::close);
    }

    /// Takes over what is told, where a step is open.
    fn told(&mut self) {
        let Some(told) = self.telling.step() else { return };
        self.state.owner.send(OwnerCommand::Open(told.clone()));
        let (me, owners) = (self.state.me(), told.owners());
        self.links.retain(|owner, link| {
            let stays = owners.contains(owner);
            if !stays {
                link.abort();
            }
            stays
        });
        self.state.with_kept(|kept| kept.open(told.clone(), Instant::now()));
        // Last: others are let in by it.
        self.state.told.send_replace(Some(told));
        self.state.note_change();
        for owner in owners.into_iter().filter(|owner| *owner != me && self.computes) {
            let link = || tokio::spawn(links::send_to(self.state.clone(), owner)).abort_handle();
            self.links.entry(owner).or_insert_with(link);
        }
    }

    /// The open step, where workers own its chunks.
    fn sliced(&self) -> Option<ToldStep> {
        self.telling.step().filter(ToldStep::is_sliced)
    }

    /// The version of the owners.
    pub(crate) fn version(&self) -> OwnersVersion {
        self.telling.version()
    }

    /// How the parameters that the open step makes come, if they are those of `step` and workers make them.
    pub(crate) fn fetch(
        &self,
        step: u64,
        client: CoordinatorClient<Channel>,
        arrival: Arrival,
        (held, before): (Option<Arc<Vec<f32>>>, StepBefore),
        committed: watch::Receiver<CommittedStep>,
    ) -> Option<SlicesFetch> {
        let told = self.sliced().filter(|told| told.step + 1 == step)?;
        Some(SlicesFetch { state: self.state.clone(), client, arrival, told, held, before: Some(before), committed })
    }

    /// Where the node of `lease` goes as it is computed, if its chunks go to workers.
    pub(crate) fn node(&self, lease: Lease) -> Option<NodeSender> {
        self.sliced().filter(|told| told.step == lease.at.step.0)?;
        let (sender, parts, computed) = node_parts();
        if !self.state.with_kept(|kept| kept.begin(lease)) {
            return None;
        }
        tokio::spawn(tell_computed(self.outbox.clone(), self.state.assignment().job, lease.at, computed));
        tokio::spawn(keep(self.state.clone(), lease, parts));
        Some(sender)
    }

    /// What scales the sums of the open step; or an audit asks for a chunk of all nodes that are kept, or for what this
    /// worker was brought as an owner. Other messages are not looked at.
    pub(crate) fn heard(&self, message: CoordinatorMessage, client: CoordinatorClient<Channel>) {
        let state = self.state.clone();
        match message {
            CoordinatorMessage::Scales(scales) => self.scales(scales),
            CoordinatorMessage::KeptWanted(wanted) => _ = tokio::spawn(audits::send_kept(state, client, wanted)),
            CoordinatorMessage::BroughtWanted(wanted) => _ = tokio::spawn(audits::tell_brought(state, client, wanted)),
            _ => {}
        }
    }

    /// Nobody wants the node of a lease any more.
    pub(crate) fn revoke(&self, at: LeaseRef) {
        self.state.with_kept(|kept| kept.drop_node(at.lease));
        self.state.note_change();
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.links.values().chain(&self.tasks).for_each(AbortHandle::abort);
    }
}

/// Keeps a node as its parts are made.
async fn keep(state: Arc<ExchangeState>, lease: Lease, mut parts: NodeParts) {
    let (id, mut worst) = (lease.at.lease, Magnitude::Good);
    loop {
        match parts.next().await {
            Some(NodePart::Chunk(index, values)) => {
                worst = worst.max(Magnitude::of(&values));
                let good = worst == Magnitude::Good;
                state.with_kept(|kept| kept.add(id, index, Arc::new(values), good.then(Instant::now)));
                state.note_change();
            }
            Some(NodePart::Computed(mut node)) => {
                node.absurd = worst == Magnitude::Absurd;
                if worst == Magnitude::NotFinite {
                    // Finite shards may have a sum that is not.
                    node.not_finite.get_or_insert(lease.node.first);
                }
                state.with_kept(|kept| kept.computed(id, node));
                return state.note_change();
            }
            None => {
                state.with_kept(|kept| kept.drop_node(id));
                return state.note_change();
            }
        }
    }
}

/// Tells the coordinator of nodes that are with their owners.
async fn tell_delivered(state: Arc<ExchangeState>, pushes: NodePushes) {
    let mut changed = state.changed();
    loop {
        for DeliveredNode { lease, version, computed, chunks } in state.with_kept(KeptNodes::delivered) {
            let telling = pushes.clone().delivered((lease, version), computed, chunks);
            let state = Arc::downgrade(&state);
            tokio::spawn(async move {
                if telling.await {
                    return;
                }
                tokio::time::sleep(AGAIN).await;
                if let Some(state) = state.upgrade() {
                    state.with_kept(|kept| kept.not_taken(lease.at.lease, version));
                    state.note_change();
                }
            });
        }
        if changed.changed().await.is_err() {
            return;
        }
    }
}

/// Looks whether owners take what they are sent, and says that bytes flow.
async fn look(state: Arc<ExchangeState>, outbox: Outbox) {
    let mut tick = tokio::time::interval(LOOK);
    loop {
        tick.tick().await;
        if let Some(flown) = state.flown() {
            outbox.say(Message::PeersTake(flown)).await;
        }
        let lost = state.with_kept(|kept| kept.lost(Instant::now()));
        for (version, owner, reason) in lost {
            tracing::warn!(%owner, reason, "an owner of chunks is lost");
            let (job, reason) = (state.assignment().job, reason.to_owned());
            let lost = v1::PeerLost { job, worker: owner.0, version: version.0, reason };
            outbox.say(Message::PeerLost(lost)).await;
        }
    }
}

#[cfg(test)]
mod tests;
