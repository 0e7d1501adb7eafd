//! Accepting connections: handshakes with a time limit, and no more of anything than there is room for.

use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin as StdPin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Sleep;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;

use crate::error::KeyError;
use crate::identity::Identity;
use crate::key::Fingerprint;
use crate::tls::{ALPN, provider};

/// Bounds on what strangers can take.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Time for a handshake.
    pub handshake: Duration,
    /// Handshakes at the same time.
    pub handshakes: usize,
    /// Connections at the same time.
    pub connections: usize,
    /// Connections from one address at the same time.
    pub per_address: usize,
    /// Connections without a certificate at the same time; more of them wait, as long as a handshake may take.
    pub strangers: usize,
    /// Life of a connection without a certificate: time enough to join.
    pub stranger_life: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            handshake: Duration::from_secs(5),
            handshakes: 256,
            connections: 8192,
            per_address: 4096,
            strangers: 256,
            stranger_life: Duration::from_secs(10),
        }
    }
}

/// Who is at the other end of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Where it comes from.
    pub address: SocketAddr,
    /// Its certificate, of this cluster and valid when it connected; none where it has none.
    pub fingerprint: Option<Fingerprint>,
    /// Whether nobody between can read.
    pub encrypted: bool,
    /// A number for whoever serves the connection to know its other end by, once it was found out.
    pub known: Arc<OnceLock<u64>>,
}

/// What a server shows and asks for. Its certificate can be exchanged while it runs.
#[derive(Debug, Clone)]
pub struct ServerTls {
    config: Arc<ServerConfig>,
    served: Arc<Served>,
}

#[derive(Debug)]
struct Served(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Served {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().clone())
    }
}

impl ServerTls {
    /// Shows `identity`; clients may show a certificate of the same authority, and none of another.
    ///
    /// # Errors
    /// When the identity cannot be used.
    pub fn new(identity: &Identity) -> Result<Self, KeyError> {
        let bad = |error: &dyn std::fmt::Display| KeyError::Bad(error.to_string());
        let certified = identity.certified();
        let mut roots = RootCertStore::empty();
        roots.add(certified.cert[1].clone()).map_err(|error| bad(&error))?;
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
            .allow_unauthenticated()
            .build()
            .map_err(|error| bad(&error))?;
        let served = Arc::new(Served(RwLock::new(certified)));
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| bad(&error))?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(served.clone());
        config.alpn_protocols = vec![ALPN.to_vec()];
        // A session that is taken up again would not look at the certificate's time.
        config.send_tls13_tickets = 0;
        Ok(ServerTls { config: Arc::new(config), served })
    }

    /// Shows `identity` from now on.
    pub fn exchange(&self, identity: &Identity) {
        *self.served.0.write() = identity.certified();
    }
}

/// A connection that was accepted.
#[derive(Debug)]
pub struct Connection {
    stream: Stream,
    peer: Peer,
    stranger: Option<Stranger>,
    _slot: Slot,
}

/// What a connection without a certificate has until it ends.
#[derive(Debug)]
struct Stranger {
    end: StdPin<Box<Sleep>>,
    _turn: OwnedSemaphorePermit,
}

#[derive(Debug)]
enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Counts connections by address, to bound them.
#[derive(Debug, Default)]
struct Slots {
    by_address: Mutex<HashMap<IpAddr, usize>>,
}

/// A connection's place among those that are counted, until it is dropped.
#[derive(Debug)]
struct Slot {
    slots: Arc<Slots>,
    address: IpAddr,
}

impl Slots {
    /// A place for a connection from `address`, if there is one left.
    fn take(self: &Arc<Self>, address: IpAddr, limits: &Limits) -> Option<Slot> {
        let mut by_address = self.by_address.lock();
        let all: usize = by_address.values().sum();
        let here = by_address.get(&address).copied().unwrap_or(0);
        if all >= limits.connections || here >= limits.per_address {
            return None;
        }
        by_address.insert(address, here + 1);
        Some(Slot { slots: self.clone(), address })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut by_address = self.slots.by_address.lock();
        if let Some(count) = by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                by_address.remove(&self.address);
            }
        }
    }
}

/// Accepts connections for as long as somebody takes them. Without `tls` nothing is encrypted, and only processes on
/// this machine are let in. What fails on one connection is logged and harms no other.
pub fn incoming(
    listener: TcpListener,
    tls: Option<ServerTls>,
    limits: Limits,
) -> ReceiverStream<io::Result<Connection>> {
    let (sender, accepted) = mpsc::channel(64);
    tokio::spawn(accept(listener, tls, limits, sender));
    ReceiverStream::new(accepted)
}

