//! Settings of encrypted connections' sockets.

use std::io;

use tokio::net::TcpStream;

/// Bytes that wait in the system to be sent, beyond those that are on their way. What is written later is chosen later:
/// a megabyte of gradients that waits would make small messages, and what is wanted first, wait behind it.
#[cfg(target_os = "linux")]
const UNSENT: u32 = 128 << 10;

/// Sets them on `stream`: nothing waits to be sent with something else, and little waits at all.
///
/// # Errors
/// When the system refuses.
pub(crate) fn set_options(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    // Systems that are only like Linux may not know it, and do without.
    #[cfg(target_os = "linux")]
    let _ = socket2::SockRef::from(stream).set_tcp_notsent_lowat(UNSENT);
    Ok(())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn little_waits_to_be_sent() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let stream = TcpStream::connect(listener.local_addr().expect("an address")).await.expect("it listens");
        set_options(&stream).expect("Linux knows them");
        assert!(stream.nodelay().expect("it is a socket"));
        assert_eq!(socket2::SockRef::from(&stream).tcp_notsent_lowat().expect("it is a socket"), UNSENT);
    }
}
