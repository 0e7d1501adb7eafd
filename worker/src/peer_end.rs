//! A worker's end towards other workers: its key, where it listens, and whom it lets in.

use std::net::SocketAddr;
use std::time::Duration;

use convoy_proto::{channel, v1};
use convoy_security::{KnownPeers, Limits, PeerIdentity, ServerTls, incoming};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;
use tonic::{Request, Response, Status};

use crate::error::WorkerError;

/// Calls of one connection that are answered at a time.
const CALLS: usize = 4;
/// Other workers that are tried at a time.
const PROBES: usize = 8;
/// Connections at the same time whose other end is not known yet.
const GUESTS: usize = 256;
/// Connections at the same time of workers, and of these from one address.
const CONNECTIONS: usize = 1024;
const PER_ADDRESS: usize = 64;
/// How long a connection lasts, so that one of a worker that is let in no more ends.
const LIFE: Duration = Duration::from_secs(60);

/// Whether and where a worker listens for others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PeerConfig {
    /// Where; without it nobody can connect to this worker, and it still connects to others.
    pub listen: Option<SocketAddr>,
    /// How others reach it, each `HOST:PORT`; if there are none, where it listens, and if that is at every address, at
    /// the one that the coordinator sees.
    pub addresses: Vec<String>,
}

/// A worker's end towards others, for as long as the worker lives.
#[derive(Debug)]
pub(crate) struct PeerEnd {
    pub(crate) identity: PeerIdentity,
    /// Workers of the run that this one is a member of, as the coordinator tells of them.
    pub(crate) known: KnownPeers,
    /// Attempts to reach others, each of which takes a connection.
    pub(crate) probes: Semaphore,
    addresses: Vec<String>,
    /// Where it listens; 0 if it does not.
    port: u16,
    server: Option<AbortHandle>,
}

impl PeerEnd {
    /// Makes a key. Nobody can connect.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub(crate) fn deaf() -> Result<Self, WorkerError> {
        let identity = PeerIdentity::generate().map_err(|error| WorkerError::PeerKey(error.to_string()))?;
        let (known, probes) = (KnownPeers::default(), Semaphore::new(PROBES));
        Ok(PeerEnd { identity, known, probes, addresses: Vec::new(), port: 0, server: None })
    }

    /// Makes a key, and listens if it shall. Nobody is let in yet.
    ///
    /// # Errors
    /// When it cannot listen there.
    pub(crate) async fn open(config: &PeerConfig) -> Result<Self, WorkerError> {
        let mut end = PeerEnd::deaf()?;
        end.addresses = config.addresses.clone();
        if let Some(address) = config.listen {
            let failed = |source| WorkerError::PeerListen { address, source };
            let listener = TcpListener::bind(address).await.map_err(failed)?;
            let bound = listener.local_addr().map_err(failed)?;
            end.port = bound.port();
            if end.addresses.is_empty() && !bound.ip().is_unspecified() {
                end.addresses.push(bound.to_string());
            }
            end.serve(listener)?;
            tracing::info!(%address, port = end.port, "listening for other workers");
        }
        Ok(end)
    }

    fn serve(&mut self, listener: TcpListener) -> Result<(), WorkerError> {
        let tls = ServerTls::for_peers(&self.identity, &self.known);
        let tls = tls.map_err(|error| WorkerError::PeerKey(error.to_string()))?;
        let limits = Limits { guests: GUESTS, members: CONNECTIONS, per_address: PER_ADDRESS, ..Limits::default() };
        let server = channel::server()
            .max_connection_age(LIFE)
            .concurrency_limit_per_connection(CALLS)
            .add_service(channel::peer_service(PeerService { known: self.known.clone() }))
            .serve_with_incoming(incoming(listener, Some(tls), limits));
        self.server = Some(tokio::spawn(server).abort_handle());
        Ok(())
    }

    /// Says in `hello` how other workers know and reach this one.
    pub(crate) fn introduce(&self, hello: &mut v1::Hello) {
        hello.fingerprint = self.identity.fingerprint().0.to_vec().into();
        hello.peer_addresses = self.addresses.clone();
        hello.peer_port = self.port.into();
    }
}

impl Drop for PeerEnd {
    fn drop(&mut self) {
        if let Some(server) = &self.server {
            server.abort();
        }
    }
}

/// What workers of the run may ask.
struct PeerService {
    known: KnownPeers,
}

#[tonic::async_trait]
impl v1::peer_server::Peer for PeerService {
    async fn probe(&self, request: Request<v1::ProbeRequest>) -> Result<Response<v1::ProbeReply>, Status> {
        let caller = request.extensions().get::<convoy_security::Peer>().and_then(|peer| peer.fingerprint);
        match caller.is_some_and(|caller| self.known.contains(caller)) {
            true => Ok(Response::new(v1::ProbeReply {})),
            false => Err(Status::permission_denied("this worker was not told of you")),
        }
    }
}
