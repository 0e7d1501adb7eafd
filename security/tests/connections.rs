//! Real sockets: who gets through, who does not, and what they are told.

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, SystemTime};

use convoy_security::{
    Authority, ConnectError, Connection, Identity, KnownPeers, Limits, NewKey, Peer, PeerIdentity, Pin, ServerTls,
    connect, connect_to_peer, in_process, incoming,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};

const HOUR: Duration = Duration::from_secs(3600);

struct Cluster {
    folder: tempfile::TempDir,
    authority: Authority,
}

impl Cluster {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::create(folder.path(), SystemTime::now()).unwrap();
        Cluster { folder, authority }
    }

    fn server(&self, hosts: &[&str], made: SystemTime) -> Identity {
        let hosts: Vec<String> = hosts.iter().map(|host| host.to_string()).collect();
        self.authority.server(&hosts, HOUR, made).unwrap()
    }

    fn member(&self, made: SystemTime) -> Identity {
        let key = NewKey::generate().unwrap();
        let signed = self.authority.sign(&key.public().unwrap(), "somebody", HOUR, made).unwrap();
        let identity = key.with(signed.chain_pem).unwrap();
        assert_eq!(identity.fingerprint(), signed.fingerprint);
        identity
    }
}

/// A listener, its address, and what it accepts.
async fn listen(tls: Option<ServerTls>, limits: Limits) -> (String, ReceiverStream<std::io::Result<Connection>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (address, incoming(listener, tls, limits))
}

async fn served(identity: &Identity) -> (String, ReceiverStream<std::io::Result<Connection>>) {
    listen(Some(ServerTls::new(identity).unwrap()), Limits::default()).await
}

async fn open(address: &str, pin: Pin, identity: Option<&Identity>) -> Result<Channel, ConnectError> {
    connect(|endpoint| endpoint, address, pin, identity).await
}

#[tokio::test]
async fn members_are_known_and_strangers_are_nobody() {
    let (cluster, now) = (Cluster::new(), SystemTime::now());
    let (address, mut accepted) = served(&cluster.server(&["127.0.0.1"], now)).await;
    let pin = cluster.authority.pin();
    let member = cluster.member(now);
    let greet = async {
        let mut connection = accepted.next().await.unwrap().unwrap();
        connection.write_all(b"settings").await.unwrap();
        connection.flush().await.unwrap();
        connection
    };
    let (channel, connection) = tokio::join!(open(&address, pin, Some(&member)), greet);
    let (_channel, peer) = (channel.unwrap(), connection.peer().clone());
    assert_eq!((peer.fingerprint, peer.encrypted), (Some(member.fingerprint()), true));
    let _channel = open(&address, pin, None).await.unwrap();
    assert_eq!(accepted.next().await.unwrap().unwrap().peer().fingerprint, None);
}

#[tokio::test]
async fn within_a_process_bytes_go_through_memory() {
    let (server, mut connections) = in_process();
    let opening = tokio::spawn({
        let server = server.clone();
        async move { server.connect(Endpoint::from_static("http://here")).await }
    });
    let mut connection = connections.next().await.unwrap().unwrap();
    let mut preface = [0; 14];
    connection.read_exact(&mut preface).await.unwrap();
    assert_eq!(&preface, b"PRI * HTTP/2.0");
    let Peer { address, fingerprint, encrypted, .. } = connection.peer().clone();
    assert!(address.ip().is_loopback() && fingerprint.is_none() && !encrypted);
    assert!(opening.await.unwrap().is_ok());

    // What is bounded for each connection is so for each of these.
    let other = server.connect(Endpoint::from_static("http://here")).await;
    let other = (connections.next().await.unwrap().unwrap(), other);
    assert_ne!(other.0.peer().address, address);

    drop((connection, connections));
    let refused = server.connect(Endpoint::from_static("http://here")).await.err();
    assert_eq!(refused, Some(ConnectError::Unreachable("the server of this process has ended".to_owned())));
}

#[tokio::test]
async fn a_server_of_another_cluster_or_name_or_time_is_not_trusted() {
    let (cluster, other, now) = (Cluster::new(), Cluster::new(), SystemTime::now());
    let pin = cluster.authority.pin();
    let (address, _accepted) = served(&other.server(&["127.0.0.1"], now)).await;
    assert_eq!(open(&address, pin, None).await.unwrap_err(), ConnectError::WrongPin);
    let (address, _accepted) = served(&cluster.server(&["coordinator"], now)).await;
    let refused = open(&address, pin, None).await.unwrap_err();
    assert_eq!(refused, ConnectError::WrongName("127.0.0.1".to_owned()));
    let (address, _accepted) = served(&cluster.server(&["127.0.0.1"], now - 2 * HOUR)).await;
    assert_eq!(open(&address, pin, None).await.unwrap_err(), ConnectError::ServerExpired);
}

