//! The files of a run as a worker gets them: from a folder that it sees, from its cache, else from the coordinator.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use convoy_common::Digest;
use convoy_common::data_place::DataPlace;
use convoy_common::file_tree::Files;
use convoy_common::manifest::{FileEntry, Manifest, Split};
use convoy_files::here;
use convoy_proto::v1::coordinator_client::CoordinatorClient;
use parking_lot::{Condvar, Mutex};
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::assignment::Assignment;
use crate::disk_cache::DiskCache;
use crate::file_requests::FileRequests;

/// How long nothing may come of any file before a shard stops waiting for one and its lease fails. A slow link is no
/// reason to give up: bytes that come are on their way to the file that is waited for, which goes before all others.
const PATIENCE: Duration = Duration::from_secs(60);
/// Before a call that failed is made again.
const AGAIN: Duration = Duration::from_millis(200);
/// Files in one call.
const BATCH: usize = 64;
/// Bytes that may be held of files which came ahead of time and found no room in the cache.
const AHEAD: usize = 64 << 20;

/// The files of a manifest. Whatever is read has the digest that the manifest names, except on the disk that worker and
/// coordinator share, where vision finds out what has changed.
#[derive(Debug)]
pub(crate) struct RunFiles {
    /// Training files come first in the manifest's numbering.
    splits: [Arc<Split>; 2],
    /// A folder of this machine that may hold them.
    sees: Option<PathBuf>,
    cache: Option<Arc<DiskCache>>,
    patience: Duration,
    requests: Mutex<FileRequests>,
    /// When bytes came last.
    flowed: Mutex<Instant>,
    /// A file came.
    arrived: Condvar,
    /// A file is wanted.
    wanted: Notify,
}

/// Fetches files as long as it lives.
#[derive(Debug)]
pub(crate) struct Fetching(AbortHandle);

impl Drop for Fetching {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl RunFiles {
    /// The files of `manifest`. `sees` is a folder of this machine that may hold them.
    pub(crate) fn new(manifest: &Manifest, sees: Option<PathBuf>, cache: Option<Arc<DiskCache>>) -> Self {
        if let Some(cache) = &cache {
            cache.begin_run();
        }
        RunFiles {
            splits: [manifest.train.clone(), manifest.validation.clone()],
            sees,
            cache,
            patience: PATIENCE,
            requests: Mutex::default(),
            flowed: Mutex::new(Instant::now()),
            arrived: Condvar::new(),
            wanted: Notify::new(),
        }
    }

    /// Begins to fetch from the coordinator behind `client`. Files that were on their way are asked for again.
    pub(crate) fn fetch_from(self: &Arc<Self>, client: CoordinatorClient<Channel>, assignment: Assignment) -> Fetching {
        self.requests.lock().ask_again();
        Fetching(tokio::spawn(fetch(self.clone(), client, assignment)).abort_handle())
    }

    /// Fetches files ahead of time: `files` of the training split, or else of the validation split.
    pub(crate) fn will_need(&self, train: bool, files: impl Iterator<Item = u32>) {
        let first = if train { 0 } else { self.splits[0].files.len() as u32 };
        let mut requests = self.requests.lock();
        let mut new = false;
        for file in files.map(|file| first + file) {
            new |= !self.is_near(file) && requests.will_need(file);
        }
        drop(requests);
        if new {
            self.wanted.notify_one();
        }
    }

    /// Whether the file is on this machine, as far as is known without reading it.
    fn is_near(&self, file: u32) -> bool {
        let (split, entry) = self.entry(file);
        let is_seen = || self.seen(&Path::new(&split.root).join(entry.path)).is_some_and(|path| here().is_file(&path));
        self.cache.as_ref().is_some_and(|cache| cache.holds(&entry.blake3)) || is_seen()
    }

    /// File number `file` of the manifest.
    fn entry(&self, file: u32) -> (&Split, FileEntry<'_>) {
        let [train, validation] = &self.splits;
        match (file as usize).checked_sub(train.files.len()) {
            None => (train, train.files.at(file as usize)),
            Some(rest) => (validation, validation.files.at(rest)),
        }
    }

    /// The number in the manifest of the file at `path`.
    fn number(&self, path: &Path) -> Option<u32> {
        let [train, validation] = &self.splits;
        let find = |split: &Split| {
            let inner = path.strip_prefix(&split.root).ok()?.to_str()?;
            Some(split.files.position(inner)? as u32)
        };
        find(train).or_else(|| Some(train.files.len() as u32 + find(validation)?))
    }

