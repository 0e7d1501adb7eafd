//! The parameters of a step on their way out: workers read chunks while later ones are still being made.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use convoy_common::Digest;
use convoy_model::ParameterFormat;
use convoy_proto::{CHUNK_ELEMENTS, Chunk, Values, chunk_count};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::{ChunkBuffer, Flat};

/// The parameters and buffers of one step, chunk by chunk.
#[derive(Debug)]
pub struct PublishedParameters {
    format: Arc<ParameterFormat>,
    chunks: Vec<OnceLock<PublishedChunk>>,
    /// How many of them are those of the step before. They were finished first.
    kept: usize,
    finished: watch::Sender<Finished>,
    /// Of what does not travel as it lies here.
    digest: Mutex<DigestOnTheWay>,
}

/// A chunk that is finished.
#[derive(Debug)]
struct PublishedChunk {
    whole: Values,
    /// What was added for it to the step before, where that is all that needs to travel.
    change: Option<Values>,
}

/// The digest of bytes on their way, up to the first chunk that is not finished.
#[derive(Debug, Default)]
struct DigestOnTheWay {
    hasher: blake3::Hasher,
    chunks: usize,
}

/// Chunks in the order in which they were finished, or the news that the step was given up.
#[derive(Debug, Clone, Default)]
struct Finished {
    order: Vec<u32>,
    abandoned: bool,
}

/// The step was given up; these parameters will never be whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Abandoned;

impl PublishedParameters {
    /// Room for that many chunks, none finished.
    fn new(chunks: usize, format: Arc<ParameterFormat>) -> Self {
        PublishedParameters {
            format,
            chunks: (0..chunks).map(|_| OnceLock::new()).collect(),
            kept: 0,
            finished: watch::Sender::new(Finished::default()),
            digest: Mutex::default(),
        }
    }

    /// All of `flat` at once.
    fn whole(flat: &Flat, format: Arc<ParameterFormat>) -> Self {
        let chunks = flat.chunks();
        let published = PublishedParameters::new(chunks.len(), format);
        chunks.iter().enumerate().for_each(|(index, chunk)| published.finish(index, chunk.clone(), None));
        published
    }

    /// Chunk `index` is ready; it holds `values`, for which `change` was added to those of the step before, where that
    /// is rounded.
    pub fn finish(&self, index: usize, values: Arc<ChunkBuffer>, change: Option<Bytes>) {
        let len = values.len();
        let whole = if self.format.is_whole() {
            Values::shared(values, 0..len)
        } else {
            let mut bytes = Vec::new();
            self.format.write(index * CHUNK_ELEMENTS, &values, &mut bytes);
            Values::from(Bytes::from(bytes))
        };
        let change = change.map(Values::from);
        if self.chunks[index].set(PublishedChunk { whole, change }).is_ok() {
            self.advance();
            self.finished.send_modify(|finished| finished.order.push(index as u32));
        }
    }

    fn advance(&self) {
        if self.format.is_whole() {
            return;
        }
        let mut digest = self.digest.lock();
        while let Some(chunk) = self.chunks.get(digest.chunks).and_then(OnceLock::get) {
            digest.hasher.update(&chunk.whole.to_bytes());
            digest.chunks += 1;
        }
    }

    /// What [`ParameterFormat::digest`] makes of them. `None` before all are finished, and where they travel as they
    /// lie here.
    fn digest(&self) -> Option<Digest> {
        let digest = self.digest.lock();
        let all = !self.format.is_whole() && digest.chunks == self.chunks.len();
        all.then(|| Digest(*digest.hasher.finalize().as_bytes()))
    }

    /// How many chunks are those of the step before: in the order in which they were finished they come first.
    pub fn kept(&self) -> usize {
        self.kept
    }

    fn abandon(&self) {
        self.finished.send_modify(|finished| finished.abandoned = true);
    }

    /// The chunk that was finished as number `position`; waits for it. `None` after the last one. Who has the
    /// parameters of the step before, and wants no more than what was `changed`, gets that where it is rounded: bf16,
    /// half as many bytes.
    ///
    /// # Errors
    /// When the step is given up.
    pub async fn chunk(&self, position: usize, changed: bool) -> Result<Option<Chunk>, Abandoned> {
        if position >= self.chunks.len() {
            return Ok(None);
        }
        let mut finished = self.finished.subscribe();
        let finished = finished
            .wait_for(|finished| finished.abandoned || finished.order.len() > position)
            .await
            .map_err(|_| Abandoned)?;
        let index = *finished.order.get(position).ok_or(Abandoned)? as usize;
        let chunk = self.chunks[index].get().ok_or(Abandoned)?;
        let data = chunk.change.as_ref().filter(|_| changed).unwrap_or(&chunk.whole).clone();
        Ok(Some(Chunk { offset: (index * CHUNK_ELEMENTS) as u64, data }))
    }
}

