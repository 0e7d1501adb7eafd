//! The gRPC service for people's commands: turns the wire into calls of [`Jobs`]. It decides nothing.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use convoy_common::planner::Refusal;
use convoy_proto::channel::PIECE;
use convoy_proto::{VERSION, v1, v1::jobs_server};
use convoy_scheduler::JobId;
use serde::Serialize;
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::access_layer::caller_of;
use super::replies::Reply;
use crate::fleet::connections::Connections;
use crate::jobs::limits::LimitError;
use crate::jobs::queue::{JobError, JobView, Jobs, Submission};
use crate::jobs::store::RECORD;
use crate::jobs::tail::lines_from;
use crate::run::folder::worker_logs;

/// How often a watched job, or a log that grows, is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How often a log to which nothing comes is looked at.
const LOOK_AT_LEAST_EVERY: Duration = Duration::from_secs(2);
/// Replies that wait to be sent.
const WAITING: usize = 1;

/// The service.
#[derive(Clone)]
pub(crate) struct JobsService {
    pub(crate) jobs: Arc<Jobs>,
    /// Who is connected.
    pub(crate) connections: Arc<Connections>,
}

impl From<JobError> for Status {
    fn from(error: JobError) -> Self {
        let message = short(error.to_string());
        match error {
            JobError::Unknown(_) => Status::not_found(message),
            JobError::State { .. } => Status::failed_precondition(message),
            JobError::Spec(_) | JobError::Network(_) | JobError::Init(_) => Status::invalid_argument(message),
            JobError::Limit(LimitError::TooMuch { .. }) => Status::invalid_argument(message),
            JobError::Limit(LimitError::Full { .. }) => Status::resource_exhausted(message),
            JobError::Refused(refusal) => match refusal {
                Refusal::BadSpec(_) | Refusal::BadData(_) => Status::invalid_argument(message),
                Refusal::Missing(_) => Status::not_found(message),
                Refusal::NotAllowed(_) => Status::permission_denied(message),
                Refusal::Unreadable(_) | Refusal::DataChanged(_) => Status::failed_precondition(message),
            },
            JobError::NoRoom(_) => Status::resource_exhausted(message),
            JobError::RunDir(_) | JobError::DataGoes(_) => Status::failed_precondition(message),
            JobError::Store(_) => Status::internal(message),
        }
    }
}

/// Longest reason, in bytes: it travels in a header, where a client takes 16 KiB, each byte as up to three.
const LONGEST_REASON: usize = 4 << 10;

/// `text`, cut where it shows lines of a spec that are longer than any answer.
fn short(mut text: String) -> String {
    if text.len() > LONGEST_REASON {
        text.truncate(text.floor_char_boundary(LONGEST_REASON));
        text.push_str(" ... (cut)");
    }
    text
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("what is answered is plain data")
}

fn reply(view: &JobView) -> Response<v1::JobReply> {
    Response::new(v1::JobReply { json: json(view) })
}

#[tonic::async_trait]
impl jobs_server::Jobs for JobsService {
    type WatchStream = Reply<v1::WatchReply>;
    type LogsStream = Reply<v1::LogsReply>;
    type FetchStream = Reply<v1::FetchReply>;

    async fn submit(&self, request: Request<v1::SubmitRequest>) -> Result<Response<v1::JobReply>, Status> {
        let submitted_by = caller_of(&request).to_string();
        let request = request.into_inner();
        if request.version != VERSION {
            return Err(Status::failed_precondition(format!(
                "this is Convoy {}, the coordinator {VERSION}; install the same version on both",
                request.version
            )));
        }
        let max_workers = (request.max_workers > 0).then_some(request.max_workers);
        let (priority, min_workers) = (request.priority, request.min_workers.max(1));
        if max_workers.is_some_and(|most| most < min_workers) {
            return Err(Status::invalid_argument("--max-workers is smaller than --min-workers"));
        }
        let wishes = Submission { priority, min_workers, max_workers, submitted_by };
        let jobs = self.jobs.clone();
        let submitting = tokio::task::spawn_blocking(move || jobs.submit(&request.spec, wishes));
        let view =
            submitting.await.map_err(|error| Status::internal(format!("looking at the job crashed: {error}")))??;
        Ok(reply(&view))
    }

    async fn list(&self, _: Request<v1::ListRequest>) -> Result<Response<v1::ListReply>, Status> {
        Ok(Response::new(v1::ListReply { json: self.jobs.views().iter().map(json).collect() }))
    }

