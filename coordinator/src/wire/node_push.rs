//! A node on its way in: what is checked of it, and to whom its parts go.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use convoy_common::Digest;
use convoy_proto::v1::node_message::Message;
use convoy_proto::{Chunk, TRAIN_SUMS, WireError, chunk_count, v1};
use convoy_reduce::{ChunkBuffer, Magnitude, ReceivedChunks};
use convoy_scheduler::{Check, Event, Failure, Lease, Node, NodeDigest, NodeResult, OwnersVersion, Work, WorkerId};
use tokio::time::timeout;
use tonic::{Code, Status};

use super::calls_layer::STALLED;
use super::node_digests::ChunksAway;

use crate::run::handle::{RunHandle, RunOver};
use crate::run::leases::Admitted;
use crate::run::reduction::reducer_queue::{AuditAnswer, Command};
use crate::run::run_inputs::RunInput;
use crate::run::tracker::Waits;
use crate::run::worker_contact::{WorkerContact, excused};

/// So long owners may take to say what they were brought of a node that is audited.
const BROUGHT: Duration = Duration::from_secs(5);

/// A node that a worker sends for a lease that is out.
pub(super) struct NodePush {
    run: Arc<RunHandle>,
    contact: Arc<WorkerContact>,
    worker: WorkerId,
    lease: Lease,
    admitted: Admitted,
    /// The owners that have its chunks: the coordinator, or workers.
    version: OwnersVersion,
    /// Where its chunks are with workers.
    away: Option<ChunksAway>,
    received: ReceivedChunks,
}

impl From<RunOver> for Status {
    fn from(over: RunOver) -> Self {
        Status::unavailable(over.to_string())
    }
}

impl NodePush {
    /// The node that `header` announces, of the worker whose bytes are noted in `contact`; or why it is not wanted,
    /// which is no fault of the worker's.
    ///
    /// # Errors
    /// When the header is no header.
    pub(super) async fn admit(
        run: &Arc<RunHandle>,
        contact: Arc<WorkerContact>,
        header: v1::NodeHeader,
    ) -> Result<Result<Self, String>, Status> {
        let computing = header.computing;
        let lease = Lease::try_from(v1::Lease { at: header.at, work: header.work, node: header.node, digests: false })?;
        let worker = WorkerId(header.worker);
        let admitted = match run.leases.admit(worker, lease.at, lease.work, lease.node) {
            Ok(admitted) => admitted,
            Err(reason) => return Ok(Err(reason)),
        };
        let version = OwnersVersion(header.version);
        let is_frozen = |index: usize| run.vector.frozen.contain(lease.at.step.0, index);
        let (chunks, away) = match (lease.work, run.delivery.gone_to(version)) {
            (Work::Evaluate, _) => (0, None),
            (Work::Train, Some(of)) if of.is_empty() => (chunk_count(run.vector.elements), None),
            (Work::Train, Some(of)) => {
                let frozen = (0..of.len()).map(is_frozen).collect();
                (0, Some(ChunksAway { of, frozen }))
            }
            (Work::Train, None) => return Ok(Err(format!("{version} of the owners is not in force"))),
        };
        let frozen = run.vector.frozen.at(lease.at.step.0).take_while(|index| *index < chunks);
        let received = ReceivedChunks::new(chunks, admitted.check != Check::Count).without(frozen);
        if !computing {
            excused(run.inputs.room(), || contact.pushed()).await;
            run.tell(RunInput::Event(Event::NodeComputed { worker, at: lease.at }))?;
        }
        Ok(Ok(NodePush { run: run.clone(), contact, worker, lease, admitted, version, away, received }))
    }

    /// Waits for `next`, the node's next message, for as long as its lease is out: parts of it may still be computed.
    ///
    /// # Errors
    /// When the lease is not out any more and nothing comes.
    pub(super) async fn wait_for<T>(&self, next: impl Future<Output = T>) -> Result<T, Status> {
        tokio::pin!(next);
        loop {
            match timeout(STALLED, &mut next).await {
                Ok(message) => return Ok(message),
                Err(_) if self.run.leases.is_out(self.lease.at) => {}
                Err(_) => return Err(Status::deadline_exceeded("nothing came, and the lease is not out any more")),
            }
        }
    }

