//! Cutting a stream of bytes into JPEG files.
//!
//! A file ends where its own markers say: from its start marker over segments with their lengths and over scans, in
//! which FF is stuffed or a restart, to its end marker. A picture within a segment, as thumbnails are, ends nothing.
//! What lies between files is passed over: the headers of a multipart stream, whatever they are, or garbage. Its
//! delimiter is of use where a file is damaged or has something behind it: the next one then begins after the
//! delimiter. Lengths in the headers are not used, since cameras are wrong about them.

/// The largest file that is taken from a camera, in bytes.
pub const FRAME_LIMIT: usize = 32 << 20;
/// How much may lie between two files, in bytes.
pub const BETWEEN_LIMIT: usize = 1 << 20;

/// Bytes that are looked at together.
const STEP: usize = 4 << 10;
const START: [u8; 3] = [0xFF, 0xD8, 0xFF];

/// What was cut out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// The bytes of a file, from start marker to end marker.
    Whole(Vec<u8>),
    /// A file that was begun and not ended, or is too large; it is gone.
    Cut,
}

/// More than [`BETWEEN_LIMIT`] bytes without the beginning of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NothingFound;

/// Where the next byte belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Before the delimiter of a multipart stream.
    BeforeDelimiter,
    /// Before a start marker.
    BeforeFile,
    /// At a marker of a file. It follows the segment that begins at `segment`.
    Marker { segment: usize },
    /// In a scan.
    Scan,
}

/// Cuts a stream into files. What comes out depends on the bytes alone, not on how they were cut into reads.
#[derive(Debug)]
pub struct Splitter {
    /// What has come and is not done with; begins with the start marker while a file is being read.
    held: Vec<u8>,
    /// How far `held` has been looked at; beyond its end where a segment is longer than what has come.
    at: usize,
    place: Place,
    /// `--` and the boundary; `None` in a stream without one.
    delimiter: Option<Vec<u8>>,
    /// Whether the delimiter has come once.
    delimited: bool,
    /// Bytes passed over since the last file.
    passed: usize,
    frame_limit: usize,
}

impl Splitter {
    /// A splitter for a stream that begins now, with the boundary that its header names, if any.
    pub fn new(boundary: Option<&str>) -> Self {
        // Some cameras name the boundary with its dashes, some without, and all of them send at least two.
        let name = boundary.map(|name| name.trim_start_matches('-')).filter(|name| !name.is_empty());
        let delimiter = name.map(|name| format!("--{name}").into_bytes());
        let place = if delimiter.is_some() { Place::BeforeDelimiter } else { Place::BeforeFile };
        Splitter { held: Vec::new(), at: 0, place, delimiter, delimited: false, passed: 0, frame_limit: FRAME_LIMIT }
    }

    /// Takes bytes, and hands every piece that is now complete to `take`.
    ///
    /// # Errors
    /// When there is no file where one should be. The splitter is of no use afterwards.
    pub fn push(&mut self, bytes: &[u8], mut take: impl FnMut(Piece)) -> Result<(), NothingFound> {
        // In small steps, since whatever is found moves what is held behind it.
        bytes.chunks(STEP).try_for_each(|bytes| self.step(bytes, &mut take))
    }

    fn step(&mut self, bytes: &[u8], take: &mut impl FnMut(Piece)) -> Result<(), NothingFound> {
        self.held.extend_from_slice(bytes);
        loop {
            let goes_on = match self.place {
                Place::BeforeDelimiter | Place::BeforeFile => self.seek()?,
                Place::Marker { segment } => self.marker(segment, take),
                Place::Scan => self.scan(take),
            };
            if !goes_on {
                return Ok(());
            }
        }
    }

    /// Whether the stream would end in mid-file if it ended now.
    pub fn is_in_file(&self) -> bool {
        matches!(self.place, Place::Marker { .. } | Place::Scan)
    }

