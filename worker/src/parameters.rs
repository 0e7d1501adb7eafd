//! The parameters of a run: asked for ahead of time, taken over when they are committed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use convoy_common::Digest;
use convoy_proto::v1::coordinator_client::CoordinatorClient;
use convoy_proto::{CHUNK_ELEMENTS, chunk_count, chunk_range, v1};
use convoy_scheduler::StepId;
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use tonic::Status;
use tonic::transport::Channel;

use crate::arrival::Arrival;
use crate::assignment::Assignment;
use crate::chunk_sources::ChunkSources;
use crate::error::WorkerError;
use crate::exchange::{Exchange, SlicesFetch};
use crate::held_parameters::{HeldParameters, StepBefore};
use crate::parameter_checks::{
    Checked, DigestMaker, MakeDigest, Measured, Misserved, ParameterChecks, WrongParameters,
};
use crate::stages;
use crate::step_parameters::{CommittedStep, StepParameters};

/// Before parameters that did not come are asked for again.
const PAUSE: Duration = Duration::from_millis(100);

/// What came of asking for parameters.
#[derive(Debug)]
pub(crate) struct Fetched {
    step: u64,
    /// How many abandoned steps had been heard of when they were asked for.
    abandonments: usize,
    flat: Result<Vec<f32>, Status>,
    /// Their digest, where they were checked.
    measured: Option<Measured>,
    /// Who made them, where other workers have: then they are always checked.
    sources: Option<ChunkSources>,
}

/// Parameters on their way. Those of a step are asked for while the step before is computed, since the coordinator
/// sends each chunk as soon as it is made; they count once the coordinator says that the step is committed.
pub(crate) struct ParameterFetches {
    client: CoordinatorClient<Channel>,
    assignment: Assignment,
    arrival: Arrival,
    held: HeldParameters,
    /// The newest step that was said to be committed, and the digest of its parameters.
    committed: watch::Sender<CommittedStep>,
    checks: ParameterChecks,
    /// Parameters that came before their commit.
    early: BTreeMap<u64, Early>,
    /// Steps whose parameters are on their way.
    on_the_way: BTreeMap<u64, AbortHandle>,
    /// The newest step whose parameters came.
    newest: Option<u64>,
    /// The steps whose parameters were abandoned, in order.
    abandoned: Vec<u64>,
    sender: mpsc::UnboundedSender<Fetched>,
    arrivals: mpsc::UnboundedReceiver<Fetched>,
}

impl ParameterFetches {
    /// Nothing is asked for yet; `digest` makes the digest of parameters.
    pub(crate) fn new(
        client: CoordinatorClient<Channel>,
        assignment: Assignment,
        arrival: Arrival,
        digest: MakeDigest,
    ) -> Self {
        let (sender, arrivals) = mpsc::unbounded_channel();
        let held = HeldParameters::none(arrival.changes);
        ParameterFetches {
            client,
            assignment,
            arrival,
            held,
            committed: watch::Sender::default(),
            checks: ParameterChecks::new(digest),
            early: BTreeMap::new(),
            on_the_way: BTreeMap::new(),
            newest: None,
            abandoned: Vec::new(),
            sender,
            arrivals,
        }
    }

    /// Waits for an answer.
    pub(crate) async fn next(&mut self) -> Fetched {
        // This struct holds a sender.
        self.arrivals.recv().await.expect("the queue of answers is open")
    }

    /// Takes an answer over. Gives the parameters of the committed step when they are these, and as they should be.
    ///
    /// # Errors
    /// [`WorkerError::BadMemory`] when they came twice and were not what the coordinator has either time.
    pub(crate) fn take(&mut self, fetched: Fetched) -> Result<Option<StepParameters>, WorkerError> {
        let Some((step, flat)) = self.sort(fetched)? else { return Ok(None) };
        self.checks.find_wrong(step.0, &flat);
        self.checks.suspect(None).into_iter().for_each(|flat| self.arrival.buffers.give(flat));
        let parameters = StepParameters { step, flat: Arc::new(flat) };
        self.held.hold(&parameters, self.arrival.frozen.at(step.0).next().is_some());
        Ok(Some(parameters))
    }

    /// Who handed out wrong parameters, if that was found since it was asked last.
    pub(crate) fn misserved(&mut self) -> Option<WrongParameters> {
        self.checks.misserved()
    }