/// The parameters that workers may ask for: the committed ones and the next.
#[derive(Debug)]
pub struct ParameterBoard {
    format: Arc<ParameterFormat>,
    steps: Mutex<BTreeMap<u64, Arc<PublishedParameters>>>,
    newest: watch::Sender<u64>,
}

impl ParameterBoard {
    /// A board that holds the committed parameters, those of `step`. All travel in this format.
    pub fn new(step: u64, committed: &Flat, format: ParameterFormat) -> Self {
        let format = Arc::new(format);
        let steps = BTreeMap::from([(step, Arc::new(PublishedParameters::whole(committed, format.clone())))]);
        ParameterBoard { format, steps: Mutex::new(steps), newest: watch::Sender::new(step) }
    }

    /// A board that holds nothing. All that it gets travels in this format.
    pub fn empty(format: Arc<ParameterFormat>) -> Self {
        ParameterBoard { format, steps: Mutex::default(), newest: watch::Sender::new(0) }
    }

    /// Begins to publish the parameters of `step`, `len` elements. The chunks `kept` are those of the step before.
    pub fn open(
        &self,
        step: u64,
        len: usize,
        kept: impl IntoIterator<Item = (usize, Arc<ChunkBuffer>)>,
    ) -> Arc<PublishedParameters> {
        let mut published = PublishedParameters::new(chunk_count(len), self.format.clone());
        for (index, values) in kept {
            published.finish(index, values, None);
            published.kept += 1;
        }
        let published = Arc::new(published);
        self.steps.lock().insert(step, published.clone());
        self.newest.send_replace(step);
        published
    }

    /// Gives up the parameters of `step`, which were being made.
    pub fn abandon(&self, step: u64) {
        if let Some(published) = self.steps.lock().remove(&step) {
            published.abandon();
        }
    }

    /// The parameters of `step` are committed: older ones are forgotten.
    pub fn commit(&self, step: u64) {
        let mut steps = self.steps.lock();
        *steps = steps.split_off(&step);
    }

    /// The digest by which workers know the committed parameters of `step`, whose own digest is `digest`.
    pub fn digest_of(&self, step: u64, digest: Digest) -> Digest {
        self.steps.lock().get(&step).and_then(|published| published.digest()).unwrap_or(digest)
    }

