//! Carries out what the scheduler asks for. It decides nothing.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use convoy_common::Digest;
use convoy_proto::v1;
use convoy_proto::v1::brought_wanted::What;
use convoy_proto::v1::coordinator_message::Message;
use convoy_reduce::{ParameterBoard, ParameterState, Scales};
use convoy_scheduler::{
    Check, DisconnectReason, Effect, EvictionProof, Opening, Outbox, Owner, OwnersVersion, StepId, Work, WorkerId,
};
use tokio::time::timeout;

use super::brought_questions::{BroughtDigest, BroughtQuestions};
use super::checkpoint_writer::{CheckpointToWrite, CheckpointWriter};
use super::delivery::Delivery;
use super::folder::events::RunEvent;
use super::handle::RunHandle;
use super::leases::Leases;
use super::members::RunMembers;
use super::reduction::reducer_queue::{AuditAnswer, Command, ReducerQueue};
use super::run_log::RunLog;

/// So long workers may take to answer what an audit of sums asks, when nothing else is waited for.
const AUDITS: Duration = Duration::from_secs(10);

/// The outside of a run: its members, the reducer, checkpoints and the log.
pub(crate) struct EffectHandler {
    /// The run's workers.
    pub(crate) members: RunMembers,
    /// What people are told.
    pub(crate) log: RunLog,
    /// What the reducer is open for.
    pub(crate) opening: Option<Opening>,
    /// Sums of the step that waits for its commit.
    pub(crate) reduced: Vec<f64>,
    /// Digest of the committed parameters.
    pub(crate) digest: Digest,
    /// What workers are told of the exchange of chunks.
    exchange: ToldExchange,
    delivery: Arc<Delivery>,
    questions: Arc<BroughtQuestions>,
    reducer: ReducerQueue,
    leases: Arc<Leases>,
    board: Arc<ParameterBoard>,
    writer: CheckpointWriter,
}

impl Outbox for EffectHandler {
    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Record(_) => {}
            Effect::OpenStep { step, work, shards, opening } => self.open_step(step, work, shards, opening),
            Effect::Owners { version, of, why } => {
                tracing::info!(%version, %why, owners = Owner::workers_among(&of).len(), "chunks have other owners");
                self.change_owners(version, &of, why.opens_step());
            }
            Effect::AbandonStep { step, work, why } => {
                tracing::warn!(%step, %work, ?why, "step given up");
                self.abandon_step(step, work);
            }
            Effect::Send { worker, lease, check } => {
                self.leases.add(worker, lease, check);
                let digests = check == Check::Digest && lease.work == Work::Train && self.exchange.is_sliced();
                self.members.send(worker, Message::Lease(v1::Lease { digests, ..lease.into() }));
            }
            Effect::Revoke { worker, at, why } => {
                tracing::debug!(%worker, %at, ?why, "lease revoked");
                self.members.send(worker, Message::Revoke(v1::Revoke { at: Some(at.into()) }));
            }
            Effect::Disconnect { worker, why } => self.part_with(worker, why),
            Effect::Commit { step, digest } => self.commit(step, Digest(digest)),
            Effect::Checkpoint { step, reason, trusted } => {
                tracing::debug!(%step, ?reason, "checkpoint");
                self.checkpoint(step, trusted);
            }
            Effect::Overdue { worker, at, node, held } => {
                tracing::warn!(%worker, %at, %node, %held, "late; another worker computes it as well");
                let seconds = held.0 as f64 / 1e6;
                self.log.tell(RunEvent::Overdue { worker: worker.0, node: node.to_string(), seconds });
            }
            Effect::Doubt { worker, at, node } => {
                tracing::warn!(%worker, %at, %node, "came with a NaN, an infinity or absurdly large; computed again before that is believed");
                self.log.tell(RunEvent::Doubted { worker: worker.0, node: node.to_string() });
            }
            Effect::Contradict { step, node, workers } => {
                let names = workers.iter().map(|worker| self.members.name_of(*worker)).collect();
                self.log.contradicted(step, node, names);
            }
            Effect::Dispute { step, node, workers } => {
                let names = workers.iter().map(|worker| self.members.name_of(*worker)).collect();
                self.log.disputed(step, node, names);
            }
            Effect::Evict { worker, machine, name, step, proof, since } => {
                self.evict(Eviction { worker, machine, name, step, proof, since });
            }
            Effect::Disagree { step, workers, since } => {
                let names = workers.map(|worker| self.members.name_of(worker));
                self.log.disagreed(step, names, since);
            }
            Effect::Ignore { worker, what, why } => tracing::debug!(?worker, what, %why, "ignored"),
            Effect::Finish { .. } => self.members.clear(),
        }
    }
}

