//! The gRPC service for data sets: turns the wire into calls of [`DataStore`]. It decides nothing.

use std::sync::Arc;

use bytes::Bytes;
use convoy_common::Digest;
use convoy_common::data_place::{DataName, DataPlaceError};
use convoy_proto::{v1, v1::data_server};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tonic::{Request, Response, Status, Streaming};

use super::access_layer::caller_of;
use crate::data::error::DataError;
use crate::data::set::{DataSet, SetFile};
use crate::data::store::DataStore;
use crate::jobs::queue::Jobs;

/// Digests in one question.
const ASKED: usize = 16_384;
/// Memory for lists of files that are being named, all calls together.
const LISTS: usize = 2 << 30;
/// What memory for lists is counted in.
const LIST_UNIT: usize = 1 << 10;
/// Pieces that wait for the disk.
const WAITING: usize = 8;

/// The service.
#[derive(Clone)]
pub(crate) struct DataService {
    pub(crate) store: Arc<DataStore>,
    /// Who needs what.
    pub(crate) jobs: Arc<Jobs>,
    lists: Arc<Semaphore>,
}

impl DataService {
    pub(crate) fn new(store: Arc<DataStore>, jobs: Arc<Jobs>) -> Self {
        DataService { store, jobs, lists: Arc::new(Semaphore::new(LISTS / LIST_UNIT)) }
    }
}

/// Memory for some more files of a list, as long as the permit is held.
fn memory_for(lists: &Arc<Semaphore>, files: &[v1::DataFile]) -> Result<OwnedSemaphorePermit, Status> {
    let units = files.iter().map(memory_of).sum::<usize>().div_ceil(LIST_UNIT) as u32;
    lists.clone().try_acquire_many_owned(units).map_err(|_| {
        Status::resource_exhausted(format!(
            "the lists of data sets that are being named take more than {} MiB of the coordinator's memory; try again \
             when others are done, or push the data as several data sets or as archives",
            LISTS >> 20
        ))
    })
}

/// Bytes that a file of a list takes.
fn memory_of(file: &v1::DataFile) -> usize {
    /// What an allocation costs beside its bytes.
    const OVERHEAD: usize = 16;
    size_of::<SetFile>() + file.path.len() + OVERHEAD
}

impl From<DataError> for Status {
    fn from(error: DataError) -> Self {
        let message = error.to_string();
        match error {
            DataError::Unknown(_) => Status::not_found(message),
            DataError::Taken(_) | DataError::Used { .. } => Status::failed_precondition(message),
            DataError::Missing { .. } => Status::aborted(message),
            DataError::Wrong { .. } => Status::invalid_argument(message),
            DataError::NoRoom(_) => Status::resource_exhausted(message),
            DataError::Store(_) | DataError::Io(_) => Status::internal(message),
        }
    }
}

fn invalid(error: DataPlaceError) -> Status {
    Status::invalid_argument(error.to_string())
}

fn digest(bytes: &[u8]) -> Result<Digest, Status> {
    let bytes = bytes.try_into().map_err(|_| Status::invalid_argument("a digest has 32 bytes"))?;
    Ok(Digest(bytes))
}

fn set_file(file: &v1::DataFile) -> Result<SetFile, Status> {
    let path: convoy_common::data_place::InnerPath = file.path.parse().map_err(invalid)?;
    if path.as_str().is_empty() || path.as_str() != file.path {
        return Err(Status::invalid_argument(format!("`{}` is no plain path of a file", file.path)));
    }
    Ok(SetFile { path, digest: digest(&file.digest)?, size: file.size })
}

fn reply(set: &DataSet) -> Response<v1::DataSetReply> {
    Response::new(v1::DataSetReply { json: json(set) })
}

fn json(set: &DataSet) -> String {
    serde_json::to_string(set).expect("a record is plain data")
}

/// Runs what may wait for the disk.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, DataError> + Send + 'static,
) -> Result<T, Status> {
    let done = tokio::task::spawn_blocking(work).await;
    Ok(done.map_err(|error| Status::internal(format!("the data store crashed: {error}")))??)
}

/// A piece of a file on its way in; with the first one, which file it is.
struct Piece {
    file: Option<SetFile>,
    bytes: Bytes,
}

#[tonic::async_trait]
impl data_server::Data for DataService {
    async fn missing(&self, request: Request<v1::MissingRequest>) -> Result<Response<v1::MissingReply>, Status> {
        let digests = request.into_inner().digests;
        if !digests.len().is_multiple_of(32) || digests.len() / 32 > ASKED {
            return Err(Status::invalid_argument(format!("ask for at most {ASKED} digests of 32 bytes at a time")));
        }
        let digests: Vec<Digest> = digests.as_chunks::<32>().0.iter().map(|bytes| Digest(*bytes)).collect();
        let store = self.store.clone();
        let missing = blocking(move || store.missing(&digests)).await?;
        Ok(Response::new(v1::MissingReply { missing }))
    }