#[tokio::test]
async fn a_chain_that_only_shows_the_pinned_certificate_is_not_trusted() {
    let (cluster, other, now) = (Cluster::new(), Cluster::new(), SystemTime::now());
    // A liar has the authority's certificate, which is no secret, and signs with a key of its own.
    let genuine = std::fs::read_to_string(cluster.folder.path().join("ca.pem")).unwrap();
    let key = NewKey::generate().unwrap();
    let signed = other.authority.sign(&key.public().unwrap(), "liar", HOUR, now).unwrap();
    let leaf = signed.chain_pem.split_inclusive("-----END CERTIFICATE-----\n").next().unwrap().replace('\r', "");
    let liar = key.with(format!("{leaf}{genuine}")).unwrap();
    let (address, _accepted) = served(&liar).await;
    assert!(open(&address, cluster.authority.pin(), None).await.is_err());
}

#[tokio::test]
async fn clients_of_another_cluster_or_with_an_old_certificate_are_told_so() {
    let (cluster, other, now) = (Cluster::new(), Cluster::new(), SystemTime::now());
    let (address, _accepted) = served(&cluster.server(&["127.0.0.1"], now)).await;
    let refused = open(&address, cluster.authority.pin(), Some(&other.member(now))).await.err();
    assert!(matches!(refused, Some(ConnectError::Refused(_))), "{refused:?}");
    let expired = open(&address, cluster.authority.pin(), Some(&cluster.member(now - 2 * HOUR))).await.err();
    assert_eq!(expired, Some(ConnectError::Expired));
}

/// Waits until the server has hung up.
async fn hung_up(stream: &mut TcpStream) {
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap_or(0), 0, "the server hangs up");
}

#[tokio::test]
async fn who_says_nothing_is_cut_off() {
    let (cluster, now) = (Cluster::new(), SystemTime::now());
    let tls = ServerTls::new(&cluster.server(&["127.0.0.1"], now)).unwrap();
    let (address, _accepted) = listen(Some(tls), Limits { first_byte: HOUR, ..Limits::default() }).await;
    let mut silent = TcpStream::connect(&address).await.unwrap();
    // The hour is over as soon as nobody has anything to do.
    tokio::time::pause();
    hung_up(&mut silent).await;
}

#[tokio::test]
async fn thousands_that_say_nothing_hold_up_nobody() {
    let (cluster, now) = (Cluster::new(), SystemTime::now());
    let tls = ServerTls::new(&cluster.server(&["127.0.0.1"], now)).unwrap();
    let limits = Limits { first_byte: HOUR, handshake: HOUR, guests: 16, ..Limits::default() };
    let (address, mut accepted) = listen(Some(tls), limits).await;
    let mut silent = Vec::new();
    for number in 0..400 {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        // Some begin a handshake and do not end it.
        if number % 2 == 0 {
            stream.write_all(&[22]).await.unwrap();
        }
        silent.push(stream);
    }
    hung_up(&mut silent[0]).await;
    hung_up(&mut silent[1]).await;
    for _ in 0..3 {
        let stranger = open(&address, cluster.authority.pin(), None);
        let _channel =
            tokio::time::timeout(Duration::from_secs(20), stranger).await.expect("it waits for nobody").unwrap();
        assert!(accepted.next().await.unwrap().is_ok());
    }
}

/// A connection that has said something.
async fn speaking(address: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"PRI").await.unwrap();
    stream
}

#[tokio::test]
async fn one_address_gets_no_more_than_its_share() {
    let limits = Limits { per_address: 2, ..Limits::default() };
    let (address, mut accepted) = listen(None, limits).await;
    let first = speaking(&address).await;
    let held = accepted.next().await.unwrap().unwrap();
    let _second = speaking(&address).await;
    let _also = accepted.next().await.unwrap().unwrap();
    let mut third = speaking(&address).await;
    hung_up(&mut third).await;
    drop((first, held));
    let _fourth = speaking(&address).await;
    assert!(accepted.next().await.unwrap().is_ok());
}

