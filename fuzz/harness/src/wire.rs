//! Messages of the wire.

use convoy_proto::v1;
use convoy_scheduler::{Failure, Lease, LeaseRef, Node};
use prost::Message;

/// Reads `bytes` as a message of one kind; what was read is written and read again.
fn read<M: Message + Default + PartialEq>(bytes: &[u8]) -> Option<M> {
    let message = M::decode(bytes).ok()?;
    let written = message.encode_to_vec();
    // Bytes are compared, as a NaN equals nothing.
    let again = M::decode(written.as_slice()).expect("what was written can be read");
    assert_eq!(again.encode_to_vec(), written, "what was written is read as something else");
    Some(message)
}

/// Reads `bytes` as each kind of message, and converts what has a form of its own.
pub(crate) fn message(bytes: &[u8]) {
    if let Some(lease) = read::<v1::Lease>(bytes) {
        _ = Lease::try_from(lease);
    }
    if let Some(node) = read::<v1::Node>(bytes) {
        _ = Node::try_from(node).map(|node| node.size());
    }
    if let Some(at) = read::<v1::LeaseRef>(bytes) {
        _ = LeaseRef::from(at).to_string();
    }
    if let Some(failed) = read::<v1::LeaseFailed>(bytes) {
        _ = Failure::try_from(failed.failure());
    }
    if let Some(node) = read::<v1::NodeMessage>(bytes)
        && let Some(v1::node_message::Message::Chunk(chunk)) = node.message
    {
        let mut values = vec![0.0; chunk.data.wire_len() / 4];
        _ = chunk.data.copy_to(&mut values);
    }
    _ = convoy_proto::Chunk::decode(bytes);
    EACH.iter().for_each(|read| read(bytes));
}

/// The rest.
const EACH: &[fn(&[u8])] = &[
    |bytes| _ = read::<v1::PlanRequest>(bytes),
    |bytes| _ = read::<v1::PlanChunk>(bytes),
    |bytes| _ = read::<v1::WorkerMessage>(bytes),
    |bytes| _ = read::<v1::Hello>(bytes),
    |bytes| _ = read::<v1::Heartbeat>(bytes),
    |bytes| _ = read::<v1::Joined>(bytes),
    |bytes| _ = read::<v1::Ready>(bytes),
    |bytes| _ = read::<v1::Declined>(bytes),
    |bytes| _ = read::<v1::Draining>(bytes),
    |bytes| _ = read::<v1::Log>(bytes),
    |bytes| _ = read::<v1::CoordinatorMessage>(bytes),
    |bytes| _ = read::<v1::Welcome>(bytes),
    |bytes| _ = read::<v1::Assigned>(bytes),
    |bytes| _ = read::<v1::Released>(bytes),
    |bytes| _ = read::<v1::Committed>(bytes),
    |bytes| _ = read::<v1::Abandoned>(bytes),
    |bytes| _ = read::<v1::Revoke>(bytes),
    |bytes| _ = read::<v1::Goodbye>(bytes),
    |bytes| _ = read::<v1::ParametersRequest>(bytes),
    |bytes| _ = read::<v1::FilesRequest>(bytes),
    |bytes| _ = read::<v1::FilePiece>(bytes),
    |bytes| _ = read::<v1::NodeHeader>(bytes),
    |bytes| _ = read::<v1::NodeSummary>(bytes),
    |bytes| _ = read::<v1::PushNodeReply>(bytes),
    |bytes| _ = read::<v1::SubmitRequest>(bytes),
    |bytes| _ = read::<v1::JobRequest>(bytes),
    |bytes| _ = read::<v1::JobReply>(bytes),
    |bytes| _ = read::<v1::ListRequest>(bytes),
    |bytes| _ = read::<v1::ListReply>(bytes),
    |bytes| _ = read::<v1::WorkersRequest>(bytes),
    |bytes| _ = read::<v1::WorkersReply>(bytes),
    |bytes| _ = read::<v1::WatchRequest>(bytes),
    |bytes| _ = read::<v1::WatchReply>(bytes),
    |bytes| _ = read::<v1::LogsRequest>(bytes),
    |bytes| _ = read::<v1::LogsReply>(bytes),
    |bytes| _ = read::<v1::FetchRequest>(bytes),
    |bytes| _ = read::<v1::FetchReply>(bytes),
    |bytes| _ = read::<v1::HealthRequest>(bytes),
    |bytes| _ = read::<v1::HealthReply>(bytes),
    |bytes| _ = read::<v1::MissingRequest>(bytes),
    |bytes| _ = read::<v1::MissingReply>(bytes),
    |bytes| _ = read::<v1::PushRequest>(bytes),
    |bytes| _ = read::<v1::PushReply>(bytes),
    |bytes| _ = read::<v1::DataFile>(bytes),
    |bytes| _ = read::<v1::CommitRequest>(bytes),
    |bytes| _ = read::<v1::DataSetReply>(bytes),
    |bytes| _ = read::<v1::ListDataRequest>(bytes),
    |bytes| _ = read::<v1::ListDataReply>(bytes),
    |bytes| _ = read::<v1::RemoveDataRequest>(bytes),
    |bytes| _ = read::<v1::JoinRequest>(bytes),
    |bytes| _ = read::<v1::RenewRequest>(bytes),
    |bytes| _ = read::<v1::CertificateReply>(bytes),
    |bytes| _ = read::<v1::CreateTokenRequest>(bytes),
    |bytes| _ = read::<v1::CreateTokenReply>(bytes),
    |bytes| _ = read::<v1::ListTokensRequest>(bytes),
    |bytes| _ = read::<v1::ListTokensReply>(bytes),
    |bytes| _ = read::<v1::RemoveTokenRequest>(bytes),
    |bytes| _ = read::<v1::RemoveTokenReply>(bytes),
    |bytes| _ = read::<v1::ListMembersRequest>(bytes),
    |bytes| _ = read::<v1::ListMembersReply>(bytes),
    |bytes| _ = read::<v1::RevokeRequest>(bytes),
    |bytes| _ = read::<v1::RevokeReply>(bytes),
];
