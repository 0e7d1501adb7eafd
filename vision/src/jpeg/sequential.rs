//! Sequential scans: from entropy-coded data to the samples of each component, as far as an area needs them.

use convoy_kernels::cpu::{Kernel, dispatch};

use super::bits::{Bits, ScanBits, Segments};
use super::fault::{CUT_OFF, DAMAGED, Fault};
use super::frame::{Frame, Scan};
use super::header::Header;
use super::huffman::{AcTable, DcTable, read_block, skip_block};
use super::plane::{Area, Plane};
use super::tables::Tables;

/// The samples of all components, from one scan or several.
pub(super) fn decode(header: &mut Header, first: Scan, bytes: &[u8], area: &Area) -> Result<Vec<Plane>, Fault> {
    let mut planes: Vec<Option<Plane>> = header.frame.components.iter().map(|_| None).collect();
    let mut next = Some(first);
    while let Some(scan) = next {
        header.tables.complete_for(&scan);
        let found = decode_scan(&header.frame, &header.tables, &scan, &bytes[header.at..], area)?;
        for (part, plane) in scan.parts.iter().zip(found) {
            if planes[part.component].replace(plane).is_some() {
                return Err("a component has two scans");
            }
        }
        if planes.iter().all(Option::is_some) {
            break;
        }
        next = header.next_scan(bytes)?;
    }
    planes.into_iter().map(|plane| plane.ok_or("a component has no scan")).collect()
}

/// The samples of the components of a scan, in its order. A scan of one component of several is read wholly, so `area`
/// must be all of the image then.
pub(super) fn decode_scan(
    frame: &Frame,
    tables: &Tables,
    scan: &Scan,
    data: &[u8],
    area: &Area,
) -> Result<Vec<Plane>, Fault> {
    let segments = Segments::of(data).ok_or(CUT_OFF)?;
    let mut readings = Vec::with_capacity(4);
    let (_, alone) = frame.grid(scan);
    for part in &scan.parts {
        let component = &frame.components[part.component];
        let (across, down) = if alone { (1, 1) } else { (component.across, component.down) };
        readings.push(Reading {
            tables: (tables.dc(part.dc)?, tables.ac(part.ac)?),
            quantization: tables.quantization(component.quantization)?,
            across,
            down,
            predicted: 0,
            plane: Plane::new(component, area),
        });
    }
    let mut planes: Vec<Plane> =
        dispatch(Decode { frame, scan, restart: tables.restart, segments: &segments, area, readings })
            .ok_or(DAMAGED)?;
    if let (true, [plane]) = (alone, &mut planes[..]) {
        let (across, down) = frame.samples(&frame.components[scan.parts[0].component]);
        plane.continue_from(across, down);
    }
    Ok(planes)
}

struct Decode<'a> {
    frame: &'a Frame,
    scan: &'a Scan,
    restart: usize,
    segments: &'a Segments,
    area: &'a Area,
    readings: Vec<Reading<'a>>,
}

/// A component while it is read.
struct Reading<'a> {
    tables: (&'a DcTable, &'a AcTable),
    quantization: &'a [i32; 64],
    across: usize,
    down: usize,
    predicted: i32,
    plane: Plane,
}

impl Kernel for Decode<'_> {
    type Output = Option<Vec<Plane>>;

    #[inline(always)]
    fn run<const PANEL: usize>(self) -> Option<Vec<Plane>> {
        let Decode { frame, scan, restart, segments, area, mut readings } = self;
        let ((mcus_across, mcus_down), alone) = frame.grid(scan);
        let (columns, rows) = match alone {
            true => (0..mcus_across, 0..mcus_down),
            false => (area.columns.clone(), area.rows.clone()),
        };
        let mut scan_bits = ScanBits::new(segments, restart)?;
        let mut coefficients = [0; 64];
        for row in 0..rows.end {
            for column in 0..mcus_across {
                if scan_bits.next_mcu()? {
                    readings.iter_mut().for_each(|reading| reading.predicted = 0);
                }
                let bits = &mut scan_bits.bits;
                let wanted = rows.contains(&row) && columns.contains(&column);
                for reading in &mut readings {
                    if wanted {
                        reading.read(bits, row - rows.start, column - columns.start, &mut coefficients)?;
                    } else {
                        reading.skip(bits)?;
                    }
                }
            }
            if scan_bits.bits.overran() {
                return None;
            }
        }
        Some(readings.into_iter().map(|reading| reading.plane).collect())
    }
}

impl Reading<'_> {
    /// Reads the blocks of an MCU into the plane.
    #[inline(always)]
    fn read(&mut self, bits: &mut Bits<'_>, row: usize, column: usize, coefficients: &mut [i32; 64]) -> Option<()> {
        for down in 0..self.down {
            for across in 0..self.across {
                *coefficients = [0; 64];
                let last = read_block(bits, self.tables, self.quantization, &mut self.predicted, coefficients)?;
                self.plane.put(row * self.down + down, column * self.across + across, coefficients, last)?;
            }
        }
        Some(())
    }

    #[inline(always)]
    fn skip(&mut self, bits: &mut Bits<'_>) -> Option<()> {
        for _ in 0..self.down * self.across {
            skip_block(bits, self.tables, &mut self.predicted)?;
        }
        Some(())
    }
}