    /// Passes over what lies between files. Whether it came to an end.
    fn seek(&mut self) -> Result<bool, NothingFound> {
        let wants_delimiter = self.place == Place::BeforeDelimiter;
        let delimiter = self.delimiter.as_ref().and_then(|delimiter| find(&self.held, delimiter));
        // A stream that does not begin with the delimiter that its header names has another one, or none.
        let start = if wants_delimiter && self.delimited { None } else { find(&self.held, &START) };
        let found = match (start, delimiter) {
            (start, Some(delimiter)) if start.is_none_or(|start| delimiter < start) => {
                (self.place, self.delimited) = (Place::BeforeFile, true);
                Some(delimiter + self.delimiter.as_ref().map_or(0, Vec::len))
            }
            (Some(start), _) => {
                self.delimiter.take_if(|_| wants_delimiter);
                (self.place, self.at) = (Place::Marker { segment: 2 }, 2);
                Some(start)
            }
            _ => None,
        };
        let in_file = self.is_in_file();
        // The last bytes may be the beginning of what is looked for.
        let longest = self.delimiter.as_ref().map_or(0, Vec::len).max(START.len());
        let drop = found.unwrap_or_else(|| self.held.len().saturating_sub(longest - 1));
        self.held.drain(..drop);
        self.passed += drop;
        if self.passed > BETWEEN_LIMIT {
            return Err(NothingFound);
        }
        if in_file {
            self.passed = 0;
        }
        Ok(found.is_some())
    }

    /// One marker with its segment. Whether there is more to look at.
    fn marker(&mut self, segment: usize, take: &mut impl FnMut(Piece)) -> bool {
        let at = self.at;
        if at > self.frame_limit {
            return self.cut(segment, take);
        }
        match self.held.get(at..) {
            None | Some([] | [0xFF]) => false,
            // Fill.
            Some([0xFF, 0xFF, ..]) => self.go_to(at + 1, Place::Marker { segment }),
            Some([0xFF, 0xD9, ..]) => self.end(at + 2, take),
            // Alone, without a segment.
            Some([0xFF, 0x01 | 0xD0..=0xD7, ..]) => self.go_to(at + 2, Place::Marker { segment }),
            // A file within a file: the first one was cut off.
            Some([0xFF, 0xD8, ..]) => self.restart(at, take),
            Some([0xFF, 0x00, ..] | [0x00..0xFF, ..]) => self.cut(segment, take),
            Some([0xFF, kind, high, low, ..]) => {
                let length = usize::from(u16::from_be_bytes([*high, *low]));
                let place = if *kind == 0xDA { Place::Scan } else { Place::Marker { segment: at } };
                if length < 2 { self.cut(at, take) } else { self.go_to(at + 2 + length, place) }
            }
            Some(_) => false,
        }
    }

    /// The data of a scan, as far as it has come. Whether there is more to look at.
    fn scan(&mut self, take: &mut impl FnMut(Piece)) -> bool {
        let come = self.held.len().min(self.frame_limit);
        while self.at + 1 < come {
            match self.held[self.at..self.at + 2] {
                [0xFF, 0x00 | 0xD0..=0xD7] => self.at += 2,
                // Fill, before a marker.
                [0xFF, 0xFF] => self.at += 1,
                [0xFF, _] => return self.go_to(self.at, Place::Marker { segment: self.at }),
                [_, 0xFF] => self.at += 1,
                _ => self.at += 2,
            }
        }
        self.held.len() > self.frame_limit && self.cut(self.frame_limit, take)
    }

    fn go_to(&mut self, at: usize, place: Place) -> bool {
        (self.at, self.place) = (at, place);
        true
    }

    /// The file ends before `end`.
    fn end(&mut self, end: usize, take: &mut impl FnMut(Piece)) -> bool {
        let rest = self.held.split_off(end);
        take(Piece::Whole(std::mem::replace(&mut self.held, rest)));
        self.between()
    }

    /// The file is damaged; the next one may begin after `from`.
    fn cut(&mut self, from: usize, take: &mut impl FnMut(Piece)) -> bool {
        self.held.drain(..from.min(self.held.len()));
        take(Piece::Cut);
        self.between()
    }

    fn between(&mut self) -> bool {
        let place = if self.delimiter.is_some() { Place::BeforeDelimiter } else { Place::BeforeFile };
        self.go_to(0, place)
    }

