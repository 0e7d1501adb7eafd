//! From samples to pixels: components that have fewer samples are interpolated, then colours become RGB.

use convoy_kernels::cpu::{Kernel, dispatch};

use super::colours::Colours;
use super::frame::Frame;
use super::plane::{Area, Plane};
use crate::pixels::{Pixels, Window};

/// The pixels of `window`, from the samples of an area that holds it.
pub(super) fn to_pixels(frame: &Frame, colours: Colours, planes: &[Plane], area: &Area, window: Window) -> Pixels {
    dispatch(ToPixels { frame, colours, planes, area, window })
}

struct ToPixels<'a> {
    frame: &'a Frame,
    colours: Colours,
    planes: &'a [Plane],
    area: &'a Area,
    window: Window,
}

/// A component while its rows are interpolated.
struct Stretching<'a> {
    plane: &'a Plane,
    /// Pixels that a sample stands for.
    across: usize,
    down: usize,
    between: Vec<u8>,
    row: Vec<u8>,
}

impl Kernel for ToPixels<'_> {
    type Output = Pixels;

    #[inline(always)]
    fn run<const PANEL: usize>(self) -> Pixels {
        let ToPixels { frame, colours, planes, area, window } = self;
        let x = window.x as usize - area.columns.start * 8 * frame.across;
        let y = window.y as usize - area.rows.start * 8 * frame.down;
        let (width, height) = (window.width as usize, window.height as usize);
        let channels = colours.channels() as usize;
        let mut data = vec![0; width * height * channels];
        let stretching = frame.components.iter().zip(planes).map(|(component, plane)| Stretching {
            plane,
            across: frame.across / component.across,
            down: frame.down / component.down,
            between: vec![0; plane.width],
            row: vec![0; plane.width * (frame.across / component.across)],
        });
        let mut stretching: Vec<_> = stretching.collect();
        for (row, out) in (y..).zip(data.chunks_exact_mut(width * channels)) {
            let mut rows: [&[u8]; 4] = [&[]; 4];
            for (samples, stretching) in rows.iter_mut().zip(&mut stretching) {
                *samples = &stretching.row(row)[x..x + width];
            }
            colours.write(rows, out);
        }
        Pixels::new(window.width, window.height, channels as u32, data)
    }
}

impl Stretching<'_> {
    /// The samples of a row of pixels of the area.
    #[inline(always)]
    fn row(&mut self, row: usize) -> &[u8] {
        let near = (row / self.down) as isize;
        let far = if row.is_multiple_of(2) { near - 1 } else { near + 1 };
        match (self.across, self.down) {
            (1, 1) => return self.plane.row(near),
            (2, 1) => stretch(self.plane.row(near), &mut self.row),
            (1, 2) => mix(self.plane.row(near), self.plane.row(far), &mut self.row),
            (2, 2) => {
                mix(self.plane.row(near), self.plane.row(far), &mut self.between);
                stretch(&self.between, &mut self.row);
            }
            // As libjpeg does, rare ones are repeated.
            (across, _) => {
                let samples = self.row.chunks_exact_mut(across).zip(self.plane.row(near));
                samples.for_each(|(out, sample)| out.fill(*sample));
            }
        }
        &self.row
    }
}

/// Three parts of the nearer and one of the farther sample, rounded to nearest.
#[inline(always)]
fn nearer(near: u8, far: u8) -> u8 {
    ((u16::from(near) * 3 + u16::from(far) + 2) >> 2) as u8
}

#[inline(always)]
fn mix(near: &[u8], far: &[u8], out: &mut [u8]) {
    out.iter_mut().zip(near.iter().zip(far)).for_each(|(out, (near, far))| *out = nearer(*near, *far));
}

/// Samples that are stretched at once.
const LANES: usize = 32;

/// Twice as many samples, each interpolated between its neighbours; the first and the last sample are continued
/// outside.
#[inline(always)]
fn stretch(samples: &[u8], out: &mut [u8]) {
    let pairs = out.as_chunks_mut::<2>().0;
    let last = samples.len() - 1;
    pairs[0] = [samples[0], nearer(samples[0], samples[1])];
    pairs[last] = [nearer(samples[last], samples[last - 1]), samples[last]];
    let inner = last - 1;
    let mut start = 1;
    while start <= inner {
        // The last lanes go over some samples again.
        let from = start.min((inner + 1).saturating_sub(LANES)).max(1);
        let chunks =
            (samples[from - 1..].first_chunk(), samples[from..].first_chunk(), samples[from + 1..].first_chunk());
        match (chunks, pairs[from..last].first_chunk_mut::<LANES>()) {
            ((Some(left), Some(middle), Some(right)), Some(out)) => {
                stretch_lanes(left, middle, right, out);
                start = from + LANES;
            }
            _ => {
                pairs[start] = [nearer(samples[start], samples[start - 1]), nearer(samples[start], samples[start + 1])];
                start += 1;
            }
        }
    }
}

#[inline(always)]
fn stretch_lanes(left: &[u8; LANES], middle: &[u8; LANES], right: &[u8; LANES], out: &mut [[u8; 2]; LANES]) {
    for lane in 0..LANES {
        out[lane] = [nearer(middle[lane], left[lane]), nearer(middle[lane], right[lane])];
    }
}
