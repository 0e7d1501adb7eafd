//! Fetching the parameters of a step, chunk by chunk as the coordinator makes them.

use std::time::Instant;

use convoy_proto::v1::coordinator_client::CoordinatorClient;
use convoy_proto::{chunk_count, v1};
use convoy_scheduler::StepId;
use tonic::Status;
use tonic::transport::Channel;

use crate::stages;

/// Writes the parameters and buffers that `request` asks for to `flat`, which has room for just them.
pub(crate) async fn fetch(
    mut client: CoordinatorClient<Channel>,
    request: v1::ParametersRequest,
    mut flat: Vec<f32>,
) -> Result<Vec<f32>, Status> {
    let step = StepId(request.step);
    let mut chunks = client.parameters(request).await?.into_inner();
    let mut begun = None;
    let elements = flat.len();
    let mut arrived = 0;
    while let Some(chunk) = chunks.message().await? {
        begun.get_or_insert_with(Instant::now);
        let start = usize::try_from(chunk.offset).unwrap_or(usize::MAX);
        let end = start.saturating_add(chunk.data.wire_len() / 4);
        let fits = flat.get_mut(start..end).is_some_and(|part| chunk.data.copy_to(part));
        if !fits {
            return Err(Status::data_loss(format!("chunk at element {start} does not fit {elements} elements")));
        }
        arrived += 1;
    }
    if arrived != chunk_count(elements) {
        return Err(Status::data_loss(format!("{arrived} of {} chunks came", chunk_count(elements))));
    }
    // Counted from the first chunk on: asked for are they long before.
    begun.into_iter().for_each(|begun| stages::over("download", step, begun));
    Ok(flat)
}
