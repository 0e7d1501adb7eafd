//! A connection to a camera over HTTP, as a stream of bytes.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use super::address::HttpAddress;
use super::http::{Chunked, Head, request};
use crate::camera_error::CameraError;

/// How long a camera may take to answer, and to send anything at all.
#[derive(Debug, Clone, Copy)]
pub struct Patient {
    /// To accept a connection.
    pub connect: Duration,
    /// To send the head of its answer.
    pub head: Duration,
    /// Between two bytes.
    pub silence: Duration,
}

/// What cameras get.
pub const PATIENT: Patient =
    Patient { connect: Duration::from_secs(10), head: Duration::from_secs(20), silence: Duration::from_secs(20) };

impl Patient {
    /// For who looks at one frame in `every`: a camera may send no more often than that.
    pub fn with(every: Option<Duration>) -> Patient {
        let silence = every.unwrap_or_default().saturating_mul(2).max(PATIENT.silence);
        Patient { silence, ..PATIENT }
    }
}

/// An answer whose body is being read.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    chunked: Option<Chunked>,
    /// What came with the head.
    early: Vec<u8>,
    /// The boundary that the head names.
    pub boundary: Option<String>,
}

impl Connection {
    /// Asks for the stream, and reads the head of the answer.
    ///
    /// # Errors
    /// When there is no answer, or it is no stream.
    pub fn open(address: &HttpAddress, patient: &Patient) -> Result<Self, CameraError> {
        let lost = |error: io::Error| unreachable(address, &error, "did not answer");
        let mut stream = connect(address, patient.connect).map_err(lost)?;
        stream.set_nodelay(true).and_then(|()| stream.set_read_timeout(Some(patient.silence))).map_err(lost)?;
        stream.set_write_timeout(Some(patient.silence)).map_err(lost)?;
        stream.write_all(request(address).as_bytes()).map_err(lost)?;
        let no_http = |problem| CameraError::NoHttp { camera: address.to_string(), problem };
        let (begun, mut bytes, mut buffer) = (Instant::now(), Vec::new(), vec![0; 4096]);
        let (head, length) = loop {
            let left = patient.head.saturating_sub(begun.elapsed());
            if left.is_zero() {
                return Err(no_http(format!("after {} s its header has no end", patient.head.as_secs_f32())));
            }
            stream.set_read_timeout(Some(left)).map_err(lost)?;
            match read_some(&mut stream, &mut buffer).map_err(lost)? {
                0 if bytes.is_empty() => return Err(lost(io::Error::other("it hung up without an answer"))),
                0 => return Err(no_http("its answer ends within the header".to_owned())),
                count => bytes.extend_from_slice(&buffer[..count]),
            }
            if let Some(found) = Head::read(&bytes).map_err(no_http)? {
                break found;
            }
        };
        check(address, &head)?;
        stream.set_read_timeout(Some(patient.silence)).map_err(lost)?;
        let chunked = head.is_chunked().then(Chunked::default);
        let boundary = head.boundary().map(str::to_owned);
        Ok(Connection { stream, chunked, early: bytes.split_off(length), boundary })
    }

    /// Waits for more of the body, and hands it to `take`. `false` at its end.
    ///
    /// # Errors
    /// When the connection broke, is silent for too long, or chunks are none.
    pub fn read(&mut self, buffer: &mut [u8], mut take: impl FnMut(&[u8])) -> io::Result<bool> {
        let early = std::mem::take(&mut self.early);
        let bytes = if early.is_empty() {
            let count = read_some(&mut self.stream, buffer)?;
            &buffer[..count]
        } else {
            &early
        };
        match &mut self.chunked {
            _ if bytes.is_empty() => Ok(false),
            Some(chunked) => chunked.push(bytes, take).map(|ended| !ended).map_err(io::Error::other),
            None => {
                take(bytes);
                Ok(true)
            }
        }
    }
}

/// What became of a connection to `address`; `late` are the words for one that timed out.
pub fn unreachable(address: &HttpAddress, error: &io::Error, late: &str) -> CameraError {
    let reason = match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => late.to_owned(),
        _ => error.to_string(),
    };
    CameraError::Unreachable { camera: address.to_string(), reason }
}

/// A signal ends no read.
fn read_some(stream: &mut TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match stream.read(buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            read => return read,
        }
    }
}