/// What workers are told of the exchange of chunks, and those that come later as well.
#[derive(Debug, Clone, Default)]
struct ToldExchange {
    owners: Option<v1::Owners>,
    opened: Option<v1::StepOpened>,
    scales: Option<v1::Scales>,
    /// Owners that cannot go on before they are told what scales sums.
    squared: BTreeSet<WorkerId>,
}

impl ToldExchange {
    /// Whether workers own chunks.
    fn is_sliced(&self) -> bool {
        self.owners.as_ref().is_some_and(|owners| owners.of.iter().any(|owner| *owner != 0))
    }
}

/// A worker was proven to compute wrongly.
struct Eviction {
    worker: WorkerId,
    machine: String,
    name: String,
    step: StepId,
    proof: EvictionProof,
    /// What it had a part in from this step on is not believed.
    since: StepId,
}

impl EffectHandler {
    /// The outside of the run behind `handle`, whose committed parameters have the `digest`.
    pub(crate) fn new(
        handle: &RunHandle,
        members: RunMembers,
        log: RunLog,
        writer: CheckpointWriter,
        digest: Digest,
    ) -> Self {
        EffectHandler {
            members,
            log,
            opening: None,
            reduced: Vec::new(),
            digest,
            exchange: ToldExchange::default(),
            delivery: handle.delivery.clone(),
            questions: handle.questions.clone(),
            reducer: handle.reducer.clone(),
            leases: handle.leases.clone(),
            board: handle.board.clone(),
            writer,
        }
    }

    fn command(&self, command: Command) {
        // The reducer lives as long as the loop.
        _ = self.reducer.send(command);
    }

    /// A worker is no longer a member.
    pub(crate) fn left(&mut self, worker: WorkerId, reason: &str) {
        self.questions.gone(worker);
        self.command(Command::Gone { worker });
        if let Some(name) = self.members.remove(worker) {
            self.log.left(worker, &name, reason);
        }
    }

    /// Has workers send a chunk of what they keep: one of them, or all there are.
    pub(crate) fn ask_kept(&mut self, opening: Opening, index: usize, of: Option<WorkerId>) {
        if self.opening != Some(opening) {
            return;
        }
        let all = self.members.all();
        if let Some(worker) = of.filter(|worker| !all.contains(worker)) {
            return self.command(Command::Gone { worker });
        }
        let workers: Vec<WorkerId> = of.map_or(all, |worker| vec![worker]);
        let wanted = v1::KeptWanted { job: self.members.job().0, opening: opening.0, chunk: index as u32 };
        // Before any of them can answer.
        let answer = AuditAnswer::Asked { index, workers: workers.clone() };
        self.command(Command::Audit { opening, answer });
        workers.into_iter().for_each(|worker| self.members.send(worker, Message::KeptWanted(wanted)));
    }

    /// Asks owners what they were brought of a node or of a chunk: one of them, or all there are. Where the opening is
    /// over, the question has no answer.
    pub(crate) fn ask_brought(&mut self, opening: Opening, question: u64, of: Option<WorkerId>, what: What) {
        let owners = self.exchange.owners.as_ref().filter(|_| self.opening == Some(opening));
        let owners = owners.iter().flat_map(|owners| &owners.of).filter(|owner| **owner != 0);
        let mut owners: BTreeSet<WorkerId> = owners.map(|owner| WorkerId(*owner)).collect();
        owners.retain(|owner| of.is_none_or(|of| of == *owner));
        self.questions.ask(question, owners.clone());
        let wanted = v1::BroughtWanted { job: self.members.job().0, opening: opening.0, question, what: Some(what) };
        owners.into_iter().for_each(|owner| self.members.send(owner, Message::BroughtWanted(wanted)));
    }

