//! Connections within a process, whose bytes go through its memory.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use hyper_util::rt::TokioIo;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::client::{ConnectError, last};
use crate::server::{Connection, Peer};

/// Bytes that are written and not read, of each direction: they stay in the second-level cache.
const BUFFER: usize = 256 << 10;
/// Connections that nobody has taken yet: more than a process has workers.
const WAITING: usize = 4096;

/// Opens connections to a server of the same process.
#[derive(Debug, Clone)]
pub struct InProcess {
    connections: mpsc::Sender<io::Result<Connection>>,
    /// How many were opened.
    opened: Arc<AtomicU16>,
}

/// What opens connections, and the connections, as [`incoming`](crate::incoming) gives them. They are those of a
/// process on this machine: not encrypted, and without a certificate.
pub fn in_process() -> (InProcess, ReceiverStream<io::Result<Connection>>) {
    let (sender, connections) = mpsc::channel(WAITING);
    (InProcess { connections: sender, opened: Arc::default() }, ReceiverStream::new(connections))
}

impl InProcess {
    /// Opens a connection; `endpoint` says what it is like. One that breaks is opened again by the next call on the
    /// channel.
    ///
    /// # Errors
    /// [`ConnectError::Unreachable`] when nobody takes connections any more.
    pub async fn connect(&self, endpoint: Endpoint) -> Result<Channel, ConnectError> {
        let from = self.clone();
        let connector = tower::service_fn(move |_: Uri| {
            let InProcess { connections, opened } = from.clone();
            async move {
                let (client, server) = tokio::io::duplex(BUFFER);
                // Servers tell connections apart by their address.
                let port = opened.fetch_add(1, Ordering::Relaxed);
                let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
                let peer = Peer { address, fingerprint: None, encrypted: false, beside: true, known: Arc::default() };
                let gone = |_| io::Error::new(io::ErrorKind::ConnectionRefused, "the server of this process has ended");
                connections.send(Ok(Connection::in_process(server, peer))).await.map_err(gone)?;
                Ok::<_, io::Error>(TokioIo::new(client))
            }
        });
        let connected = endpoint.connect_with_connector(connector).await;
        connected.map_err(|error| ConnectError::Unreachable(last(&error).to_string()))
    }
}
