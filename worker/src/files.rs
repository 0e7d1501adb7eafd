//! The files of a run as a worker gets them: from a folder that it sees, from its cache, else from the coordinator.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use convoy_common::Digest;
use convoy_common::data_place::DataPlace;
use convoy_common::file_tree::Files;
use convoy_common::manifest::{FileEntry, Manifest};
use convoy_proto::v1;
use convoy_proto::v1::coordinator_client::CoordinatorClient;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::cache::Cache;

/// How long a shard waits for a file before its lease fails.
const PATIENCE: Duration = Duration::from_secs(60);
/// Before a call that failed is made again.
const AGAIN: Duration = Duration::from_millis(200);
/// Files in one call.
const BATCH: usize = 64;
/// Bytes that came ahead of time and found no room in the cache.
const AHEAD: usize = 64 << 20;

/// Who asks whom.
pub(crate) struct Source {
    pub(crate) bulk: CoordinatorClient<Channel>,
    pub(crate) worker: u32,
    pub(crate) job: u64,
    pub(crate) generation: u64,
}

/// The files of a manifest.
#[derive(Debug)]
pub(crate) struct RunFiles {
    /// By path: number in the manifest.
    numbers: HashMap<PathBuf, u32>,
    entries: Vec<Entry>,
    /// Training files come first in the manifest's numbering.
    train_files: u32,
    cache: Option<Arc<Cache>>,
    state: Mutex<State>,
    /// Something came.
    arrived: Condvar,
    /// Something is wanted.
    wanted: Notify,
}

/// A file and where it may be on this machine.
#[derive(Debug)]
struct Entry {
    size: u64,
    digest: Digest,
    /// On a disk that this machine shares or that holds the same data.
    seen: Option<PathBuf>,
}

#[derive(Debug, Default)]
struct State {
    /// Not asked for yet.
    queue: VecDeque<u32>,
    /// In the queue or on their way.
    asked: HashSet<u32>,
    /// How many threads wait for a file.
    waiting: BTreeMap<u32, usize>,
    came: BTreeMap<u32, Result<Bytes, String>>,
    /// Bytes in `came` that nobody waits for.
    ahead: usize,
}

/// Fetches as long as it lives.
pub(crate) struct Fetching(AbortHandle);

impl Drop for Fetching {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl RunFiles {
    pub(crate) fn new(manifest: &Manifest, sees: Option<PathBuf>, cache: Option<Arc<Cache>>) -> Self {
        let splits = [&manifest.train, &manifest.validation];
        let all = splits.into_iter().flat_map(|split| split.files.iter().map(move |file| (&split.root, file)));
        let path = |root: &str, file: &FileEntry| Path::new(root).join(&file.path);
        let numbers = (0..).zip(all.clone()).map(|(number, (root, file))| (path(root, file), number));
        let seen = |path: PathBuf| seen_in(sees.as_ref()?, path.to_str()?);
        let entry = |(root, file): (&String, &FileEntry)| Entry {
            size: file.size,
            digest: file.blake3,
            seen: seen(path(root, file)),
        };
        if let Some(cache) = &cache {
            cache.begin_run();
        }
        RunFiles {
            numbers: numbers.collect(),
            entries: all.map(entry).collect(),
            train_files: manifest.train.files.len() as u32,
            cache,
            state: Mutex::default(),
            arrived: Condvar::new(),
            wanted: Notify::new(),
        }
    }

    /// Begins to fetch from a coordinator. What is already waited for is asked for again.
    pub(crate) fn fetch_from(self: &Arc<Self>, source: Source) -> Fetching {
        let mut state = self.lock();
        let State { queue, asked, .. } = &mut *state;
        queue.extend(asked.iter().filter(|file| !queue.contains(file)).copied().collect::<Vec<_>>());
        drop(state);
        Fetching(tokio::spawn(fetch(self.clone(), source)).abort_handle())
    }

    /// Fetches files ahead of time: `files` of the training split, or else of the validation split.
    pub(crate) fn will_need(&self, train: bool, files: impl Iterator<Item = u32>) {
        let first = if train { 0 } else { self.train_files };
        let mut state = self.lock();
        let known = state.queue.len();
        for file in files.map(|file| first + file) {
            let entry = &self.entries[file as usize];
            let is_near = || {
                self.cache.as_ref().is_some_and(|cache| cache.holds(&entry.digest))
                    || entry.seen.as_ref().is_some_and(|path| path.is_file())
            };
            if !state.asked.contains(&file) && !state.came.contains_key(&file) && !is_near() {
                state.asked.insert(file);
                state.queue.push_back(file);
            }
        }
        let more = state.queue.len() > known;
        drop(state);
        if more {
            self.wanted.notify_one();
        }
    }

    /// Waits for a file from the coordinator.
    fn fetched(&self, file: u32) -> io::Result<Vec<u8>> {
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.lock();
        *state.waiting.entry(file).or_default() += 1;
        if !state.came.contains_key(&file) {
            // What somebody waits for goes before what somebody may want.
            let queued = state.queue.iter().position(|queued| *queued == file);
            if let Some(at) = queued {
                state.queue.remove(at);
            }
            if state.asked.insert(file) || queued.is_some() {
                state.queue.push_front(file);
                self.wanted.notify_one();
            }
        }
        while !state.came.contains_key(&file) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state = self.arrived.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        let came = state.came.get(&file).cloned();
        if let Some(waiting) = state.waiting.get_mut(&file) {
            *waiting -= 1;
            if *waiting == 0 {
                state.waiting.remove(&file);
                if let Some(Ok(bytes)) = state.came.remove(&file) {
                    state.ahead = state.ahead.saturating_sub(bytes.len());
                }
            }
        }
        match came {
            Some(Ok(bytes)) => Ok(bytes.into()),
            Some(Err(reason)) => Err(io::Error::other(reason)),
            None => Err(io::Error::new(io::ErrorKind::TimedOut, "the coordinator did not send it")),
        }
    }