    /// Asks an owner what it was brought of a chunk, and hands the reducer what it says.
    pub(crate) fn ask_brought_of(&mut self, opening: Opening, index: usize, owner: WorkerId) {
        let (question, answers) = self.questions.begin();
        let (questions, reducer) = (self.questions.clone(), self.reducer.clone());
        self.ask_brought(opening, question, Some(owner), What::Chunk(index as u32));
        tokio::spawn(async move {
            let came = timeout(AUDITS, answers).await.ok().and_then(Result::ok);
            questions.end(question);
            let said = came.and_then(|mut came| came.remove(&owner));
            let digests = |said: Vec<BroughtDigest>| {
                let of_chunk = said.into_iter().filter(|brought| brought.index == index);
                of_chunk.map(|brought| (brought.node, brought.digest)).collect()
            };
            let answer = AuditAnswer::Brought { index, brought: said.map(digests) };
            // The run may be over.
            _ = reducer.send(Command::Audit { opening, answer });
        });
    }

    /// Nothing is waited for but answers to audits of sums: these have so much time.
    pub(crate) fn audits_left(&self, opening: Opening) {
        let reducer = self.reducer.clone();
        tokio::spawn(async move {
            tokio::time::sleep(AUDITS).await;
            _ = reducer.send(Command::Audit { opening, answer: AuditAnswer::GiveUp });
        });
    }

    fn open_step(&mut self, step: StepId, work: Work, shards: u32, opening: Opening) {
        self.leases.open(opening);
        self.opening = Some(opening);
        self.log.tracker.opened(work == Work::Train);
        self.command(Command::Open { opening, step, work, shards });
        let job = self.members.job().0;
        let opened = v1::StepOpened { job, step: step.0, opening: opening.0, shards };
        self.exchange.opened = (work == Work::Train && self.exchange.owners.is_some()).then_some(opened);
        self.exchange.scales = None;
        self.exchange.squared.clear();
        if let Some(opened) = self.exchange.opened {
            self.members.send_all(&Message::StepOpened(opened));
        }
    }

    /// Chunks have other owners: those of the step in work, or of the one that is opened next.
    fn change_owners(&mut self, version: OwnersVersion, of: &[Owner], opens_step: bool) {
        self.delivery.change(version, of);
        self.command(Command::Owners { version, of: of.into() });
        let number = |owner: &Owner| match owner {
            Owner::Coordinator => 0,
            Owner::Worker(worker) => worker.0,
        };
        let job = self.members.job().0;
        let owners = v1::Owners { job, version: version.0, of: of.iter().map(number).collect() };
        self.members.send_all(&Message::Owners(owners.clone()));
        self.exchange.owners = Some(owners);
        // Who has other chunks has other squares to tell.
        self.exchange.squared.clear();
        // Who owns chunks for the first time in this step has not heard them.
        if let Some(scales) = self.exchange.scales.filter(|_| !opens_step) {
            self.members.send_all(&Message::Scales(scales));
        }
    }

    /// It is known what scales the sums of the open step.
    pub(crate) fn scaled(&mut self, opening: Opening, scales: Scales) {
        let Scales { gradient, statistics } = scales;
        if self.opening == Some(opening) && self.exchange.opened.is_some() {
            let scales = v1::Scales { job: self.members.job().0, opening: opening.0, gradient, statistics };
            self.exchange.scales = Some(scales);
            // What they owe now is counted from here.
            let squared = std::mem::take(&mut self.exchange.squared);
            squared.into_iter().for_each(|owner| self.members.excuse(owner));
            self.members.send_all(&Message::Scales(scales));
        }
    }

    /// An owner has told the squares of its sums, and waits for what scales them.
    pub(crate) fn squared(&mut self, opening: Opening, owner: WorkerId) {
        if self.opening == Some(opening) && self.exchange.scales.is_none() {
            self.exchange.squared.insert(owner);
        }
    }

    /// Whether an owner waits for others: it is not to blame that it brings nothing.
    pub(crate) fn waits_for_scales(&self, owner: WorkerId) -> bool {
        self.exchange.squared.contains(&owner)
    }

    /// The step in work, if it was opened so and this worker owns chunks of it.
    pub(crate) fn step_owned_by(&self, owner: WorkerId, opening: Opening) -> Option<StepId> {
        let opened = self.exchange.opened.filter(|opened| opened.opening == opening.0)?;
        let owners = self.exchange.owners.as_ref()?;
        owners.of.contains(&owner.0).then_some(StepId(opened.step))
    }

    /// Tells a worker that has come what is known of the exchange of chunks.
    pub(crate) fn tell_exchange(&mut self, worker: WorkerId) {
        let ToldExchange { owners, opened, scales, .. } = self.exchange.clone();
        let messages = [owners.map(Message::Owners), opened.map(Message::StepOpened), scales.map(Message::Scales)];
        messages.into_iter().flatten().for_each(|message| self.members.send(worker, message));
    }

