//! The way of chunks to one owner, for as long as it owns any.

use std::sync::Arc;
use std::time::Duration;

use convoy_proto::v1::push_message::Message;
use convoy_proto::{CHUNK_ELEMENTS, Chunk, v1};
use convoy_scheduler::{LeaseId, WorkerId};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::exchange_state::ExchangeState;
use super::kept::OutgoingChunk;

/// Before an owner that was not reached is tried again.
const PAUSE: Duration = Duration::from_millis(200);
/// Chunks that wait for the socket.
const AHEAD: usize = 2;

/// Sends chunks to `owner` until this is dropped.
pub(super) async fn send_to(state: Arc<ExchangeState>, owner: WorkerId) {
    loop {
        let problem = match push(&state, owner).await {
            Ok(()) => "the call ended".to_owned(),
            Err(problem) => problem,
        };
        tracing::debug!(%owner, problem, "chunks do not get through");
        state.known().broken(owner.0);
        state.with_kept(|kept| kept.broken(owner));
        tokio::time::sleep(PAUSE).await;
    }
}

/// One call, until it ends.
async fn push(state: &Arc<ExchangeState>, owner: WorkerId) -> Result<(), String> {
    let mut changed = state.changed();
    let mut client = state.client(owner).await?;
    let (sender, outgoing) = mpsc::channel(AHEAD);
    let call = client.push(ReceiverStream::new(outgoing));
    let mut taken = call.await.map_err(|status| status.message().to_owned())?.into_inner();
    let mut fence = None;
    loop {
        // Messages are made when there is room for both, so that what is sent is what is wanted then.
        tokio::select! {
            more = take(state, owner, &mut taken) => match more? {
                true => {}
                false => return Ok(()),
            },
            room = sender.reserve_many(2) => {
                let mut room = room.map_err(|_| "the call ended".to_owned())?;
                let Some(chunk) = state.with_kept(|kept| kept.next(owner)) else {
                    drop(room);
                    tokio::select! {
                        more = take(state, owner, &mut taken) => if !more? { return Ok(()) },
                        _ = changed.changed() => {}
                    }
                    continue;
                };
                let mut send = |message| {
                    if let Some(permit) = room.next() {
                        permit.send(v1::PushMessage { message: Some(message) });
                    }
                };
                if fence != Some(chunk.fence) {
                    fence = Some(chunk.fence);
                    send(Message::Header(state.assignment().push(chunk.fence.opening, chunk.fence.version)));
                }
                send(Message::Chunk(pushed(chunk)));
            }
        }
    }
}

/// Takes in what the owner says it has. False when it says nothing more.
async fn take(state: &ExchangeState, owner: WorkerId, taken: &mut Streaming<v1::ChunkTaken>) -> Result<bool, String> {
    match taken.message().await {
        Ok(Some(v1::ChunkTaken { lease, chunk })) => {
            state.taken(owner, LeaseId(lease), chunk as usize);
            Ok(true)
        }
        Ok(None) => Ok(false),
        Err(status) => Err(status.message().to_owned()),
    }
}

fn pushed(chunk: OutgoingChunk) -> v1::PushedChunk {
    let OutgoingChunk { lease, node, index, values, .. } = chunk;
    let chunk = Chunk { offset: (index * CHUNK_ELEMENTS) as u64, data: values.on_the_wire() };
    v1::PushedChunk { lease: lease.0, node: Some(node.into()), chunk: Some(chunk) }
}
