//! Addresses as people write them, and the sockets that listen there.

use std::net::{SocketAddr, TcpListener, ToSocketAddrs};

use crate::error::CliError;

/// Opens the socket; loopback only unless connections are `encrypted`.
///
/// # Errors
/// When the address is not allowed, or in use.
pub fn bind(listen: &str, encrypted: bool) -> Result<TcpListener, CliError> {
    let found = addresses(listen)?;
    if !encrypted && !found.iter().all(|address| address.ip().is_loopback()) {
        return Err(CliError::NotLoopback { address: listen.to_owned() });
    }
    let bound = TcpListener::bind(&found[..]).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    bound.map_err(|source| CliError::Listen { address: listen.to_owned(), source })
}

/// Hands a socket to the runtime that runs now, with the address that it listens on.
///
/// # Errors
/// When the system does not let it.
pub fn listen_on(socket: TcpListener) -> Result<(tokio::net::TcpListener, SocketAddr), CliError> {
    let fail = |source| CliError::Io { path: "socket".into(), source };
    let listener = tokio::net::TcpListener::from_std(socket).map_err(fail)?;
    let address = listener.local_addr().map_err(fail)?;
    Ok((listener, address))
}

/// Whether `HOST:PORT` means this machine.
///
/// # Errors
/// When it means nothing.
pub fn is_loopback(address: &str) -> Result<bool, CliError> {
    Ok(addresses(address)?.iter().all(|address| address.ip().is_loopback()))
}

fn addresses(address: &str) -> Result<Vec<SocketAddr>, CliError> {
    let found: Vec<SocketAddr> = address
        .to_socket_addrs()
        .map_err(|error| CliError::Usage(format!("`{address}` is no HOST:PORT: {error}")))?
        .collect();
    match found.is_empty() {
        true => Err(CliError::Usage(format!("`{address}` means no address"))),
        false => Ok(found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_is_bound_in_the_clear() {
        let refused = bind("192.0.2.1:0", false).unwrap_err();
        assert!(matches!(&refused, CliError::NotLoopback { address } if address == "192.0.2.1:0"), "{refused}");
        assert!(bind("127.0.0.1:0", false).unwrap().local_addr().unwrap().ip().is_loopback());
    }

    #[test]
    fn an_address_in_use_is_named() {
        let taken = bind("127.0.0.1:0", false).unwrap();
        let address = taken.local_addr().unwrap().to_string();
        let refused = bind(&address, false).unwrap_err();
        assert!(refused.to_string().contains(&format!("cannot listen on {address}")), "{refused}");
        assert_eq!(refused.exit_code(), 75);
    }

    #[test]
    fn what_is_no_address_is_said_to_be_none() {
        assert_eq!((is_loopback("127.0.0.1:7070").ok(), is_loopback("[::1]:7070").ok()), (Some(true), Some(true)));
        assert_eq!(is_loopback("192.0.2.1:7070").ok(), Some(false));
        for text in ["127.0.0.1", "127.0.0.1:port", ""] {
            let error = is_loopback(text).unwrap_err();
            assert!(error.to_string().starts_with(&format!("`{text}` is no HOST:PORT")), "{error}");
            assert_eq!(error.exit_code(), 2);
        }
    }
}
