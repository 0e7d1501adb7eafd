//! Connections to a coordinator that pass through here, and what may happen to them on the way.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use socket2::SockRef;

use crate::dice::Dice;

/// How long a thread waits for bytes before it looks whether its connection is to end.
const LOOK: Duration = Duration::from_millis(10);
/// Pieces that wait for their time in each direction of a connection.
const WAITING: usize = 1024;

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From workers to the coordinator.
    Up,
    /// From the coordinator to workers.
    Down,
}

/// What happens to bytes on their way, on all connections.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rules {
    /// Bytes that may still pass; as many as there are if it is `None`. Then nothing passes, and nobody is told.
    pub left: Option<u64>,
    /// How long bytes take.
    pub delay: Duration,
    /// Up to so much more.
    pub jitter: Duration,
    /// Bytes a second.
    pub rate: Option<u64>,
    /// Bytes of each packet.
    pub slice: Option<usize>,
    /// Bits that are still to be flipped, one in each of the next pieces.
    pub flips: u64,
}

/// Forwards connections to a coordinator.
///
/// # Examples
/// ```
/// use std::io::{Read, Write};
/// use std::net::{TcpListener, TcpStream};
///
/// let server = TcpListener::bind("127.0.0.1:0")?;
/// let proxy = convoy_faults::proxy::Proxy::start(&server.local_addr()?.to_string());
/// TcpStream::connect(&proxy.address)?.write_all(b"hello")?;
/// let mut heard = String::new();
/// server.accept()?.0.read_to_string(&mut heard)?;
/// assert_eq!(heard, "hello");
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Proxy {
    /// Where it listens.
    pub address: String,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    up: Mutex<Rules>,
    down: Mutex<Rules>,
    /// Bytes that passed, up and down.
    passed: [AtomicU64; 2],
    /// Connections that came.
    connections: AtomicU64,
    /// New connections are closed at once.
    refuses: AtomicBool,
    pairs: Mutex<Vec<Arc<Pair>>>,
}

/// A connection: its end at the worker and its end at the coordinator.
struct Pair {
    client: TcpStream,
    server: TcpStream,
    /// Its threads are to let go of it.
    over: AtomicBool,
    /// What one end closes is not closed at the other.
    silent: AtomicBool,
}

impl Proxy {
    /// Begins to forward to `coordinator`.
    ///
    /// # Panics
    /// When no port is free.
    pub fn start(coordinator: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound").to_string();
        let shared = Arc::new(Shared::default());
        let (coordinator, held) = (coordinator.to_owned(), shared.clone());
        // It ends with the process.
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                held.connections.fetch_add(1, Ordering::Relaxed);
                if held.refuses.load(Ordering::Relaxed) {
                    continue;
                }
                let Ok(server) = TcpStream::connect(&coordinator) else { continue };
                forward(&held, client, server);
            }
        });
        Proxy { address, shared }
    }

    /// Changes what happens to bytes that go `way`.
    pub fn set(&self, way: Way, change: impl FnOnce(&mut Rules)) {
        change(&mut self.shared.rules(way).lock());
    }

    /// Changes it for both ways.
    pub fn set_both(&self, change: impl Fn(&mut Rules)) {
        [Way::Up, Way::Down].into_iter().for_each(|way| self.set(way, &change));
    }

    /// Holds all connections after `bytes` more bytes to the coordinator.
    pub fn hold_after(&self, bytes: u64) {
        self.set(Way::Up, |rules| rules.left = Some(bytes));
    }

    /// Whether bytes to the coordinator are held.
    pub fn holds(&self) -> bool {
        self.shared.up.lock().left == Some(0)
    }

    /// Bytes that passed so far.
    pub fn passed(&self, way: Way) -> u64 {
        self.shared.passed[way as usize].load(Ordering::Relaxed)
    }

    /// Connections that came so far.
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// Whether new connections are closed at once.
    pub fn refuse(&self, refuses: bool) {
        self.shared.refuses.store(refuses, Ordering::Relaxed);
    }

    /// Closes all connections, as the system does for a process that is gone. New ones pass, and all their bytes.
    pub fn hang_up(&self) {
        self.set_both(|rules| rules.left = None);
        self.end(|pair| {
            _ = pair.client.shutdown(Shutdown::Both);
            _ = pair.server.shutdown(Shutdown::Both);
        });
    }

    /// Resets all connections: both ends get an RST.
    pub fn reset(&self) {
        self.end(|pair| {
            for stream in [&pair.client, &pair.server] {
                _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
            }
        });
    }

    /// Closes all connections at the coordinator, and leaves the workers in the belief that they are open.
    pub fn half_open(&self) {
        for pair in self.shared.pairs.lock().iter() {
            pair.silent.store(true, Ordering::Relaxed);
            _ = pair.server.shutdown(Shutdown::Both);
        }
    }

    /// Says to the coordinator that workers send no more, and lets all go on that it sends.
    pub fn close_slowly(&self) {
        for pair in self.shared.pairs.lock().iter() {
            _ = pair.client.shutdown(Shutdown::Read);
        }
    }

    fn end(&self, how: impl Fn(&Pair)) {
        for pair in self.shared.pairs.lock().drain(..) {
            how(&pair);
            pair.over.store(true, Ordering::Relaxed);
        }
    }
}