    fn abandon_step(&mut self, step: StepId, work: Work) {
        self.leases.clear();
        self.opening = None;
        (self.exchange.opened, self.exchange.scales) = (None, None);
        self.exchange.squared.clear();
        self.command(Command::Abandon);
        if work == Work::Train {
            // Workers may have the next parameters in part, or whole; they will not be committed.
            let next = step.next().0;
            self.board.abandon(next);
            self.members.send_all(&Message::Abandoned(v1::Abandoned { step: next }));
        }
    }

    /// Releases a worker, or disconnects it.
    fn part_with(&mut self, worker: WorkerId, why: DisconnectReason) {
        match why {
            DisconnectReason::Silent { silence } => {
                self.left(worker, "silent");
                self.members.links().disconnect(worker, &format!("not heard of for {silence}"));
            }
            DisconnectReason::Evicted => {
                self.left(worker, "distrusted");
                self.members.links().disconnect(worker, "it was proven to compute wrongly");
            }
            DisconnectReason::Drained => {
                self.left(worker, "drained");
                self.members.release(worker, "drained");
            }
            DisconnectReason::Full { limit } => {
                self.left(worker, "full");
                let reason = format!("the run has {limit} workers, as many as it can");
                self.members.links().disconnect(worker, &reason);
            }
            DisconnectReason::RunOver => self.members.release(worker, "the run is over"),
        }
    }

    /// Nobody on this machine is taken in any more.
    fn evict(&mut self, eviction: Eviction) {
        let Eviction { worker, machine, name, step, proof, since } = eviction;
        let (proof, judges) = match proof {
            EvictionProof::Node { node, judges } => {
                let judges = judges.map(|judge| self.members.name_of(judge));
                let proof = format!("computed {node} of {step} wrongly ({} agree otherwise)", judges.join(" and "));
                (proof, judges.to_vec())
            }
            EvictionProof::Sum => {
                let proof = format!("added a chunk of {step} wrongly (the same numbers have another sum)");
                (proof, Vec::new())
            }
            EvictionProof::Disagreements(machines) => {
                let others = machines.join(", ");
                (format!("said other things than most in {step} ({others}) of what it sent or was sent"), machines)
            }
        };
        tracing::error!(%worker, name, machine, %since, "{proof}; evicted");
        let job = self.members.job().0;
        let reason = format!(
            "`{name}` ({machine}) {proof} in job {job}; look at the machine's memory and processor before it takes part \
             again, as another member of the cluster"
        );
        self.members.links().evict(&machine, reason);
        let (worker, step, since) = (worker.0, step.0, since.0);
        self.log.tell(RunEvent::Distrusted { worker, name, step, proof, judges, since });
    }

    fn commit(&mut self, step: StepId, digest: Digest) {
        self.command(Command::Commit);
        self.digest = digest;
        let sums = std::mem::take(&mut self.reduced);
        self.log.tracker.committed(step.0, &sums);
        if self.log.tracker.ends_unvalidated(step.next().0) {
            self.log.epoch_ended(step.next(), None);
        }
        tracing::debug!(step = step.0, digest = %digest.short(), loss = self.log.tracker.last_loss(), "committed");
        self.members.send_all(&Message::Committed(self.committed(step.next())));
    }

    /// What workers are told of the committed parameters, those of `step`.
    pub(crate) fn committed(&self, step: StepId) -> v1::Committed {
        let digest = self.board.digest_of(step.0, self.digest);
        v1::Committed { step: step.0, digest: digest.0.to_vec().into() }
    }

    fn checkpoint(&self, step: StepId, trusted: StepId) {
        let (state, history) = (self.snapshot(), self.log.tracker.history());
        self.writer.write(CheckpointToWrite { step: step.0, trusted: trusted.0, state, history });
    }

    /// Somebody waits for the end of the run.
    pub(crate) fn hurry(&self) {
        self.writer.hurry();
    }

    /// The committed parameters, once the reducer has come to them.
    pub(crate) fn snapshot(&self) -> Receiver<Arc<ParameterState>> {
        let (reply, state) = sync_channel(1);
        self.command(Command::Snapshot { reply });
        state
    }
}

impl Drop for EffectHandler {
    /// Ends the reducer, whoever else could still tell it something.
    fn drop(&mut self) {
        self.command(Command::End);
    }
}

#[cfg(test)]
mod tests;