    /// The parameters of `step`; waits until they begin to be made. `None` when they are gone already.
    pub async fn get(&self, step: u64) -> Option<Arc<PublishedParameters>> {
        self.newest.subscribe().wait_for(|newest| *newest >= step).await.ok()?;
        self.steps.lock().get(&step).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buffer(len: usize, value: f32) -> Arc<ChunkBuffer> {
        Arc::new(ChunkBuffer::of(&vec![value; len]))
    }

    fn values(chunk: &Chunk) -> Vec<f32> {
        let mut values = vec![0.0; chunk.data.wire_len() / 4];
        assert!(chunk.data.copy_to(&mut values));
        values
    }

    #[tokio::test]
    async fn chunks_come_in_the_order_they_are_finished() {
        let len = 2 * CHUNK_ELEMENTS + 5;
        let board = ParameterBoard::new(3, &Flat::of(&vec![3.0; len]), ParameterFormat::default());
        let next = board.open(4, len, []);
        next.finish(2, buffer(5, 1.0), None);
        next.finish(0, buffer(CHUNK_ELEMENTS, 2.0), None);
        let reader = board.get(4).await.unwrap();
        let first = reader.chunk(0, false).await.unwrap().unwrap();
        assert_eq!((first.offset, values(&first)), (2 * CHUNK_ELEMENTS as u64, vec![1.0; 5]));
        assert_eq!(reader.chunk(1, false).await.unwrap().unwrap().offset, 0);
        let waiting = tokio::spawn(async move { reader.chunk(2, false).await });
        next.finish(1, buffer(CHUNK_ELEMENTS, 3.0), None);
        assert_eq!(waiting.await.unwrap().unwrap().unwrap().offset, CHUNK_ELEMENTS as u64);
        assert_eq!(next.chunk(3, false).await, Ok(None));
    }

    #[tokio::test]
    async fn committed_parameters_are_read_where_they_lie_and_older_ones_forgotten() {
        let len = CHUNK_ELEMENTS + 1;
        let (old, new) = (Flat::of(&vec![3.0; len]), Flat::of(&vec![4.0; len]));
        let board = ParameterBoard::new(3, &old, ParameterFormat::default());
        let next = board.open(4, len, []);
        new.chunks().iter().enumerate().for_each(|(index, chunk)| next.finish(index, chunk.clone(), None));
        board.commit(4);
        assert!(board.get(3).await.is_none());
        assert!(old.chunks().iter().all(|chunk| Arc::strong_count(chunk) == 1), "nothing else holds the old ones");
        let published = board.get(4).await.unwrap();
        assert_eq!(values(&published.chunk(1, false).await.unwrap().unwrap()), [4.0]);
        assert_eq!(published.chunk(2, false).await, Ok(None));
    }

    #[tokio::test]
    async fn what_is_kept_comes_first_so_that_who_has_it_may_begin_behind_it() {
        let len = 2 * CHUNK_ELEMENTS + 5;
        let old = Flat::of(&vec![3.0; len]);
        let board = ParameterBoard::new(3, &old, ParameterFormat::default());
        assert_eq!(board.get(3).await.unwrap().kept(), 0);
        let kept = [0, 1].map(|index| (index, old.chunks()[index].clone()));
        let next = board.open(4, len, kept);
        next.finish(2, buffer(5, 4.0), None);
        assert_eq!(next.kept(), 2);
        assert_eq!(values(&next.chunk(2, false).await.unwrap().unwrap()), [4.0; 5]);
        assert_eq!(next.chunk(3, false).await, Ok(None));
        assert_eq!(next.chunk(0, false).await.unwrap().unwrap().offset, 0, "and who has nothing gets all");
    }

    #[tokio::test]
    async fn readers_of_an_abandoned_step_are_told() {
        let board = ParameterBoard::new(0, &Flat::of(&[0.0]), ParameterFormat::default());
        let next = board.open(1, 1, []);
        board.abandon(1);
        assert_eq!(next.chunk(0, false).await, Err(Abandoned));
        assert!(board.get(1).await.is_none());
    }

    #[tokio::test]
    async fn what_travels_as_bf16_has_a_digest_of_its_own() {
        let layers = "layers = [{ type = \"flatten\" }, { type = \"linear\", out = 200 }, \
                      { type = \"linear\", out = 3 }]";
        let plan = convoy_testing::plan(&format!("numerics = \"cpu-bf16-v1\"\n[network]\n{layers}"), [20, 20, 1], 3);
        let network = convoy_model::Network::of(&plan).unwrap();
        let flat: Vec<f32> = (0..network.len()).map(|index| 1.0 / (index + 1) as f32).collect();
        let format = ParameterFormat::of(&plan, &network);
        let wanted = format.digest(&network, &flat);
        let old = network.digest(&flat);
        assert_ne!(wanted, old);
        let chunks = Flat::of(&flat);
        assert_eq!(chunks.chunks().len(), 2);
        let board = ParameterBoard::new(3, &chunks, format.clone());
        assert_eq!(board.digest_of(3, old), wanted);
        let next = board.open(4, flat.len(), []);
        next.finish(1, chunks.chunks()[1].clone(), None);
        assert_eq!(board.digest_of(4, old), old, "it is not there yet");
        next.finish(0, chunks.chunks()[0].clone(), None);
        assert_eq!(board.digest_of(4, old), wanted);
        let first = next.chunk(1, false).await.unwrap().unwrap();
        let mut came = vec![0.0; CHUNK_ELEMENTS];
        assert!(first.data.wire_len() < 3 * CHUNK_ELEMENTS && format.read(0, &first.data.to_bytes(), &mut came));
    }

    #[tokio::test]
    async fn who_has_the_step_before_may_get_what_was_changed() {
        let len = CHUNK_ELEMENTS + 1;
        let board = ParameterBoard::new(3, &Flat::of(&vec![3.0; len]), ParameterFormat::default());
        let next = board.open(4, len, []);
        next.finish(1, buffer(1, 4.0), Some(Bytes::from_static(&[0x80, 0x3f])));
        let (whole, changed) =
            (next.chunk(0, false).await.unwrap().unwrap(), next.chunk(0, true).await.unwrap().unwrap());
        assert_eq!((values(&whole), changed.offset), (vec![4.0], CHUNK_ELEMENTS as u64));
        let mut change = [0.0];
        assert!(changed.data.copy_halves_to(&mut change) && change == [1.0]);
        next.finish(0, buffer(CHUNK_ELEMENTS, 5.0), None);
        let whole = next.chunk(1, true).await.unwrap().unwrap();
        assert_eq!(values(&whole)[0], 5.0, "where nothing is rounded all of it comes");
    }
}