#[tokio::test]
async fn plain_connections_say_that_they_are() {
    let (address, mut accepted) = listen(None, Limits::default()).await;
    let _stream = speaking(&address).await;
    let peer = accepted.next().await.unwrap().unwrap().peer().clone();
    assert_eq!((peer.fingerprint, peer.encrypted), (None, false));
    let cluster = Cluster::new();
    let refused = open(&address, cluster.authority.pin(), None);
    let (refused, plain) = tokio::join!(refused, async { drop(accepted.next().await) });
    let () = plain;
    assert!(matches!(refused, Err(ConnectError::Tls(_) | ConnectError::Unreachable(_))), "{refused:?}");
    assert!(matches!(open("127.0.0.1:1", cluster.authority.pin(), None).await, Err(ConnectError::Unreachable(_))));
    assert!(matches!(open("nonsense", cluster.authority.pin(), None).await, Err(ConnectError::Address(_))));
}

#[tokio::test]
async fn a_servers_certificate_can_be_exchanged_while_it_runs() {
    let (cluster, now) = (Cluster::new(), SystemTime::now());
    let tls = ServerTls::new(&cluster.server(&["127.0.0.1"], now - 2 * HOUR)).unwrap();
    let (address, _accepted) = listen(Some(tls.clone()), Limits::default()).await;
    let pin = cluster.authority.pin();
    assert_eq!(open(&address, pin, None).await.unwrap_err(), ConnectError::ServerExpired);
    tls.exchange(&cluster.server(&["127.0.0.1"], now));
    assert!(open(&address, pin, None).await.is_ok());
}

#[test]
fn keys_are_their_owners_alone_and_come_back() {
    let (cluster, now) = (Cluster::new(), SystemTime::now());
    let folder = cluster.folder.path();
    let member = cluster.member(now);
    member.save(folder, "member").unwrap();
    for key in ["ca.key", "member.key"] {
        assert_eq!(std::fs::metadata(folder.join(key)).unwrap().permissions().mode() & 0o777, 0o600, "{key}");
    }
    assert_eq!(Identity::load(folder, "member").unwrap().fingerprint(), member.fingerprint());
    assert_eq!(Authority::open(folder).unwrap().pin(), member.pin());
    assert!(Authority::create(folder, now).unwrap_err().to_string().contains("already"));
    let key = std::fs::read_to_string(folder.join("member.key")).unwrap();
    assert!(!format!("{member:?} {:?}", cluster.authority).contains(key.lines().nth(1).unwrap()));
    let other = cluster.member(now);
    other.save(folder, "other").unwrap();
    std::fs::copy(folder.join("other.key"), folder.join("member.key")).unwrap();
    assert!(Identity::load(folder, "member").is_err(), "the key of somebody else");
}

#[test]
fn only_keys_and_hosts_are_signed() {
    let cluster = Cluster::new();
    for bytes in [vec![], vec![4; 64], vec![3; 65]] {
        assert!(convoy_security::PublicKey::new(bytes).is_err());
    }
    let refused = cluster.authority.server(&["not a host!".to_owned()], HOUR, SystemTime::now()).unwrap_err();
    assert!(refused.to_string().contains("not a host!"), "{refused}");
}

/// Reads until the connection ends; why it did.
async fn end_of(connection: &mut Connection) -> std::io::ErrorKind {
    let mut bytes = [0; 256];
    loop {
        match connection.read(&mut bytes).await {
            Ok(0) => return std::io::ErrorKind::UnexpectedEof,
            Ok(_) => {}
            Err(error) => return error.kind(),
        }
    }
}

#[tokio::test]
async fn who_shows_no_certificate_has_little_time_and_gives_way_to_others() {
    let (cluster, now) = (Cluster::new(), SystemTime::now());
    let tls = ServerTls::new(&cluster.server(&["127.0.0.1"], now)).unwrap();
    let life = Duration::from_secs(600);
    let limits = Limits { stranger_life: life, strangers: 2, handshake: HOUR, ..Limits::default() };
    let (address, mut accepted) = listen(Some(tls), limits).await;
    let pin = cluster.authority.pin();
    let member = cluster.member(now);
    let greeted = async {
        let mut connection = accepted.next().await.unwrap().unwrap();
        // Empty settings of HTTP/2, so that the client stays.
        connection.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
        connection.flush().await.unwrap();
        connection
    };
    let (channel, mut known) = tokio::join!(open(&address, pin, Some(&member)), greeted);
    let _channel = channel.unwrap();
    assert_eq!(known.peer().fingerprint, Some(member.fingerprint()));
    let (mut channels, mut strangers) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        channels.push(open(&address, pin, None).await.unwrap());
        strangers.push(accepted.next().await.unwrap().unwrap());
    }
    let [first, _, third] = &mut strangers[..] else { unreachable!("three") };
    let gone = end_of(first).await;
    assert_eq!(gone, std::io::ErrorKind::TimedOut, "the third has its place");
    // From here on time passes whenever nobody has anything to do.
    tokio::time::pause();
    assert_eq!(end_of(third).await, std::io::ErrorKind::TimedOut);
    let stays = tokio::time::timeout(3 * life, end_of(&mut known)).await;
    assert!(stays.is_err(), "a member's connection ended: {stays:?}");
}

