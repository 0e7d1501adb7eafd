//! The life of a worker: say hello, go where the coordinator sends it, come back when the connection is lost, leave.

use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use convoy_nn::ComputeError;
use convoy_proto::v1::coordinator_client::CoordinatorClient;
use convoy_proto::v1::coordinator_message::Message;
use convoy_proto::{VERSION, v1};
use convoy_security::ConnectError;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use crate::heart::{Beating, Heart};
use crate::membership::{Membership, News, SetUp};
use crate::{Config, Ended, WorkerError};

const BACKOFF_FIRST: Duration = Duration::from_millis(100);
const BACKOFF_LAST: Duration = Duration::from_secs(2);
/// Messages that wait for the control stream.
const OUTBOX: usize = 256;
/// How long a worker that wants to go waits for leave.
const DRAIN: Duration = Duration::from_secs(10);

/// Works for the coordinator until there is nothing more to do or `stop` asks it to go; then it finishes what it holds.
///
/// A lost connection is opened again, with growing pauses, for as long as [`Config::patience`].
///
/// # Errors
/// When the coordinator cannot be reached or does not want this worker, or the data or network cannot be used.
pub async fn run(mut config: Config, stop: impl Future<Output = ()>) -> Result<Ended, WorkerError> {
    tokio::pin!(stop);
    let heart = Heart::of_process().map_err(|error| ComputeError::Thread(error.to_string()))?;
    let numerics = config.device.numerics().map_err(ComputeError::from)?;
    tracing::info!(device = %config.device, class = numerics.join(" or "), "computing");
    let (mut pause, mut alone_since) = (BACKOFF_FIRST, Instant::now());
    loop {
        let lost = match Session::open(&config, &numerics, &heart).await {
            Ok(session) => {
                let begun = Instant::now();
                let ended = session.run(&mut config, &mut stop).await;
                // A coordinator that puts this worker out as soon as it comes is as good as none.
                if begun.elapsed() >= BACKOFF_LAST {
                    (pause, alone_since) = (BACKOFF_FIRST, Instant::now());
                }
                match ended? {
                    Some(ended) => return Ok(ended),
                    None => "the connection was lost".to_owned(),
                }
            }
            Err(OpenError::Fatal(error)) => return Err(error),
            Err(OpenError::Unreachable(reason)) => reason,
        };
        if config.patience.is_some_and(|patience| alone_since.elapsed() + pause > patience) {
            return Err(WorkerError::Unreachable { address: config.link.borrow().address.clone(), reason: lost });
        }
        let again_in = jittered(pause);
        tracing::info!(reason = lost, ?again_in, "no coordinator");
        tokio::select! {
            () = tokio::time::sleep(again_in) => {}
            () = &mut stop => return Ok(Ended::Drained),
        }
        pause = (pause * 2).min(BACKOFF_LAST);
    }
}

/// Between half of `pause` and all of it, so that a thousand workers do not come back at once.
fn jittered(pause: Duration) -> Duration {
    let fraction = RandomState::new().hash_one(()) as f64 / u64::MAX as f64;
    pause.mul_f64(0.5 + fraction / 2.0)
}

/// Why a connection or a membership could not be opened.
pub(crate) enum OpenError {
    /// Trying again would not help.
    Fatal(WorkerError),
    /// The coordinator is not there, or something else runs by now.
    Unreachable(String),
}

impl From<WorkerError> for OpenError {
    fn from(error: WorkerError) -> Self {
        OpenError::Fatal(error)
    }
}

impl From<Status> for OpenError {
    fn from(status: Status) -> Self {
        // A certificate that is not accepted shows itself in the first call.
        if let Some(error) = ConnectError::find(&status) {
            return error.into();
        }
        match status.code() {
            Code::FailedPrecondition | Code::InvalidArgument | Code::PermissionDenied | Code::Unauthenticated => {
                OpenError::Fatal(WorkerError::Refused { reason: status.message().to_owned() })
            }
            _ => OpenError::Unreachable(status.message().to_owned()),
        }
    }
}