    async fn workers(&self, _: Request<v1::WorkersRequest>) -> Result<Response<v1::WorkersReply>, Status> {
        Ok(Response::new(v1::WorkersReply { json: self.connections.rows().iter().map(json).collect() }))
    }

    async fn watch(&self, request: Request<v1::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let request = request.into_inner();
        let id = self.jobs.find(&request.job)?;
        let (sender, replies) = mpsc::channel(WAITING);
        tokio::spawn(watch(self.jobs.clone(), id, request.offset, sender));
        Ok(Response::new(Box::pin(ReceiverStream::new(replies))))
    }

    async fn logs(&self, request: Request<v1::LogsRequest>) -> Result<Response<Self::LogsStream>, Status> {
        let request = request.into_inner();
        let id = self.jobs.find(&request.job)?;
        let folder = self.jobs.folder_of(id.0);
        let path = match request.worker.as_str() {
            "" => folder.join("log"),
            worker => worker_log(&folder, worker)?,
        };
        let (sender, replies) = mpsc::channel(WAITING);
        tokio::spawn(logs(self.jobs.clone(), id, path, request.follow, sender));
        Ok(Response::new(Box::pin(ReceiverStream::new(replies))))
    }

    async fn stop(&self, request: Request<v1::JobRequest>) -> Result<Response<v1::JobReply>, Status> {
        self.change(request, Jobs::stop).await
    }

    async fn pause(&self, request: Request<v1::JobRequest>) -> Result<Response<v1::JobReply>, Status> {
        self.change(request, Jobs::pause).await
    }

    async fn resume(&self, request: Request<v1::JobRequest>) -> Result<Response<v1::JobReply>, Status> {
        self.change(request, Jobs::resume).await
    }

    async fn remove(&self, request: Request<v1::JobRequest>) -> Result<Response<v1::JobReply>, Status> {
        self.change(request, Jobs::remove).await
    }

    async fn fetch(&self, request: Request<v1::FetchRequest>) -> Result<Response<Self::FetchStream>, Status> {
        let request = request.into_inner();
        let folder = self.jobs.folder_of(self.jobs.find(&request.job)?.0);
        let (sender, replies) = mpsc::channel(WAITING);
        tokio::spawn(async move {
            if let Err(error) = fetch(&folder, &request, &sender).await {
                _ = sender.send(Err(unreadable(&folder, &error))).await;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(replies))))
    }

    async fn health(&self, _: Request<v1::HealthRequest>) -> Result<Response<v1::HealthReply>, Status> {
        Ok(Response::new(v1::HealthReply { version: VERSION.to_owned() }))
    }
}

impl JobsService {
    /// Changes a job on a thread that may wait for the disk.
    async fn change(
        &self,
        request: Request<v1::JobRequest>,
        change: impl FnOnce(&Jobs, JobId) -> Result<JobView, JobError> + Send + 'static,
    ) -> Result<Response<v1::JobReply>, Status> {
        let id = self.jobs.find(&request.into_inner().job)?;
        let jobs = self.jobs.clone();
        let changing = tokio::task::spawn_blocking(move || change(&jobs, id));
        let view = changing.await.map_err(|error| Status::internal(format!("changing the job crashed: {error}")))??;
        Ok(reply(&view))
    }
}

/// Tells of a job whenever something is new, until it is over or nobody listens.
async fn watch(jobs: Arc<Jobs>, id: JobId, offset: u64, replies: mpsc::Sender<Result<v1::WatchReply, Status>>) {
    tokio::select! {
        () = replies.closed() => {}
        () = tell(&jobs, id, offset, &replies) => {}
    }
}

async fn tell(jobs: &Jobs, id: JobId, mut offset: u64, replies: &mpsc::Sender<Result<v1::WatchReply, Status>>) {
    let path = jobs.folder_of(id.0).join("events.jsonl");
    let mut tick = tokio::time::interval(LOOK_EVERY);
    let mut told = String::new();
    loop {
        tick.tick().await;
        // What comes after this is seen in the next turn.
        let mut news = jobs.news(id);
        // The state first: events that are read after it are at least as new.
        let Some(view) = jobs.view(id) else {
            _ = replies.send(Err(Status::not_found("the job was removed"))).await;
            return;
        };
        let (text, next) = match lines_from(&path, offset).await {
            Ok(read) => read,
            Err(error) => {
                _ = replies.send(Err(unreadable(&path, &error))).await;
                return;
            }
        };
        let text = String::from_utf8_lossy(&text);
        let events: Vec<String> = text.lines().map(str::to_owned).collect();
        let (over, json) = (view.record.state.is_over(), json(&view));
        let complete = next == offset;
        if !complete || json != told {
            offset = next;
            told.clone_from(&json);
            if replies.send(Ok(v1::WatchReply { json, events, offset })).await.is_err() {
                return;
            }
        }
        match complete {
            true if over => return,
            true => news.wait().await,
            false => {}
        }
    }
}

