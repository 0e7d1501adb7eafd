//! Connections to a coordinator that pass through the test.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// Forwards connections to a coordinator, and no more than so many bytes of each to it.
pub struct Proxy {
    /// Where it listens.
    pub address: String,
    shared: Arc<Shared>,
}

struct Shared {
    limit: u64,
    cut: AtomicBool,
    /// Both ends of all connections.
    streams: Mutex<Vec<TcpStream>>,
}

impl Proxy {
    /// Begins to forward to `coordinator`. A connection that has sent `limit` bytes to it is held from then on.
    pub fn start(coordinator: &str, limit: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound").to_string();
        let shared = Arc::new(Shared { limit, cut: AtomicBool::new(false), streams: Mutex::default() });
        let (coordinator, held) = (coordinator.to_owned(), shared.clone());
        // It ends with the test's process.
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(&coordinator) else { continue };
                let copy = |stream: &TcpStream| stream.try_clone().expect("a handle");
                held.streams.lock().expect("no panic").extend([copy(&client), copy(&server)]);
                let (up, down) = ((copy(&client), copy(&server)), (server, client));
                let shared = held.clone();
                std::thread::spawn(move || forward(up.0, up.1, Some(&shared)));
                std::thread::spawn(move || forward(down.0, down.1, None));
            }
        });
        Proxy { address, shared }
    }

    /// Whether a connection is held.
    pub fn is_cut(&self) -> bool {
        self.shared.cut.load(Ordering::SeqCst)
    }

    /// Closes all connections, as the system does for a process that is gone.
    pub fn hang_up(&self) {
        for stream in self.shared.streams.lock().expect("no panic").drain(..) {
            _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// Copies until one end closes, or the limit is reached.
fn forward(mut from: TcpStream, mut to: TcpStream, limited: Option<&Shared>) {
    let (mut buffer, mut sent) = ([0; 16 << 10], 0);
    loop {
        let room = limited.map_or(u64::MAX, |shared| shared.limit - sent).min(buffer.len() as u64) as usize;
        if room == 0 {
            limited.expect("it has a limit").cut.store(true, Ordering::SeqCst);
            return;
        }
        match from.read(&mut buffer[..room]) {
            Ok(read @ 1..) if to.write_all(&buffer[..read]).is_ok() => sent += read as u64,
            _ => {
                _ = to.shutdown(Shutdown::Both);
                return;
            }
        }
    }
}