    async fn push(&self, request: Request<Streaming<v1::PushRequest>>) -> Result<Response<v1::PushReply>, Status> {
        let owner = caller_of(&request).to_string();
        let mut messages = request.into_inner();
        // Pieces are written while others come in; a file is never held whole.
        let (sender, mut pieces) = mpsc::channel::<Piece>(WAITING);
        let store = self.store.clone();
        let writing = tokio::task::spawn_blocking(move || {
            let mut receiver = store.receive(&owner);
            let mut failed = None;
            while let Some(Piece { file, bytes }) = pieces.blocking_recv() {
                let begun = file.map_or(Ok(()), |file| receiver.begin(file));
                if let Err(error) = begun.and_then(|()| receiver.piece(&bytes)) {
                    failed = Some(error);
                    break;
                }
            }
            drop(pieces);
            // What came whole is kept, whatever came after it.
            let received = receiver.finish()?;
            failed.map_or(Ok(received), Err)
        });
        let arrived = take_in(&mut messages, sender).await;
        let written = writing.await.map_err(|error| Status::internal(format!("the data store crashed: {error}")))?;
        let received = written?;
        arrived?;
        Ok(Response::new(v1::PushReply { received }))
    }

    async fn commit(
        &self,
        request: Request<Streaming<v1::CommitRequest>>,
    ) -> Result<Response<v1::DataSetReply>, Status> {
        let mut messages = request.into_inner();
        let (mut head, mut files, mut memory) = (None, Vec::new(), memory_for(&self.lists, &[])?);
        while let Some(message) = messages.message().await? {
            if head.is_none() {
                head = Some((message.name.parse::<DataName>().map_err(invalid)?, message.replace));
            }
            memory.merge(memory_for(&self.lists, &message.files)?);
            for file in &message.files {
                files.push(set_file(file)?);
            }
        }
        let Some((name, replace)) = head.filter(|_| !files.is_empty()) else {
            return Err(Status::invalid_argument("a data set has a name and files"));
        };
        let (store, now) = (self.store.clone(), jiff::Timestamp::now().to_string());
        let naming = move || {
            let _memory = memory;
            store.commit(&name, files, replace, now)
        };
        let set = blocking(naming).await?;
        tracing::info!(name = %set.name, files = set.files, bytes = set.bytes, "data set");
        Ok(reply(&set))
    }

    async fn list_data(&self, _: Request<v1::ListDataRequest>) -> Result<Response<v1::ListDataReply>, Status> {
        let store = self.store.clone();
        let sets = blocking(move || store.list()).await?;
        Ok(Response::new(v1::ListDataReply { json: sets.iter().map(json).collect() }))
    }

    async fn remove_data(&self, request: Request<v1::RemoveDataRequest>) -> Result<Response<v1::DataSetReply>, Status> {
        let name: DataName = request.into_inner().name.parse().map_err(invalid)?;
        let (store, jobs) = (self.store.clone(), self.jobs.clone());
        let removing = move || {
            let used = |job| DataError::Used { name: name.to_string(), job };
            let _claim = jobs.claim_removal(&name).map_err(used)?;
            store.remove(&name)
        };
        let set = blocking(removing).await?;
        tracing::info!(name = %set.name, "data set removed");
        Ok(reply(&set))
    }
}

/// Hands on the pieces of files.
async fn take_in(messages: &mut Streaming<v1::PushRequest>, pieces: mpsc::Sender<Piece>) -> Result<(), Status> {
    // The file that is coming, and how many of its bytes are not here yet.
    let mut coming: Option<(String, u64)> = None;
    while let Some(message) = messages.message().await? {
        let file = message.file.as_ref().map(set_file).transpose()?;
        if let Some(file) = &file {
            if coming.is_some() {
                return Err(Status::invalid_argument("a file began before the one before it was whole"));
            }
            coming = Some((file.path.as_str().to_owned(), file.size));
        }
        let Some((path, left)) = &mut coming else {
            return Err(Status::invalid_argument("a piece of no file"));
        };
        let Some(now_left) = left.checked_sub(message.data.len() as u64) else {
            return Err(Status::invalid_argument(format!("{path} has more bytes than were announced")));
        };
        *left = now_left;
        if now_left == 0 {
            coming = None;
        }
        if pieces.send(Piece { file, bytes: message.data }).await.is_err() {
            // The disk failed, and says so itself.
            return Ok(());
        }
    }
    match coming {
        Some((path, _)) => Err(Status::invalid_argument(format!("{path} ended early"))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_all_calls_share_one_bound() {
        let lists = Arc::new(Semaphore::new(LISTS / LIST_UNIT));
        let file = v1::DataFile { path: "x".repeat(4_000), size: 1, digest: Bytes::new() };
        let files = vec![file; 10_000];
        assert!((40_000_000..42_000_000).contains(&files.iter().map(memory_of).sum::<usize>()));
        let mut held = Vec::new();
        while let Ok(memory) = memory_for(&lists, &files) {
            held.push(memory);
        }
        assert!((50..54).contains(&held.len()), "{}", held.len());
        assert_eq!(memory_for(&lists, &files).unwrap_err().code(), tonic::Code::ResourceExhausted);
        held.pop();
        assert!(memory_for(&lists, &files).is_ok());
    }
}
