//! Fetching the parameters of a step, chunk by chunk as the coordinator makes them.

use convoy_proto::v1::coordinator_client::CoordinatorClient;
use convoy_proto::{chunk_count, from_le_bytes, v1};
use tonic::Status;
use tonic::transport::Channel;

/// The parameters and buffers that `request` asks for, `elements` numbers.
pub(crate) async fn fetch(
    mut client: CoordinatorClient<Channel>,
    request: v1::ParametersRequest,
    elements: usize,
) -> Result<Vec<f32>, Status> {
    let mut chunks = client.parameters(request).await?.into_inner();
    let mut flat = vec![0.0; elements];
    let mut arrived = 0;
    while let Some(chunk) = chunks.message().await? {
        let start = usize::try_from(chunk.offset).unwrap_or(usize::MAX);
        let end = start.saturating_add(chunk.data.len() / 4);
        let fits = flat.get_mut(start..end).is_some_and(|part| from_le_bytes(&chunk.data, part));
        if !fits {
            return Err(Status::data_loss(format!("chunk at element {start} does not fit {elements} elements")));
        }
        arrived += 1;
    }
    if arrived != chunk_count(elements) {
        return Err(Status::data_loss(format!("{arrived} of {} chunks came", chunk_count(elements))));
    }
    Ok(flat)
}
