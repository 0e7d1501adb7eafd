//! The next parameters, put together from what their owners make.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use convoy_proto::v1::coordinator_client::CoordinatorClient;
use convoy_proto::{CHUNK_ELEMENTS, Chunk, chunk_count, chunk_range, v1};
use convoy_scheduler::{Opening, Owner, StepId, WorkerId};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tonic::transport::Channel;

use super::exchange_state::ExchangeState;
use super::told::ToldStep;
use crate::arrival::Arrival;
use crate::chunk_sources::ChunkSources;
use crate::held_parameters::StepBefore;
use crate::stages;
use crate::step_parameters::CommittedStep;

/// Before an owner is asked again.
const PAUSE: Duration = Duration::from_millis(200);
/// When the step is committed, and no chunk has come for so long, the coordinator is asked for what is missing.
const SILENCE: Duration = Duration::from_secs(1);
/// Chunks that came and are not taken over yet.
const CAME: usize = 8;

/// Where chunks come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    Worker(WorkerId),
    Coordinator,
}

impl From<Owner> for Source {
    fn from(owner: Owner) -> Self {
        match owner {
            Owner::Worker(worker) => Source::Worker(worker),
            Owner::Coordinator => Source::Coordinator,
        }
    }
}

/// Parameters that are made in the open step.
pub(crate) struct SlicesFetch {
    pub(super) state: Arc<ExchangeState>,
    pub(crate) client: CoordinatorClient<Channel>,
    pub(crate) arrival: Arrival,
    /// The step that makes them.
    pub(super) told: ToldStep,
    /// Those of an earlier step since whose chunks that are frozen are the same.
    pub(crate) held: Option<Arc<Vec<f32>>>,
    /// Those of the step before, of which what is changed may come alone.
    pub(super) before: Option<StepBefore>,
    /// The newest step that is committed.
    pub(crate) committed: watch::Receiver<CommittedStep>,
}

/// What became of asking one source.
enum Came {
    Chunk(Source, Chunk),
    Ended(Source),
}

/// The way of chunks from one source.
struct SourceFeed {
    source: Source,
    sender: mpsc::Sender<Came>,
}

impl SourceFeed {
    /// False where nobody wants more.
    async fn give(&self, chunk: Chunk) -> bool {
        self.sender.send(Came::Chunk(self.source, chunk)).await.is_ok()
    }
}

/// A fetch in work.
struct Assembly {
    fetch: SlicesFetch,
    /// The parameters of the step before, if they are here.
    before: Option<Arc<Vec<f32>>>,
    flat: Vec<f32>,
    /// Other workers that made what has come.
    sources: ChunkSources,
    /// The source that each chunk that has not come is asked of.
    missing: BTreeMap<usize, Source>,
    asking: JoinSet<()>,
    sender: mpsc::Sender<Came>,
    /// When the first chunk came, and the last one so far.
    begun: Option<std::time::Instant>,
    last: Instant,
}

impl SlicesFetch {
    /// Asks all owners, and takes in what comes, with who made which chunk. What owners do not have is asked of the
    /// coordinator once the step is committed.
    pub(crate) async fn run(mut self) -> (Vec<f32>, ChunkSources) {
        let before = match self.before.take() {
            Some(before) => before.wait().await,
            None => None,
        };
        if before.is_some() {
            self.held = None;
        }
        let (sender, mut came) = mpsc::channel(CAME);
        let mut told = self.state.told.subscribe();
        // Owners may have changed since the step was opened.
        told.mark_changed();
        let (mut committed, next) = (self.committed.clone(), self.told.step + 1);
        let flat = self.arrival.buffers.take();
        let (missing, asking, last) = (BTreeMap::new(), JoinSet::new(), Instant::now());
        let sources = ChunkSources::none(chunk_count(flat.len()));
        let mut assembly = Assembly { fetch: self, before, flat, sources, missing, asking, sender, begun: None, last };
        assembly.begin();
        let mut is_committed = committed.borrow_and_update().step >= next;
        while !assembly.missing.is_empty() {
            tokio::select! {
                Some(came) = came.recv() => match came {
                    Came::Chunk(source, chunk) => assembly.take(source, &chunk),
                    Came::Ended(source) => assembly.ended(source, is_committed),
                },
                Ok(()) = told.changed() => {
                    let now = told.borrow_and_update().clone();
                    assembly.told(now);
                }
                Ok(()) = committed.changed(), if !is_committed => {
                    is_committed = committed.borrow_and_update().step >= next;
                }
                () = tokio::time::sleep_until(assembly.last + SILENCE), if is_committed => {
                    assembly.last = Instant::now();
                    assembly.ask_coordinator();
                }
            }
        }
        assembly.begun.into_iter().for_each(|begun| stages::over("download", StepId(next), begun));
        assembly.forget_earlier_owners();
        (assembly.flat, assembly.sources)
    }
}