/// Sends a log, and what comes to it if somebody follows it, until the job is over or nobody listens.
async fn logs(
    jobs: Arc<Jobs>,
    id: JobId,
    path: PathBuf,
    follow: bool,
    replies: mpsc::Sender<Result<v1::LogsReply, Status>>,
) {
    tokio::select! {
        () = replies.closed() => {}
        () = copy_log(&jobs, id, &path, follow, &replies) => {}
    }
}

async fn copy_log(
    jobs: &Jobs,
    id: JobId,
    path: &Path,
    follow: bool,
    replies: &mpsc::Sender<Result<v1::LogsReply, Status>>,
) {
    let (mut offset, mut pause) = (0, LOOK_EVERY);
    loop {
        let mut news = jobs.news(id);
        let over = jobs.view(id).is_none_or(|view| view.record.state.is_over());
        let (text, next) = match lines_from(path, offset).await {
            Ok(read) => read,
            Err(error) => {
                _ = replies.send(Err(unreadable(path, &error))).await;
                return;
            }
        };
        if next > offset {
            (offset, pause) = (next, LOOK_EVERY);
            if replies.send(Ok(v1::LogsReply { text: text.into() })).await.is_err() {
                return;
            }
            continue;
        }
        if over || !follow {
            return;
        }
        // Only an open run writes, and nobody tells when it does.
        match news.is_open() {
            true => tokio::time::sleep(pause).await,
            false => news.wait().await,
        }
        pause = (2 * pause).min(LOOK_AT_LEAST_EVERY);
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> Status {
    Status::internal(format!("{}: {error}", path.display()))
}

/// The log of a worker, which was kept under its name.
fn worker_log(folder: &Path, worker: &str) -> Result<PathBuf, Status> {
    let path = worker_logs::path(folder, worker);
    match path.is_file() {
        true => Ok(path),
        false => Err(Status::not_found(format!(
            "nothing was logged by a worker `{worker}` for this job; `convoy workers` shows names"
        ))),
    }
}

/// What only a restart needs.
const ONLY_WITH_ALL: [&str; 8] =
    ["checkpoints", "journal", "journal.damaged", "manifest.bin", "plan.json", "plan-copy.json", "lock", RECORD];

async fn fetch(
    folder: &Path,
    request: &v1::FetchRequest,
    replies: &mpsc::Sender<Result<v1::FetchReply, Status>>,
) -> std::io::Result<()> {
    let mut folders = vec![String::new()];
    while let Some(inside) = folders.pop() {
        let mut entries = tokio::fs::read_dir(folder.join(&inside)).await?;
        while let Some(entry) = entries.next_entry().await? {
            let Ok(name) = entry.file_name().into_string() else { continue };
            let skipped = inside.is_empty() && !request.all && ONLY_WITH_ALL.contains(&name.as_str());
            if skipped || name == "lock" || name.starts_with('.') {
                continue;
            }
            let path = if inside.is_empty() { name } else { format!("{inside}/{name}") };
            let kind = entry.file_type().await?;
            if kind.is_file() && !request.files.is_empty() && !request.files.contains(&path) {
                continue;
            }
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file() && !send_file(folder, path, replies).await? {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Whether somebody still listens.
async fn send_file(
    folder: &Path,
    path: String,
    replies: &mpsc::Sender<Result<v1::FetchReply, Status>>,
) -> std::io::Result<bool> {
    let mut file = tokio::fs::File::open(folder.join(&path)).await?;
    let mut head = path;
    loop {
        let mut data = Vec::with_capacity(PIECE);
        (&mut file).take(PIECE as u64).read_to_end(&mut data).await?;
        let last = data.is_empty();
        if last && head.is_empty() {
            return Ok(true);
        }
        let piece = v1::FetchReply { path: std::mem::take(&mut head), data: data.into() };
        if replies.send(Ok(piece)).await.is_err() {
            return Ok(false);
        }
    }
}

#[cfg(test)]
mod tests;
