//! The life of a worker: say hello, go where the coordinator sends it, come back when the connection is lost, leave.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use convoy_nn::ComputeError;
use convoy_proto::channel::Link;
use convoy_proto::patience::Patience;
use convoy_proto::v1::coordinator_client::CoordinatorClient;
use convoy_proto::v1::coordinator_message::Message;
use convoy_proto::{VERSION, v1};
use convoy_security::ConnectError;
use futures_core::future::BoxFuture;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

use crate::assignment::Assignment;
use crate::config::{Config, Ended};
use crate::error::WorkerError;
use crate::heartbeat::{HeartbeatThread, Heartbeats};
use crate::membership::{Membership, Progress, SetUp};
use crate::open_error::OpenError;
use crate::outbox::Outbox;
use crate::peer_end::PeerEnd;
use crate::process::process;

/// Messages that wait for the control stream.
const OUTBOX: usize = 256;
/// How long a worker that wants to go waits for leave.
const DRAIN: Duration = Duration::from_secs(10);

/// How the coordinator is reached.
#[tonic::async_trait]
trait Dial: Send + Sync {
    /// Opens a connection.
    async fn dial(&self) -> Result<CoordinatorClient<Channel>, ConnectError>;
}

#[tonic::async_trait]
impl Dial for watch::Receiver<Link> {
    async fn dial(&self) -> Result<CoordinatorClient<Channel>, ConnectError> {
        let link = self.borrow().clone();
        link.coordinator().await
    }
}