    /// The next files to ask for.
    async fn next_batch(&self) -> Vec<u32> {
        loop {
            let batch = self.take_batch();
            if !batch.is_empty() {
                return batch;
            }
            self.wanted.notified().await;
        }
    }

    fn take_batch(&self) -> Vec<u32> {
        let mut state = self.lock();
        let count = state.queue.len().min(BATCH);
        state.queue.drain(..count).collect()
    }

    /// Takes a file in that came whole, or a reason why it will not.
    fn take(&self, file: u32, came: Result<Bytes, String>) {
        let entry = &self.entries[file as usize];
        let came = came.and_then(|bytes| match Digest::of(&bytes) == entry.digest {
            true => Ok(bytes),
            false => Err("the coordinator sent other bytes than the manifest names".to_owned()),
        });
        let kept = match (&came, &self.cache) {
            (Ok(bytes), Some(cache)) => cache.put(&entry.digest, bytes),
            _ => false,
        };
        let mut state = self.lock();
        state.asked.remove(&file);
        if state.waiting.contains_key(&file) {
            state.came.insert(file, came);
            self.arrived.notify_all();
        } else if let (Ok(bytes), false) = (came, kept)
            && state.ahead + bytes.len() <= AHEAD
        {
            state.ahead += bytes.len();
            state.came.insert(file, Ok(bytes));
        }
    }

    fn put_back(&self, files: &[u32]) {
        let mut state = self.lock();
        files.iter().rev().for_each(|file| state.queue.push_front(*file));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where data is in the folder that this machine sees.
fn seen_in(folder: &Path, path: &str) -> Option<PathBuf> {
    match DataPlace::parse(path).ok()? {
        DataPlace::DataSet(name, inner) => Some(folder.join(name.as_str()).join(inner.as_str())),
        DataPlace::Shared(inner) => Some(folder.join(inner.as_str())),
        DataPlace::Local(_) => None,
    }
}

impl Files for RunFiles {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let file = *self.numbers.get(path).ok_or(io::ErrorKind::NotFound)?;
        let entry = &self.entries[file as usize];
        let place = path.to_str().and_then(|path| DataPlace::parse(path).ok());
        let place = place.ok_or(io::ErrorKind::InvalidInput)?;
        if let DataPlace::Local(path) = &place {
            // The coordinator of one run, on this machine: it reads the same disk.
            return std::fs::read(path);
        }
        if let Some(bytes) = entry.seen.as_ref().and_then(|path| std::fs::read(path).ok())
            && Digest::of(&bytes) == entry.digest
        {
            return Ok(bytes);
        }
        if let Some(bytes) = self.cache.as_ref().and_then(|cache| cache.get(&entry.digest)) {
            return Ok(bytes);
        }
        self.fetched(file)
    }
}

async fn fetch(files: Arc<RunFiles>, mut source: Source) {
    loop {
        let batch = files.next_batch().await;
        let mut done = 0;
        if let Err(status) = fetch_batch(&files, &mut source, &batch, &mut done).await {
            let mut left = &batch[done..];
            if let (Code::DataLoss | Code::NotFound | Code::PermissionDenied, Some((first, rest))) =
                (status.code(), left.split_first())
            {
                files.take(*first, Err(status.message().to_owned()));
                left = rest;
            }
            tracing::debug!(%status, files = left.len(), "asking for files again");
            files.put_back(left);
            tokio::time::sleep(AGAIN).await;
        }
    }
}

async fn fetch_batch(
    files: &Arc<RunFiles>,
    source: &mut Source,
    batch: &[u32],
    done: &mut usize,
) -> Result<(), Status> {
    let Source { bulk, worker, job, generation } = source;
    let request = v1::FilesRequest { worker: *worker, job: *job, generation: *generation, files: batch.to_vec() };
    let mut pieces = bulk.files(request).await?.into_inner();
    let mut bytes = Vec::new();
    while let Some(piece) = pieces.message().await? {
        let Some(&file) = batch.get(*done) else {
            return Err(Status::internal("more files came than were asked for"));
        };
        if bytes.len() as u64 + piece.data.len() as u64 > files.entries[file as usize].size {
            return Err(Status::data_loss("more bytes came than the manifest names"));
        }
        bytes.extend_from_slice(&piece.data);
        if piece.last {
            let (files, whole) = (files.clone(), Bytes::from(std::mem::take(&mut bytes)));
            // The disk is waited for on a thread that may.
            let taken = tokio::task::spawn_blocking(move || files.take(file, Ok(whole))).await;
            taken.map_err(|error| Status::internal(error.to_string()))?;
            *done += 1;
        }
    }
    match *done == batch.len() {
        true => Ok(()),
        false => Err(Status::unavailable("the files ended early")),
    }
}