/// A process that others connect to, and its address.
struct Listening {
    identity: PeerIdentity,
    known: KnownPeers,
    address: String,
    /// Who was let in.
    peers: mpsc::UnboundedReceiver<Peer>,
}

impl Listening {
    async fn new() -> Self {
        let (identity, known) = (PeerIdentity::generate().unwrap(), KnownPeers::default());
        let tls = ServerTls::for_peers(&identity, &known).unwrap();
        let (address, mut accepted) = listen(Some(tls), Limits::default()).await;
        let (sender, peers) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Some(Ok(mut connection)) = accepted.next().await {
                connection.write_all(b"settings").await.unwrap();
                connection.flush().await.unwrap();
                _ = sender.send(connection.peer().clone());
            }
        });
        Listening { identity, known, address, peers }
    }

    /// How a process that expects `expected` here is let in.
    async fn try_as(&self, caller: &PeerIdentity, expected: &PeerIdentity) -> Result<Channel, ConnectError> {
        connect_to_peer(|endpoint| endpoint, &self.address, expected.fingerprint(), caller).await
    }
}

#[tokio::test]
async fn processes_know_each_other_by_what_they_were_told() {
    let mut listening = Listening::new().await;
    let caller = PeerIdentity::generate().unwrap();
    listening.known.insert(caller.fingerprint());
    listening.try_as(&caller, &listening.identity).await.expect("it is known");
    let peer = listening.peers.recv().await.expect("it was let in");
    assert_eq!((peer.fingerprint, peer.encrypted), (Some(caller.fingerprint()), true));
}

#[tokio::test]
async fn a_process_that_nobody_told_of_is_not_let_in() {
    let listening = Listening::new().await;
    let [caller, other] = [(); 2].map(|()| PeerIdentity::generate().unwrap());
    listening.known.insert(other.fingerprint());
    let refused = listening.try_as(&caller, &listening.identity).await.unwrap_err();
    assert!(matches!(refused, ConnectError::Refused(_)), "{refused:?}");
    listening.known.insert(caller.fingerprint());
    listening.try_as(&caller, &listening.identity).await.expect("it is known now");
    listening.known.remove(caller.fingerprint());
    assert!(listening.try_as(&caller, &listening.identity).await.is_err(), "it is gone");
    [(), ()].iter().for_each(|()| listening.known.insert(caller.fingerprint()));
    listening.known.remove(caller.fingerprint());
    listening.try_as(&caller, &listening.identity).await.expect("it was told of twice");
}

#[tokio::test]
async fn an_address_that_leads_elsewhere_is_told_from_one_where_nobody_answers() {
    let [listening, expected] = [Listening::new().await, Listening::new().await];
    let caller = PeerIdentity::generate().unwrap();
    listening.known.insert(caller.fingerprint());
    assert_eq!(listening.try_as(&caller, &expected.identity).await.unwrap_err(), ConnectError::WrongPeer);
    let nobody = connect_to_peer(|endpoint| endpoint, "127.0.0.1:1", expected.identity.fingerprint(), &caller).await;
    assert!(matches!(nobody.unwrap_err(), ConnectError::Unreachable(_)));
    // A coordinator, or any server with a certificate of the cluster.
    let cluster = Cluster::new();
    let (address, _accepted) = served(&cluster.server(&["127.0.0.1"], SystemTime::now())).await;
    let member = connect_to_peer(|endpoint| endpoint, &address, expected.identity.fingerprint(), &caller).await;
    assert_eq!(member.unwrap_err(), ConnectError::WrongPeer);
}

/// With a certificate of the cluster or none, which is enough for a coordinator.
#[tokio::test]
async fn who_shows_no_certificate_or_a_members_is_not_let_in() {
    let (listening, cluster) = (Listening::new().await, Cluster::new());
    let member = cluster.member(SystemTime::now());
    for identity in [None, Some(&member)] {
        let refused = open(&listening.address, cluster.authority.pin(), identity).await.unwrap_err();
        assert_eq!(refused, ConnectError::WrongPin, "it is of no cluster");
    }
    // Who does not look at the server's certificate gets no further.
    let mut stream = TcpStream::connect(&listening.address).await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    _ = stream.read_to_end(&mut answer).await;
    assert!(answer.len() < 64, "an alert at most: {answer:?}");
}