/// Works for the coordinator until there is nothing more to do or `stop` asks it to go; then it finishes what it holds.
///
/// A lost connection is opened again, with growing pauses, for as long as [`Config::patience`].
///
/// # Errors
/// When the coordinator cannot be reached or does not want this worker, or the data or network cannot be used.
///
/// Both futures are boxed, so that all of this is compiled here and not in each crate that awaits it.
pub fn run(config: Config, stop: BoxFuture<'static, ()>) -> BoxFuture<'static, Result<Ended, WorkerError>> {
    Box::pin(async move {
        let heartbeats = HeartbeatThread::of_process().map_err(|error| ComputeError::Thread(error.to_string()))?;
        let dial = Arc::new(config.link.clone());
        run_with(config, dial, heartbeats, stop).await
    })
}

/// [`run`] with connections from `dial`, whose heartbeats come from the thread `heartbeats`.
async fn run_with(
    mut config: Config,
    dial: Arc<dyn Dial>,
    heartbeats: Arc<HeartbeatThread>,
    stop: impl Future<Output = ()>,
) -> Result<Ended, WorkerError> {
    tokio::pin!(stop);
    let numerics = match config.threads {
        0 => Vec::new(),
        _ => config.device.numerics().map_err(ComputeError::from)?,
    };
    match config.threads {
        0 => tracing::info!("computing nothing: adding what other workers compute"),
        _ => tracing::info!(device = %config.device, class = numerics.join(" or "), "computing"),
    }
    let peers = Arc::new(PeerEnd::open(&config.peers).await?);
    let mut patience = Patience::new(config.patience);
    loop {
        let reached = Reached { dial: dial.clone(), peers: peers.clone() };
        let lost = match Session::open(&config, reached, &numerics, &heartbeats).await {
            Ok(session) => {
                let begun = Instant::now();
                let ended = session.run(&mut config, &mut stop).await;
                patience.connection_ended(begun);
                match ended? {
                    Some(ended) => return Ok(ended),
                    None => "the connection was lost".to_owned(),
                }
            }
            Err(OpenError::Fatal(error)) => return Err(error),
            Err(OpenError::Unreachable(reason)) => reason,
        };
        let Some(again_in) = patience.drawn_pause(RandomState::new().hash_one(())) else {
            return Err(WorkerError::Unreachable { address: config.link.borrow().address.clone(), reason: lost });
        };
        tracing::info!(reason = lost, ?again_in, "no coordinator");
        tokio::select! {
            () = tokio::time::sleep(again_in) => {}
            () = &mut stop => return Ok(Ended::Drained),
        }
    }
}

/// How others are reached.
struct Reached {
    /// The coordinator.
    dial: Arc<dyn Dial>,
    /// Other workers.
    peers: Arc<PeerEnd>,
}

type Coming = JoinHandle<Result<Membership, OpenError>>;

/// One connection.
struct Session {
    reached: Reached,
    outbox: Outbox,
    inbox: Streaming<v1::CoordinatorMessage>,
    worker: u32,
    _heartbeats: Heartbeats,
    /// For everything that is large; opened with the first assignment.
    bulk: Option<CoordinatorClient<Channel>>,
    /// A membership on its way: files are opened, threads are started.
    coming: Option<(u64, Coming)>,
    member: Option<Membership>,
}

impl Session {
    /// Connects, says hello and hears the welcome.
    async fn open(
        config: &Config,
        reached: Reached,
        numerics: &[String],
        heartbeats: &HeartbeatThread,
    ) -> Result<Session, OpenError> {
        let (outbox, messages) = Outbox::new(OUTBOX);
        let mut hello = v1::Hello {
            version: VERSION.to_owned(),
            name: config.name.clone(),
            threads: config.threads as u32,
            numerics: numerics.to_vec(),
            process: process().to_owned(),
            ..Default::default()
        };
        reached.peers.introduce(&mut hello);
        outbox.say(v1::worker_message::Message::Hello(hello)).await;
        let dialling = reached.dial.clone();
        let opening = heartbeats.run(async move {
            let mut control = dialling.dial().await?;
            Ok::<_, OpenError>(control.control(ReceiverStream::new(messages)).await?.into_inner())
        });
        let mut inbox = opening.await.map_err(|error| OpenError::Unreachable(error.to_string()))??;
        let first = inbox.message().await?.and_then(|message| message.message);
        let Some(Message::Welcome(welcome)) = first else {
            return Err(OpenError::Unreachable("the coordinator closed the connection".to_owned()));
        };
        let heartbeat = Duration::from_millis(u64::from(welcome.heartbeat_ms.max(10)));
        tracing::info!(worker = welcome.worker, "connected");
        let _heartbeats = heartbeats.beat(outbox.clone(), heartbeat);
        let worker = welcome.worker;
        Ok(Session { reached, outbox, inbox, worker, _heartbeats, bulk: None, coming: None, member: None })
    }

    /// `None` when the connection was lost.
    async fn run(
        mut self,
        config: &mut Config,
        stop: &mut (impl Future<Output = ()> + Unpin),
    ) -> Result<Option<Ended>, WorkerError> {
        let mut leaving: Option<Instant> = None;
        loop {
            let goes = leaving.unwrap_or_else(|| Instant::now() + DRAIN);
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
                progress = next_progress(&mut self.member) => {
                    if let Some(member) = &mut self.member
                        && let Err(error) = member.take(progress).await
                    {
                        let job = member.job();
                        self.decline(job, &error).await;
                        return Err(error);
                    }
                }
                Some(line) = logged(&mut config.log) => {
                    if let Some(member) = &self.member {
                        member.log(line).await;
                    }
                }
                (job, came) = arrival(&mut self.coming) => match came {
                    Ok(member) => {
                        config.data = member.data();
                        member.join().await;
                        self.member = Some(member);
                    }
                    Err(OpenError::Unreachable(reason)) => {
                        tracing::warn!(reason, "could not join a run");
                        return Ok(None);
                    }
                    Err(OpenError::Fatal(error)) => {
                        if matches!(error, WorkerError::Connect(_)) {
                            return Err(error);
                        }
                        self.decline(job, &error).await;
                        if !config.declines {
                            return Err(error);
                        }
                    }
                },
                () = &mut *stop, if leaving.is_none() => {
                    leaving = Some(Instant::now() + DRAIN);
                    self.outbox.say(v1::worker_message::Message::Draining(v1::Draining {})).await;
                }
                () = tokio::time::sleep_until(goes), if leaving.is_some() => return Ok(Some(Ended::Drained)),
            }
        }
    }

    /// Carries on with a message other than a goodbye.
    fn heard(&mut self, message: v1::CoordinatorMessage, config: &Config) -> Result<(), WorkerError> {
        match message.message {
            Some(Message::Assigned(assigned)) => self.assigned(assigned, config),
            Some(Message::Released(released)) => {
                tracing::info!(job = released.job, reason = released.reason, "released");
                self.end_membership();
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

    /// Begins a membership in the job's run, in place of the one before.
    fn assigned(&mut self, assigned: v1::Assigned, config: &Config) {
        tracing::info!(job = assigned.job, "assigned");
        self.end_membership();
        let set_up = SetUp {
            assignment: Assignment { worker: self.worker, job: assigned.job, generation: assigned.generation },
            threads: config.threads,
            device: config.device,
            most_memory: config.most_memory,
            data: config.data.clone(),
            cache: config.cache.clone(),
            sees: config.sees.clone(),
            outbox: self.outbox.clone(),
            peers: self.reached.peers.clone(),
        };
        let (known, dial) = (self.bulk.clone(), self.reached.dial.clone());
        let coming = tokio::spawn(async move {
            let bulk = match known {
                Some(bulk) => bulk,
                None => dial.dial().await?,
            };
            Membership::open(set_up, bulk).await
        });
        self.coming = Some((assigned.job, coming));
    }

    /// Says why this worker cannot do `job`; others may, and it may do others.
    async fn decline(&self, job: u64, error: &WorkerError) {
        tracing::warn!(job, reason = %error, "declined");
        let declined = v1::Declined { job, reason: error.to_string(), cause: error.cause().into() };
        self.outbox.say(v1::worker_message::Message::Declined(declined)).await;
    }

    /// Ends the membership, or stops it from coming.
    fn end_membership(&mut self) {
        if let Some(member) = self.member.take() {
            self.bulk = Some(member.client());
        }
        if let Some((_, coming)) = self.coming.take() {
            coming.abort();
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.end_membership();
    }
}

/// How the worker ends after the coordinator's goodbye; `None` when it comes back.
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

/// What the membership waits for; never, where there is none.
async fn next_progress(member: &mut Option<Membership>) -> Progress {
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