impl From<ConnectError> for OpenError {
    fn from(error: ConnectError) -> Self {
        match error {
            // A coordinator that is being started, or whose name is not known yet.
            ConnectError::Unreachable(reason) => OpenError::Unreachable(reason),
            ConnectError::TimedOut => OpenError::Unreachable(error.to_string()),
            error => OpenError::Fatal(WorkerError::Connect(error)),
        }
    }
}

type Coming = JoinHandle<Result<Membership, OpenError>>;

/// One connection.
struct Session {
    outbox: mpsc::Sender<v1::WorkerMessage>,
    inbox: Streaming<v1::CoordinatorMessage>,
    worker: u32,
    _beating: Beating,
    /// For everything that is large; opened with the first assignment.
    bulk: Option<CoordinatorClient<Channel>>,
    /// A membership on its way: files are opened, threads are started.
    coming: Option<(u64, Coming)>,
    member: Option<Membership>,
}

impl Session {
    async fn open(config: &Config, numerics: &[String], heart: &Heart) -> Result<Session, OpenError> {
        let link = config.link.borrow().clone();
        let (outbox, messages) = mpsc::channel(OUTBOX);
        let hello = v1::Hello {
            version: VERSION.to_owned(),
            name: config.name.clone(),
            threads: config.threads as u32,
            numerics: numerics.to_vec(),
        };
        // The channel is new and has room.
        _ = outbox.try_send(v1::WorkerMessage { message: Some(v1::worker_message::Message::Hello(hello)) });
        let opening = heart.run(async move {
            let mut control = link.coordinator().await?;
            Ok::<_, OpenError>(control.control(ReceiverStream::new(messages)).await?.into_inner())
        });
        let mut inbox = opening.await.map_err(|error| OpenError::Unreachable(error.to_string()))??;
        let first = inbox.message().await?.and_then(|message| message.message);
        let Some(Message::Welcome(welcome)) = first else {
            return Err(OpenError::Unreachable("the coordinator closed the connection".to_owned()));
        };
        let heartbeat = Duration::from_millis(u64::from(welcome.heartbeat_ms.max(10)));
        tracing::info!(worker = welcome.worker, "connected");
        let _beating = heart.beat(outbox.clone(), heartbeat);
        Ok(Session { outbox, inbox, worker: welcome.worker, _beating, bulk: None, coming: None, member: None })
    }

    /// `None` when the connection was lost.
    async fn run(
        mut self,
        config: &mut Config,
        stop: &mut (impl Future<Output = ()> + Unpin),
    ) -> Result<Option<Ended>, WorkerError> {
        let mut leaving: Option<tokio::time::Instant> = None;
        loop {
            let goes = leaving.unwrap_or_else(|| tokio::time::Instant::now() + DRAIN);
            tokio::select! {
                biased;
                message = self.inbox.message() => match message {
                    Ok(Some(v1::CoordinatorMessage { message: Some(Message::Goodbye(goodbye)) })) => {
                        return Ok(goodbye_means(goodbye, leaving.is_some()));
                    }
                    Ok(Some(message)) => self.heard(message, config)?,
                    Ok(None) | Err(_) if leaving.is_some() => return Ok(Some(Ended::Drained)),
                    Ok(None) | Err(_) => return Ok(None),
                },
                news = next_news(&mut self.member) => {
                    if let Some(member) = &mut self.member {
                        member.take(news).await;
                    }
                }
                Some(line) = logged(&mut config.log) => {
                    if let Some(member) = &self.member {
                        member.log(line).await;
                    }
                }
                (job, came) = arrival(&mut self.coming) => match came {
                    Ok(member) => {
                        config.data = Some(member.data());
                        member.join().await;
                        self.member = Some(member);
                    }
                    Err(OpenError::Unreachable(reason)) => {
                        tracing::warn!(reason, "could not join a run");
                        return Ok(None);
                    }
                    Err(OpenError::Fatal(error)) => {
                        // Best effort: the connection may be what failed.
                        let declined = v1::Declined { job, reason: error.to_string() };
                        self.say(v1::worker_message::Message::Declined(declined)).await;
                        return Err(error);
                    }
                },
                () = &mut *stop, if leaving.is_none() => {
                    leaving = Some(tokio::time::Instant::now() + DRAIN);
                    self.say(v1::worker_message::Message::Draining(v1::Draining {})).await;
                }
                () = tokio::time::sleep_until(goes), if leaving.is_some() => return Ok(Some(Ended::Drained)),
            }
        }
    }

