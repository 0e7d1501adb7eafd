//! Progressive files (ITU T.81 annex G): the coefficients of all blocks are collected over many scans.

use convoy_kernels::cpu::{Kernel, dispatch};

use super::bits::{Bits, ScanBits, Segments};
use super::fault::{CUT_OFF, DAMAGED, Fault};
use super::frame::{Component, Scan};
use super::header::Header;
use super::huffman::{DcTable, NATURAL, SymbolTable};
use super::plane::{Area, Plane};

/// Scans that a file may have, so that a small file cannot ask for the work of a large one many times.
const MAX_SCANS: usize = 500;

/// The places in zigzag order that must be there to their last bit. Where one is not, libjpeg guesses a smoother image;
/// others may be left out.
const REQUIRED: u64 = (1 << 10) - 1;

/// The coefficients of a component.
struct Coefficients {
    /// Blocks in natural order, in rows of whole MCUs.
    blocks: Vec<[i16; 64]>,
    /// For each block, the place of its last coefficient in zigzag order.
    last: Vec<u8>,
    /// Blocks in a row.
    width: usize,
    /// In zigzag order; the table at the component's first scan.
    quantization: Option<[i32; 64]>,
    /// Whether a scan of this component alone had its DC coefficients: blocks behind the image have none then.
    alone: bool,
    /// A bit for each place in zigzag order whose coefficients are there to their last bit.
    exact: u64,
}

/// The samples of all components.
pub(super) fn decode(header: &mut Header, first: Scan, bytes: &[u8]) -> Result<Vec<Plane>, Fault> {
    let (across, down) = header.frame.mcus();
    let room = |component: &Component| {
        let (width, height) = (across * component.across, down * component.down);
        Coefficients {
            blocks: vec![[0; 64]; width * height],
            last: vec![0; width * height],
            width,
            quantization: None,
            alone: false,
            exact: 0,
        }
    };
    let mut components: Vec<Coefficients> = header.frame.components.iter().map(room).collect();
    let (mut next, mut count) = (Some(first), 0);
    while let Some(scan) = next {
        count += 1;
        if count > MAX_SCANS {
            return Err("it has more than 500 scans");
        }
        read_scan(header, &scan, &bytes[header.at..], &mut components)?;
        next = header.next_scan(bytes)?;
    }
    if components.iter().any(|component| component.exact & REQUIRED != REQUIRED) {
        return Err("its last scans are missing, so that it would be blurred");
    }
    let area = Area { columns: 0..across, rows: 0..down };
    let mut planes = Vec::with_capacity(4);
    for (component, coefficients) in header.frame.components.iter().zip(components) {
        let mut plane = dispatch(ToPlane { coefficients: &coefficients, plane: Plane::new(component, &area) });
        if coefficients.alone {
            let (across, down) = header.frame.samples(component);
            plane.continue_from(across, down);
        }
        planes.push(plane);
    }
    Ok(planes)
}

struct ToPlane<'a> {
    coefficients: &'a Coefficients,
    plane: Plane,
}

impl Kernel for ToPlane<'_> {
    type Output = Plane;

    #[inline(always)]
    fn run<const PANEL: usize>(mut self) -> Plane {
        let mut natural = [1; 64];
        for (place, factor) in NATURAL.iter().zip(self.coefficients.quantization.iter().flatten()) {
            natural[usize::from(*place)] = *factor;
        }
        let blocks = self.coefficients.blocks.iter().zip(&self.coefficients.last);
        for (at, (block, last)) in blocks.enumerate() {
            let numbers = std::array::from_fn(|place| i32::from(block[place]) * natural[place]);
            let (row, column) = (at / self.coefficients.width, at % self.coefficients.width);
            self.plane.put(row, column, &numbers, usize::from(*last)).expect("room for every block");
        }
        self.plane
    }
}

/// What a scan does to a block.
enum Pass<'a> {
    DcFirst,
    DcNext,
    AcFirst(&'a SymbolTable<'a>),
    AcNext(&'a SymbolTable<'a>),
}

fn read_scan(header: &Header, scan: &Scan, data: &[u8], components: &mut [Coefficients]) -> Result<(), Fault> {
    let Header { frame, tables, .. } = header;
    let segments = Segments::of(data).ok_or(CUT_OFF)?;
    let ((mcus_across, mcus_down), alone) = frame.grid(scan);
    let (is_dc, is_first) = (scan.places.0 == 0, scan.bits.0 == 0);
    let symbols = if is_dc { None } else { Some(tables.ac(scan.parts[0].ac)?.symbols()) };
    let pass = match &symbols {
        None if is_first => Pass::DcFirst,
        None => Pass::DcNext,
        Some(symbols) if is_first => Pass::AcFirst(symbols),
        Some(symbols) => Pass::AcNext(symbols),
    };
    let mut parts = Vec::with_capacity(4);
    for part in &scan.parts {
        let (component, coefficients) = (&frame.components[part.component], &mut components[part.component]);
        if coefficients.quantization.is_none() {
            coefficients.quantization = Some(*tables.quantization(component.quantization)?);
        }
        if scan.bits.1 == 0 {
            coefficients.exact |= u64::MAX >> (63 - scan.places.1) & u64::MAX << scan.places.0;
        }
        if is_dc {
            coefficients.alone = alone;
        }
        let dc = if is_dc && is_first { Some(tables.dc(part.dc)?) } else { None };
        let (across, down) = if alone { (1, 1) } else { (component.across, component.down) };
        parts.push((part.component, dc, across, down));
    }
    let grid = (mcus_across, mcus_down);
    dispatch(ScanReading { scan, pass, segments: &segments, restart: tables.restart, grid, parts, components })
        .ok_or(DAMAGED)
}

