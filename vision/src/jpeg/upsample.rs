//! From samples to pixels: components that have fewer samples are interpolated, colours become RGB.

use convoy_kernels::cpu::{Kernel, dispatch};

use super::entropy_scan::Planes;
use crate::pixels::{Pixels, Window};

/// The pixels of `window`.
pub(super) fn to_pixels(planes: &Planes, window: Window) -> Pixels {
    dispatch(ToPixels { planes, window })
}

struct ToPixels<'a> {
    planes: &'a Planes,
    window: Window,
}

impl Kernel for ToPixels<'_> {
    type Output = Pixels;

    #[inline(always)]
    fn run<const PANEL: usize>(self) -> Pixels {
        let ToPixels { planes, window } = self;
        let (x, y) = (window.x as usize - planes.x, window.y as usize - planes.y);
        let (width, height) = (window.width as usize, window.height as usize);
        let channels = planes.components.len();
        let mut data = vec![0; width * height * channels];
        // A row of each of two components while it is interpolated, with a sample more on either side.
        let mut blue = vec![0; planes.components[0].width];
        let mut red = blue.clone();
        let mut between = blue.clone();
        for (row, out) in (y..).zip(data.chunks_exact_mut(width * channels)) {
            let luma = &planes.components[0].row(row as isize)[x..x + width];
            let [_, cb, cr] = &planes.components[..] else {
                out.copy_from_slice(luma);
                continue;
            };
            if planes.across == 1 {
                colours(luma, &cb.row(row as isize)[x..], &cr.row(row as isize)[x..], out);
                continue;
            }
            for (plane, upsampled) in [(cb, &mut blue), (cr, &mut red)] {
                if planes.down == 1 {
                    stretch(plane.row(row as isize), upsampled);
                } else {
                    let near = row as isize / 2;
                    let far = if row % 2 == 0 { near - 1 } else { near + 1 };
                    mix(plane.row(near), plane.row(far), &mut between);
                    stretch(&between[..plane.width], upsampled);
                }
            }
            colours(luma, &blue[x..], &red[x..], out);
        }
        Pixels::new(window.width, window.height, channels as u32, data)
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

/// RGB of Y, Cb and Cr (JFIF, ITU-R BT.601 of full range) in 14-bit fixed point.
#[inline(always)]
fn colours(luma: &[u8], blue: &[u8], red: &[u8], out: &mut [u8]) {
    let chroma = blue.iter().zip(red);
    for ((y, (cb, cr)), rgb) in luma.iter().zip(chroma).zip(out.as_chunks_mut::<3>().0) {
        let (cb, cr) = (i32::from(*cb) - 128, i32::from(*cr) - 128);
        let y = i32::from(*y) * 16384 + 8191;
        let clamp = |number: i32| (number >> 14).clamp(0, 255) as u8;
        *rgb = [clamp(y + cr * 22970), clamp(y - cr * 11700 - cb * 5638), clamp(y + cb * 29032)];
    }
}
