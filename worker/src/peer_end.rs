//! A worker's end towards other workers: its key, where it listens, and whom it lets in.

use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use convoy_proto::{Chunk, channel, v1};
use convoy_security::{Fingerprint, KnownPeers, Limits, PeerIdentity, ServerTls, incoming};
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::AbortHandle;
use tokio_stream::wrappers::{ReceiverStream, UnboundedReceiverStream};
use tonic::{Request, Response, Status, Streaming};

use crate::error::WorkerError;
use crate::exchange::{ExchangeState, FindExchange, IncomingChunks, slices};
use crate::known_workers::KnownWorkers;

/// Calls of one connection that are answered at a time.
const CALLS: usize = 16;
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
    /// These, and the connections to those that listen.
    pub(crate) workers: Arc<KnownWorkers>,
    /// The exchange of the run that this worker is a member of.
    exchange: Arc<Mutex<Weak<ExchangeState>>>,
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
        let workers = Arc::new(KnownWorkers::new(identity.clone()));
        let exchange = Arc::new(Mutex::new(Weak::new()));
        Ok(PeerEnd { identity, known, probes, workers, exchange, addresses: Vec::new(), port: 0, server: None })
    }

    /// Calls of other workers about this exchange are answered from now on, as long as it lasts.
    pub(crate) fn join(&self, exchange: &Arc<ExchangeState>) {
        *self.exchange.lock() = Arc::downgrade(exchange);
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
            .add_service(channel::peer_service(PeerService { known: self.known.clone(), find: self.finder() }))
            .serve_with_incoming(incoming(listener, Some(tls), limits));
        self.server = Some(tokio::spawn(server).abort_handle());
        Ok(())
    }

    /// Finds the exchange of a job's run.
    fn finder(&self) -> FindExchange {
        let exchange = self.exchange.clone();
        Arc::new(move |job, generation| exchange.lock().upgrade().filter(|exchange| exchange.is_of(job, generation)))
    }

    /// Whether others can connect.
    pub(crate) fn listens(&self) -> bool {
        self.port != 0
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
    find: FindExchange,
}

impl PeerService {
    /// The certificate of a caller that is let in.
    fn caller<T>(&self, request: &Request<T>) -> Result<Fingerprint, Status> {
        let caller = request.extensions().get::<convoy_security::Peer>().and_then(|peer| peer.fingerprint);
        let known = caller.filter(|caller| self.known.contains(*caller));
        known.ok_or_else(|| Status::permission_denied("this worker was not told of you"))
    }
}

#[tonic::async_trait]
impl v1::peer_server::Peer for PeerService {
    type PushStream = UnboundedReceiverStream<Result<v1::ChunkTaken, Status>>;
    type SlicesStream = ReceiverStream<Result<Chunk, Status>>;

    async fn probe(&self, request: Request<v1::ProbeRequest>) -> Result<Response<v1::ProbeReply>, Status> {
        self.caller(&request).map(|_| Response::new(v1::ProbeReply {}))
    }

    async fn push(&self, request: Request<Streaming<v1::PushMessage>>) -> Result<Response<Self::PushStream>, Status> {
        let caller = self.caller(&request)?;
        let (taken, replies) = mpsc::unbounded_channel();
        let incoming = IncomingChunks::new(caller, self.find.clone(), taken.clone());
        tokio::spawn(async move {
            if let Err(status) = incoming.take_all(request.into_inner()).await {
                _ = taken.send(Err(status));
            }
        });
        Ok(Response::new(UnboundedReceiverStream::new(replies)))
    }

    async fn slices(&self, request: Request<v1::SlicesRequest>) -> Result<Response<Self::SlicesStream>, Status> {
        let caller = self.caller(&request)?;
        Ok(Response::new(slices(caller, &self.find, request.into_inner()).await?))
    }
}