impl Shared {
    fn rules(&self, way: Way) -> &Mutex<Rules> {
        match way {
            Way::Up => &self.up,
            Way::Down => &self.down,
        }
    }

    /// What may pass of `bytes`, changed as the rules say.
    fn pass<'b>(&self, way: Way, bytes: &'b mut [u8], dice: &mut Dice) -> &'b [u8] {
        let mut rules = self.rules(way).lock();
        let passing = rules.left.map_or(bytes.len(), |left| left.min(bytes.len() as u64) as usize);
        rules.left = rules.left.map(|left| left - passing as u64);
        if rules.flips > 0 && passing > 0 {
            rules.flips -= 1;
            // Not anywhere: TLS 1.3 ignores the version in the head of a record (RFC 8446, 5.1).
            bytes[passing - 1] ^= 1 << dice.below(8);
        }
        self.passed[way as usize].fetch_add(passing as u64, Ordering::Relaxed);
        &bytes[..passing]
    }
}

fn forward(shared: &Arc<Shared>, client: TcpStream, server: TcpStream) {
    for stream in [&client, &server] {
        _ = stream.set_nodelay(true);
        _ = stream.set_read_timeout(Some(LOOK));
        _ = stream.set_write_timeout(Some(LOOK));
    }
    let pair = Arc::new(Pair { client, server, over: AtomicBool::new(false), silent: AtomicBool::new(false) });
    let mut pairs = shared.pairs.lock();
    // Nobody copies for those that are over any more.
    pairs.retain(|pair| Arc::strong_count(pair) > 1 || pair.silent.load(Ordering::Relaxed));
    pairs.push(pair.clone());
    drop(pairs);
    for way in [Way::Up, Way::Down] {
        let (sender, receiver) = sync_channel(WAITING);
        let (reads, writes) = ((shared.clone(), pair.clone()), (shared.clone(), pair.clone()));
        std::thread::spawn(move || read(way, &reads.0, &reads.1, &sender));
        std::thread::spawn(move || write(way, &writes.0, &writes.1, &receiver));
    }
}

/// Reads until the end; each piece with the time when it is to arrive.
fn read(way: Way, shared: &Shared, pair: &Pair, pieces: &SyncSender<(Instant, Vec<u8>)>) {
    let mut from = if way == Way::Up { &pair.client } else { &pair.server };
    let (mut buffer, mut dice) = ([0; 16 << 10], Dice::from_clock());
    while !pair.over.load(Ordering::Relaxed) {
        let rules = *shared.rules(way).lock();
        if rules.left == Some(0) {
            // The bytes stay where they are, as on a line that is cut.
            std::thread::sleep(LOOK);
            continue;
        }
        match from.read(&mut buffer) {
            Ok(0) => return,
            Ok(read) => {
                let jitter = Duration::from_micros(dice.below(rules.jitter.as_micros() as u64 + 1));
                let passing = shared.pass(way, &mut buffer[..read], &mut dice).to_vec();
                if pieces.send((Instant::now() + rules.delay + jitter, passing)).is_err() {
                    return;
                }
            }
            Err(error) if is_timeout(&error) => {}
            Err(_) => return,
        }
    }
}

