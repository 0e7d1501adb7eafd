//! What the coordinator asks for to audit sums: chunks of nodes that this worker keeps, and what it was brought as an
//! owner.

use std::sync::Arc;
use std::time::Duration;

use convoy_proto::v1::brought_wanted::What;
use convoy_proto::v1::coordinator_client::CoordinatorClient;
use convoy_proto::v1::kept_message::Message;
use convoy_proto::{CHUNK_ELEMENTS, Chunk, v1};
use convoy_reduce::ChunkBuffer;
use convoy_scheduler::{Node, Opening};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic::transport::Channel;

use super::exchange_state::ExchangeState;
use super::owner::{BroughtWish, OwnerCommand};

/// Chunks that wait for the socket.
const AHEAD: usize = 2;
/// An answer that does not get through is given so often, with such pauses between.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(200);

/// Sends a chunk of all nodes that this worker keeps.
pub(super) async fn send_kept(state: Arc<ExchangeState>, client: CoordinatorClient<Channel>, wanted: v1::KeptWanted) {
    let opening = Opening(wanted.opening);
    let kept = state.with_kept(|kept| kept.chunks(opening, wanted.chunk as usize));
    let header = state.assignment().kept(opening, wanted.chunk);
    let _turn = state.answers.acquire().await;
    for _ in 0..TRIES {
        match push_kept(client.clone(), header, kept.clone()).await {
            Ok(()) => return,
            Err(status) => tracing::debug!(%status, chunk = wanted.chunk, "what is kept did not get through"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn push_kept(
    mut client: CoordinatorClient<Channel>,
    header: v1::KeptHeader,
    kept: Vec<(Node, Arc<ChunkBuffer>)>,
) -> Result<(), Status> {
    let (sender, outgoing) = mpsc::channel(AHEAD);
    let offset = u64::from(header.chunk) * CHUNK_ELEMENTS as u64;
    let feed = async move {
        let chunks = kept.into_iter().map(|(node, values)| {
            let chunk = Chunk { offset, data: values.on_the_wire() };
            Message::Chunk(v1::KeptChunk { node: Some(node.into()), chunk: Some(chunk) })
        });
        for message in std::iter::once(Message::Header(header)).chain(chunks) {
            if sender.send(v1::KeptMessage { message: Some(message) }).await.is_err() {
                return;
            }
        }
    };
    let ((), reply) = tokio::join!(feed, client.kept(ReceiverStream::new(outgoing)));
    reply.map(drop)
}

/// Says what this worker was brought as an owner.
pub(super) async fn tell_brought(
    state: Arc<ExchangeState>,
    mut client: CoordinatorClient<Channel>,
    wanted: v1::BroughtWanted,
) {
    let wish = match wanted.what {
        Some(What::Node(node)) => Node::try_from(node).ok().map(BroughtWish::Node),
        Some(What::Chunk(chunk)) => Some(BroughtWish::Chunk(chunk as usize)),
        None => None,
    };
    let Some(wish) = wish else { return };
    let (reply, brought) = oneshot::channel();
    state.owner.send(OwnerCommand::Brought { opening: Opening(wanted.opening), wish, reply });
    // Of an opening that is over there is nothing to say, and nobody waits for it.
    let Ok(brought) = brought.await else { return };
    let brought = brought.into_iter().map(|(node, index, digest)| v1::BroughtDigest {
        node: Some(node.into()),
        chunk: index as u32,
        digest: digest.0.to_vec().into(),
    });
    let said = state.assignment().brought(wanted.question, brought.collect());
    let _turn = state.answers.acquire().await;
    for _ in 0..TRIES {
        match client.brought(said.clone()).await {
            Ok(_) => return,
            Err(status) => tracing::debug!(%status, "what was brought could not be said"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}
