//! Bringing frames from a source to the slot, for as long as there are any.

use std::io::{self, ErrorKind, Read};
use std::time::Duration;

use convoy_proto::patience::Patience;

use super::address::HttpAddress;
use super::connection::{Connection, Patient, unreachable};
use super::opening::{OPENING, words_for};
use super::slot::{Last, Slot};
use super::source::CameraSource;
use super::split::{BETWEEN_LIMIT, NothingFound, Piece, Splitter};
use crate::camera_error::CameraError;
use crate::out;

/// Bytes that are read at a time.
const READ: usize = 64 << 10;

/// Reads until the source is at its end. Over HTTP, a stream that has given pictures and broke is asked for again,
/// for as long as `patience` says; a connection gets the time of `patient`.
pub fn read(source: &CameraSource, slot: &Slot, patience: Option<Duration>, patient: Patient) -> Last {
    match source {
        CameraSource::StandardInput => read_pipe(&mut io::stdin().lock(), slot),
        CameraSource::Http(address) => read_http(address, slot, Patience::new(patience), &patient),
    }
}

fn read_pipe(pipe: &mut impl Read, slot: &Slot) -> Last {
    let name = CameraSource::StandardInput.to_string();
    let (mut stream, mut buffer) = (Stream::new(slot, None), vec![0; READ]);
    loop {
        let done = match pipe.read(&mut buffer) {
            Ok(0) => stream.end(&name).map(|()| true),
            Ok(count) => stream.push(&name, &buffer[..count]).map(|()| false),
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(false),
            Err(error) => Err(CameraError::Unreachable { camera: name.clone(), reason: error.to_string() }),
        };
        match done {
            Ok(false) => {}
            Ok(true) => return Last::Over,
            Err(error) => return Last::Failed(error),
        }
    }
}

fn read_http(address: &HttpAddress, slot: &Slot, mut patience: Patience, patient: &Patient) -> Last {
    let (mut ever, mut away) = (false, false);
    loop {
        let mut on_first = || {
            if std::mem::take(&mut away) {
                out::note(format_args!("{address}: pictures come again"));
            }
        };
        let (frames, result) = one_connection(address, slot, patient, &mut on_first);
        if frames > 0 {
            ever = true;
            patience.renew();
        }
        let error = match result {
            Err(error) if !ever => return Last::Failed(error),
            Err(error) => error,
            Ok(()) => CameraError::Unreachable { camera: address.to_string(), reason: "it hung up".to_owned() },
        };
        let Some(pause) = patience.pause() else { return Last::Failed(error) };
        // A camera that sends one picture for each request hangs up all the time.
        if (frames != 1) && !std::mem::replace(&mut away, true) {
            out::note(format_args!("{error} Trying again until it comes back."));
        }
        std::thread::sleep(pause);
    }
}

/// Reads one answer to its end. How many frames came, and whether it ended well.
fn one_connection(
    address: &HttpAddress,
    slot: &Slot,
    patient: &Patient,
    on_first: &mut impl FnMut(),
) -> (u64, Result<(), CameraError>) {
    let name = address.to_string();
    let mut connection = match Connection::open(address, patient) {
        Ok(connection) => connection,
        Err(error) => return (0, Err(error)),
    };
    let mut stream = Stream::new(slot, connection.boundary.take());
    let mut buffer = vec![0; READ];
    loop {
        let mut pushed = Ok(());
        let read = connection.read(&mut buffer, |bytes| {
            if pushed.is_ok() {
                let before = stream.frames;
                pushed = stream.push(&name, bytes);
                if before == 0 && stream.frames > 0 {
                    on_first();
                }
            }
        });
        let done = match (pushed, read) {
            (Err(error), _) => Err(error),
            (_, Ok(true)) => continue,
            (_, Ok(false)) => stream.end(&name),
            (_, Err(error)) => {
                _ = stream.end(&name);
                Err(unreachable(address, &error, "nothing came for too long"))
            }
        };
        return (stream.frames, done);
    }
}

/// A stream on its way into the slot.
struct Stream<'s> {
    slot: &'s Slot,
    splitter: Splitter,
    opening: Vec<u8>,
    frames: u64,
    cut: u64,
}

impl<'s> Stream<'s> {
    fn new(slot: &'s Slot, boundary: Option<String>) -> Self {
        Stream { slot, splitter: Splitter::new(boundary.as_deref()), opening: Vec::new(), frames: 0, cut: 0 }
    }

    fn push(&mut self, name: &str, bytes: &[u8]) -> Result<(), CameraError> {
        let room = OPENING.saturating_sub(self.opening.len());
        self.opening.extend_from_slice(&bytes[..bytes.len().min(room)]);
        let Stream { slot, splitter, frames, cut, .. } = self;
        let pushed = splitter.push(bytes, |piece| match piece {
            Piece::Whole(bytes) => {
                *frames += 1;
                slot.put(bytes);
            }
            Piece::Cut => {
                *cut += 1;
                slot.put_cut();
            }
        });
        pushed.map_err(|NothingFound| {
            let what = match self.frames {
                0 => words_for(&self.opening),
                frames => format!("after {frames} of them came {} KiB of something else", BETWEEN_LIMIT >> 10),
            };
            CameraError::NoPictures { camera: name.to_owned(), what }
        })
    }

    /// The stream ends here.
    fn end(&mut self, name: &str) -> Result<(), CameraError> {
        if self.splitter.is_in_file() {
            self.cut += 1;
            self.slot.put_cut();
        }
        let what = match (self.frames, self.cut) {
            (0, 0) => words_for(&self.opening),
            (0, cut) => format!("{cut} came, cut off before their end"),
            _ => return Ok(()),
        };
        Err(CameraError::NoPictures { camera: name.to_owned(), what })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIPE: &[u8] = include_bytes!("../../../tests/reference/camera/pipe.mjpeg");

    /// What reading `bytes` from a pipe ends with, and the frames and the cut ones that came.
    fn pipe(mut bytes: &[u8]) -> (Result<(), String>, (u64, u64)) {
        let slot = Slot::new(false);
        let last = match read_pipe(&mut bytes, &slot) {
            Last::Failed(error) => Err(error.to_string()),
            Last::Over | Last::Stopped => Ok(()),
        };
        (last, slot.counts())
    }

    #[test]
    fn a_pipe_ends_well_if_a_picture_came() {
        assert_eq!(pipe(PIPE), (Ok(()), (5, 0)));
        assert_eq!(pipe(&PIPE[..PIPE.len() - 9]), (Ok(()), (4, 1)));
    }

    #[test]
    fn a_pipe_without_pictures_says_what_came() {
        let problem = |bytes: &[u8]| pipe(bytes).0.unwrap_err();
        assert_eq!(problem(b""), "standard input sends no JPEG pictures: nothing came");
        assert!(problem(b"\n<HTML><body>").contains("a web page (HTML)"));
        assert!(problem(&PIPE[..500]).contains("1 came, cut off before their end"));
        assert!(problem(&vec![0; 2 * BETWEEN_LIMIT]).contains("begins with the bytes 00 00 00"));
        let noise = [PIPE, &vec![b'x'; 2 * BETWEEN_LIMIT]].concat();
        let words = "standard input sends no JPEG pictures: after 5 of them came 1024 KiB of something else";
        assert_eq!(problem(&noise), words);
    }
}