fn connect(address: &HttpAddress, patience: Duration) -> io::Result<TcpStream> {
    let mut last = io::Error::new(ErrorKind::NotFound, "the name means no address");
    for socket in (address.host.as_str(), address.port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&socket, patience) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Whether the answer may be a stream.
fn check(address: &HttpAddress, head: &Head) -> Result<(), CameraError> {
    let camera = address.to_string();
    if head.code != 200 {
        let location = head.header("location").unwrap_or("another address");
        let asks = head.header("www-authenticate").unwrap_or_default().to_ascii_lowercase();
        let hint = match head.code {
            300..=399 => format!(", it sends on to {location}; give that address, if you trust it"),
            401 if !asks.is_empty() && !asks.contains("basic") => {
                "; it wants another login than Basic, which ffmpeg may know: ffmpeg -i ADDRESS -f image2pipe \
                 -c:v mjpeg - | convoy ... --camera -"
                    .to_owned()
            }
            401 if address.credentials.is_some() => "; is the password right?".to_owned(),
            401 => "; give user and password: http://USER:PASSWORD@HOST:PORT/PATH".to_owned(),
            _ => "; is the path right?".to_owned(),
        };
        return Err(CameraError::Status { camera, status: head.status.clone(), hint, code: head.code });
    }
    if let Some(kind) = head.other_content() {
        let what = format!(
            "what it answers is {kind}, for people or programs; look in it, or in its manual, for the address of the \
             MJPEG stream itself"
        );
        return Err(CameraError::NoPictures { camera, what });
    }
    match head.header("content-encoding") {
        Some(encoding) if !encoding.eq_ignore_ascii_case("identity") => {
            Err(CameraError::NoHttp { camera, problem: format!("its answer is packed as {encoding}, unasked") })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Shutdown, TcpListener};

    use super::*;

    /// All that ffmpeg sends as a server.
    const LISTEN: &[u8] = include_bytes!("../../../tests/reference/camera/listen.http");

    /// A camera that answers one request with `answer`, then hangs up unless it `stays`.
    fn camera(answer: &'static [u8], stays: bool) -> HttpAddress {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("{}/video", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            let (mut client, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                client.read_exact(&mut byte).unwrap();
                request.extend(byte);
            }
            client.write_all(answer).unwrap();
            if stays {
                // Until the other end has gone.
                _ = client.read(&mut [0]);
            }
            _ = client.shutdown(Shutdown::Both);
        });
        HttpAddress::parse(&address).unwrap()
    }

    /// Silence is noticed at once.
    const SHORT: Patient = Patient { head: Duration::from_millis(50), silence: Duration::from_millis(50), ..PATIENT };

    fn refused(answer: &'static [u8], code: u8, words: &[&str]) {
        let error = Connection::open(&camera(answer, false), &PATIENT).map(|_| ()).unwrap_err();
        words.iter().for_each(|word| assert!(error.to_string().contains(word), "{error}"));
        assert_eq!(error.exit_code(), code, "{error}");
    }

    #[test]
    fn the_body_comes_without_chunks() {
        let mut connection = Connection::open(&camera(LISTEN, false), &PATIENT).unwrap();
        let (mut body, mut buffer) = (Vec::new(), [0; 100]);
        while connection.read(&mut buffer, |bytes| body.extend_from_slice(bytes)).unwrap() {}
        let frames = include_bytes!("../../../tests/reference/camera/pipe.mjpeg");
        assert!(body.starts_with(b"--ffmpeg\r\n") && body.windows(833).any(|bytes| bytes == &frames[..833]));
    }

    #[test]
    fn what_is_no_stream_is_refused_in_words() {
        refused(b"HTTP/1.1 404 Not Found\r\n\r\n", 3, &["/video answers 404 Not Found; is the path right?"]);
        refused(b"HTTP/1.1 302 Found\r\nLocation: http://x/y\r\n\r\n", 1, &["302 Found, it sends on to http://x/y;"]);
        refused(b"HTTP/1.1 401 No\r\n\r\n", 4, &["http://USER:PASSWORD@HOST"]);
        refused(b"HTTP/1.1 401 No\r\nWWW-Authenticate: Digest realm=x\r\n\r\n", 4, &["another login", "ffmpeg -i"]);
        refused(b"HTTP/1.1 503 Busy\r\n\r\n", 75, &["503 Busy"]);
        refused(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<html>", 1, &["no JPEG", "text/html"]);
        refused(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n", 1, &["packed as gzip"]);
        refused(b"SSH-2.0-OpenSSH_9.2p1\r\n", 1, &["does not speak HTTP", "SSH-2.0"]);
        refused(b"HTTP/1.1 200 OK\r\nX: ", 1, &["ends within the header"]);
        refused(b"", 75, &["hung up without an answer"]);
    }

    #[test]
    fn silence_has_its_bounds() {
        let open = |answer| Connection::open(&camera(answer, true), &SHORT);
        let error = open(b"HTTP/1.1 200 OK\r\nX: y").map(|_| ()).unwrap_err();
        assert!(error.to_string().contains("did not answer") || error.to_string().contains("has no end"), "{error}");
        let mut connection = open(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
        let error = connection.read(&mut [0; 10], |_| ()).unwrap_err();
        let words = unreachable(&HttpAddress::parse("cam").unwrap(), &error, "too long").to_string();
        assert_eq!(words, "http://cam:80/: too long; is the camera on, and the address right?");
    }

    #[test]
    fn a_camera_that_is_not_there_is_named() {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let error = Connection::open(&HttpAddress::parse(&free.to_string()).unwrap(), &PATIENT).unwrap_err();
        assert!(error.to_string().contains(&format!("http://{free}/: ")), "{error}");
        assert_eq!(error.exit_code(), 75);
    }

    #[test]
    fn whoever_looks_seldom_waits_for_long() {
        let seconds = |every: Option<u64>| Patient::with(every.map(Duration::from_secs)).silence.as_secs();
        assert_eq!([seconds(None), seconds(Some(1)), seconds(Some(60))], [20, 20, 120]);
    }
}
