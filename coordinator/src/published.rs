//! The parameters of a step on their way out: workers read chunks while later ones are still being made.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use convoy_proto::{CHUNK_ELEMENTS, chunk_count, chunk_range, to_le_bytes};
use tokio::sync::watch;

/// The parameters and buffers of one step, chunk by chunk.
#[derive(Debug)]
pub struct Published {
    chunks: Vec<OnceLock<Bytes>>,
    finished: watch::Sender<Finished>,
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

impl Published {
    /// Room for `len` elements, none finished.
    pub fn new(len: usize) -> Self {
        Published {
            chunks: (0..chunk_count(len)).map(|_| OnceLock::new()).collect(),
            finished: watch::Sender::new(Finished::default()),
        }
    }

    /// All elements at once.
    pub fn whole(flat: &[f32]) -> Self {
        let published = Published::new(flat.len());
        (0..chunk_count(flat.len())).for_each(|index| published.finish(index, &flat[chunk_range(flat.len(), index)]));
        published
    }

    /// Chunk `index` is ready; it holds `values`.
    pub fn finish(&self, index: usize, values: &[f32]) {
        if self.chunks[index].set(to_le_bytes(values)).is_ok() {
            self.finished.send_modify(|finished| finished.order.push(index as u32));
        }
    }

    fn abandon(&self) {
        self.finished.send_modify(|finished| finished.abandoned = true);
    }

    /// The chunk that was finished as number `position`, with its first element; waits for it. `None` after the
    /// last one.
    ///
    /// # Errors
    /// When the step is given up.
    pub async fn chunk(&self, position: usize) -> Result<Option<(u64, Bytes)>, Abandoned> {
        if position >= self.chunks.len() {
            return Ok(None);
        }
        let mut finished = self.finished.subscribe();
        let finished = finished
            .wait_for(|finished| finished.abandoned || finished.order.len() > position)
            .await
            .map_err(|_| Abandoned)?;
        let index = *finished.order.get(position).ok_or(Abandoned)? as usize;
        let data = self.chunks[index].get().cloned().ok_or(Abandoned)?;
        Ok(Some(((index * CHUNK_ELEMENTS) as u64, data)))
    }
}

/// The parameters that workers may ask for: the committed ones and the next.
#[derive(Debug)]
pub struct Board {
    steps: Mutex<BTreeMap<u64, Arc<Published>>>,
    newest: watch::Sender<u64>,
}

impl Board {
    /// A board that holds the parameters of `step`.
    pub fn new(step: u64, flat: &[f32]) -> Self {
        let steps = BTreeMap::from([(step, Arc::new(Published::whole(flat)))]);
        Board { steps: Mutex::new(steps), newest: watch::Sender::new(step) }
    }

    /// Begins to publish the parameters of `step`.
    pub fn open(&self, step: u64, len: usize) -> Arc<Published> {
        let published = Arc::new(Published::new(len));
        self.lock().insert(step, published.clone());
        self.newest.send_replace(step);
        published
    }

    /// Gives up the parameters of `step`, which were being made.
    pub fn abandon(&self, step: u64) {
        if let Some(published) = self.lock().remove(&step) {
            published.abandon();
        }
    }

    /// The parameters of `step` are committed: older ones are forgotten.
    pub fn commit(&self, step: u64) {
        let mut steps = self.lock();
        *steps = steps.split_off(&step);
    }

    /// The parameters of `step`; waits until they begin to be made. `None` when they are gone already.
    pub async fn get(&self, step: u64) -> Option<Arc<Published>> {
        self.newest.subscribe().wait_for(|newest| *newest >= step).await.ok()?;
        self.lock().get(&step).cloned()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Arc<Published>>> {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn chunks_come_in_the_order_they_are_finished() {
        let len = 2 * CHUNK_ELEMENTS + 5;
        let board = Board::new(3, &vec![0.0; len]);
        let next = board.open(4, len);
        next.finish(2, &[1.0; 5]);
        next.finish(0, &vec![2.0; CHUNK_ELEMENTS]);
        let reader = board.get(4).await.unwrap();
        assert_eq!(reader.chunk(0).await.unwrap().unwrap().0, 2 * CHUNK_ELEMENTS as u64);
        assert_eq!(reader.chunk(1).await.unwrap().unwrap().0, 0);
        let waiting = tokio::spawn(async move { reader.chunk(2).await });
        next.finish(1, &vec![3.0; CHUNK_ELEMENTS]);
        assert_eq!(waiting.await.unwrap().unwrap().unwrap().0, CHUNK_ELEMENTS as u64);
        assert_eq!(next.chunk(3).await, Ok(None));
        board.commit(4);
        assert!(board.get(3).await.is_none());
    }

    #[tokio::test]
    async fn readers_of_an_abandoned_step_are_told() {
        let board = Board::new(0, &[0.0]);
        let next = board.open(1, 1);
        board.abandon(1);
        assert_eq!(next.chunk(0).await, Err(Abandoned));
        assert!(board.get(1).await.is_none());
    }
}
