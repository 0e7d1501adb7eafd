//! The marker segments of a JPEG file (ITU T.81 annex B), followed from scan to scan.

use std::ops::Range;

use super::colours::Colours;
use super::tables::Tables;

/// Why a file cannot be read, in words that follow "it is a JPEG that cannot be used".
pub(super) type Fault = &'static str;

pub(super) const CUT_OFF: Fault = "it ends too early";
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

/// The frame: the size of the image and its components.
#[derive(Debug, Default)]
pub(super) struct Frame {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) progressive: bool,
    /// One, three or four.
    pub(super) components: Vec<Component>,
    /// Blocks across and down that an MCU has of the component with most of them.
    pub(super) across: usize,
    pub(super) down: usize,
}

/// A component of the image.
#[derive(Debug, Clone, Copy)]
pub(super) struct Component {
    id: u8,
    /// Blocks across and down in an MCU.
    pub(super) across: usize,
    pub(super) down: usize,
    /// The number of its quantization table.
    pub(super) quantization: usize,
}

/// The header of a scan.
#[derive(Debug)]
pub(super) struct Scan {
    pub(super) parts: Vec<Part>,
    /// The first and the last coefficient in zigzag order.
    pub(super) places: (usize, usize),
    /// Bits that are left out of coefficients: before this scan (0 where it is their first), and with it.
    pub(super) bits: (u32, u32),
}

/// A component of a scan, by its place in the frame, and the numbers of its tables.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part {
    pub(super) component: usize,
    pub(super) dc: usize,
    pub(super) ac: usize,
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
    /// Follows the segments to the first scan.
    pub(super) fn open(bytes: &[u8]) -> Result<(Self, Scan), Fault> {
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

impl Frame {
    fn read(segment: &[u8], progressive: bool) -> Result<Self, Fault> {
        const DAMAGED: Fault = "its frame header is damaged";
        let &[precision, h1, h0, w1, w0, count, ref parts @ ..] = segment else { return Err(DAMAGED) };
        let (parts, rest) = parts.as_chunks::<3>();
        if !rest.is_empty() || parts.len() != usize::from(count) || parts.is_empty() {
            return Err(DAMAGED);
        }
        if precision != 8 {
            return Err("its numbers have other than 8 bits, which is not supported");
        }
        let component = |&[id, sampling, table]: &[u8; 3]| Component {
            id,
            across: usize::from(sampling >> 4),
            down: usize::from(sampling & 15),
            quantization: usize::from(table),
        };
        let mut components: Vec<_> = parts.iter().map(component).collect();
        if components.iter().any(|part| !(1..=4).contains(&part.across) || !(1..=4).contains(&part.down)) {
            return Err(DAMAGED);
        }
        if let [grey] = &mut components[..] {
            // A scan of one component has one block in an MCU, whatever the frame says.
            (grey.across, grey.down) = (1, 1);
        }
        let across = components.iter().map(|component| component.across).max().unwrap_or(1);
        let down = components.iter().map(|component| component.down).max().unwrap_or(1);
        if components.iter().any(|part| across % part.across != 0 || down % part.down != 0) {
            return Err("one component has a fraction of another's samples, which is not supported");
        }
        let (width, height) = (u16::from_be_bytes([w1, w0]).into(), u16::from_be_bytes([h1, h0]).into());
        if width == 0 || height == 0 {
            return Err("it has no pixels by its frame header");
        }
        Ok(Frame { width, height, progressive, components, across, down })
    }

    fn read_scan(&self, segment: &[u8]) -> Result<Scan, Fault> {
        const DAMAGED: Fault = "one of its scan headers is damaged";
        let [count, selectors @ .., first, last, bits] = segment else { return Err(DAMAGED) };
        let (selectors, rest) = selectors.as_chunks::<2>();
        if !rest.is_empty() || selectors.len() != usize::from(*count) || !(1..=4).contains(count) {
            return Err(DAMAGED);
        }
        let mut parts: Vec<Part> = Vec::with_capacity(4);
        for &[id, tables] in selectors {
            let is_it =
                |place: &usize| self.components[*place].id == id && parts.iter().all(|part| part.component != *place);
            let component = (0..self.components.len()).find(is_it).ok_or(DAMAGED)?;
            parts.push(Part { component, dc: usize::from(tables >> 4), ac: usize::from(tables & 15) });
        }
        let blocks = |part: &Part| self.components[part.component].across * self.components[part.component].down;
        if parts.len() > 1 && parts.iter().map(blocks).sum::<usize>() > 10 {
            return Err("more than ten blocks are interleaved");
        }
        if !self.progressive {
            return Ok(Scan { parts, places: (0, 63), bits: (0, 0) });
        }
        let (first, last) = (usize::from(*first), usize::from(*last));
        let (before, with) = (u32::from(bits >> 4), u32::from(bits & 15));
        let places = if first == 0 { last == 0 } else { first <= last && last < 64 && parts.len() == 1 };
        if !places || with > 13 || (before > 0 && before != with + 1) {
            return Err(DAMAGED);
        }
        Ok(Scan { parts, places: (first, last), bits: (before, with) })
    }

    /// MCUs across and down.
    pub(super) fn mcus(&self) -> (usize, usize) {
        ((self.width as usize).div_ceil(8 * self.across), (self.height as usize).div_ceil(8 * self.down))
    }

    /// Samples of a component across and down that are part of the image.
    pub(super) fn samples(&self, component: &Component) -> (usize, usize) {
        let samples = |pixels: u32, own: usize, most: usize| (pixels as usize * own).div_ceil(most);
        (samples(self.width, component.across, self.across), samples(self.height, component.down, self.down))
    }

    /// MCUs of a scan across and down, and whether it is of one component of several: its MCUs are blocks then.
    pub(super) fn grid(&self, scan: &Scan) -> ((usize, usize), bool) {
        match scan.parts[..] {
            [part] if self.components.len() > 1 => {
                let (across, down) = self.samples(&self.components[part.component]);
                ((across.div_ceil(8), down.div_ceil(8)), true)
            }
            _ => (self.mcus(), false),
        }
    }
}
