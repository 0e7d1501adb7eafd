//! As much of HTTP/1.1 as a camera needs: a request, the head of the answer, and bodies in chunks. Bytes in, bytes out.

use super::address::HttpAddress;

/// The largest head, in bytes.
pub const HEAD_LIMIT: usize = 64 << 10;

/// The request for a stream.
pub fn request(address: &HttpAddress) -> String {
    let authorization =
        address.credentials.as_ref().map(|credentials| format!("Authorization: Basic {credentials}\r\n"));
    format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: convoy/{}\r\n\
         Accept: multipart/x-mixed-replace, image/jpeg, */*;q=0.5\r\n{}Connection: close\r\n\r\n",
        address.path,
        address.host_and_port(),
        env!("CARGO_PKG_VERSION"),
        authorization.unwrap_or_default()
    )
}

/// The head of an answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Head {
    /// Its code.
    pub code: u16,
    /// Code and words, as they came.
    pub status: String,
    headers: Vec<(String, String)>,
}

impl Head {
    /// Reads the head at the start of `bytes`; with it its length, the empty line included. `None` until all of it has
    /// come.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn read(bytes: &[u8]) -> Result<Option<(Head, usize)>, String> {
        let is_status = |start: &[u8]| bytes.starts_with(&start[..start.len().min(bytes.len())]);
        if !is_status(b"HTTP/1.") && !is_status(b"ICY ") {
            return Err(super::opening::words_for(bytes));
        }
        let within = &bytes[..bytes.len().min(HEAD_LIMIT)];
        let Some(length) = length_of_head(within) else {
            let too_long = bytes.len() > HEAD_LIMIT;
            return if too_long { Err(format!("its header has more than {HEAD_LIMIT} bytes")) } else { Ok(None) };
        };
        let text = String::from_utf8_lossy(&bytes[..length]);
        let mut lines = text.lines();
        let first = lines.next().unwrap_or_default();
        let status = first.split_once(' ').map_or("", |(_, status)| status.trim());
        let code = status.split(' ').next().and_then(|code| code.parse().ok());
        let code = code.ok_or_else(|| format!("its first line is {first:?}"))?;
        let header = |line: &str| {
            let (name, value) = line.split_once(':')?;
            Some((name.trim().to_ascii_lowercase(), value.trim().to_owned()))
        };
        Ok(Some((Head { code, status: status.to_owned(), headers: lines.filter_map(header).collect() }, length)))
    }

    /// The header of that name, which is in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// Whether the body comes in chunks.
    pub fn is_chunked(&self) -> bool {
        self.header("transfer-encoding").is_some_and(|value| value.to_ascii_lowercase().contains("chunked"))
    }

    /// The boundary of a multipart stream.
    pub fn boundary(&self) -> Option<&str> {
        let kind = self.header("content-type").filter(|kind| self.is("multipart/", kind))?;
        let named = kind.split(';').filter_map(|part| part.split_once('='));
        let (_, value) = named.into_iter().find(|(name, _)| name.trim().eq_ignore_ascii_case("boundary"))?;
        Some(value.trim().trim_matches('"'))
    }

    /// What the content type says that is no stream of pictures.
    pub fn other_content(&self) -> Option<&str> {
        let kind = self.header("content-type")?;
        ["text/html", "application/json", "application/xhtml"].iter().any(|other| self.is(other, kind)).then_some(kind)
    }

    fn is(&self, prefix: &str, kind: &str) -> bool {
        kind.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
    }
}

/// Up to and with the empty line; lines end in LF or CRLF.
fn length_of_head(bytes: &[u8]) -> Option<usize> {
    let mut start = 0;
    while let Some(length) = bytes[start..].iter().position(|byte| *byte == b'\n') {
        let line = &bytes[start..start + length];
        start += length + 1;
        if line.is_empty() || line == b"\r" {
            return Some(start);
        }
    }
    None
}

/// Takes the chunks of a body apart.
#[derive(Debug, Default)]
pub struct Chunked {
    /// The line with a chunk's size, as far as it has come.
    line: Vec<u8>,
    /// What is left of the chunk.
    left: u64,
    /// Whether the last chunk has come.
    ended: bool,
}

impl Chunked {
    /// Hands what `bytes` hold of the body to `take`. `true` once the last chunk has come.
    ///
    /// # Errors
    /// When they are no chunks.
    pub fn push(&mut self, mut bytes: &[u8], mut take: impl FnMut(&[u8])) -> Result<bool, String> {
        while !bytes.is_empty() && !self.ended {
            if self.left > 0 {
                let now = bytes.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
                take(&bytes[..now]);
                self.left -= now as u64;
                bytes = &bytes[now..];
                continue;
            }
            let line_end = bytes.iter().position(|byte| *byte == b'\n');
            self.line.extend_from_slice(&bytes[..line_end.unwrap_or(bytes.len()).min(HEAD_LIMIT)]);
            if self.line.len() > 256 {
                return Err("the line with a chunk's size has no end".to_owned());
            }
            let Some(line_end) = line_end else { break };
            bytes = &bytes[line_end + 1..];
            self.read_size()?;
        }
        Ok(self.ended)
    }

    fn read_size(&mut self) -> Result<(), String> {
        let line = String::from_utf8_lossy(&self.line).into_owned();
        self.line.clear();
        let size = line.split(';').next().unwrap_or_default().trim();
        // The end of a chunk's data is an empty line.
        if !size.is_empty() {
            self.left = u64::from_str_radix(size, 16).map_err(|_| format!("{size:?} is no size of a chunk"))?;
            self.ended = self.left == 0;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn head(text: &str) -> Head {
        Head::read(text.as_bytes()).unwrap().expect("it is whole").0
    }

    #[test]
    fn a_head_is_read_once_it_is_whole() {
        let text = "HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=\"frame\"\r\n\r\n";
        for end in 0..text.len() {
            assert_eq!(Head::read(&text.as_bytes()[..end]), Ok(None), "{end}");
        }
        let (head, length) = Head::read(format!("{text}--frame").as_bytes()).unwrap().unwrap();
        assert_eq!((head.code, head.status.as_str(), length), (200, "200 OK", text.len()));
        assert_eq!((head.boundary(), head.is_chunked(), head.other_content()), (Some("frame"), false, None));
    }

    #[test]
    fn sloppy_heads_are_read() {
        let sloppy = head("ICY 200 OK\ncontent-type:Multipart/X-Mixed-Replace;Boundary=--b\nnonsense\n\n");
        assert_eq!((sloppy.code, sloppy.boundary()), (200, Some("--b")));
        let chunked =
            head("HTTP/1.1 200\r\nTransfer-Encoding: Chunked\r\nContent-Type: image/jpeg; boundary=x\r\n\r\n");
        assert_eq!((chunked.is_chunked(), chunked.boundary()), (true, None));
        let page = head("HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n\r\n");
        assert_eq!(page.other_content(), Some("text/html; charset=utf-8"));
    }

    #[test]
    fn what_is_no_head_is_told() {
        let problem = |bytes: &[u8]| Head::read(bytes).unwrap_err();
        assert!(problem(b"SSH-2.0-OpenSSH_9.2\r\n").contains("is text: \"SSH-2.0"));
        assert!(problem(b"HTTP/1.1 OK\r\n\r\n").contains("its first line is \"HTTP/1.1 OK\""));
        let endless = [&b"HTTP/1.1 200 OK\r\nX: "[..], &vec![b'y'; HEAD_LIMIT]].concat();
        assert_eq!(problem(&endless), "its header has more than 65536 bytes");
        assert_eq!(Head::read(&endless[..HEAD_LIMIT]), Ok(None));
    }

    #[test]
    fn the_request_says_who_asks_and_for_what() {
        let text = request(&HttpAddress::parse("me:pw@[::1]:81/v?x=1").unwrap());
        assert!(text.starts_with("GET /v?x=1 HTTP/1.1\r\nHost: [::1]:81\r\n"), "{text}");
        assert!(text.contains("Authorization: Basic bWU6cHc=\r\n") && text.ends_with("\r\n\r\n"), "{text}");
        assert!(!request(&HttpAddress::parse("cam").unwrap()).contains("Authorization"));
    }

    #[test]
    fn what_is_no_chunk_is_told() {
        let push = |bytes: &[u8]| Chunked::default().push(bytes, |_| ());
        assert_eq!(
            push(b"\xff\xd8\xff\xe0\n").unwrap_err().as_str(),
            "\"\u{fffd}\u{fffd}\u{fffd}\u{fffd}\" is no size of a chunk"
        );
        assert!(push(&[b'0'; 300]).unwrap_err().contains("no end"));
        assert!(push(b"fffffffffffffffff\r\n").is_err(), "too large");
    }

    proptest! {
        #[test]
        fn chunks_are_joined_however_they_are_read(
            chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..40), 0..8),
            read in 1..50usize,
        ) {
            let mut sent = Vec::new();
            for chunk in &chunks {
                sent.extend_from_slice(format!("{:X};ext=1\r\n", chunk.len()).as_bytes());
                sent.extend_from_slice(chunk);
                sent.extend_from_slice(b"\r\n");
            }
            sent.extend_from_slice(b"0\r\n\r\n");
            let (mut body, mut chunked, mut ended) = (Vec::new(), Chunked::default(), false);
            for bytes in sent.chunks(read) {
                ended = chunked.push(bytes, |part| body.extend_from_slice(part)).unwrap();
            }
            prop_assert!(ended);
            prop_assert_eq!(body, chunks.concat());
        }
    }
}
