//! The marker segments of a JPEG file (ITU T.81 annex B), followed from scan to scan.

use std::ops::Range;

use super::colours::Colours;
use super::fault::{CUT_OFF, Fault};
use super::frame::{Frame, Scan};
use super::tables::Tables;
use crate::formats::Format;

const SEGMENT: Fault = "one of its marker segments is damaged";

/// What the segments up to the latest scan say.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) frame: Frame,
    pub(super) colours: Colours,
    pub(super) tables: Tables,
    /// Where the last EXIF block before the first scan lies.
    pub(super) exif: Option<Range<usize>>,
    /// Where the entropy-coded data of the latest scan begin.
    pub(super) at: usize,
}

/// What has been read before the first scan.
#[derive(Default)]
struct Preface {
    frame: Option<Frame>,
    jfif: bool,
    adobe: Option<u8>,
    exif: Option<Range<usize>>,
}

/// Goes to the next marker and behind it; restart markers, and whatever is no marker, are passed over as libjpeg does.
fn next_marker(bytes: &[u8], at: &mut usize) -> Option<u8> {
    loop {
        *at += memchr::memchr(0xFF, bytes.get(*at..)?)?;
        *at += bytes[*at..].iter().position(|byte| *byte != 0xFF)? + 1;
        let marker = bytes[*at - 1];
        if !matches!(marker, 0x00 | 0x01 | 0xD0..=0xD7) {
            return Some(marker);
        }
    }
}

/// The content of the segment at `at`, which moves behind it.
fn next_segment<'a>(bytes: &'a [u8], at: &mut usize) -> Result<&'a [u8], Fault> {
    let &[high, low] = bytes.get(*at..*at + 2).ok_or(CUT_OFF)? else { return Err(CUT_OFF) };
    let length = usize::from(u16::from_be_bytes([high, low]));
    let content = bytes.get(*at + 2..(*at + length).max(*at + 2)).ok_or(CUT_OFF)?;
    *at += length;
    if length < 2 { Err(SEGMENT) } else { Ok(content) }
}

impl Header {
    /// Follows the segments to the first scan. A file that begins as something else is none, whatever segments it has.
    pub(super) fn open(bytes: &[u8]) -> Result<(Self, Scan), Fault> {
        if Format::of(bytes) != Some(Format::Jpeg) {
            return Err("it does not begin as one");
        }
        let (mut at, mut tables, mut preface) = (2, Tables::default(), Preface::default());
        loop {
            let marker = next_marker(bytes, &mut at).ok_or(CUT_OFF)?;
            if marker == 0xD9 {
                return Err("it has no picture");
            }
            let start = at + 2;
            let segment = next_segment(bytes, &mut at)?;
            if marker == 0xDA {
                let frame = preface.frame.ok_or("it has no frame header")?;
                let ids: Vec<u8> = frame.components.iter().map(|component| component.id).collect();
                let colours = Colours::of(&ids, preface.jfif, preface.adobe)
                    .ok_or("it has other than one, three or four components")?;
                let scan = frame.read_scan(segment)?;
                return Ok((Header { frame, colours, tables, exif: preface.exif, at }, scan));
            }
            if !tables.read(marker, segment)? {
                preface.read(marker, segment, start)?;
            }
        }
    }

    /// Goes on to the next scan; `None` at the end of the image.
    pub(super) fn next_scan(&mut self, bytes: &[u8]) -> Result<Option<Scan>, Fault> {
        loop {
            let marker = next_marker(bytes, &mut self.at).ok_or(CUT_OFF)?;
            if marker == 0xD9 {
                return Ok(None);
            }
            let segment = next_segment(bytes, &mut self.at)?;
            match marker {
                0xDA => return self.frame.read_scan(segment).map(Some),
                0xC0..=0xC3 | 0xC5..=0xCF => return Err("it has two frames"),
                _ => drop(self.tables.read(marker, segment)?),
            }
        }
    }

    /// Whether the segments lead to an end marker.
    pub(super) fn is_complete(&self, bytes: &[u8]) -> bool {
        let mut at = self.at;
        loop {
            match next_marker(bytes, &mut at) {
                None => return false,
                Some(0xD9) => return true,
                Some(_) => {}
            }
            if next_segment(bytes, &mut at).is_err() {
                return false;
            }
        }
    }
}

impl Preface {
    fn read(&mut self, marker: u8, segment: &[u8], start: usize) -> Result<(), Fault> {
        match marker {
            0xC0..=0xC2 if self.frame.is_some() => return Err("it has two frames"),
            0xC0..=0xC2 => self.frame = Some(Frame::read(segment, marker == 0xC2)?),
            0xC9 | 0xCA | 0xCC => return Err("it is coded arithmetically, which is not supported"),
            0xC3 | 0xC5..=0xCF => return Err("it is lossless or hierarchical, which is not supported"),
            0xE0 if segment.len() >= 14 && segment.starts_with(b"JFIF\0") => self.jfif = true,
            0xE1 if segment.starts_with(b"Exif\0\0") => self.exif = Some(start..start + segment.len()),
            0xEE if segment.len() >= 12 && segment.starts_with(b"Adobe") => self.adobe = Some(segment[11]),
            0xD8 => return Err("it begins twice"),
            0xDC | 0xE0..=0xEF | 0xFE => {}
            _ => return Err("it has a marker of an unknown kind"),
        }
        Ok(())
    }
}
