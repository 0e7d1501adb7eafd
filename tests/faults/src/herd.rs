//! Many workers that do nothing but live: they connect, say so every half second, and come back when they are cut off.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use convoy_proto::channel::Link;
use convoy_proto::patience::Patience;
use convoy_proto::v1::coordinator_message::Message;
use convoy_proto::v1::worker_message::Message as Said;
use convoy_proto::{VERSION, v1};
use convoy_security::{NewKey, Token};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::dice::Dice;

/// What goes wrong with one of them.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// How often each says that it lives.
const BEAT: Duration = Duration::from_millis(500);

/// A herd, while it is held.
pub struct Herd {
    connected: Arc<AtomicUsize>,
    _runtime: Runtime,
}

impl Herd {
    /// So many workers for the coordinator at `address`, by the token in the file `token`. All share one certificate.
    ///
    /// # Panics
    /// When they cannot become a member.
    pub fn start(address: &str, token: &Path, count: usize) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let link = runtime.block_on(join(address, token)).unwrap_or_else(|failure| panic!("a herd: {failure}"));
        let connected = Arc::<AtomicUsize>::default();
        for number in 0..count {
            runtime.spawn(live(link.clone(), number, connected.clone()));
        }
        Herd { connected, _runtime: runtime }
    }

    /// How many are connected.
    pub fn connected(&self) -> usize {
        self.connected.load(Ordering::Relaxed)
    }
}

async fn join(address: &str, token: &Path) -> Result<Link, Failure> {
    let token: Token = std::fs::read_to_string(token)?.parse()?;
    let key = NewKey::generate()?;
    let public_key = key.public()?.bytes().to_vec().into();
    let mut link = Link::member(address.to_owned(), token.pin, None);
    let request = v1::JoinRequest { token: token.expose(), public_key, name: "herd".to_owned() };
    let reply = link.access().await?.join(request).await?.into_inner();
    link.cluster = Some((token.pin, Some(key.with(reply.chain_pem)?)));
    Ok(link)
}

/// Is connected, and comes back after the pauses of real workers.
async fn live(link: Link, number: usize, connected: Arc<AtomicUsize>) {
    let (mut patience, mut dice) = (Patience::new(None), Dice::new(number as u64));
    loop {
        if let Ok((outbox, inbox)) = connect(&link, number).await {
            patience.renew();
            connected.fetch_add(1, Ordering::Relaxed);
            beat(outbox, inbox).await;
            connected.fetch_sub(1, Ordering::Relaxed);
        }
        let Some(pause) = patience.drawn_pause(dice.below(u64::MAX)) else { return };
        tokio::time::sleep(pause).await;
    }
}

type Session = (mpsc::Sender<v1::WorkerMessage>, Streaming<v1::CoordinatorMessage>);

async fn connect(link: &Link, number: usize) -> Result<Session, Failure> {
    let (outbox, messages) = mpsc::channel(4);
    let hello = v1::Hello {
        version: VERSION.to_owned(),
        name: format!("herd-{number}"),
        threads: 1,
        // Of another class than the jobs: who only lives is lent none.
        numerics: vec!["cpu-f32-direct-v1".to_owned()],
        process: number.to_string(),
        ..Default::default()
    };
    outbox.send(v1::WorkerMessage { message: Some(Said::Hello(hello)) }).await?;
    let mut inbox = link.coordinator().await?.control(ReceiverStream::new(messages)).await?.into_inner();
    match inbox.message().await?.and_then(|message| message.message) {
        Some(Message::Welcome(_)) => Ok((outbox, inbox)),
        other => Err(format!("no welcome: {other:?}").into()),
    }
}

async fn beat(outbox: mpsc::Sender<v1::WorkerMessage>, mut inbox: Streaming<v1::CoordinatorMessage>) {
    let mut tick = tokio::time::interval(BEAT);
    loop {
        let message = Some(Said::Heartbeat(v1::Heartbeat {}));
        tokio::select! {
            _ = tick.tick() => if outbox.send(v1::WorkerMessage { message }).await.is_err() { return },
            heard = inbox.message() => if !matches!(heard, Ok(Some(_))) { return },
        }
    }
}