struct ScanReading<'a> {
    scan: &'a Scan,
    pass: Pass<'a>,
    segments: &'a Segments,
    restart: usize,
    grid: (usize, usize),
    /// Component, codes of its differences where the pass reads such, blocks across and down in an MCU.
    parts: Vec<(usize, Option<&'a DcTable>, usize, usize)>,
    components: &'a mut [Coefficients],
}

impl Kernel for ScanReading<'_> {
    type Output = Option<()>;

    #[inline(always)]
    fn run<const PANEL: usize>(self) -> Option<()> {
        let ScanReading { scan, pass, segments, restart, grid: (mcus_across, mcus_down), parts, components } = self;
        let mut scan_bits = ScanBits::new(segments, restart)?;
        let mut predicted = [0i32; 4];
        let mut run = 0;
        for row in 0..mcus_down {
            for column in 0..mcus_across {
                if scan_bits.next_mcu()? {
                    (predicted, run) = ([0; 4], 0);
                }
                let bits = &mut scan_bits.bits;
                for &(component, dc, across, down) in &parts {
                    let Coefficients { blocks, last, width, .. } = &mut components[component];
                    for at in 0..across * down {
                        let (y, x) = (row * down + at / across, column * across + at % across);
                        let block = blocks.get_mut(y * *width + x)?;
                        let last = last.get_mut(y * *width + x)?;
                        match pass {
                            Pass::DcFirst => {
                                let predicted = predicted.get_mut(component)?;
                                *predicted = predicted.wrapping_add(dc?.next(bits)?);
                                block[0] = predicted.wrapping_shl(scan.bits.1) as i16;
                            }
                            Pass::DcNext => block[0] |= (bits.next(1) << scan.bits.1) as i16,
                            Pass::AcFirst(symbols) => ac_first(bits, symbols, scan, &mut run, block, last)?,
                            Pass::AcNext(symbols) => ac_next(bits, symbols, scan, &mut run, block, last)?,
                        }
                    }
                }
            }
            if scan_bits.bits.overran() {
                return None;
            }
        }
        Some(())
    }
}

/// The first bits of a block's coefficients (G.1.2.2). `run` counts blocks to come that have no more of them.
#[inline(always)]
fn ac_first(
    bits: &mut Bits<'_>,
    symbols: &SymbolTable,
    scan: &Scan,
    run: &mut u32,
    block: &mut [i16; 64],
    last: &mut u8,
) -> Option<()> {
    if *run > 0 {
        *run -= 1;
        return Some(());
    }
    let mut place = scan.places.0;
    while place <= scan.places.1 {
        let symbol = symbols.next(bits)?;
        match (usize::from(symbol >> 4), u32::from(symbol & 15)) {
            (15, 0) => place += 16,
            (size, 0) => {
                *run = (1 << size) - 1 + bits.next(size as u32);
                break;
            }
            (zeros, size) => {
                place += zeros;
                let value = bits.signed(size);
                if place > scan.places.1 {
                    return None;
                }
                block[usize::from(NATURAL[place & 63]) & 63] = (value << scan.bits.1) as i16;
                *last = (*last).max(place as u8);
                place += 1;
            }
        }
    }
    Some(())
}

/// A further bit of a block's coefficients (G.1.2.3).
#[inline(always)]
fn ac_next(
    bits: &mut Bits<'_>,
    symbols: &SymbolTable,
    scan: &Scan,
    run: &mut u32,
    block: &mut [i16; 64],
    last: &mut u8,
) -> Option<()> {
    let bit = 1i16 << scan.bits.1;
    let mut place = scan.places.0;
    if *run == 0 {
        while place <= scan.places.1 {
            let symbol = symbols.next(bits)?;
            let (mut zeros, size) = (u32::from(symbol >> 4), symbol & 15);
            let new = match size {
                0 if zeros < 15 => {
                    *run = (1 << zeros) + bits.next(zeros);
                    break;
                }
                0 => 0,
                1 if bits.next(1) == 1 => bit,
                1 => -bit,
                _ => return None,
            };
            // Over `zeros` coefficients that are zero so far; those that are not get their bit on the way.
            loop {
                let number = &mut block[usize::from(NATURAL[place & 63]) & 63];
                if *number != 0 {
                    refine(bits, number, bit);
                } else if zeros == 0 {
                    *number = new;
                    if new != 0 {
                        *last = (*last).max(place as u8);
                    }
                    place += 1;
                    break;
                } else {
                    zeros -= 1;
                }
                place += 1;
                if place > scan.places.1 {
                    break;
                }
            }
        }
    }
    if *run > 0 {
        for place in place..=scan.places.1 {
            let number = &mut block[usize::from(NATURAL[place & 63]) & 63];
            if *number != 0 {
                refine(bits, number, bit);
            }
        }
        *run -= 1;
    }
    Some(())
}

/// Moves a coefficient away from zero where the next bit says so.
#[inline(always)]
fn refine(bits: &mut Bits<'_>, number: &mut i16, bit: i16) {
    if bits.next(1) == 1 && *number & bit == 0 {
        *number = number.wrapping_add(if *number > 0 { bit } else { -bit });
    }
}
