//! Carries out what the scheduler asks for. It decides nothing.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use convoy_common::Digest;
use convoy_proto::v1;
use convoy_scheduler::{DisconnectReason, Effect, GoneReason, JobId, Node, Outbox, Outcome, StepId, Work, WorkerId};
use tokio::sync::mpsc;

use crate::events::{Events, RunEvent};
use crate::hub::Hub;
use crate::leases::{Leases, Opening};
use crate::published::Board;
use crate::reducer::Command;
use crate::tracker::Tracker;
use crate::writer::{Job, Writer};

/// A way to a worker.
pub(crate) type WorkerOutbox = mpsc::Sender<Result<v1::CoordinatorMessage, tonic::Status>>;

/// Sockets, the reducer, checkpoints and the log.
pub(crate) struct Shell {
    pub(crate) hub: Arc<Hub>,
    pub(crate) job: JobId,
    pub(crate) workers: BTreeMap<WorkerId, (String, WorkerOutbox)>,
    pub(crate) commands: mpsc::UnboundedSender<Command>,
    pub(crate) leases: Arc<Leases>,
    pub(crate) board: Arc<Board>,
    /// What the reducer was opened for last.
    pub(crate) opening: Opening,
    pub(crate) writer: Writer,
    pub(crate) tracker: Tracker,
    pub(crate) events: Events,
    pub(crate) folder: PathBuf,
    /// Sums of the step that waits for its commit.
    pub(crate) reduced: Vec<f64>,
    /// Parameters that no audit can still find wrong, as the run had it before this event.
    pub(crate) trusted: StepId,
    /// Digest of the committed parameters.
    pub(crate) digest: Digest,
    pub(crate) finished: Option<Outcome>,
}

impl Outbox for Shell {
    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Record(_) => {}
            Effect::OpenStep { step, work, shards } => {
                self.opening = self.leases.clear();
                self.tracker.opened(work == Work::Train);
                self.command(Command::Open { opening: self.opening, step, work, shards });
            }
            Effect::AbandonStep { step, work, why } => {
                tracing::warn!(%step, %work, ?why, "step given up");
                self.opening = self.leases.clear();
                self.command(Command::Abandon);
                if work == Work::Train {
                    self.take_back(step.next());
                }
            }
            Effect::Send { worker, lease, check } => {
                self.leases.add(worker, lease, check);
                self.send(worker, v1::coordinator_message::Message::Lease(lease.into()));
            }
            Effect::Revoke { worker, at, why } => {
                tracing::debug!(%worker, %at, ?why, "lease revoked");
                self.send(worker, v1::coordinator_message::Message::Revoke(v1::Revoke { at: Some(at.into()) }));
            }
            Effect::Disconnect { worker, why } => self.evict(worker, why),
            Effect::Commit { step, digest } => self.commit(step, Digest(digest)),
            Effect::Checkpoint { step, reason } => {
                tracing::debug!(%step, ?reason, "checkpoint");
                self.checkpoint(step);
            }
            Effect::Overdue { worker, at, node, held } => {
                tracing::warn!(%worker, %at, %node, %held, "late; another worker computes it as well");
                let seconds = held.0 as f64 / 1e6;
                self.events.tell(RunEvent::Overdue { worker: worker.0, node: node.to_string(), seconds });
            }
            Effect::Doubt { worker, at, node } => {
                tracing::warn!(%worker, %at, %node, "came with a NaN, an infinity or absurdly large; computed again before that is believed");
                self.events.tell(RunEvent::Doubted { worker: worker.0, node: node.to_string() });
            }
            Effect::Dispute { step, node, workers } => self.dispute(step, node, &workers),
            Effect::Evict { worker, name, step, node, judges, since } => {
                self.distrust(worker, name, step, node, judges, since);
            }
            Effect::Ignore { worker, what, why } => tracing::debug!(?worker, what, %why, "ignored"),
            Effect::Finish { outcome } => self.finish(outcome),
        }
    }
}

impl Shell {
    fn command(&self, command: Command) {
        // The reducer lives as long as the loop.
        _ = self.commands.send(command);
    }

    /// Ends the reducer, whoever else could still tell it something.
    pub(crate) fn end(&self) {
        self.command(Command::End);
    }

    /// Queues a message; a worker that does not read for so long that its queue is full is cut off.
    pub(crate) fn send(&mut self, worker: WorkerId, message: v1::coordinator_message::Message) {
        let Some((_, outbox)) = self.workers.get(&worker) else { return };
        if outbox.try_send(Ok(v1::CoordinatorMessage { message: Some(message) })).is_err() {
            tracing::warn!(%worker, "does not read its messages; cut off");
            self.workers.remove(&worker);
            self.hub.gone(worker, GoneReason::Closed);
        }
    }