impl Assembly {
    /// Asks for everything that the step does not leave as it is.
    fn begin(&mut self) {
        let SlicesFetch { told, held, arrival, .. } = &self.fetch;
        let elements = self.flat.len();
        let mut wanted: BTreeMap<Source, Vec<usize>> = BTreeMap::new();
        for index in 0..chunk_count(elements) {
            let frozen = arrival.frozen.contain(told.step, index);
            match self.before.as_ref().or(held.as_ref()).filter(|_| frozen) {
                Some(held) => {
                    let range = chunk_range(elements, index);
                    self.flat[range.clone()].copy_from_slice(&held[range]);
                }
                None if frozen => wanted.entry(Source::Coordinator).or_default().push(index),
                None => wanted.entry(told.of[index].into()).or_default().push(index),
            }
        }
        wanted.into_iter().for_each(|(source, chunks)| self.ask(source, chunks, Duration::ZERO));
    }

    /// Asks `source` for chunks, which are missing.
    fn ask(&mut self, source: Source, chunks: Vec<usize>, after: Duration) {
        if chunks.is_empty() {
            return;
        }
        chunks.iter().for_each(|index| _ = self.missing.insert(*index, source));
        while self.asking.try_join_next().is_some() {}
        let (state, client, sender) = (self.fetch.state.clone(), self.fetch.client.clone(), self.sender.clone());
        let (step, opening) = (self.fetch.told.step, self.fetch.told.fence.opening);
        let changes = self.before.is_some();
        self.asking.spawn(async move {
            tokio::time::sleep(after).await;
            let came = SourceFeed { source, sender: sender.clone() };
            let asked = match source {
                Source::Worker(worker) if worker == state.me() => own(&state, opening, chunks, &came).await,
                Source::Worker(worker) => {
                    let asked =
                        of_worker(&state, worker, state.assignment().slices(opening, chunks, changes), &came).await;
                    if asked.is_err() {
                        state.known().broken(worker.0);
                    }
                    asked
                }
                Source::Coordinator => {
                    let assignment = state.assignment();
                    let request = v1::ParametersRequest {
                        chunks: chunks.into_iter().map(|index| index as u32).collect(),
                        ..assignment.parameters(step + 1, changes.then_some(step))
                    };
                    of_coordinator(client, request, &came).await
                }
            };
            if let Err(problem) = asked {
                tracing::debug!(?source, problem, "parameters do not come");
            }
            _ = sender.send(Came::Ended(source)).await;
        });
    }

    /// Takes a chunk over that was asked of `source` and is missing; others are not looked at.
    fn take(&mut self, source: Source, chunk: &Chunk) {
        let (elements, start) = (self.flat.len(), usize::try_from(chunk.offset).unwrap_or(usize::MAX));
        let index = start / CHUNK_ELEMENTS;
        if !start.is_multiple_of(CHUNK_ELEMENTS) || self.missing.get(&index) != Some(&source) {
            return;
        }
        let range = chunk_range(elements, index);
        let before = self.before.as_ref().map(|before| &before[range.clone()]);
        if !self.fetch.arrival.read(start, &chunk.data, before, &mut self.flat[range]) {
            tracing::warn!(?source, index, "a chunk of parameters has another length");
            return;
        }
        self.missing.remove(&index);
        let me = self.fetch.state.me();
        self.sources.came(
            index,
            match source {
                Source::Worker(worker) if worker != me => Some(worker),
                _ => None,
            },
        );
        self.begun.get_or_insert_with(std::time::Instant::now);
        self.last = Instant::now();
        self.fetch.state.fetched();
    }

