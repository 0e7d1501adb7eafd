//! Headers of frames and scans (ITU T.81 B.2.2 and B.2.3).

use super::fault::Fault;

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
    pub(super) id: u8,
    /// Blocks across and down in an MCU.
    pub(super) across: usize,
    pub(super) down: usize,
    /// The number of its quantization table.
    pub(super) quantization: usize,
}

/// The header of a scan.
#[derive(Debug)]
pub(super) struct Scan {
    pub(super) parts: Vec<Selected>,
    /// The first and the last coefficient in zigzag order.
    pub(super) places: (usize, usize),
    /// Bits that are left out of coefficients: before this scan (0 where it is their first), and with it.
    pub(super) bits: (u32, u32),
}

/// A component of a scan, by its place in the frame, and the numbers of its tables.
#[derive(Debug, Clone, Copy)]
pub(super) struct Selected {
    pub(super) component: usize,
    pub(super) dc: usize,
    pub(super) ac: usize,
}

impl Frame {
    pub(super) fn read(segment: &[u8], progressive: bool) -> Result<Self, Fault> {
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

    pub(super) fn read_scan(&self, segment: &[u8]) -> Result<Scan, Fault> {
        const DAMAGED: Fault = "one of its scan headers is damaged";
        let [count, selectors @ .., first, last, bits] = segment else { return Err(DAMAGED) };
        let (selectors, rest) = selectors.as_chunks::<2>();
        if !rest.is_empty() || selectors.len() != usize::from(*count) || !(1..=4).contains(count) {
            return Err(DAMAGED);
        }
        let mut parts: Vec<Selected> = Vec::with_capacity(4);
        for &[id, tables] in selectors {
            // In the frame's order (T.81, B.2.3).
            let next = parts.last().map_or(0, |part| part.component + 1);
            let component = (next..self.components.len()).find(|place| self.components[*place].id == id);
            let component = component.ok_or(DAMAGED)?;
            parts.push(Selected { component, dc: usize::from(tables >> 4), ac: usize::from(tables & 15) });
        }
        let blocks = |part: &Selected| self.components[part.component].across * self.components[part.component].down;
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
