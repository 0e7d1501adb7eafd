//! The first directory of a TIFF file: its tags and their numbers.

use crate::decode_error::DecodeError;

/// What is wrong with a file, in words.
pub(super) fn damaged(reason: impl Into<String>) -> DecodeError {
    DecodeError::Damaged { format: "TIFF", reason: reason.into() }
}

/// Tags that are looked at (TIFF 6.0).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tag {
    Width = 256,
    Height = 257,
    BitsPerSample = 258,
    Compression = 259,
    Photometric = 262,
    FillOrder = 266,
    StripOffsets = 273,
    SamplesPerPixel = 277,
    RowsPerStrip = 278,
    StripByteCounts = 279,
    PlanarConfiguration = 284,
    Predictor = 317,
    ColorMap = 320,
    TileWidth = 322,
    TileLength = 323,
    TileOffsets = 324,
    TileByteCounts = 325,
    ExtraSamples = 338,
    SampleFormat = 339,
}

/// The first directory of a file.
pub(super) struct Directory<'a> {
    bytes: &'a [u8],
    pub(super) big_endian: bool,
    /// Where the entries begin, 12 bytes each, and how many there are.
    entries: (usize, usize),
}

impl<'a> Directory<'a> {
    pub(super) fn first(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut directory = Directory { bytes, big_endian: bytes.starts_with(b"MM"), entries: (0, 0) };
        let start = directory.long(4).unwrap_or(0) as usize;
        let count = directory.short(start).filter(|_| start >= 8);
        let count = usize::from(count.ok_or_else(|| damaged("it ends before its directory"))?);
        if bytes.len() < start + 2 + count * 12 {
            return Err(damaged("it ends within its directory"));
        }
        directory.entries = (start + 2, count);
        Ok(directory)
    }

    fn short(&self, at: usize) -> Option<u16> {
        let bytes = self.bytes.get(at..at.checked_add(2)?)?.try_into().ok()?;
        Some(if self.big_endian { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) })
    }

    fn long(&self, at: usize) -> Option<u32> {
        let bytes = self.bytes.get(at..at.checked_add(4)?)?.try_into().ok()?;
        Some(if self.big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }

    /// The whole numbers of a tag; none where the file does not have it.
    pub(super) fn numbers(&self, tag: Tag) -> Result<Vec<u32>, DecodeError> {
        let (start, entries) = self.entries;
        let mut places = (0..entries).map(|entry| start + entry * 12);
        let Some(at) = places.find(|at| self.short(*at) == Some(tag as u16)) else { return Ok(Vec::new()) };
        let wrong = || damaged(format!("its tag {tag:?} makes no sense"));
        let (kind, count) = (self.short(at + 2).ok_or_else(wrong)?, self.long(at + 4).ok_or_else(wrong)? as usize);
        let size = match kind {
            1 => 1,
            3 => 2,
            4 => 4,
            _ => return Err(wrong()),
        };
        let inside = count.saturating_mul(size) <= 4;
        let place = if inside { at + 8 } else { self.long(at + 8).ok_or_else(wrong)? as usize };
        // Numbers that the file does not have take no memory.
        if self.bytes.len().checked_sub(place).is_none_or(|left| left < count.saturating_mul(size)) {
            return Err(wrong());
        }
        let number = |index: usize| match size {
            1 => self.bytes.get(place + index).map(|byte| u32::from(*byte)),
            2 => self.short(place + index * 2).map(u32::from),
            _ => self.long(place + index * 4),
        };
        (0..count).map(number).collect::<Option<Vec<u32>>>().ok_or_else(wrong)
    }

    /// The first number of a tag, or `default`.
    pub(super) fn number(&self, tag: Tag, default: u32) -> Result<u32, DecodeError> {
        Ok(self.numbers(tag)?.first().copied().unwrap_or(default))
    }
}