    /// What an owner has made that has lost the chunk may be other than what is committed, without any fault of its
    /// own.
    fn forget_earlier_owners(&mut self) {
        let of = self.fetch.told.of.clone();
        for (index, owner) in of.iter().enumerate() {
            if self.sources.of(index).map(Owner::Worker) != Some(*owner) {
                self.sources.came(index, None);
            }
        }
    }

    /// The chunks that are missing and were asked of `source`.
    fn missing_of(&self, source: Source) -> Vec<usize> {
        self.missing.iter().filter(|(_, asked)| **asked == source).map(|(index, _)| *index).collect()
    }

    /// A source gives nothing more. It is asked again, or the coordinator is where the step is committed.
    fn ended(&mut self, source: Source, is_committed: bool) {
        let again = if is_committed { Source::Coordinator } else { source };
        self.ask(again, self.missing_of(source), PAUSE);
    }

    /// Chunks of the step may have other owners.
    fn told(&mut self, told: Option<ToldStep>) {
        let Some(told) = told.filter(|told| told.fence.opening == self.fetch.told.fence.opening) else { return };
        let mut moved: BTreeMap<Source, Vec<usize>> = BTreeMap::new();
        for (index, asked) in &self.missing {
            let owner = Source::from(told.of[*index]);
            if *asked != owner && !self.fetch.arrival.frozen.contain(told.step, *index) {
                moved.entry(owner).or_default().push(*index);
            }
        }
        self.fetch.told = told;
        moved.into_iter().for_each(|(source, chunks)| self.ask(source, chunks, Duration::ZERO));
    }

    /// Asks the coordinator for all that is missing and was not asked of it.
    fn ask_coordinator(&mut self) {
        let asked = |source: &Source| *source == Source::Coordinator;
        let missing: Vec<usize> =
            self.missing.iter().filter(|(_, source)| !asked(source)).map(|(index, _)| *index).collect();
        tracing::debug!(chunks = missing.len(), "owners do not give parameters of a committed step");
        self.ask(Source::Coordinator, missing, Duration::ZERO);
    }
}

/// Chunks that this worker makes itself.
async fn own(state: &ExchangeState, opening: Opening, wanted: Vec<usize>, came: &SourceFeed) -> Result<(), String> {
    let published = state.board.get(opening.0).await.ok_or("that opening is over")?;
    for position in 0.. {
        let Some(chunk) = published.chunk(position, false).await.map_err(|_| "the step was given up")? else {
            return Ok(());
        };
        if wanted.contains(&(chunk.offset as usize / CHUNK_ELEMENTS)) && !came.give(chunk).await {
            return Ok(());
        }
    }
    Ok(())
}

async fn of_worker(
    state: &ExchangeState,
    worker: WorkerId,
    request: v1::SlicesRequest,
    came: &SourceFeed,
) -> Result<(), String> {
    let mut left = request.chunks.len();
    let mut client = state.client(worker).await?;
    let mut slices = client.slices(request).await.map_err(|status| status.message().to_owned())?.into_inner();
    while left > 0 {
        let Some(chunk) = slices.message().await.map_err(|status| status.message().to_owned())? else {
            return Ok(());
        };
        if !came.give(chunk).await {
            return Ok(());
        }
        left -= 1;
    }
    Ok(())
}

async fn of_coordinator(
    mut client: CoordinatorClient<Channel>,
    request: v1::ParametersRequest,
    came: &SourceFeed,
) -> Result<(), String> {
    let mut chunks = client.parameters(request).await.map_err(|status| status.message().to_owned())?.into_inner();
    while let Some(chunk) = chunks.message().await.map_err(|status| status.message().to_owned())? {
        if !came.give(chunk).await {
            return Ok(());
        }
    }
    Ok(())
}