    /// Takes the next message; `None` where the stream ended. The answer is what the worker is told at the node's end:
    /// why the node does not count, or nothing.
    ///
    /// # Errors
    /// When no worker of this version sends that, which is a failure of the worker at its lease; or the run is over.
    pub(super) async fn take(&mut self, message: Option<Message>) -> Result<Option<String>, Status> {
        self.contact.pushed();
        let taken = self.understood(message).await;
        if let Err(status) = &taken
            && status.code() == Code::InvalidArgument
        {
            let (worker, at, failure) = (self.worker, self.lease.at, Failure::Internal);
            self.excused(self.run.inputs.room()).await;
            self.run.tell(RunInput::LeaseFailed { worker, at, failure, reason: status.message().to_owned() })?;
        }
        taken
    }

    async fn understood(&mut self, message: Option<Message>) -> Result<Option<String>, Status> {
        match message {
            Some(Message::Chunk(chunk)) => self.chunk(chunk).await,
            Some(Message::Summary(summary)) => {
                if summary.not_finite.is_none() && !self.received.is_whole() {
                    return Err(Status::invalid_argument("the node ends before all of its chunks have come"));
                }
                self.summary(summary).await?;
                Ok(Some(String::new()))
            }
            Some(Message::Header(_)) => Err(Status::invalid_argument("a node has one header")),
            None => Err(Status::cancelled("the node ended before its summary")),
        }
    }

    async fn chunk(&mut self, chunk: Chunk) -> Result<Option<String>, Status> {
        // A node whose chunks have gone elsewhere has none here, and neither has one of an evaluation.
        let elements = if self.received.chunks() > 0 { self.run.vector.elements } else { 0 };
        let (index, values) = ChunkBuffer::received(&chunk, elements, self.run.vector.compression)?;
        let worst =
            self.received.add(index, &values).map_err(|unwanted| Status::invalid_argument(unwanted.to_string()))?;
        if worst == Magnitude::NotFinite {
            // Where a shard's numbers are not, the worker says so itself; finite ones may have a sum that is not.
            let (sums, not_finite) = (vec![0.0; TRAIN_SUMS], Some(self.lease.node.first));
            self.summary(v1::NodeSummary { sums, not_finite, ..Default::default() }).await?;
            return Ok(Some("it holds a NaN or an infinity".to_owned()));
        }
        if self.admitted.check != Check::Digest {
            let permit = self.excused(self.run.reducer.chunk_room()).await;
            let (opening, node, from) = (self.admitted.opening, self.lease.node, self.worker);
            self.command(Command::Chunk { opening, node, from, index, values, permit })?;
        }
        Ok(None)
    }

    /// Waits for `room`, for which the worker is not to blame.
    async fn excused<T>(&self, room: impl Future<Output = T>) -> T {
        excused(room, || self.contact.pushed()).await
    }

    async fn summary(&self, summary: v1::NodeSummary) -> Result<(), Status> {
        let (worker, Lease { at, work, node }) = (self.worker, self.lease);
        let samples = match work {
            Work::Train => self.samples().map(|samples| (samples, TRAIN_SUMS)),
            Work::Evaluate => None,
        };
        check_summary(&summary, node, samples, self.run.plan.metric_layout().len())?;
        let computing = summary.shard_micros.saturating_mul(u64::from(node.size()));
        self.excused(self.run.inputs.room()).await;
        self.run.tell(RunInput::Worked(Waits {
            computing: seconds(computing),
            data: seconds(summary.data_wait_micros),
            parameters: seconds(summary.parameters_wait_micros),
        }))?;
        let not_finite = summary.not_finite;
        let absurd = self.received.worst() == Magnitude::Absurd || summary.absurd;
        let result = match not_finite {
            Some(_) => NodeResult::NotFinite,
            None if absurd => NodeResult::Absurd,
            None => NodeResult::Good,
        };
        let digest = match self.received.digest(&summary.sums).filter(|_| not_finite.is_none()) {
            Some(digest) => self.node_digest(digest, &summary.digests).await?,
            None => None,
        };
        let (shard_micros, version) = (summary.shard_micros, self.version);
        let event_after = Event::NodeDone { worker, at, shard_micros, version, result, digest };
        match self.admitted.check {
            Check::Digest => Ok(self.run.tell(RunInput::Event(event_after))?),
            Check::Count | Check::CountAndDigest => {
                let permit = self.excused(self.run.reducer.node_room()).await;
                let (opening, from, sums) = (self.admitted.opening, worker, summary.sums);
                self.command(Command::Summary { opening, node, from, sums, not_finite, event_after, permit })
            }
        }
    }

