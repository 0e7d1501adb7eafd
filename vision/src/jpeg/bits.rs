//! Entropy-coded bytes. Stuffed bytes are taken out first, so that bits can be read eight bytes at a time.

/// Zeros behind each segment, so that reading ahead stays inside.
const PADDING: usize = 16;

/// Entropy-coded data without stuffing, cut at the restart markers.
pub(super) struct Segments {
    bytes: Vec<u8>,
    /// Where each segment ends, without its padding.
    ends: Vec<usize>,
}

impl Segments {
    /// Up to the first marker that is no restart marker, or not the next one: they count 0 to 7 in turn. `None` where
    /// there is no such marker.
    pub(super) fn of(mut data: &[u8]) -> Option<Self> {
        let mut segments = Segments { bytes: Vec::with_capacity(data.len() + PADDING), ends: Vec::new() };
        loop {
            let at = memchr::memchr(0xFF, data)?;
            // A marker may have more of them before it.
            let fill = data[at + 1..].iter().position(|byte| *byte != 0xFF)?;
            let marker = data[at + 1 + fill];
            if marker == 0 {
                segments.bytes.extend_from_slice(&data[..=at]);
            } else {
                segments.bytes.extend_from_slice(&data[..at]);
                segments.ends.push(segments.bytes.len());
                segments.bytes.extend([0; PADDING]);
                if !matches!(marker, 0xD0..=0xD7) || usize::from(marker & 7) != (segments.ends.len() - 1) % 8 {
                    return Some(segments);
                }
            }
            data = &data[at + 2 + fill..];
        }
    }

    /// The bits of segment `index`.
    pub(super) fn bits(&self, index: usize) -> Option<Bits<'_>> {
        let end = *self.ends.get(index)?;
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before] + PADDING);
        Some(Bits { bytes: &self.bytes[start..end + PADDING], at: 0, buffer: 0, count: 0 })
    }
}

/// The bits of a scan, which begin anew at each restart marker.
pub(super) struct ScanBits<'a> {
    pub(super) bits: Bits<'a>,
    segments: &'a Segments,
    segment: usize,
    /// MCUs between restart markers, 0 for none, and how many are left before the next one.
    restart: usize,
    left: usize,
}

impl<'a> ScanBits<'a> {
    pub(super) fn new(segments: &'a Segments, restart: usize) -> Option<Self> {
        Some(ScanBits { bits: segments.bits(0)?, segments, segment: 0, restart, left: restart })
    }

    /// Goes on to the next MCU; whether a restart marker came before it. `None` where there is none though it is due,
    /// or the data before it were too short.
    #[inline(always)]
    pub(super) fn next_mcu(&mut self) -> Option<bool> {
        let is_due = self.restart > 0 && self.left == 0;
        if is_due {
            if self.bits.overran() {
                return None;
            }
            self.segment += 1;
            self.bits = self.segments.bits(self.segment)?;
            self.left = self.restart;
        }
        self.left = self.left.wrapping_sub(1);
        Some(is_due)
    }
}

/// Reads bits, the highest of each byte first. Behind the end come zeros; see [`Bits::overran`].
#[derive(Clone)]
pub(super) struct Bits<'a> {
    bytes: &'a [u8],
    /// The next byte to be taken into the buffer.
    at: usize,
    /// The next bits, from the top.
    buffer: u64,
    /// How many of them are bits of bytes before `at`.
    count: u32,
}

impl Bits<'_> {
    /// Makes at least 32 bits ready.
    #[inline(always)]
    pub(super) fn ready(&mut self) {
        if self.count < 32 {
            let word =
                self.bytes.get(self.at..).and_then(|rest| rest.first_chunk()).map_or(0, |w| u64::from_be_bytes(*w));
            self.buffer |= word >> self.count;
            let taken = (63 - self.count) / 8;
            self.at += taken as usize;
            self.count += taken * 8;
        }
    }

    /// The next `COUNT` bits, which stay.
    #[inline(always)]
    pub(super) fn peek<const COUNT: u32>(&self) -> usize {
        (self.buffer >> (64 - COUNT)) as usize
    }

    /// Drops bits that are ready.
    #[inline(always)]
    pub(super) fn skip(&mut self, count: u32) {
        self.buffer <<= count & 63;
        self.count = self.count.wrapping_sub(count);
    }

    /// The next `size` bits, 1 to 16, as a signed number (`RECEIVE` and `EXTEND`, ITU T.81 F.2.2.1).
    #[inline(always)]
    pub(super) fn signed(&mut self, size: u32) -> i32 {
        let bits = (self.buffer >> (64 - size)) as i32;
        // A first bit of 0 stands for a negative number.
        let negative = ((!self.buffer as i64) >> 63) as i32;
        self.skip(size);
        bits + (negative & (1 - (1 << size)))
    }

    /// The next `size` bits, 0 to 16.
    #[inline(always)]
    pub(super) fn next(&mut self, size: u32) -> u32 {
        self.ready();
        let bits = (self.buffer >> 32) as u32;
        self.skip(size);
        bits.checked_shr(32 - size).unwrap_or(0)
    }

    /// Whether more bits were dropped than there are.
    pub(super) fn overran(&self) -> bool {
        self.at * 8 > (self.bytes.len() - PADDING) * 8 + self.count as usize
    }
}
