//! Threads that prepare batches ahead of the computation.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use convoy_common::{Batch, panic_text};
use parking_lot::{Condvar, Mutex};

use crate::dataset::Dataset;
use crate::error::LoadError;
use crate::prepare::Mode;

/// A batch that will be needed: the samples of a shard, in their order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Request {
    /// Whether samples are changed at random, and under which addresses.
    pub mode: Mode,
    /// Indices in the split.
    pub samples: Vec<u32>,
}

/// Prepares batches of one data set on threads of its own. The contents of a batch depend on the request alone; the
/// number of threads and the order of requests change only when it is ready.
pub struct Loader {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// The part of a loader that its threads see.
struct Shared {
    dataset: Arc<Dataset>,
    capacity: usize,
    state: Mutex<LoaderState>,
    /// There is something to prepare, or the loader closes.
    work: Condvar,
    /// A batch is ready.
    ready: Condvar,
}

#[derive(Default)]
struct LoaderState {
    /// Requests that no thread has begun, oldest first.
    queue: VecDeque<Request>,
    /// All requests that were neither taken nor dropped.
    batches: BTreeMap<Request, BatchState>,
    closed: bool,
}

/// How far a requested batch is.
enum BatchState {
    Queued,
    Preparing,
    Ready(Result<Batch, LoadError>),
}

impl Loader {
    /// A loader with `threads` threads (at least one) that holds at most `capacity` batches (at least one), waiting
    /// and ready together.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn new(dataset: Arc<Dataset>, threads: usize, capacity: usize) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            dataset,
            capacity: capacity.max(1),
            state: Mutex::default(),
            work: Condvar::new(),
            ready: Condvar::new(),
        });
        let mut loader = Loader { shared, threads: Vec::new() };
        for _ in 0..threads.max(1) {
            let shared = Arc::clone(&loader.shared);
            loader.threads.push(std::thread::Builder::new().spawn(move || shared.work())?);
        }
        Ok(loader)
    }

    /// The data set that batches are made of.
    pub fn dataset(&self) -> &Arc<Dataset> {
        &self.shared.dataset
    }

    /// Asks for a batch ahead of time. A request that is already here counts once. False when the loader is full; the
    /// request is then forgotten, and [`Loader::take`] prepares it itself.
    pub fn request(&self, request: Request) -> bool {
        let mut state = self.shared.state.lock();
        if state.batches.contains_key(&request) {
            return true;
        }
        if state.batches.len() >= self.shared.capacity {
            return false;
        }
        state.batches.insert(request.clone(), BatchState::Queued);
        state.queue.push_back(request);
        drop(state);
        self.shared.work.notify_one();
        true
    }

    /// The batch, and how long the caller waited for it. A batch that no thread has begun is prepared by the caller.
    ///
    /// # Errors
    /// As [`Dataset::batch`].
    pub fn take(&self, request: &Request) -> (Result<Batch, LoadError>, Duration) {
        let start = Instant::now();
        let mut state = self.shared.state.lock();
        loop {
            match state.batches.remove(request) {
                Some(BatchState::Ready(batch)) => return (batch, start.elapsed()),
                Some(BatchState::Preparing) => {
                    state.batches.insert(request.clone(), BatchState::Preparing);
                    self.shared.ready.wait(&mut state);
                }
                Some(BatchState::Queued) => {
                    state.queue.retain(|queued| queued != request);
                    break;
                }
                None => break,
            }
        }
        drop(state);
        (self.shared.prepare(request), start.elapsed())
    }

    /// Drops all requests that `wanted` is false for; a batch being prepared is thrown away when it is ready.
    pub fn retain(&self, wanted: impl Fn(&Request) -> bool) {
        let mut state = self.shared.state.lock();
        state.queue.retain(&wanted);
        state.batches.retain(|request, _| wanted(request));
        drop(state);
        // Whoever waits for a dropped batch prepares it.
        self.shared.ready.notify_all();
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        self.shared.state.lock().closed = true;
        self.shared.work.notify_all();
        for thread in self.threads.drain(..) {
            // The thread catches panics while it prepares a batch; there is nothing left to report.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn prepare(&self, request: &Request) -> Result<Batch, LoadError> {
        let batch = || self.dataset.batch(&request.samples, request.mode);
        catch_unwind(AssertUnwindSafe(batch))
            .unwrap_or_else(|panic| Err(LoadError::Panic { reason: panic_text(panic.as_ref()).to_owned() }))
    }

    /// Prepares batches until the loader is dropped; each thread runs this.
    fn work(&self) {
        let mut state = self.state.lock();
        while !state.closed {
            let Some(request) = state.queue.pop_front() else {
                self.work.wait(&mut state);
                continue;
            };
            state.batches.insert(request.clone(), BatchState::Preparing);
            drop(state);
            let batch = self.prepare(&request);
            state = self.state.lock();
            // It may have been dropped meanwhile.
            if let Some(progress) = state.batches.get_mut(&request) {
                *progress = BatchState::Ready(batch);
            }
            self.ready.notify_all();
        }
    }
}
