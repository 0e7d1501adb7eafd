//! Addresses at which workers say that others reach them.

/// How many of them a worker may say.
pub const MOST_PEER_ADDRESSES: usize = 8;
/// Characters of one: a host name's most, and a port.
const LENGTH: usize = 255 + 6;

/// Whether `text` is a `HOST:PORT` that a worker may say: of characters that a terminal can show, an IPv6 address in
/// brackets.
pub fn is_peer_address(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_host = match inner {
        Some(inner) => inner.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.chars().all(|c| c.is_ascii_graphic() && !matches!(c, ':' | '/' | '@' | '[')),
    };
    text.len() <= LENGTH && is_host && port.parse::<u16>().is_ok_and(|port| port > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port() {
        for good in ["ox:7071", "ox.lan:1", "10.0.0.5:65535", "[::1]:9", "[fe80::1]:7071"] {
            assert!(is_peer_address(good), "{good}");
        }
        let long = format!("{}:1", "x".repeat(300));
        for bad in
            ["", "ox", ":7071", "ox:", "ox:0", "ox:65536", "::1:7071", "[ox]:1", "o x:1", "o\u{1b}x:1", "a/b:1", &long]
        {
            assert!(!is_peer_address(bad), "{bad}");
        }
    }
}
