//! Sending a node: header, chunks, summary.

use std::sync::Arc;

use convoy_proto::v1::coordinator_client::CoordinatorClient;
use convoy_proto::v1::node_message::Message;
use convoy_proto::{CHUNK_ELEMENTS, Chunk, Values, chunk_count, chunk_range, v1};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic::transport::Channel;

use crate::compute::Computed;

/// Chunks that wait for the socket.
const AHEAD: usize = 4;

/// Sends `computed` and returns why it was ignored, if it was, with the gradient's memory where nothing holds it any more.
pub(crate) async fn push(
    mut client: CoordinatorClient<Channel>,
    worker: u32,
    job: u64,
    computed: Computed,
) -> (Result<String, Status>, Option<Vec<f32>>) {
    let (sender, messages) = mpsc::channel(AHEAD);
    let header = v1::NodeHeader {
        worker,
        job,
        at: Some(computed.lease.at.into()),
        work: v1::Work::from(computed.lease.work).into(),
        node: Some(computed.lease.node.into()),
    };
    let shards = computed.lease.node.size();
    let summary = v1::NodeSummary {
        sums: computed.sums,
        not_finite: computed.not_finite,
        shard_micros: computed.times.computing.as_micros() as u64 / u64::from(shards),
        data_wait_micros: computed.times.data.as_micros() as u64,
        parameters_wait_micros: computed.times.parameters.as_micros() as u64,
    };
    let gradient = Arc::new(computed.gradient);
    let feed = async {
        let message = |message| v1::NodeMessage { message: Some(message) };
        let mut open = sender.send(message(Message::Header(header))).await.is_ok();
        // Nobody wants the numbers of a node that is not finite.
        let len = if summary.not_finite.is_some() { 0 } else { gradient.len() };
        for index in 0..chunk_count(len) {
            let data = Values::shared(gradient.clone(), chunk_range(len, index));
            let chunk = Chunk { offset: (index * CHUNK_ELEMENTS) as u64, data };
            // Closed when the coordinator has answered already: the node is ignored.
            open = open && sender.send(message(Message::Chunk(chunk))).await.is_ok();
        }
        if open {
            _ = sender.send(message(Message::Summary(summary))).await;
        }
        drop(sender);
    };
    let (reply, ()) = tokio::join!(client.push_node(ReceiverStream::new(messages)), feed);
    (reply.map(|reply| reply.into_inner().ignored), Arc::into_inner(gradient))
}
