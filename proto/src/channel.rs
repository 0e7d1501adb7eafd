//! Settings of both ends of a connection: fixed windows, limits on messages, keepalive for dead sockets.

use std::time::Duration;

use convoy_security::{ConnectError, Fingerprint, Identity, InProcess, PeerIdentity, Pin, Secret};
use futures_core::future::BoxFuture;
use tonic::transport::{Channel, Endpoint, Server};

use crate::v1::access_client::AccessClient;
use crate::v1::access_server::{Access, AccessServer};
use crate::v1::coordinator_client::CoordinatorClient;
use crate::v1::coordinator_server::{Coordinator, CoordinatorServer};
use crate::v1::data_client::DataClient;
use crate::v1::data_server::{Data, DataServer};
use crate::v1::jobs_client::JobsClient;
use crate::v1::jobs_server::{Jobs, JobsServer};
use crate::v1::peer_client::PeerClient;
use crate::v1::peer_server::{Peer, PeerServer};

/// Largest message: the sums of an evaluation, which hold a confusion matrix of up to [`MAX_NAMES`] classes.
///
/// [`MAX_NAMES`]: convoy_common::plan::MAX_NAMES
pub const MESSAGE_LIMIT: usize = 8 * convoy_common::plan::MAX_NAMES * convoy_common::plan::MAX_NAMES + (1 << 20);
/// Largest spec that may be submitted, with the message around it.
pub const SPEC_LIMIT: usize = 4 << 20;
/// Largest plan that a worker takes: a spec with everything filled in, and the names of its classes.
pub const PLAN_LIMIT: usize = 4 * SPEC_LIMIT;
/// Lists and pieces of files.
pub const DATA_LIMIT: usize = 4 << 20;
/// Bytes of each message, but the last, of a stream that carries a file.
pub const PIECE: usize = 256 << 10;
/// Messages between workers: a chunk, with the message around it.
pub const PEER_MESSAGE: usize = (256 << 10) + (64 << 10);
/// Messages of people and strangers.
pub const SMALL: usize = 64 << 10;
/// Bytes of one stream that may be on their way unread.
const WINDOW: u32 = 4 << 20;
/// Bytes of a connection. Half of it is how much unread frames may waste, each what it lacks to 256 bytes (h2): room
/// for 16,000 heartbeats before the connection is given up.
const CONNECTION_WINDOW: u32 = 8 << 20;
/// A chunk with its message around it fits in one frame.
const FRAME: u32 = (256 << 10) + 256;
const KEEPALIVE: Duration = Duration::from_secs(10);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const STREAMS: u32 = 1024;

