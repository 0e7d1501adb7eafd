//! Tables of a JPEG file: quantization, Huffman codes, and the distance of restart markers.

use super::fault::Fault;
use super::frame::{Scan, Selected};
use super::huffman::{AcTable, DcTable};

const QUANTIZATION: Fault = "one of its quantization tables is damaged or missing";
const HUFFMAN: Fault = "one of its Huffman tables is damaged or missing";

/// The tables that stand at some place of a file.
#[derive(Debug, Default)]
pub(super) struct Tables {
    dc: [Option<DcTable>; 4],
    ac: [Option<AcTable>; 4],
    quantization: [Option<Box<[i32; 64]>>; 4],
    /// MCUs between restart markers; 0 for none.
    pub(super) restart: usize,
}

impl Tables {
    /// Takes the tables of a segment; whether it is one of tables.
    pub(super) fn read(&mut self, marker: u8, segment: &[u8]) -> Result<bool, Fault> {
        match marker {
            0xC4 => self.read_huffman(segment).ok_or(HUFFMAN)?,
            0xDB => self.read_quantization(segment).ok_or(QUANTIZATION)?,
            0xDD => {
                let &[high, low] = segment else { return Err("its restart interval is damaged") };
                self.restart = usize::from(u16::from_be_bytes([high, low]));
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn read_quantization(&mut self, mut segment: &[u8]) -> Option<()> {
        while let [kind, rest @ ..] = segment {
            let place = self.quantization.get_mut(usize::from(kind & 15))?;
            let mut table = Box::new([0; 64]);
            segment = match kind >> 4 {
                0 => {
                    let (numbers, rest) = rest.split_first_chunk::<64>()?;
                    table.iter_mut().zip(numbers).for_each(|(place, number)| *place = i32::from(*number));
                    rest
                }
                1 => {
                    let (numbers, rest) = rest.split_first_chunk::<128>()?;
                    let numbers = numbers.as_chunks::<2>().0.iter().map(|number| u16::from_be_bytes(*number));
                    table.iter_mut().zip(numbers).for_each(|(place, number)| *place = i32::from(number));
                    rest
                }
                _ => return None,
            };
            *place = Some(table);
        }
        Some(())
    }

    fn read_huffman(&mut self, mut segment: &[u8]) -> Option<()> {
        while let [kind, rest @ ..] = segment {
            let (counts, rest) = rest.split_first_chunk::<16>()?;
            let symbols = counts.iter().map(|count| usize::from(*count)).sum();
            let (symbols, rest) = rest.split_at_checked(symbols)?;
            let place = usize::from(kind & 15);
            match kind >> 4 {
                0 => *self.dc.get_mut(place)? = Some(DcTable::new(counts, symbols)?),
                1 => *self.ac.get_mut(place)? = Some(AcTable::new(counts, symbols)?),
                _ => return None,
            }
            segment = rest;
        }
        Some(())
    }

    /// Fills in what pictures of Motion JPEG may leave out (ITU T.81 K.3.3), where a sequential scan needs it.
    pub(super) fn complete_for(&mut self, scan: &Scan) {
        let lacks =
            |part: &Selected| !matches!((self.dc.get(part.dc), self.ac.get(part.ac)), (Some(Some(_)), Some(Some(_))));
        if !scan.parts.iter().any(lacks) {
            return;
        }
        for (place, (counts, symbols)) in [DC_LUMA, DC_CHROMA].iter().enumerate() {
            self.dc[place] = self.dc[place].take().or_else(|| DcTable::new(counts, symbols));
        }
        for (place, (counts, symbols)) in [AC_LUMA, AC_CHROMA].iter().enumerate() {
            self.ac[place] = self.ac[place].take().or_else(|| AcTable::new(counts, symbols));
        }
    }

    /// Codes of DC differences.
    pub(super) fn dc(&self, place: usize) -> Result<&DcTable, Fault> {
        self.dc.get(place).and_then(Option::as_ref).ok_or(HUFFMAN)
    }

    /// Codes of AC coefficients.
    pub(super) fn ac(&self, place: usize) -> Result<&AcTable, Fault> {
        self.ac.get(place).and_then(Option::as_ref).ok_or(HUFFMAN)
    }

    /// Numbers by which coefficients are multiplied, in zigzag order.
    pub(super) fn quantization(&self, place: usize) -> Result<&[i32; 64], Fault> {
        self.quantization.get(place).and_then(Option::as_deref).ok_or(QUANTIZATION)
    }
}

/// How many codes there are of each length, and their symbols.
type Code = ([u8; 16], &'static [u8]);

/// ITU T.81 table K.3.
const DC_LUMA: Code = (
    [0, 1, 5, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0],
    &[0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0A, 0x0B],
);
/// ITU T.81 table K.4.
const DC_CHROMA: Code = (
    [0, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0],
    &[0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0A, 0x0B],
);
/// ITU T.81 table K.5.
const AC_LUMA: Code = (
    [0, 2, 1, 3, 3, 2, 4, 3, 5, 5, 4, 4, 0, 0, 1, 125],
    &[
        0x01, 0x02, 0x03, 0x00, 0x04, 0x11, 0x05, 0x12, 0x21, 0x31, 0x41, 0x06, 0x13, 0x51, 0x61, 0x07, 0x22, 0x71,
        0x14, 0x32, 0x81, 0x91, 0xA1, 0x08, 0x23, 0x42, 0xB1, 0xC1, 0x15, 0x52, 0xD1, 0xF0, 0x24, 0x33, 0x62, 0x72,
        0x82, 0x09, 0x0A, 0x16, 0x17, 0x18, 0x19, 0x1A, 0x25, 0x26, 0x27, 0x28, 0x29, 0x2A, 0x34, 0x35, 0x36, 0x37,
        0x38, 0x39, 0x3A, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48, 0x49, 0x4A, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58, 0x59,
        0x5A, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6A, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 0x79, 0x7A, 0x83,
        0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x92, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9A, 0xA2, 0xA3,
        0xA4, 0xA5, 0xA6, 0xA7, 0xA8, 0xA9, 0xAA, 0xB2, 0xB3, 0xB4, 0xB5, 0xB6, 0xB7, 0xB8, 0xB9, 0xBA, 0xC2, 0xC3,
        0xC4, 0xC5, 0xC6, 0xC7, 0xC8, 0xC9, 0xCA, 0xD2, 0xD3, 0xD4, 0xD5, 0xD6, 0xD7, 0xD8, 0xD9, 0xDA, 0xE1, 0xE2,
        0xE3, 0xE4, 0xE5, 0xE6, 0xE7, 0xE8, 0xE9, 0xEA, 0xF1, 0xF2, 0xF3, 0xF4, 0xF5, 0xF6, 0xF7, 0xF8, 0xF9, 0xFA,
    ],
);
/// ITU T.81 table K.6.
const AC_CHROMA: Code = (
    [0, 2, 1, 2, 4, 4, 3, 4, 7, 5, 4, 4, 0, 1, 2, 119],
    &[
        0x00, 0x01, 0x02, 0x03, 0x11, 0x04, 0x05, 0x21, 0x31, 0x06, 0x12, 0x41, 0x51, 0x07, 0x61, 0x71, 0x13, 0x22,
        0x32, 0x81, 0x08, 0x14, 0x42, 0x91, 0xA1, 0xB1, 0xC1, 0x09, 0x23, 0x33, 0x52, 0xF0, 0x15, 0x62, 0x72, 0xD1,
        0x0A, 0x16, 0x24, 0x34, 0xE1, 0x25, 0xF1, 0x17, 0x18, 0x19, 0x1A, 0x26, 0x27, 0x28, 0x29, 0x2A, 0x35, 0x36,
        0x37, 0x38, 0x39, 0x3A, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48, 0x49, 0x4A, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58,
        0x59, 0x5A, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6A, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 0x79, 0x7A,
        0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x92, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9A,
        0xA2, 0xA3, 0xA4, 0xA5, 0xA6, 0xA7, 0xA8, 0xA9, 0xAA, 0xB2, 0xB3, 0xB4, 0xB5, 0xB6, 0xB7, 0xB8, 0xB9, 0xBA,
        0xC2, 0xC3, 0xC4, 0xC5, 0xC6, 0xC7, 0xC8, 0xC9, 0xCA, 0xD2, 0xD3, 0xD4, 0xD5, 0xD6, 0xD7, 0xD8, 0xD9, 0xDA,
        0xE2, 0xE3, 0xE4, 0xE5, 0xE6, 0xE7, 0xE8, 0xE9, 0xEA, 0xF2, 0xF3, 0xF4, 0xF5, 0xF6, 0xF7, 0xF8, 0xF9, 0xFA,
    ],
);