    fn sort(&mut self, fetched: Fetched) -> Result<Option<(StepId, Vec<f32>)>, WorkerError> {
        let Fetched { step, abandonments, flat, measured, sources } = fetched;
        // Those of earlier steps than were abandoned since are as they were.
        if self.abandoned[abandonments..].iter().any(|abandoned| *abandoned <= step) {
            return Ok(None);
        }
        let CommittedStep { step: committed, digest } = *self.committed.borrow();
        self.on_the_way.remove(&step);
        match flat {
            Ok(flat) if step > committed => {
                self.newest = self.newest.max(Some(step));
                self.early.insert(step, Early { flat, measured, sources });
                Ok(None)
            }
            Ok(flat) => {
                self.newest = self.newest.max(Some(step));
                if step < committed {
                    return Ok(None);
                }
                self.checked(step, Early { flat, measured, sources }, digest)
            }
            Err(status) => {
                tracing::debug!(step, %status, "parameters did not come");
                if step == committed {
                    self.fetch(step, PAUSE);
                }
                Ok(None)
            }
        }
    }

    /// Gives the parameters of the committed step, unless they are to be checked before, or are wrong.
    fn checked(
        &mut self,
        step: u64,
        came: Early,
        told: Option<Digest>,
    ) -> Result<Option<(StepId, Vec<f32>)>, WorkerError> {
        let Early { flat, measured, sources } = came;
        let Some(told) = told else { return Ok(Some((StepId(step), flat))) };
        let Some(measured) = measured else {
            // What is added to what is here must be right each time: a wrong number would stay.
            if sources.is_none() && !self.arrival.changes && !self.checks.due() {
                return Ok(Some((StepId(step), flat)));
            }
            let (sender, abandonments) = (self.sender.clone(), self.abandoned.len());
            self.checks.measure(flat, move |flat, measured| {
                let (flat, measured) = (Ok(flat), Some(measured));
                _ = sender.send(Fetched { step, abandonments, flat, measured, sources });
            });
            return Ok(None);
        };
        if let Some(sources) = sources
            && !self.checks.workers_were_right(measured, told)
        {
            tracing::warn!(step, "the parameters that other workers made are not the coordinator's; fetched from it");
            let before = self.checks.suspect(Some(Misserved { step, flat, sources }));
            before.into_iter().for_each(|flat| self.arrival.buffers.give(flat));
            // It may be what they were added to that is wrong.
            self.held.forget();
            self.fetch(step, Duration::ZERO);
            return Ok(None);
        }
        match self.checks.compare(measured, told) {
            Checked::Good => Ok(Some((StepId(step), flat))),
            Checked::Wrong => {
                tracing::error!(
                    step,
                    "the parameters in this worker's memory are not the coordinator's; fetched again"
                );
                self.arrival.buffers.give(flat);
                // It may be what was kept that is wrong.
                self.held.forget();
                self.fetch(step, Duration::ZERO);
                Ok(None)
            }
            Checked::WrongAgain => Err(WorkerError::BadMemory { step }),
        }
    }

    /// `step` is committed, and its parameters have this digest, if it was told: nobody computes with earlier ones any
    /// more.
    pub(crate) fn commit(&mut self, step: u64, digest: Option<Digest>) {
        self.committed.send_replace(CommittedStep { step, digest });
        let wanted = self.on_the_way.split_off(&step);
        std::mem::replace(&mut self.on_the_way, wanted).into_values().for_each(|fetch| fetch.abort());
        self.ask_for(step);
        if let Some(Early { flat, measured, sources }) = self.early.remove(&step) {
            // Through the queue, so that there is one way to take parameters over.
            let (abandonments, flat) = (self.abandoned.len(), Ok(flat));
            _ = self.sender.send(Fetched { step, abandonments, flat, measured, sources });
        }
        self.early.retain(|early, _| *early > step);
    }

    /// Asks for the parameters of `step`, unless they or later ones came or they are on their way.
    pub(crate) fn ask_for(&mut self, step: u64) {
        if !self.on_the_way.contains_key(&step) && self.newest.is_none_or(|newest| newest < step) {
            self.fetch(step, Duration::ZERO);
        }
    }

    /// Asks the owners of chunks for the parameters of `step`, which they make in the open step.
    pub(crate) fn ask_owners(&mut self, step: u64, exchange: &Exchange) {
        if self.on_the_way.contains_key(&step) || self.newest.is_some_and(|newest| newest >= step) {
            return;
        }
        let held = self.held.earlier(step).map(|held| held.flat);
        let before = self.held.before(step, self.committed.subscribe());
        let committed = self.committed.subscribe();
        let fetch = exchange.fetch(step, self.client.clone(), self.arrival.clone(), (held, before), committed);
        if let Some(fetch) = fetch {
            let fetching = put_together(fetch, self.checks.maker());
            let (sender, abandonments) = (self.sender.clone(), self.abandoned.len());
            let task = tokio::spawn(async move {
                let (flat, measured, sources) = fetching.await;
                _ = sender.send(Fetched { step, abandonments, flat, measured, sources: Some(sources) });
            });
            self.on_the_way.insert(step, task.abort_handle());
        }
    }