/// A server with Convoy's settings. Whoever accepts its connections sets `TCP_NODELAY` on them.
pub fn server() -> Server {
    Server::builder()
        .initial_connection_window_size(CONNECTION_WINDOW)
        .initial_stream_window_size(WINDOW)
        .max_frame_size(FRAME)
        .max_concurrent_streams(STREAMS)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
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

/// The service of data sets with Convoy's limits.
pub fn data_service<D: Data>(data: D) -> DataServer<D> {
    DataServer::new(data).max_decoding_message_size(DATA_LIMIT)
}

/// The service of members and tokens.
pub fn access_service<A: Access>(access: A) -> AccessServer<A> {
    AccessServer::new(access).max_decoding_message_size(SMALL)
}

/// The service that workers have for each other.
pub fn peer_service<P: Peer>(peer: P) -> PeerServer<P> {
    PeerServer::new(peer).max_decoding_message_size(PEER_MESSAGE)
}

/// Opens a connection to the worker with this fingerprint, which listens at `address`.
///
/// # Errors
/// As [`convoy_security::connect_to_peer`].
pub async fn peer(
    address: &str,
    fingerprint: Fingerprint,
    identity: &PeerIdentity,
) -> Result<PeerClient<Channel>, ConnectError> {
    Ok(PeerClient::new(convoy_security::connect_to_peer(settings, address, fingerprint, identity).await?))
}

/// How a coordinator is reached.
#[derive(Debug, Clone)]
pub struct Link {
    /// `HOST:PORT`.
    pub address: String,
    /// Its cluster, and who one is there; `None` for a plain connection on loopback.
    pub cluster: Option<(Pin, Option<Identity>)>,
    /// On a plain connection: what tells processes of the coordinator's user from those of others on its machine.
    pub secret: Option<Secret>,
    /// A coordinator in this process, which has no address.
    pub in_process: Option<InProcess>,
}

/// What stands before the secret in the agent that a plain connection names.
const LOCAL: &str = "convoy-local/";

/// What stands where a link has an address.
const IN_PROCESS: &str = "in-process";

/// The secret that a call on a plain connection shows in its header `user-agent`.
pub fn shown_secret(agent: &str) -> Option<Secret> {
    let shown = agent.strip_prefix(LOCAL)?.split(' ').next()?;
    Some(Secret::new(shown.to_owned()))
}

impl Link {
    /// A plain connection that shows nothing.
    pub fn plain(address: String) -> Self {
        Link { address, cluster: None, secret: None, in_process: None }
    }

    /// A plain connection, which coordinators take from their own machine and their own user, who knows `secret`.
    pub fn local(address: String, secret: Secret) -> Self {
        Link { secret: Some(secret), ..Link::plain(address) }
    }

    /// A connection to the cluster with this pin, as `identity` or as nobody.
    pub fn member(address: String, pin: Pin, identity: Option<Identity>) -> Self {
        Link { cluster: Some((pin, identity)), ..Link::plain(address) }
    }

    /// A connection to the coordinator in this process, which takes those that know `secret`.
    pub fn in_process(coordinator: InProcess, secret: Secret) -> Self {
        Link { in_process: Some(coordinator), ..Link::local(IN_PROCESS.to_owned(), secret) }
    }

    /// Opens a connection for a worker.
    ///
    /// # Errors
    /// When the address is none, nobody answers there, or one of both is not trusted.
    pub async fn coordinator(&self) -> Result<CoordinatorClient<Channel>, ConnectError> {
        Ok(CoordinatorClient::new(self.open().await?)
            .max_decoding_message_size(MESSAGE_LIMIT)
            .max_encoding_message_size(MESSAGE_LIMIT))
    }

    /// Opens a connection for commands about jobs.
    ///
    /// # Errors
    /// As [`Link::coordinator`].
    pub async fn jobs(&self) -> Result<JobsClient<Channel>, ConnectError> {
        Ok(JobsClient::new(self.open().await?).max_decoding_message_size(MESSAGE_LIMIT))
    }

    /// Opens a connection for data sets.
    ///
    /// # Errors
    /// As [`Link::coordinator`].
    pub async fn data(&self) -> Result<DataClient<Channel>, ConnectError> {
        Ok(DataClient::new(self.open().await?).max_decoding_message_size(MESSAGE_LIMIT))
    }

    /// Opens a connection for joining, and for commands about members and tokens.
    ///
    /// # Errors
    /// As [`Link::coordinator`].
    pub async fn access(&self) -> Result<AccessClient<Channel>, ConnectError> {
        Ok(AccessClient::new(self.open().await?))
    }

    /// Boxed, as [`convoy_security::connect`] is, and for the same reason.
    fn open(&self) -> BoxFuture<'_, Result<Channel, ConnectError>> {
        match &self.cluster {
            Some((pin, identity)) => convoy_security::connect(settings, &self.address, *pin, identity.as_ref()),
            None => Box::pin(self.unencrypted()),
        }
    }

    async fn unencrypted(&self) -> Result<Channel, ConnectError> {
        let no_address = |_| ConnectError::Address(self.address.clone());
        let mut endpoint = Endpoint::from_shared(format!("http://{}", self.address)).map_err(no_address)?;
        if let Some(secret) = &self.secret {
            // A header of the connection, so that no call can lack it.
            endpoint = endpoint.user_agent(format!("{LOCAL}{}", secret.expose())).map_err(no_address)?;
        }
        if let Some(coordinator) = &self.in_process {
            return coordinator.connect(settings(endpoint)).await;
        }
        settings(endpoint).connect().await.map_err(|error| {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            ConnectError::Unreachable(cause.unwrap_or_else(|| error.to_string()))
        })
    }
}

fn settings(endpoint: Endpoint) -> Endpoint {
    endpoint
        .initial_connection_window_size(CONNECTION_WINDOW)
        .initial_stream_window_size(WINDOW)
        .max_frame_size(FRAME)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_that_is_none_is_told_from_one_where_nobody_answers() {
        let problem = async |address: &str| Link::plain(address.to_owned()).coordinator().await.err();
        assert_eq!(problem("no address").await, Some(ConnectError::Address("no address".to_owned())));
        assert!(matches!(problem("127.0.0.1:1").await, Some(ConnectError::Unreachable(_))));
    }

    #[test]
    fn a_secret_is_found_in_the_agent_that_shows_it() {
        let shown = |agent: &str| shown_secret(agent).map(|secret| secret.expose().to_owned());
        assert_eq!(shown("convoy-local/00ff tonic/0.14.9").as_deref(), Some("00ff"));
        assert_eq!(shown("convoy-local/00ff").as_deref(), Some("00ff"));
        assert_eq!([shown("tonic/0.14.9"), shown("")], [None, None]);
    }

    #[test]
    fn a_chunk_fits_in_one_frame_and_one_window() {
        let values = std::sync::Arc::new(vec![1.0; crate::CHUNK_ELEMENTS]);
        let chunk = crate::Chunk { offset: u64::MAX, data: crate::Values::shared(values, 0..crate::CHUNK_ELEMENTS) };
        let message = crate::v1::node_message::Message::Chunk(chunk);
        let bytes = prost::Message::encoded_len(&crate::v1::NodeMessage { message: Some(message) });
        // gRPC puts five bytes before a message.
        assert!(bytes + 5 <= FRAME as usize && FRAME < WINDOW, "{bytes} bytes");
    }
}