/// How long to wait when the system cannot accept, for want of file descriptors mostly.
const BACKOFF: Duration = Duration::from_millis(100);

async fn accept(
    listener: TcpListener,
    tls: Option<ServerTls>,
    limits: Limits,
    sender: mpsc::Sender<io::Result<Connection>>,
) {
    let slots = Arc::new(Slots::default());
    let handshakes = Arc::new(Semaphore::new(limits.handshakes));
    let strangers = Arc::new(Semaphore::new(limits.strangers));
    loop {
        let (stream, address) = tokio::select! {
            () = sender.closed() => return,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept connections; trying again");
                    tokio::time::sleep(BACKOFF).await;
                    continue;
                }
            },
        };
        let Some(slot) = slots.take(address.ip(), &limits) else {
            tracing::debug!(%address, "refused: too many connections");
            continue;
        };
        let (tls, handshakes, sender, limit) = (tls.clone(), handshakes.clone(), sender.clone(), limits.handshake);
        let (strangers, life) = (strangers.clone(), limits.stranger_life);
        tokio::spawn(async move {
            let greeting = async {
                let turn = handshakes.acquire_owned().await;
                let mut connection = greet(stream, address, tls, slot).await?;
                drop(turn);
                if connection.peer.encrypted && connection.peer.fingerprint.is_none() {
                    let turn = strangers.acquire_owned().await.map_err(io::Error::other)?;
                    connection.stranger = Some(Stranger { end: Box::pin(tokio::time::sleep(life)), _turn: turn });
                }
                Ok::<_, io::Error>(connection)
            };
            match tokio::time::timeout(limit, greeting).await {
                Ok(Ok(connection)) => _ = sender.send(Ok(connection)).await,
                Ok(Err(error)) => tracing::debug!(%address, %error, "no connection"),
                Err(_) => tracing::debug!(%address, "no connection: the handshake took too long"),
            }
        });
    }
}

async fn greet(stream: TcpStream, address: SocketAddr, tls: Option<ServerTls>, slot: Slot) -> io::Result<Connection> {
    stream.set_nodelay(true)?;
    let Some(tls) = tls else {
        if !address.ip().to_canonical().is_loopback() {
            return Err(io::Error::other("only processes on this machine are let in without encryption"));
        }
        let peer = Peer { address, fingerprint: None, encrypted: false, known: Arc::default() };
        return Ok(Connection { stream: Stream::Plain(stream), peer, stranger: None, _slot: slot });
    };
    let stream = TlsAcceptor::from(tls.config).accept(stream).await?;
    let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let fingerprint = certificate.map(Fingerprint::of);
    let peer = Peer { address, fingerprint, encrypted: true, known: Arc::default() };
    Ok(Connection { stream: Stream::Tls(Box::new(stream)), peer, stranger: None, _slot: slot })
}

impl Connection {
    /// Who is at the other end.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// An error when the connection's time is over; otherwise its task is woken then.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let over = self.stranger.as_mut().is_some_and(|stranger| stranger.end.as_mut().poll(cx).is_ready());
        match over {
            true => Err(io::Error::new(io::ErrorKind::TimedOut, "a connection without a certificate has had its time")),
            false => Ok(()),
        }
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: StdPin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.poll_end(cx)?;
        match &mut self.stream {
            Stream::Plain(stream) => StdPin::new(stream).poll_read(cx, buf),
            Stream::Tls(stream) => StdPin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: StdPin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Plain(stream) => StdPin::new(stream).poll_write(cx, buf),
            Stream::Tls(stream) => StdPin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        mut self: StdPin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Plain(stream) => StdPin::new(stream).poll_write_vectored(cx, bufs),
            Stream::Tls(stream) => StdPin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: StdPin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => StdPin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => StdPin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: StdPin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => StdPin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => StdPin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_for_each_address_and_for_all() {
        let slots = Arc::new(Slots::default());
        let limits = Limits { connections: 3, per_address: 2, ..Limits::default() };
        let [a, b, c] = [1, 2, 3].map(|last| IpAddr::from([10, 0, 0, last]));
        let first = slots.take(a, &limits);
        let second = slots.take(a, &limits);
        assert!(first.is_some() && second.is_some());
        assert!(slots.take(a, &limits).is_none(), "one address has two");
        let third = slots.take(b, &limits);
        assert!(third.is_some());
        assert!(slots.take(c, &limits).is_none(), "all have three");
        drop(second);
        assert!(slots.take(c, &limits).is_some(), "a place is free again");
        drop((first, third));
        assert!(slots.by_address.lock().is_empty(), "nobody is left, not even who was refused");
    }
}