    /// Whether parameters that workers made were wrong since this was asked last.
    pub(crate) fn were_wrong(&mut self) -> bool {
        self.checks.workers_were_wrong()
    }

    /// Drops what was received of the parameters of `step` and later steps: the coordinator makes them anew.
    pub(crate) fn abandon(&mut self, step: u64) {
        self.abandoned.push(step);
        self.early.retain(|early, _| *early < step);
        self.newest = self.newest.map(|newest| newest.min(step.saturating_sub(1)));
        let asked = std::mem::take(&mut self.on_the_way);
        asked.values().for_each(AbortHandle::abort);
        // The committed step's may be among them.
        asked.into_keys().filter(|asked| *asked < step).for_each(|asked| self.ask_for(asked));
    }

    fn fetch(&mut self, step: u64, after: Duration) {
        let held = self.held.earlier(step);
        let fetch = Fetch {
            request: self.assignment.parameters(step, held.as_ref().map(|held| held.step.0)),
            arrival: self.arrival.clone(),
            held: held.map(|held| held.flat),
            before: self.held.before(step, self.committed.subscribe()),
        };
        let fetch = fetch.run(self.client.clone());
        let (sender, abandonments) = (self.sender.clone(), self.abandoned.len());
        let task = tokio::spawn(async move {
            if !after.is_zero() {
                tokio::time::sleep(after).await;
            }
            _ = sender.send(Fetched { step, abandonments, flat: fetch.await, measured: None, sources: None });
        });
        self.on_the_way.insert(step, task.abort_handle());
    }
}

impl Drop for ParameterFetches {
    fn drop(&mut self) {
        self.on_the_way.values().for_each(AbortHandle::abort);
    }
}

/// Parameters that came and are not taken over yet.
struct Early {
    flat: Vec<f32>,
    measured: Option<Measured>,
    sources: Option<ChunkSources>,
}

/// Puts together what owners make, and its digest.
async fn put_together(
    fetch: SlicesFetch,
    digest: DigestMaker,
) -> (Result<Vec<f32>, Status>, Option<Measured>, ChunkSources) {
    let (flat, sources) = fetch.run().await;
    let (flat, measured) = digest.measure(flat).await;
    (flat, measured, sources)
}

/// Parameters and buffers that are asked for.
struct Fetch {
    request: v1::ParametersRequest,
    arrival: Arrival,
    /// Those of the step that the request says are held.
    held: Option<Arc<Vec<f32>>>,
    /// Those of the step before, of which what is changed may come alone.
    before: StepBefore,
}

impl Fetch {
    /// Asks for them, and takes them in as they come. Frozen chunks that do not come are those that are held.
    async fn run(mut self, mut client: CoordinatorClient<Channel>) -> Result<Vec<f32>, Status> {
        let step = StepId(self.request.step);
        let before = self.before.wait().await;
        if self.arrival.changes {
            self.request.held = before.as_ref().and(step.0.checked_sub(1));
            self.held.clone_from(&before);
        }
        let mut chunks = client.parameters(self.request).await?.into_inner();
        let mut flat = self.arrival.buffers.take();
        // The time counts from the first chunk: the worker asks long before it can come.
        let mut begun = None;
        let elements = flat.len();
        let mut missing = vec![true; chunk_count(elements)];
        while let Some(chunk) = chunks.message().await? {
            begun.get_or_insert_with(Instant::now);
            let start = usize::try_from(chunk.offset).unwrap_or(usize::MAX);
            let index = start / CHUNK_ELEMENTS;
            let range = chunk_range(elements, index);
            let fits = start.is_multiple_of(CHUNK_ELEMENTS) && start < elements;
            let before = before.as_ref().map(|before| &before[range.clone()]);
            if !fits || !self.arrival.read(start, &chunk.data, before, &mut flat[range]) {
                return Err(Status::data_loss(format!("chunk at element {start} does not fit {elements} elements")));
            }
            missing[index] = false;
        }
        for index in (0..missing.len()).filter(|index| missing[*index]) {
            // The step before made them.
            let kept = step.0.checked_sub(1).is_some_and(|before| self.arrival.frozen.contain(before, index));
            let Some(held) = self.held.as_ref().filter(|_| kept) else {
                return Err(Status::data_loss(format!("chunk {index} of {} did not come", missing.len())));
            };
            let range = chunk_range(elements, index);
            flat[range.clone()].copy_from_slice(&held[range]);
        }
        begun.into_iter().for_each(|begun| stages::over("download", step, begun));
        Ok(flat)
    }
}

#[cfg(test)]
mod tests;