    /// Where the file at `path` is on a disk that this machine shares or that holds the same data.
    fn seen(&self, path: &Path) -> Option<PathBuf> {
        seen_in(self.sees.as_ref()?, path.to_str()?)
    }

    /// Waits for a file from the coordinator.
    fn fetched(&self, file: u32) -> io::Result<Vec<u8>> {
        let begun = Instant::now();
        let deadline = || begun.max(*self.flowed.lock()) + self.patience;
        let mut requests = self.requests.lock();
        if requests.begin_to_wait(file) {
            self.wanted.notify_one();
        }
        while !requests.is_here(file) && Instant::now() < deadline() {
            self.arrived.wait_until(&mut requests, deadline());
        }
        match requests.end_to_wait(file) {
            Some(Ok(bytes)) => Ok(bytes.into()),
            Some(Err(reason)) => Err(io::Error::other(reason)),
            None => {
                let text = format!("nothing came from the coordinator for {} s", self.patience.as_secs());
                Err(io::Error::new(io::ErrorKind::TimedOut, text))
            }
        }
    }

    /// Waits for files that are wanted.
    async fn next_batch(&self) -> Vec<u32> {
        loop {
            let batch = self.take_batch();
            if !batch.is_empty() {
                return batch;
            }
            self.wanted.notified().await;
        }
    }

    pub(crate) fn take_batch(&self) -> Vec<u32> {
        self.requests.lock().take_batch(BATCH)
    }

    /// Takes a file in that came whole, or a reason why it will not.
    fn take(&self, file: u32, contents: Result<Bytes, String>) {
        let digest = &self.entry(file).1.blake3;
        let contents = contents.and_then(|bytes| match Digest::of(&bytes) == *digest {
            true => Ok(bytes),
            false => Err("the coordinator sent other bytes than the manifest names".to_owned()),
        });
        let kept = match (&contents, &self.cache) {
            (Ok(bytes), Some(cache)) => cache.put(digest, bytes),
            _ => false,
        };
        self.requests.lock().arrived(file, contents, kept, AHEAD);
        self.arrived.notify_all();
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
        let file = self.number(path).ok_or(io::ErrorKind::NotFound)?;
        let digest = self.entry(file).1.blake3;
        let place = path.to_str().and_then(|path| DataPlace::parse(path).ok());
        let place = place.ok_or(io::ErrorKind::InvalidInput)?;
        if let DataPlace::Local(path) = &place {
            // The coordinator of one run, on this machine: it reads the same disk.
            return here().read(path);
        }
        if let Some(bytes) = self.seen(path).and_then(|path| here().read(&path).ok())
            && Digest::of(&bytes) == digest
        {
            return Ok(bytes);
        }
        if let Some(bytes) = self.cache.as_ref().and_then(|cache| cache.get(&digest)) {
            return Ok(bytes);
        }
        self.fetched(file)
    }
}

/// Asks for files as they are wanted, for ever.
async fn fetch(files: Arc<RunFiles>, mut client: CoordinatorClient<Channel>, assignment: Assignment) {
    loop {
        let batch = files.next_batch().await;
        let mut done = 0;
        if let Err(status) = fetch_batch(&files, &mut client, assignment, &batch, &mut done).await {
            let mut left = &batch[done..];
            if let (Code::DataLoss | Code::NotFound | Code::PermissionDenied, Some((first, rest))) =
                (status.code(), left.split_first())
            {
                files.take(*first, Err(status.message().to_owned()));
                left = rest;
            }
            tracing::debug!(%status, files = left.len(), "asking for files again");
            files.requests.lock().put_back(left);
            tokio::time::sleep(AGAIN).await;
        }
    }
}

/// Asks for the files of `batch` and takes them in, one after the other; `done` counts them.
async fn fetch_batch(
    files: &Arc<RunFiles>,
    client: &mut CoordinatorClient<Channel>,
    assignment: Assignment,
    batch: &[u32],
    done: &mut usize,
) -> Result<(), Status> {
    let mut pieces = client.files(assignment.files(batch.to_vec())).await?.into_inner();
    let mut bytes = Vec::new();
    while let Some(piece) = pieces.message().await? {
        let Some(&file) = batch.get(*done) else {
            return Err(Status::internal("more files came than were asked for"));
        };
        if bytes.len() as u64 + piece.data.len() as u64 > files.entry(file).1.size {
            return Err(Status::data_loss("more bytes came than the manifest names"));
        }
        *files.flowed.lock() = Instant::now();
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

#[cfg(test)]
mod tests;
