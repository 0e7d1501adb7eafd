//! Huffman codes of coefficients (ITU T.81 annexes C and F.2.2), decoded with tables of the next bits.

use super::bits::Bits;

/// Bits that tables are looked up with.
const LOOKUP: u32 = 10;

/// Natural order of the coefficients that the zigzag order lists (ITU T.81 figure A.6).
pub(super) const NATURAL: [u8; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21,
    28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54,
    47, 55, 62, 63,
];

/// The codes of a table, by length.
#[derive(Debug)]
struct Codes {
    /// For each length, the first 16 bits behind the last code of this length or shorter.
    limits: [u32; 17],
    /// For each length, the number to add to a code to get the place of its symbol.
    offsets: [i32; 17],
    counts: [u8; 16],
    symbols: Vec<u8>,
}

impl Codes {
    /// `None` where the counts are no prefix code, or use the code of all ones.
    fn new(counts: &[u8; 16], symbols: &[u8]) -> Option<Self> {
        let mut codes = Codes { limits: [0; 17], offsets: [0; 17], counts: *counts, symbols: symbols.to_vec() };
        let (mut code, mut place) = (0u32, 0i32);
        for (length, count) in (1..=16).zip(counts) {
            codes.offsets[length] = place - code as i32;
            code += u32::from(*count);
            place += i32::from(*count);
            if code >= 1 << length && *count > 0 {
                return None;
            }
            codes.limits[length] = code << (16 - length);
            code <<= 1;
        }
        Some(codes)
    }

    /// Length and symbol of the code that the 16 bits begin with.
    fn find(&self, bits: u32) -> Option<(u32, u8)> {
        let length = (1..=16usize).find(|length| bits < self.limits[*length])?;
        let place = (bits >> (16 - length)) as i32 + self.offsets[length];
        Some((length as u32, *self.symbols.get(usize::try_from(place).ok()?)?))
    }

    /// For each value of the next [`LOOKUP`] bits, `entry(bits, length, symbol)` of the code that they begin with; 0
    /// where the code is longer.
    fn table(&self, entry: impl Fn(u32, u32, u8) -> u32) -> Box<[u32; 1 << LOOKUP]> {
        let mut table = Box::new([0; 1 << LOOKUP]);
        let lengths = (1..=LOOKUP).zip(self.counts).flat_map(|(length, count)| (0..count).map(move |_| length));
        let mut bits = 0;
        for (length, symbol) in lengths.zip(&self.symbols) {
            for _ in 0..1 << (LOOKUP - length) {
                table[bits as usize] = entry(bits, length, *symbol);
                bits += 1;
            }
        }
        table
    }
}

/// Codes of DC differences.
#[derive(Debug)]
pub(super) struct DcTable {
    codes: Codes,
    /// Length and size of the difference: `length << 8 | size`.
    lookup: Box<[u32; 1 << LOOKUP]>,
}

impl DcTable {
    /// `None` where the codes are none, or a difference has more than 15 bits.
    pub(super) fn new(counts: &[u8; 16], symbols: &[u8]) -> Option<Self> {
        let codes = Codes::new(counts, symbols)?;
        let lookup = codes.table(|_, length, symbol| length << 8 | u32::from(symbol));
        symbols.iter().all(|size| *size <= 15).then_some(DcTable { codes, lookup })
    }

    /// The next difference.
    #[inline(always)]
    pub(super) fn next(&self, bits: &mut Bits<'_>) -> Option<i32> {
        let size = next_symbol(&self.codes, &self.lookup, bits)?;
        Some(if size == 0 { 0 } else { bits.signed(size.into()) })
    }
}

/// The next symbol, by a table of `length << 8 | symbol`; 16 bits are ready behind it.
#[inline(always)]
fn next_symbol(codes: &Codes, lookup: &[u32; 1 << LOOKUP], bits: &mut Bits<'_>) -> Option<u8> {
    bits.ready();
    let entry = lookup[bits.peek::<LOOKUP>()];
    let (length, symbol) = match entry {
        0 => codes.find(bits.peek::<16>() as u32)?,
        _ => (entry >> 8, entry as u8),
    };
    bits.skip(length);
    Some(symbol)
}

/// Codes of AC coefficients without their values, as progressive scans need them.
pub(super) struct SymbolTable<'a> {
    codes: &'a Codes,
    /// `length << 8 | symbol`.
    lookup: Box<[u32; 1 << LOOKUP]>,
}