/// Writes each piece when it is due, in the order in which they came; then closes.
fn write(way: Way, shared: &Shared, pair: &Pair, pieces: &Receiver<(Instant, Vec<u8>)>) {
    let to = if way == Way::Up { &pair.server } else { &pair.client };
    for (due, piece) in pieces {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let rules = *shared.rules(way).lock();
        for slice in piece.chunks(rules.slice.unwrap_or(usize::MAX)) {
            if write_all(to, slice, &pair.over).is_err() {
                return;
            }
            if let Some(rate) = rules.rate {
                std::thread::sleep(Duration::from_secs_f64(slice.len() as f64 / rate as f64));
            }
        }
    }
    if !pair.over.load(Ordering::Relaxed) && !pair.silent.load(Ordering::Relaxed) {
        _ = to.shutdown(Shutdown::Write);
    }
}

/// Writes `bytes`, or gives up when the connection is to end.
fn write_all(mut to: &TcpStream, mut bytes: &[u8], over: &AtomicBool) -> std::io::Result<()> {
    while !bytes.is_empty() {
        if over.load(Ordering::Relaxed) {
            return Err(ErrorKind::ConnectionAborted.into());
        }
        match to.write(bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(error) if is_timeout(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A connection through a proxy: the proxy, the client's end, the server's end.
    fn connection() -> (Proxy, TcpStream, TcpStream) {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Proxy::start(&server.local_addr().unwrap().to_string());
        let client = TcpStream::connect(&proxy.address).unwrap();
        (proxy, client, server.accept().unwrap().0)
    }

    #[test]
    fn bytes_pass_in_slices_and_late_and_in_order() {
        let (proxy, mut client, mut server) = connection();
        proxy.set_both(|rules| {
            rules.slice = Some(1);
            rules.delay = Duration::from_millis(1);
            rules.jitter = Duration::from_millis(5);
        });
        let sent: Vec<u8> = (0..=255).collect();
        for part in sent.chunks(16) {
            client.write_all(part).unwrap();
        }
        let mut heard = vec![0; sent.len()];
        server.read_exact(&mut heard).unwrap();
        assert_eq!(heard, sent);
    }

    #[test]
    fn so_many_bytes_pass_and_then_none_until_it_hangs_up() {
        let (proxy, mut client, mut server) = connection();
        proxy.hold_after(3);
        client.write_all(b"hello").unwrap();
        let mut heard = Vec::new();
        convoy_testing::wait_for("three bytes", || proxy.holds().then_some(()));
        proxy.hang_up();
        server.read_to_end(&mut heard).unwrap();
        assert_eq!((heard.as_slice(), proxy.passed(Way::Up)), (&b"hel"[..], 3));
    }

    #[test]
    fn one_bit_is_flipped() {
        let (proxy, mut client, mut server) = connection();
        proxy.set(Way::Up, |rules| rules.flips = 1);
        client.write_all(&[0; 64]).unwrap();
        let mut heard = [0; 64];
        server.read_exact(&mut heard).unwrap();
        assert_eq!(heard.iter().map(|byte| byte.count_ones()).sum::<u32>(), 1);
    }

    #[test]
    fn both_ends_of_a_reset_connection_hear_it() {
        let (proxy, mut client, mut server) = connection();
        server.write_all(b"x").unwrap();
        client.read_exact(&mut [0]).unwrap();
        proxy.reset();
        for end in [&mut client, &mut server] {
            assert_eq!(end.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
        }
    }

    #[test]
    fn a_half_open_connection_is_closed_at_one_end() {
        let (proxy, client, mut server) = connection();
        proxy.half_open();
        assert_eq!(server.read(&mut [0]).unwrap(), 0);
        client.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        assert_eq!((&client).read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    }
}
