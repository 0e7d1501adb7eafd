//! Accepting connections: handshakes with a time limit, and no more of anything than there is room for.

use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin as StdPin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::Sleep;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;

use crate::error::KeyError;
use crate::guests::{Guest, Guests, Origin};
use crate::identity::Identity;
use crate::key::Fingerprint;
use crate::peers::{KnownPeers, PeerIdentity};
use crate::rarely::Rarely;
use crate::sockets::set_options;
use crate::tls::{ALPN, provider};

/// Bounds on what can be taken of a server.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Time until something comes on a connection.
    pub first_byte: Duration,
    /// Time for a handshake, once something came.
    pub handshake: Duration,
    /// Connections at the same time whose handshake is not over; a newcomer takes the place of another one.
    pub guests: usize,
    /// Connections at the same time that have shown no certificate in their handshake; as with guests.
    pub strangers: usize,
    /// Life of such a connection: time enough to join.
    pub stranger_life: Duration,
    /// Connections of members at the same time; without encryption, all that have sent something.
    pub members: usize,
    /// Of these, from one address.
    pub per_address: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            first_byte: Duration::from_secs(2),
            handshake: Duration::from_secs(5),
            guests: 4096,
            strangers: 256,
            stranger_life: Duration::from_secs(10),
            members: 8192,
            per_address: 4096,
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
    /// Whether it is on this machine, as far as its address tells: that is loopback's, or the one it has connected to.
    pub beside: bool,
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
        ServerTls::with(certified, verifier)
    }

    /// Shows `identity`; clients must be known.
    ///
    /// # Errors
    /// When the identity cannot be used.
    pub fn for_peers(identity: &PeerIdentity, known: &KnownPeers) -> Result<Self, KeyError> {
        ServerTls::with(identity.certified(), Arc::new(known.clone()))
    }

    fn with(certified: Arc<CertifiedKey>, verifier: Arc<dyn ClientCertVerifier>) -> Result<Self, KeyError> {
        let served = Arc::new(Served(RwLock::new(certified)));
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| KeyError::Bad(error.to_string()))?
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
    place: Place,
}

/// What a connection has until it ends.
#[derive(Debug)]
enum Place {
    Member {
        _slot: Slot,
    },
    /// Of the process itself, which bounds its connections.
    Own,
    Stranger {
        guest: Guest,
        end: StdPin<Box<Sleep>>,
    },
}

#[derive(Debug)]
enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    InProcess(DuplexStream),
}

/// Counts the connections of members by where they come from, to bound them.
#[derive(Debug, Default)]
struct Slots {
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by_origin: HashMap<Origin, usize>,
}

/// A connection's place among those that are counted, until it is dropped.
#[derive(Debug)]
struct Slot {
    slots: Arc<Slots>,
    origin: Origin,
}

impl Slots {
    /// A place for a connection from `origin`, if there is one left.
    fn take(self: &Arc<Self>, origin: Origin, limits: &Limits) -> Option<Slot> {
        let mut taken = self.taken.lock();
        let here = taken.by_origin.get(&origin).copied().unwrap_or(0);
        if taken.all >= limits.members || here >= limits.per_address {
            return None;
        }
        taken.all += 1;
        taken.by_origin.insert(origin, here + 1);
        Some(Slot { slots: self.clone(), origin })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut taken = self.slots.taken.lock();
        taken.all -= 1;
        if let Some(count) = taken.by_origin.get_mut(&self.origin) {
            *count -= 1;
            if *count == 0 {
                taken.by_origin.remove(&self.origin);
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

/// Where all connections come in.
struct Door {
    tls: Option<ServerTls>,
    limits: Limits,
    guests: Arc<Guests>,
    strangers: Arc<Guests>,
    slots: Arc<Slots>,
    /// Members for whom there was no place.
    full: Rarely,
}

async fn accept(
    listener: TcpListener,
    tls: Option<ServerTls>,
    limits: Limits,
    sender: mpsc::Sender<io::Result<Connection>>,
) {
    let (guests, strangers) = (Guests::new(limits.guests), Guests::new(limits.strangers));
    let door = Arc::new(Door { tls, limits, guests, strangers, slots: Arc::default(), full: Rarely::default() });
    let failures = Rarely::default();
    loop {
        let (stream, address) = tokio::select! {
            () = sender.closed() => return,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    if let Some(left_out) = failures.now() {
                        tracing::warn!(%error, left_out, "cannot accept connections; trying again");
                    }
                    tokio::time::sleep(BACKOFF).await;
                    continue;
                }
            },
        };
        let (door, sender) = (door.clone(), sender.clone());
        let mut guest = door.guests.enter(Origin::of(address.ip()));
        if has_spoken(&stream) {
            guest.spoke();
        }
        tokio::spawn(async move {
            match door.greet(stream, address, guest).await {
                Ok(connection) => _ = sender.send(Ok(connection)).await,
                Err(error) => tracing::debug!(%address, %error, "no connection"),
            }
        });
    }
}

impl Door {
    /// Finds out who `guest` is; it may be sent away meanwhile.
    async fn greet(&self, stream: TcpStream, address: SocketAddr, mut guest: Guest) -> io::Result<Connection> {
        let late = |_| io::Error::from(io::ErrorKind::TimedOut);
        let mut byte = [0];
        let first = tokio::select! {
            () = guest.sent_away() => return Err(sent_away()),
            first = tokio::time::timeout(self.limits.first_byte, stream.peek(&mut byte)) => first.map_err(late)??,
        };
        if first == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        guest.spoke();
        let (stream, peer) = tokio::select! {
            () = guest.sent_away() => return Err(sent_away()),
            greeted = tokio::time::timeout(self.limits.handshake, shake_hands(stream, address, self.tls.clone())) => {
                greeted.map_err(late)??
            }
        };
        let origin = Origin::of(address.ip());
        if peer.encrypted && peer.fingerprint.is_none() {
            let end = Box::pin(tokio::time::sleep(self.limits.stranger_life));
            let guest = self.strangers.enter(origin);
            return Ok(Connection { stream, peer, place: Place::Stranger { guest, end } });
        }
        let Some(slot) = self.slots.take(origin, &self.limits) else {
            if let Some(left_out) = self.full.now() {
                let (most, per_address) = (self.limits.members, self.limits.per_address);
                tracing::warn!(%address, most, per_address, left_out, "refused: too many connections of members");
            }
            return Err(io::Error::other("too many connections"));
        };
        Ok(Connection { stream, peer, place: Place::Member { _slot: slot } })
    }
}

/// Whether something has come on a connection that was just accepted. In a flood its task may be late to see that.
fn has_spoken(stream: &TcpStream) -> bool {
    let flags = rustix::net::RecvFlags::PEEK | rustix::net::RecvFlags::DONTWAIT;
    rustix::net::recv(stream, &mut [0; 1], flags).is_ok_and(|(_, bytes)| bytes > 0)
}

fn sent_away() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "a connection without a certificate gave its place to another one")
}

