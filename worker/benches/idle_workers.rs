//! Connects many workers that do nothing but live, to see what they cost a coordinator:
//! `cargo bench -p convoy-worker --bench idle_workers -- HOST:PORT TOKEN_FILE COUNT`.
//! All share one certificate. Ends when standard input does.

use std::io::Read;
use std::time::Duration;

use convoy_proto::channel::Link;
use convoy_proto::v1::coordinator_message::Message;
use convoy_proto::{VERSION, v1};
use convoy_security::{NewKey, Token};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let [address, token, count] = &args[..] else {
        return Err("usage: idle_workers HOST:PORT TOKEN_FILE COUNT".into());
    };
    let (token, count): (Token, usize) = (std::fs::read_to_string(token)?.parse()?, count.parse()?);
    let link = join(address, &token).await?;
    for number in 1..=count {
        tokio::spawn(live(connect(&link, number).await?));
    }
    println!("{count} workers are connected");
    tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await??;
    Ok(())
}

async fn join(address: &str, token: &Token) -> Result<Link, Failure> {
    let key = NewKey::generate()?;
    let public_key = key.public()?.bytes().to_vec();
    let mut link = Link::member(address.to_owned(), token.pin, None);
    let request = v1::JoinRequest { token: token.expose(), public_key: public_key.into(), name: "idle".to_owned() };
    let reply = link.access().await?.join(request).await?.into_inner();
    link.cluster = Some((token.pin, Some(key.with(reply.chain_pem)?)));
    Ok(link)
}

type Stream = (mpsc::Sender<v1::WorkerMessage>, tonic::Streaming<v1::CoordinatorMessage>);

async fn connect(link: &Link, number: usize) -> Result<Stream, Failure> {
    let (outbox, messages) = mpsc::channel(4);
    let hello = v1::Hello {
        version: VERSION.to_owned(),
        name: format!("idle-{number}"),
        threads: 1,
        numerics: vec![convoy_common::spec::CPU_F32_V1.to_owned()],
        process: number.to_string(),
        ..Default::default()
    };
    outbox.send(v1::WorkerMessage { message: Some(v1::worker_message::Message::Hello(hello)) }).await?;
    let mut inbox = link.coordinator().await?.control(ReceiverStream::new(messages)).await?.into_inner();
    match inbox.message().await?.and_then(|message| message.message) {
        Some(Message::Welcome(_)) => Ok((outbox, inbox)),
        other => Err(format!("no welcome for worker {number}: {other:?}").into()),
    }
}

/// Says that it lives, every half second.
async fn live((outbox, mut inbox): Stream) {
    let mut beat = tokio::time::interval(Duration::from_millis(500));
    loop {
        let message = Some(v1::worker_message::Message::Heartbeat(v1::Heartbeat {}));
        tokio::select! {
            _ = beat.tick() => if outbox.send(v1::WorkerMessage { message }).await.is_err() { return },
            heard = inbox.message() => if !matches!(heard, Ok(Some(_))) { return },
        }
    }
}