impl SymbolTable<'_> {
    /// The next symbol; 16 bits are ready behind it.
    #[inline(always)]
    pub(super) fn next(&self, bits: &mut Bits<'_>) -> Option<u8> {
        next_symbol(self.codes, &self.lookup, bits)
    }
}

/// Codes of AC coefficients.
#[derive(Debug)]
pub(super) struct AcTable {
    codes: Codes,
    /// `value << 16 | run << 8 | bits` where code and value fit, the end of a block with a run of 64;
    /// `symbol << 16 | length << 8` where the code alone fits.
    lookup: Box<[u32; 1 << LOOKUP]>,
}

/// The run of the end of a block.
const END: u32 = 64;

impl AcTable {
    /// `None` where the codes are none.
    pub(super) fn new(counts: &[u8; 16], symbols: &[u8]) -> Option<Self> {
        let codes = Codes::new(counts, symbols)?;
        let lookup = codes.table(|bits, length, symbol| {
            let (run, size) = (u32::from(symbol >> 4), u32::from(symbol & 15));
            match (run, size) {
                (0, 0) => END << 8 | length,
                (_, 1..) if length + size <= LOOKUP => {
                    let value = (bits >> (LOOKUP - length - size) & ((1 << size) - 1)) as i32;
                    let value = if value >> (size - 1) == 0 { value + 1 - (1 << size) } else { value };
                    (value as u32) << 16 | run << 8 | (length + size)
                }
                _ => u32::from(symbol) << 16 | length << 8,
            }
        });
        Some(AcTable { codes, lookup })
    }

    /// The symbols alone.
    pub(super) fn symbols(&self) -> SymbolTable<'_> {
        let lookup = self.codes.table(|_, length, symbol| length << 8 | u32::from(symbol));
        SymbolTable { codes: &self.codes, lookup }
    }

    /// The next coefficients up to the end of a block; `keep` gets places in zigzag order and values.
    #[inline(always)]
    fn rest(&self, bits: &mut Bits<'_>, mut keep: impl FnMut(usize, i32)) -> Option<()> {
        let mut place = 1;
        while place < 64 {
            bits.ready();
            let entry = self.lookup[bits.peek::<LOOKUP>()];
            if entry & 0xFF != 0 {
                bits.skip(entry & 0xFF);
                place += (entry >> 8 & 0xFF) as usize;
                if place >= 64 {
                    return (entry >> 8 & 0xFF == END).then_some(());
                }
                keep(place, entry as i32 >> 16);
                place += 1;
                continue;
            }
            let (length, symbol) = match entry {
                0 => self.codes.find(bits.peek::<16>() as u32)?,
                _ => (entry >> 8 & 0xFF, (entry >> 16) as u8),
            };
            bits.skip(length);
            match (usize::from(symbol >> 4), u32::from(symbol & 15)) {
                (0, 0) => return Some(()),
                (15, 0) => place += 16,
                (_, 0) => return None,
                (run, size) => {
                    place += run;
                    let value = bits.signed(size);
                    if place >= 64 {
                        return None;
                    }
                    keep(place, value);
                    place += 1;
                }
            }
        }
        (place == 64).then_some(())
    }
}

/// Reads a block into `coefficients` (natural order, all zero before), multiplied by `quantization` (zigzag order).
/// The place of the last coefficient in zigzag order; `None` where a code is irregular.
#[inline(always)]
pub(super) fn read_block(
    bits: &mut Bits<'_>,
    (dc, ac): (&DcTable, &AcTable),
    quantization: &[i32; 64],
    predicted: &mut i32,
    coefficients: &mut [i32; 64],
) -> Option<usize> {
    *predicted = predicted.wrapping_add(dc.next(bits)?);
    coefficients[0] = predicted.wrapping_mul(quantization[0]);
    let mut last = 0;
    ac.rest(bits, |place, value| {
        last = place;
        coefficients[usize::from(NATURAL[place & 63]) & 63] = value * quantization[place & 63];
    })?;
    Some(last)
}

/// Reads over a block.
#[inline(always)]
pub(super) fn skip_block(bits: &mut Bits<'_>, (dc, ac): (&DcTable, &AcTable), predicted: &mut i32) -> Option<()> {
    *predicted = predicted.wrapping_add(dc.next(bits)?);
    ac.rest(bits, |_, _| {})
}