    /// Lets a worker go, or closes its connection when it is silent.
    fn evict(&mut self, worker: WorkerId, why: DisconnectReason) {
        match why {
            DisconnectReason::Silent { silence } => {
                self.left(worker, "silent");
                self.hub.put_out(worker, &format!("not heard of for {silence}"));
            }
            DisconnectReason::Evicted => {
                self.left(worker, "distrusted");
                self.hub.put_out(worker, "it was proven to compute wrongly");
            }
            DisconnectReason::Drained => {
                self.left(worker, "drained");
                self.hub.let_go(worker, self.job, "drained");
            }
            DisconnectReason::Full { limit } => {
                self.left(worker, "full");
                self.hub.put_out(worker, &format!("the run has {limit} workers, as many as it can"));
            }
            DisconnectReason::RunOver => self.hub.let_go(worker, self.job, "the run is over"),
        }
    }

    /// Parameters of `step` that workers may have in part, or whole, will not come.
    fn take_back(&mut self, step: StepId) {
        self.board.abandon(step.0);
        let workers: Vec<WorkerId> = self.workers.keys().copied().collect();
        for worker in workers {
            let abandoned = v1::Abandoned { step: step.0 };
            self.send(worker, v1::coordinator_message::Message::Abandoned(abandoned));
        }
    }

    /// What people call a worker.
    pub(crate) fn name_of(&self, worker: WorkerId) -> String {
        self.workers.get(&worker).map_or_else(|| worker.to_string(), |(name, _)| name.clone())
    }

    fn dispute(&mut self, step: StepId, node: Node, workers: &[WorkerId]) {
        let names: Vec<String> = workers.iter().map(|worker| self.name_of(*worker)).collect();
        let workers = names.join(", ");
        tracing::warn!(%step, %node, workers, "computed the same shards and did not come out the same; another judges");
        self.events.tell(RunEvent::Disputed { step: step.0, node: node.to_string(), workers: names });
    }

    fn distrust(
        &mut self,
        worker: WorkerId,
        name: String,
        step: StepId,
        node: Node,
        judges: [WorkerId; 2],
        since: StepId,
    ) {
        let judges = judges.map(|judge| self.name_of(judge));
        tracing::error!(%worker, name, %step, %node, judges = judges.join(", "), %since, "computes wrongly; put out");
        let (job, one, two) = (self.job.0, &judges[0], &judges[1]);
        let reason = format!(
            "`{name}` computed {node} of {step} of job {job} wrongly ({one} and {two} agree otherwise); look at the \
             machine's memory and processor before it takes part again, under another --name"
        );
        self.hub.distrust(&name, reason);
        let event = RunEvent::Distrusted {
            worker: worker.0,
            name,
            step: step.0,
            node: node.to_string(),
            judges: judges.to_vec(),
            since: since.0,
        };
        self.events.tell(event);
    }

    /// A worker is no longer a member.
    pub(crate) fn left(&mut self, worker: WorkerId, reason: &str) {
        if let Some((name, _)) = self.workers.remove(&worker) {
            tracing::info!(%worker, name, reason, "left");
            self.events.tell(RunEvent::WorkerLeft { worker: worker.0, reason: reason.to_owned() });
        }
    }

    /// Writes the epoch's row; says whether the run should stop early.
    pub(crate) fn epoch_ended(&mut self, step: StepId, sums: Option<Vec<f64>>) -> bool {
        let (row, stop_early) = self.tracker.epoch_ended(step.0, sums.as_ref());
        tracing::info!(epoch = row.epoch, step = row.step, train_loss = row.train_loss, validation = ?row.validation, "epoch");
        if let Err(error) = crate::run_dir::write_metrics(&self.folder, &self.tracker.history().rows) {
            tracing::warn!(%error, "metrics.csv is not up to date");
        }
        self.events.tell(RunEvent::Epoch(row));
        stop_early
    }

    fn commit(&mut self, step: StepId, digest: Digest) {
        self.command(Command::Commit);
        self.digest = digest;
        let sums = std::mem::take(&mut self.reduced);
        self.tracker.committed(step.0, &sums);
        if self.tracker.ends_unvalidated(step.next().0) {
            self.epoch_ended(step.next(), None);
        }
        tracing::debug!(step = step.0, digest = %digest.short(), loss = self.tracker.last_loss(), "committed");
        let workers: Vec<WorkerId> = self.workers.keys().copied().collect();
        for worker in workers {
            let committed = v1::Committed { step: step.next().0 };
            self.send(worker, v1::coordinator_message::Message::Committed(committed));
        }
    }

    fn checkpoint(&mut self, step: StepId) {
        let (reply, generation) = std::sync::mpsc::sync_channel(1);
        self.command(Command::Snapshot { reply });
        let trusted = self.trusted.0;
        self.writer.write(Job { step: step.0, trusted, generation, history: self.tracker.history() });
    }

    fn finish(&mut self, outcome: Outcome) {
        self.workers.clear();
        self.finished = Some(outcome);
    }
}