    /// The digest of the node, given that of what has come here of it, and what its worker `says` of each chunk.
    async fn node_digest(&self, here: [u8; 32], says: &[u8]) -> Result<Option<NodeDigest>, Status> {
        let Some(away) = &self.away else { return Ok(Some(NodeDigest::whole(here))) };
        if self.admitted.check == Check::Digest {
            let said = away.read(says).and_then(|chunks| away.digest(here, &chunks));
            return said
                .map(Some)
                .ok_or_else(|| Status::invalid_argument("an audited node has a digest of each chunk"));
        }
        Ok(self.ask_owners(away).await?.and_then(|brought| away.digest(here, &brought)))
    }

    /// What the owners say to have been brought of the node, each of its own chunks; `None` where one of them does not.
    async fn ask_owners(&self, away: &ChunksAway) -> Result<Option<BTreeMap<usize, Digest>>, Status> {
        let (question, answers) = self.run.questions.begin();
        // Nobody may wait for it any more.
        let _end = self.run.questions.end_later(question);
        let (opening, node) = (self.admitted.opening, self.lease.node);
        self.run.tell(RunInput::AskBrought { opening, node, question })?;
        let came = self.excused(timeout(BROUGHT, answers)).await;
        for worker in self.run.questions.end(question) {
            self.run.tell(RunInput::Event(Event::Unanswered { worker, opening }))?;
        }
        let Ok(Ok(came)) = came else { return Ok(None) };
        let mut all = BTreeMap::new();
        for (owner, brought) in came {
            let of_node = brought.into_iter().filter(|brought| brought.node == node);
            let own: BTreeMap<usize, Digest> = of_node.map(|brought| (brought.index, brought.digest)).collect();
            if !away.are_of(owner, &own) {
                // Where chunks have moved since, it may not have been brought all of them.
                if self.run.delivery.gone_to(self.version).is_some() {
                    self.run.tell(RunInput::Event(Event::Unanswered { worker: owner, opening }))?;
                }
                return Ok(None);
            }
            if owner == self.worker {
                let digests = own.iter().map(|(index, digest)| (*index, *digest)).collect();
                let answer = AuditAnswer::Said { from: owner, node, digests };
                self.command(Command::Audit { opening, answer })?;
            }
            all.extend(own);
        }
        Ok(Some(all))
    }

    /// Samples in the training shards of the node; `None` where its step has no such shards.
    fn samples(&self) -> Option<f64> {
        let (cut, node) = (self.run.plan.train_cut(), self.lease.node);
        let step = self.lease.at.step.0 % cut.steps();
        let last = cut.shards(step) >= node.last;
        last.then(|| node.leaves().map(|shard| cut.shard(step, shard.0).len()).sum::<usize>() as f64)
    }

    fn command(&self, command: Command) -> Result<(), Status> {
        match self.run.reducer.send(command) {
            true => Ok(()),
            false => Err(RunOver.into()),
        }
    }
}

/// What a worker of this version never sends. `training` is how many samples and sums a training node has.
fn check_summary(
    summary: &v1::NodeSummary,
    node: Node,
    training: Option<(f64, usize)>,
    evaluate_sums: usize,
) -> Result<(), WireError> {
    let invalid = |field, value: String| Err(WireError::Invalid { field, value });
    let sums = training.map_or(evaluate_sums, |(_, sums)| sums);
    if summary.sums.len() != sums {
        return invalid("sums", format!("{} of {sums}", summary.sums.len()));
    }
    match summary.not_finite {
        Some(shard) if !(node.first..node.last).contains(&shard) => invalid("not_finite", shard.to_string()),
        Some(_) => Ok(()),
        None if !summary.sums.iter().all(|sum| sum.is_finite()) => invalid("sums", "not finite".to_owned()),
        None => match training {
            Some((samples, _)) if summary.sums[0] != samples => {
                invalid("sums", format!("{} samples, where {node} has {samples}", summary.sums[0]))
            }
            _ => Ok(()),
        },
    }
}

fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}

#[cfg(test)]
mod tests;
