//! Addresses of cameras: `http://[USER:PASSWORD@]HOST[:PORT][/PATH]`.

use std::fmt;

use data_encoding::BASE64;

/// Where a camera is, and who asks.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpAddress {
    /// A name or an address, without brackets.
    pub host: String,
    /// 80 where none is given.
    pub port: u16,
    /// With query, without fragment; begins with a slash.
    pub path: String,
    /// What Basic authentication sends.
    pub credentials: Option<String>,
}

impl HttpAddress {
    /// Reads what follows `http://`.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(rest: &str) -> Result<Self, String> {
        let rest = rest.split('#').next().unwrap_or_default();
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        if let Some(odd) = rest.chars().find(|c| c.is_control() || c.is_whitespace()) {
            return Err(format!("it has the character {odd:?}; write it as %{:02X}", u32::from(odd)));
        }
        let (user, host_port) = match authority.rsplit_once('@') {
            Some((user, host_port)) => (Some(user), host_port),
            None => (None, authority),
        };
        let (host, port) = match host_port.strip_prefix('[') {
            Some(rest) => rest.split_once(']').ok_or("its `[` has no `]`")?,
            None => host_port.split_at(host_port.find(':').unwrap_or(host_port.len())),
        };
        let port = match port.strip_prefix(':') {
            Some(port) => port.parse().map_err(|_| format!("`{port}` is no port"))?,
            None if port.is_empty() => 80,
            None => return Err(format!("`{port}` follows the host")),
        };
        if host.is_empty() {
            return Err("it names no host".to_owned());
        }
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        let credentials = user.map(|user| BASE64.encode(&unescaped(user)));
        Ok(HttpAddress { host: host.to_owned(), port, path, credentials })
    }

    /// `HOST:PORT`, as HTTP's `Host` has it.
    pub fn host_and_port(&self) -> String {
        let HttpAddress { host, port, .. } = self;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }
}

/// Without credentials.
impl fmt::Display for HttpAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.host_and_port(), self.path)
    }
}

/// Without credentials.
impl fmt::Debug for HttpAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// `%41` becomes `A`; whatever is no escape stays.
fn unescaped(text: &str) -> Vec<u8> {
    let digit = |byte: Option<&u8>| byte.and_then(|digit| char::from(*digit).to_digit(16));
    let (mut bytes, mut out) = (text.as_bytes(), Vec::with_capacity(text.len()));
    while let [byte, rest @ ..] = bytes {
        bytes = match (byte, digit(rest.first()), digit(rest.get(1))) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                &rest[2..]
            }
            _ => {
                out.push(*byte);
                rest
            }
        };
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (String, u16, String, Option<String>) {
        let HttpAddress { host, port, path, credentials } = HttpAddress::parse(text).unwrap();
        (host, port, path, credentials)
    }

    #[test]
    fn addresses_are_taken_apart() {
        assert_eq!(read("cam"), ("cam".into(), 80, "/".into(), None));
        assert_eq!(read("192.0.2.7:8080/video?x=1#y"), ("192.0.2.7".into(), 8080, "/video?x=1".into(), None));
        assert_eq!(read("[::1]:81/v"), ("::1".into(), 81, "/v".into(), None));
        assert_eq!(read("cam?action=stream").2, "/?action=stream");
        let with = |text| read(text).3.map(|text| BASE64.decode(text.as_bytes()).unwrap());
        assert_eq!(with("me:p%40ss@cam/"), Some(b"me:p@ss".to_vec()));
        assert_eq!(with("me:50%@cam/"), Some(b"me:50%".to_vec()));
    }

    #[test]
    fn a_password_is_not_shown() {
        let address = HttpAddress::parse("me:secret@[::1]/v").unwrap();
        assert_eq!(address.to_string(), "http://[::1]:80/v");
        assert_eq!(format!("{address:?}"), "http://[::1]:80/v");
    }

    #[test]
    fn what_is_no_address_is_said_to_be_none() {
        for (text, problem) in [
            ("", "no host"),
            ("cam:x/", "`x` is no port"),
            ("cam:70000", "`70000` is no port"),
            ("[::1/x", "no `]`"),
            ("[::1]x", "`x` follows"),
            ("cam/a b", "' '"),
            ("cam/\r\nX: y", "'\\r'"),
        ] {
            let error = HttpAddress::parse(text).unwrap_err();
            assert!(error.contains(problem), "{text}: {error}");
        }
    }
}