    /// The file was cut off, and another one begins at `at`.
    fn restart(&mut self, at: usize, take: &mut impl FnMut(Piece)) -> bool {
        self.held.drain(..at);
        take(Piece::Cut);
        self.go_to(0, Place::BeforeFile)
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    let first = *what.first()?;
    let mut from = 0;
    while let Some(at) = bytes[from..].iter().position(|byte| *byte == first) {
        if bytes[from + at..].starts_with(what) {
            return Some(from + at);
        }
        from += at + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// JPEG files and nothing else, as ffmpeg sends them through a pipe.
    const PIPE: &[u8] = include_bytes!("../../../tests/reference/camera/pipe.mjpeg");
    /// The same with ffmpeg's headers and delimiters.
    const MULTIPART: &[u8] = include_bytes!("../../../tests/reference/camera/multipart.mpjpeg");
    /// Of Pillow: progressive, with restart markers, and with another file in its EXIF segment.
    const THUMBNAIL: &[u8] = include_bytes!("../../../tests/reference/camera/thumbnail.jpg");

    type Pieces = (Vec<Piece>, Result<(), NothingFound>);

    /// What comes out of `bytes` when they are read in pieces of the lengths `reads`, over and over.
    fn cut_with(mut splitter: Splitter, mut bytes: &[u8], reads: &[usize]) -> Pieces {
        let (mut pieces, mut turn) = (Vec::new(), 0);
        while !bytes.is_empty() {
            let (read, rest) = bytes.split_at(reads[turn % reads.len()].clamp(1, bytes.len()));
            (bytes, turn) = (rest, turn + 1);
            if splitter.push(read, |piece| pieces.push(piece)).is_err() {
                return (pieces, Err(NothingFound));
            }
        }
        if splitter.is_in_file() {
            pieces.push(Piece::Cut);
        }
        (pieces, Ok(()))
    }

    fn pieces_of(boundary: Option<&str>, bytes: &[u8]) -> Vec<Piece> {
        let (pieces, result) = cut_with(Splitter::new(boundary), bytes, &[usize::MAX]);
        assert_eq!(result, Ok(()));
        pieces
    }

    /// The five files of ffmpeg, by its own count of bytes.
    fn frames() -> Vec<Vec<u8>> {
        let text = String::from_utf8_lossy(MULTIPART);
        let lengths = text.lines().filter_map(|line| line.strip_prefix("Content-length: "));
        let mut rest = PIPE;
        let mut frame = |length: &str| {
            let (frame, after) = rest.split_at(length.trim().parse().expect("a number"));
            rest = after;
            frame.to_vec()
        };
        let frames: Vec<Vec<u8>> = lengths.map(&mut frame).collect();
        assert!(frames.len() == 5 && rest.is_empty());
        frames
    }

    fn whole(frames: &[Vec<u8>]) -> Vec<Piece> {
        frames.iter().cloned().map(Piece::Whole).collect()
    }

    #[test]
    fn streams_of_ffmpeg_are_cut_where_it_says() {
        assert_eq!(pieces_of(None, PIPE), whole(&frames()));
        assert_eq!(pieces_of(None, MULTIPART), whole(&frames()));
        for boundary in ["ffmpeg", "--ffmpeg", "another", "-", ""] {
            assert_eq!(pieces_of(Some(boundary), MULTIPART), whole(&frames()), "{boundary}");
        }
    }

    #[test]
    fn a_picture_within_a_picture_ends_nothing() {
        let inner = THUMBNAIL[2..].windows(3).filter(|bytes| bytes == &START).count();
        assert_eq!(inner, 1, "there is one");
        assert_eq!(pieces_of(None, THUMBNAIL), [Piece::Whole(THUMBNAIL.to_vec())]);
    }

    #[test]
    fn a_file_that_is_cut_off_costs_no_other() {
        let frames = frames();
        // A length that was cut off may reach over the next 64 KiB.
        let after = vec![&frames[1..]; 40].concat();
        let expected = [&[Piece::Cut], &whole(&after)[..]].concat();
        let mut exact = 0;
        // Lengths that were cut off may happen to lead to a marker of another file.
        let mut check = |boundary, stream: Vec<u8>| {
            let pieces = pieces_of(boundary, &stream);
            exact += usize::from(pieces == expected);
            assert!(pieces.ends_with(&expected[expected.len() - 40..]), "{:?}", pieces.len());
        };
        for length in 3..frames[0].len() {
            let part = |frame: &[u8]| [&b"\r\n--b\r\n\r\n"[..], frame].concat();
            let parts: Vec<u8> = after.iter().flat_map(|frame| part(frame)).collect();
            check(None, [&frames[0][..length], &after.concat()].concat());
            check(Some("b"), [part(&frames[0][..length]), parts].concat());
        }
        assert!(exact > frames[0].len(), "{exact} of twice as many");
        assert_eq!(pieces_of(None, &PIPE[..PIPE.len() - 1]), [&whole(&frames[..4])[..], &[Piece::Cut]].concat());
    }

    #[test]
    fn a_thumbnail_of_a_file_that_is_cut_off_is_no_picture() {
        let stream = [b"--b\r\n\r\n", &THUMBNAIL[..1000], b"\r\n--b\r\n\r\n", THUMBNAIL, b"\r\n--b--\r\n"].concat();
        assert_eq!(pieces_of(Some("b"), &stream), [Piece::Cut, Piece::Whole(THUMBNAIL.to_vec())]);
    }

    #[test]
    fn what_lies_behind_a_picture_belongs_to_it_until_the_delimiter() {
        let frames = frames();
        let part = |frame: &[u8]| [b"\r\n--b\r\nContent-Type: image/jpeg\r\n\r\n", frame, &frames[4]].concat();
        let stream = [part(&frames[0]), part(&frames[1])].concat();
        assert_eq!(pieces_of(Some("b"), &stream), whole(&frames[..2]));
    }

    #[test]
    fn parts_that_are_no_pictures_are_passed_over() {
        let stream =
            [b"--b\r\nContent-Type: text/plain\r\n\r\nhello\r\n--b\r\n\r\n\x89PNG\r\n--b\n\n", THUMBNAIL].concat();
        assert_eq!(pieces_of(Some("b"), &stream), [Piece::Whole(THUMBNAIL.to_vec())]);
    }

    #[test]
    fn what_has_no_end_is_given_up() {
        let frame = frames().remove(0);
        let mut stream = vec![b'x'; BETWEEN_LIMIT];
        stream.extend_from_slice(&frame);
        assert_eq!(pieces_of(None, &stream), whole(std::slice::from_ref(&frame)), "as much as may be");
        stream.insert(0, b'x');
        for reads in [&[usize::MAX][..], &[1000], &[77_777]] {
            assert_eq!(cut_with(Splitter::new(None), &stream, reads), (vec![], Err(NothingFound)));
            let headers = b"--b\r\nX: y\r\n".repeat(BETWEEN_LIMIT / 10);
            assert_eq!(cut_with(Splitter::new(Some("b")), &headers, reads), (vec![], Err(NothingFound)));
        }
    }

    #[test]
    fn a_file_that_is_too_large_is_dropped() {
        let frames = frames();
        let small = || Splitter { frame_limit: frames[1].len() + 1, ..Splitter::new(None) };
        let large = [&frames[1][..frames[1].len() - 2], &[7; 9000][..], &[0xFF, 0xD9]].concat();
        let stream = [&large[..], &frames[1]].concat();
        for reads in [&[usize::MAX][..], &[1], &[100]] {
            let expected = vec![Piece::Cut, Piece::Whole(frames[1].clone())];
            assert_eq!(cut_with(small(), &stream, reads), (expected, Ok(())));
        }
        let jump = [&[0xFF, 0xD8, 0xFF, 0xE0, 0xFF, 0xFF][..], &[0; 70_000], &frames[1]].concat();
        let expected = vec![Piece::Cut, Piece::Whole(frames[1].clone())];
        assert_eq!(cut_with(small(), &jump, &[usize::MAX]), (expected, Ok(())));
    }

    /// Streams with files, pieces of files, markers and text in any order.
    fn streams() -> impl Strategy<Value = Vec<u8>> {
        let part = prop_oneof![
            4 => (0..5usize).prop_map(|at| frames().swap_remove(at)),
            1 => Just(THUMBNAIL.to_vec()),
            2 => (0..5usize, 0..833usize).prop_map(|(at, length)| frames()[at][..length].to_vec()),
            2 => Just(b"\r\n--b\r\nContent-Type: image/jpeg\r\n\r\n".to_vec()),
            1 => proptest::collection::vec(prop_oneof![Just(0xFF), Just(0xD8), Just(0xD9), Just(0xDA), any::<u8>()], 0..60),
        ];
        proptest::collection::vec(part, 0..12).prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn reads_change_nothing(
            stream in streams(),
            reads in proptest::collection::vec(1..400usize, 1..6),
            limit in prop_oneof![Just(FRAME_LIMIT), 100..2000usize],
            boundary in prop_oneof![Just(None), Just(Some("b"))],
        ) {
            let splitter = || Splitter { frame_limit: limit, ..Splitter::new(boundary) };
            let at_once = cut_with(splitter(), &stream, &[usize::MAX]);
            prop_assert_eq!(&cut_with(splitter(), &stream, &[1]), &at_once);
            prop_assert_eq!(&cut_with(splitter(), &stream, &reads), &at_once);
        }

        #[test]
        fn files_between_text_are_all_found(picks in proptest::collection::vec((0..5usize, "[ -~\r\n]{0,40}"), 0..12)) {
            let frames = frames();
            let stream: Vec<u8> = picks.iter().flat_map(|(at, text)| [text.as_bytes(), &frames[*at]].concat()).collect();
            let expected: Vec<Piece> = picks.iter().map(|(at, _)| Piece::Whole(frames[*at].clone())).collect();
            prop_assert_eq!(pieces_of(None, &stream), expected);
        }
    }
}
