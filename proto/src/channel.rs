//! Settings of both ends of a connection: fixed windows, limits on messages, keepalive for dead sockets.

use std::time::Duration;

use tonic::transport::{Channel, Endpoint, Server};

use crate::v1::coordinator_client::CoordinatorClient;
use crate::v1::coordinator_server::{Coordinator, CoordinatorServer};
use crate::v1::jobs_client::JobsClient;
use crate::v1::jobs_server::{Jobs, JobsServer};

/// Largest message: the sums of an evaluation, which hold a confusion matrix of up to [`MAX_NAMES`] classes.
///
/// [`MAX_NAMES`]: convoy_common::plan::MAX_NAMES
pub const MESSAGE_LIMIT: usize = 8 * convoy_common::plan::MAX_NAMES * convoy_common::plan::MAX_NAMES + (1 << 20);
/// Largest spec that may be submitted, with the message around it.
const SPEC_LIMIT: usize = 4 << 20;
const WINDOW: u32 = 4 << 20;
const FRAME: u32 = 256 << 10;
const KEEPALIVE: Duration = Duration::from_secs(10);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const STREAMS: u32 = 1024;

/// A server with Convoy's settings.
pub fn server() -> Server {
    Server::builder()
        .initial_connection_window_size(WINDOW)
        .initial_stream_window_size(WINDOW)
        .max_frame_size(FRAME)
        .max_concurrent_streams(STREAMS)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .tcp_nodelay(true)
}

/// The coordinator's service with Convoy's limits.
pub fn service<C: Coordinator>(coordinator: C) -> CoordinatorServer<C> {
    CoordinatorServer::new(coordinator)
        .max_decoding_message_size(MESSAGE_LIMIT)
        .max_encoding_message_size(MESSAGE_LIMIT)
}

/// The service of jobs with Convoy's limits.
pub fn jobs_service<J: Jobs>(jobs: J) -> JobsServer<J> {
    JobsServer::new(jobs).max_decoding_message_size(SPEC_LIMIT)
}

/// Opens a connection for a worker to the coordinator at `address` (`HOST:PORT`).
///
/// # Errors
/// When the address is none, or nobody answers there.
pub async fn connect(address: &str) -> Result<CoordinatorClient<Channel>, tonic::transport::Error> {
    Ok(CoordinatorClient::new(open(address).await?)
        .max_decoding_message_size(MESSAGE_LIMIT)
        .max_encoding_message_size(MESSAGE_LIMIT))
}

/// Opens a connection for commands to the coordinator at `address` (`HOST:PORT`).
///
/// # Errors
/// As [`connect`].
pub async fn connect_jobs(address: &str) -> Result<JobsClient<Channel>, tonic::transport::Error> {
    Ok(JobsClient::new(open(address).await?).max_decoding_message_size(MESSAGE_LIMIT))
}

async fn open(address: &str) -> Result<Channel, tonic::transport::Error> {
    Endpoint::from_shared(format!("http://{address}"))?
        .initial_connection_window_size(WINDOW)
        .initial_stream_window_size(WINDOW)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .connect()
        .await
}
