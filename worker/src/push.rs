//! Sending a node: header, chunks, summary.

use convoy_proto::v1::coordinator_client::CoordinatorClient;
use convoy_proto::v1::node_message::Message;
use convoy_proto::{CHUNK_ELEMENTS, to_le_bytes, v1};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic::transport::Channel;

use crate::compute::Computed;

/// Chunks that wait for the socket.
const AHEAD: usize = 4;

/// Sends `computed` and returns why it was ignored, if it was, with the gradient's memory.
pub(crate) async fn push(
    mut client: CoordinatorClient<Channel>,
    worker: u32,
    job: u64,
    computed: Computed,
) -> (Result<String, Status>, Vec<f32>) {
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
    let gradient = computed.gradient;
    let feed = async {
        let message = |message| v1::NodeMessage { message: Some(message) };
        let mut open = sender.send(message(Message::Header(header))).await.is_ok();
        // Nobody wants the numbers of a node that is not finite.
        let chunks: &[f32] = if summary.not_finite.is_some() { &[] } else { &gradient };
        for (index, values) in chunks.chunks(CHUNK_ELEMENTS).enumerate() {
            let chunk = v1::NodeChunk { offset: (index * CHUNK_ELEMENTS) as u64, data: to_le_bytes(values) };
            // Closed when the coordinator has answered already: the node is ignored.
            open = open && sender.send(message(Message::Chunk(chunk))).await.is_ok();
        }
        if open {
            _ = sender.send(message(Message::Summary(summary))).await;
        }
        drop(sender);
    };
    let (reply, ()) = tokio::join!(client.push_node(ReceiverStream::new(messages)), feed);
    (reply.map(|reply| reply.into_inner().ignored), gradient)
}
