//! Connections to a coordinator that pass through the test.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// Forwards connections to a coordinator, and holds them once so many bytes went to it.
pub struct Proxy {
    /// Where it listens.
    pub address: String,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// Bytes that may still go to the coordinator, over all connections; as many as there are if it is `None`.
    left: Mutex<Option<u64>>,
    /// Both ends of all connections.
    streams: Mutex<Vec<TcpStream>>,
}

impl Proxy {
    /// Begins to forward to `coordinator`.
    pub fn start(coordinator: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound").to_string();
        let shared = Arc::new(Shared::default());
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

    /// Holds all connections after `bytes` more bytes to the coordinator.
    pub fn hold_after(&self, bytes: u64) {
        *self.left() = Some(bytes);
    }

    /// Whether connections are held.
    pub fn holds(&self) -> bool {
        *self.left() == Some(0)
    }

    /// Closes all connections, as the system does for a process that is gone. New ones pass.
    pub fn hang_up(&self) {
        *self.left() = None;
        for stream in self.shared.streams.lock().expect("no panic").drain(..) {
            _ = stream.shutdown(Shutdown::Both);
        }
    }

    fn left(&self) -> std::sync::MutexGuard<'_, Option<u64>> {
        self.shared.left.lock().expect("no panic")
    }
}

/// Copies until one end closes, or nothing is left of the bytes that may pass.
fn forward(mut from: TcpStream, mut to: TcpStream, limited: Option<&Shared>) {
    let mut buffer = [0; 16 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        let passing = limited.map_or(read, |shared| {
            let mut left = shared.left.lock().expect("no panic");
            let passing = left.map_or(read, |left| left.min(read as u64) as usize);
            *left = left.map(|left| left - passing as u64);
            passing
        });
        if to.write_all(&buffer[..passing]).is_err() {
            break;
        }
        if passing < read {
            // The rest stays on its way; `hang_up` closes the connection.
            return;
        }
    }
    _ = to.shutdown(Shutdown::Both);
}
