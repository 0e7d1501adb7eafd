//! The header of a baseline JPEG file (ITU T.81 annex B).

use super::huffman::{AcTable, DcTable};
use crate::exif::orientation_of;

/// The segments before the entropy-coded data.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) width: u32,
    pub(super) height: u32,
    /// One (grey) or three (Y, Cb, Cr), in the order of the scan.
    pub(super) components: Vec<Component>,
    pub(super) dc: [Option<DcTable>; 4],
    pub(super) ac: [Option<AcTable>; 4],
    /// Numbers by which coefficients are multiplied, in zigzag order.
    pub(super) quantization: [Option<[i32; 64]>; 4],
    /// MCUs between restart markers; 0 for none.
    pub(super) restart: usize,
    /// Where the entropy-coded data begin.
    pub(super) data: usize,
}

/// A component of the image, and the numbers of its tables.
#[derive(Debug, Clone, Copy)]
pub(super) struct Component {
    id: u8,
    /// Blocks across and down in an MCU.
    pub(super) across: usize,
    pub(super) down: usize,
    pub(super) quantization: usize,
    pub(super) dc: usize,
    pub(super) ac: usize,
}

impl Header {
    /// Follows the segments to the start of the scan; `None` for files that are not for this decoder.
    pub(super) fn read(bytes: &[u8]) -> Option<Header> {
        let mut header = Header {
            width: 0,
            height: 0,
            components: Vec::new(),
            dc: [const { None }; 4],
            ac: [const { None }; 4],
            quantization: [None; 4],
            restart: 0,
            data: 0,
        };
        let mut rest = bytes.strip_prefix(&[0xFF, 0xD8])?;
        loop {
            let &[0xFF, marker, high, low, ..] = rest else { return None };
            let length = usize::from(u16::from_be_bytes([high, low]));
            let segment = rest.get(4..2 + length)?;
            rest = &rest[2 + length..];
            match marker {
                0xC0 | 0xC1 => header.read_frame(segment)?,
                0xC4 => header.read_huffman(segment)?,
                0xDA => {
                    header.read_scan(segment)?;
                    header.data = bytes.len() - rest.len();
                    return Some(header);
                }
                0xDB => header.read_quantization(segment)?,
                0xDD => header.restart = usize::from(u16::from_be_bytes(segment.try_into().ok()?)),
                // Files that have to be turned are left to the other decoder.
                0xE1 if segment.starts_with(b"Exif\0\0") && orientation_of(segment).unwrap_or(1) != 1 => return None,
                // Adobe's marker: colours other than YCbCr are left to the other decoder.
                0xEE if segment.starts_with(b"Adobe") && segment.get(11) != Some(&1) => return None,
                0xE0..=0xEF | 0xFE => {}
                _ => return None,
            }
        }
    }

    fn read_frame(&mut self, segment: &[u8]) -> Option<()> {
        let &[8, h1, h0, w1, w0, count, ref parts @ ..] = segment else { return None };
        (self.height, self.width) = (u16::from_be_bytes([h1, h0]).into(), u16::from_be_bytes([w1, w0]).into());
        let (parts, []) = parts.as_chunks::<3>() else { return None };
        let again = !self.components.is_empty();
        if again || self.width == 0 || self.height == 0 || parts.len() != usize::from(count) {
            return None;
        }
        let component = |&[id, sampling, table]: &[u8; 3]| Component {
            id,
            across: usize::from(sampling >> 4),
            down: usize::from(sampling & 15),
            quantization: usize::from(table),
            dc: 0,
            ac: 0,
        };
        self.components = parts.iter().map(component).collect();
        if let [grey] = &mut self.components[..] {
            // A scan of one component has one block in an MCU, whatever the frame says.
            (grey.across, grey.down) = (1, 1);
        }
        let samplings: Vec<_> = self.components.iter().map(|component| (component.across, component.down)).collect();
        matches!(samplings[..], [(1, 1)] | [(1, 1) | (2, 1) | (2, 2), (1, 1), (1, 1)]).then_some(())
    }

    fn read_quantization(&mut self, mut segment: &[u8]) -> Option<()> {
        while let [kind, rest @ ..] = segment {
            let place = self.quantization.get_mut(usize::from(kind & 15))?;
            let mut table = [0; 64];
            segment = match kind >> 4 {
                0 => {
                    let (numbers, rest) = rest.split_first_chunk::<64>()?;
                    table.iter_mut().zip(numbers).for_each(|(place, number)| *place = i32::from(*number));
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

    /// Takes one scan of all components in the order of the frame, whose tables must all be there.
    fn read_scan(&mut self, segment: &[u8]) -> Option<()> {
        let [count, selectors @ .., 0, 63, 0] = segment else { return None };
        let (selectors, []) = selectors.as_chunks::<2>() else { return None };
        let count = usize::from(*count);
        if count == 0 || count != selectors.len() || count != self.components.len() {
            return None;
        }
        for (component, &[id, tables]) in self.components.iter_mut().zip(selectors) {
            (component.dc, component.ac) = (usize::from(tables >> 4), usize::from(tables & 15));
            self.dc.get(component.dc)?.as_ref()?;
            self.ac.get(component.ac)?.as_ref()?;
            self.quantization.get(component.quantization)?.as_ref()?;
            if component.id != id {
                return None;
            }
        }
        Some(())
    }
}