    fn heard(&mut self, message: v1::CoordinatorMessage, config: &Config) -> Result<(), WorkerError> {
        match message.message {
            Some(Message::Assigned(assigned)) => self.assigned(assigned, config),
            Some(Message::Released(released)) => {
                tracing::info!(job = released.job, reason = released.reason, "released");
                self.leave();
            }
            Some(message) => {
                if let Some(member) = &mut self.member {
                    member.heard(message)?;
                }
            }
            None => {}
        }
        Ok(())
    }

    fn assigned(&mut self, assigned: v1::Assigned, config: &Config) {
        tracing::info!(job = assigned.job, "assigned");
        self.leave();
        let set_up = SetUp {
            job: assigned.job,
            generation: assigned.generation,
            worker: self.worker,
            threads: config.threads,
            device: config.device,
            data: config.data.clone(),
            cache: config.cache.clone(),
            sees: config.sees.clone(),
            outbox: self.outbox.clone(),
        };
        let (known, link) = (self.bulk.clone(), config.link.borrow().clone());
        let job = assigned.job;
        let coming = tokio::spawn(async move {
            let bulk = match known {
                Some(bulk) => bulk,
                None => link.coordinator().await?,
            };
            Membership::open(set_up, bulk).await
        });
        self.coming = Some((job, coming));
    }

    /// Ends the membership, or stops it from coming.
    fn leave(&mut self) {
        if let Some(member) = self.member.take() {
            self.bulk = Some(member.bulk());
        }
        if let Some((_, coming)) = self.coming.take() {
            coming.abort();
        }
    }

    /// A closed stream shows itself at the inbox.
    async fn say(&self, message: v1::worker_message::Message) {
        _ = self.outbox.send(v1::WorkerMessage { message: Some(message) }).await;
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.leave();
    }
}

fn goodbye_means(goodbye: v1::Goodbye, leaving: bool) -> Option<Ended> {
    match (goodbye.over, leaving) {
        (true, _) => {
            tracing::info!(reason = goodbye.reason, "nothing more to do");
            Some(Ended::RunOver)
        }
        (false, true) => Some(Ended::Drained),
        (false, false) => {
            tracing::warn!(reason = goodbye.reason, "disconnected by the coordinator; connecting again");
            None
        }
    }
}

/// The next line that was logged; never, where nobody collects them.
async fn logged(log: &mut Option<mpsc::Receiver<String>>) -> Option<String> {
    match log {
        Some(lines) => lines.recv().await,
        None => std::future::pending().await,
    }
}

async fn next_news(member: &mut Option<Membership>) -> News {
    match member {
        Some(member) => member.next().await,
        None => std::future::pending().await,
    }
}

/// The membership that was on its way, and its job.
async fn arrival(coming: &mut Option<(u64, Coming)>) -> (u64, Result<Membership, OpenError>) {
    let Some((job, task)) = coming else { return std::future::pending().await };
    let (job, came) = (*job, task.await);
    *coming = None;
    (job, came.unwrap_or_else(|error| Err(OpenError::Unreachable(error.to_string()))))
}

#[cfg(test)]
mod tests;
