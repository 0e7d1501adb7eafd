//! The gRPC service for data sets: turns the wire into calls of [`DataStore`]. It decides nothing.

use std::sync::Arc;

use bytes::Bytes;
use convoy_common::Digest;
use convoy_common::data_place::{DataName, DataPlaceError};
use convoy_common::memory::{OutOfMemory, WORK};
use convoy_proto::{v1, v1::data_server};
use tokio::sync::mpsc;
use tonic::{Request, Response, Status, Streaming};

use super::access_layer::caller_of;
use crate::data::error::DataError;
use crate::data::set::{DataSet, SetFile};
use crate::data::store::DataStore;
use crate::jobs::queue::Jobs;

/// Digests in one question.
const ASKED: usize = 16_384;
/// Pieces that wait for the disk.
const WAITING: usize = 2;

/// The service.
#[derive(Clone)]
pub(crate) struct DataService {
    pub(crate) store: Arc<DataStore>,
    /// Who needs what.
    pub(crate) jobs: Arc<Jobs>,
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
    if path.as_str().contains(char::is_control) {
        let name = path.as_str().escape_debug();
        let text = format!("the name of the file `{name}` holds a control character; rename it and push again");
        return Err(Status::invalid_argument(text));
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
        let (mut head, mut files) = (None, Vec::new());
        let out_of_memory = |error: OutOfMemory| Status::resource_exhausted(error.to_string());
        let mut held = WORK.try_take(0).map_err(out_of_memory)?;
        while let Some(message) = messages.message().await? {
            if head.is_none() {
                head = Some((message.name.parse::<DataName>().map_err(invalid)?, message.replace));
            }
            for file in &message.files {
                held.try_grow((file.path.len() + size_of::<SetFile>()) as u64).map_err(out_of_memory)?;
                files.push(set_file(file)?);
            }
        }
        let Some((name, replace)) = head.filter(|_| !files.is_empty()) else {
            return Err(Status::invalid_argument("a data set has a name and files"));
        };
        let (store, now) = (self.store.clone(), jiff::Timestamp::now().to_string());
        let naming = move || {
            let _held = held;
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
    fn names_of_files_are_plain_and_can_be_printed() {
        let taken = |path: &str| {
            let file = v1::DataFile { path: path.to_owned(), digest: vec![0; 32].into(), size: 1 };
            set_file(&file).map(|_| ()).map_err(|status| status.message().to_owned())
        };
        assert_eq!(taken("cats/\u{fc}ml\u{e4}ut 1.png"), Ok(()));
        assert!(taken("../x").is_err() && taken("/x").is_err() && taken("").is_err());
        for path in ["a\nb", "\u{1b}]0;OWNED\u{7}/x.png", "a\u{9b}b"] {
            let refused = taken(path).unwrap_err();
            assert!(refused.contains("control character") && !refused.contains(char::is_control), "{refused}");
        }
    }
}