async fn shake_hands(stream: TcpStream, address: SocketAddr, tls: Option<ServerTls>) -> io::Result<(Stream, Peer)> {
    set_options(&stream)?;
    let Some(tls) = tls else {
        if !address.ip().to_canonical().is_loopback() {
            return Err(io::Error::other("only processes on this machine are let in without encryption"));
        }
        let peer = Peer { address, fingerprint: None, encrypted: false, beside: true, known: Arc::default() };
        return Ok((Stream::Plain(stream), peer));
    };
    let beside = is_beside(address.ip(), stream.local_addr()?.ip());
    let stream = TlsAcceptor::from(tls.config).accept(stream).await?;
    let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let fingerprint = certificate.map(Fingerprint::of);
    let peer = Peer { address, fingerprint, encrypted: true, beside, known: Arc::default() };
    Ok((Stream::Tls(Box::new(stream)), peer))
}

/// Whether a connection from `address` to `local`, an address of this machine, comes from this machine.
fn is_beside(address: IpAddr, local: IpAddr) -> bool {
    let address = address.to_canonical();
    address.is_loopback() || address == local.to_canonical()
}

impl Connection {
    /// One that is opened within this process.
    pub(crate) fn in_process(stream: DuplexStream, peer: Peer) -> Connection {
        Connection { stream: Stream::InProcess(stream), peer, place: Place::Own }
    }

    /// Who is at the other end.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// An error when the connection's time is over; otherwise its task is woken then.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let Place::Stranger { guest, end } = &mut self.place else { return Ok(()) };
        if end.as_mut().poll(cx).is_ready() {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "a connection without a certificate has had its time"));
        }
        match guest.poll_sent_away(cx) {
            Poll::Ready(()) => Err(sent_away()),
            Poll::Pending => Ok(()),
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
            Stream::InProcess(stream) => StdPin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: StdPin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Plain(stream) => StdPin::new(stream).poll_write(cx, buf),
            Stream::Tls(stream) => StdPin::new(stream).poll_write(cx, buf),
            Stream::InProcess(stream) => StdPin::new(stream).poll_write(cx, buf),
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
            Stream::InProcess(stream) => StdPin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
            Stream::InProcess(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: StdPin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => StdPin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => StdPin::new(stream).poll_flush(cx),
            Stream::InProcess(stream) => StdPin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: StdPin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => StdPin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => StdPin::new(stream).poll_shutdown(cx),
            Stream::InProcess(stream) => StdPin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_from_an_address_of_this_machine_is_beside() {
        for (address, beside) in [
            ("10.0.0.1", true),
            ("::ffff:10.0.0.1", true),
            ("127.0.0.1", true),
            ("::1", true),
            ("10.0.0.2", false),
            ("::2", false),
        ] {
            let address: IpAddr = address.parse().expect("an address");
            for local in ["10.0.0.1", "::ffff:10.0.0.1"] {
                assert_eq!(is_beside(address, local.parse().expect("an address")), beside, "{address} at {local}");
            }
        }
    }

    #[test]
    fn places_are_bounded_for_each_address_and_for_all() {
        let slots = Arc::new(Slots::default());
        let limits = Limits { members: 3, per_address: 2, ..Limits::default() };
        let [a, b, c] = [1, 2, 3].map(|last| Origin::of([10, 0, 0, last].into()));
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
        let taken = slots.taken.lock();
        assert!(taken.all == 0 && taken.by_origin.is_empty(), "nobody is left, not even who was refused");
    }
}
