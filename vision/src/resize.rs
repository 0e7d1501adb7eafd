//! Resizing with antialiasing, bit for bit as Pillow's `Image.resize` for 8-bit images (`src/libImaging/Resample.c`):
//! two passes, horizontal then vertical, with weights in 22-bit fixed point and a result of 8 bits after each.
//!
//! Newer versions of Pillow (from 13 on) do the vertical pass first where that is faster; then pixels may differ by 1,
//! with bicubic and Lanczos by more where the first pass overshoots 0..=255.

use convoy_common::spec::Filter;
use convoy_kernels::cpu::{Kernel, dispatch};

use crate::pixels::{Pixels, Window};

/// Bits behind the point of a weight: 32 less 8 for the pixel and 2 for sign and overshoot.
const FRACTION_BITS: u32 = 22;
const HALF: i32 = 1 << (FRACTION_BITS - 1);

/// The whole image at `width x height`.
///
/// # Panics
/// When either is zero.
pub fn resize(image: &Pixels, width: u32, height: u32, filter: Filter) -> Pixels {
    resize_window(image, width, height, Window { x: 0, y: 0, width, height }, filter)
}

/// The `window` of the image at `width x height`, without computing pixels outside of it: the same numbers as
/// resizing and then cropping.
pub(crate) fn resize_window(image: &Pixels, width: u32, height: u32, window: Window, filter: Filter) -> Pixels {
    assert!(width > 0 && height > 0, "an image of {width} x {height}");
    assert!(window.x + window.width <= width && window.y + window.height <= height, "{window:?} in {width} x {height}");
    let rows = Taps::new(image.height, height, window.y, window.height, filter);
    // Only the rows that the vertical pass reads go through the horizontal one.
    let (first, last) = rows.reach();
    let band = Window { x: 0, y: first, width: image.width, height: last - first };
    // A pass that changes nothing has one tap for each place, of weight one, and no pixel changes in it.
    let columns = Taps::new(image.width, width, window.x, window.width, filter);
    let narrow = dispatch(Horizontal { image, band, taps: &columns });
    let width = window.width as usize;
    dispatch(Vertical { narrow: &narrow, width, channels: image.channels, offset: first, taps: &rows })
}

/// For each place of the output: the first place of the input that counts, and the weights from there on.
struct Taps {
    first: Vec<u32>,
    /// `most` for each place, the last ones zero where it has fewer.
    weights: Vec<i32>,
    most: usize,
    /// The place of the input behind the last that counts.
    end: u32,
}

impl Taps {
    /// Weights for places `from..from + count` of an axis scaled from `input` to `output` (`precompute_coeffs`
    /// and `normalize_coeffs_8bpc` in Pillow).
    fn new(input: u32, output: u32, from: u32, count: u32, filter: Filter) -> Self {
        let scale = f64::from(input) / f64::from(output);
        let stretch = scale.max(1.0);
        let support = support(filter) * stretch;
        let centre = |place: u32| (f64::from(place) + 0.5) * scale;
        let reach = |place: u32| {
            if input == output {
                // Pillow leaves out a pass that changes nothing.
                return (place, place + 1);
            }
            let low = (centre(place) - support + 0.5).max(0.0) as u32;
            (low, ((centre(place) + support + 0.5) as u32).min(input))
        };
        let places = from..from + count;
        let most = places.clone().map(reach).map(|(low, high)| high - low).max().unwrap_or(0) as usize;
        let mut taps = Taps { first: Vec::new(), weights: Vec::new(), most, end: 0 };
        for place in places {
            let (low, high) = reach(place);
            let centre = centre(place);
            let shape: Vec<f64> =
                (low..high).map(|tap| weight(filter, (f64::from(tap) - centre + 0.5) * (1.0 / stretch))).collect();
            let sum: f64 = shape.iter().sum();
            let fixed = |weight: f64| {
                let scaled = if sum == 0.0 { weight } else { weight / sum } * f64::from(1u32 << FRACTION_BITS);
                (scaled + if scaled < 0.0 { -0.5 } else { 0.5 }) as i32
            };
            taps.first.push(low);
            taps.weights.extend(shape.into_iter().map(fixed));
            taps.weights.resize(taps.first.len() * most, 0);
            taps.end = taps.end.max(high);
        }
        taps
    }

    /// The places of the input between the first and the last tap.
    fn reach(&self) -> (u32, u32) {
        (self.first.first().copied().unwrap_or(0), self.end)
    }
}

fn support(filter: Filter) -> f64 {
    match filter {
        Filter::Bilinear => 1.0,
        Filter::Bicubic => 2.0,
        Filter::Lanczos => 3.0,
    }
}

fn weight(filter: Filter, x: f64) -> f64 {
    let distance = x.abs();
    match filter {
        Filter::Bilinear => (1.0 - distance).max(0.0),
        Filter::Bicubic => {
            const A: f64 = -0.5;
            if distance < 1.0 {
                ((A + 2.0) * distance - (A + 3.0)) * distance * distance + 1.0
            } else if distance < 2.0 {
                (((distance - 5.0) * distance + 8.0) * distance - 4.0) * A
            } else {
                0.0
            }
        }
        Filter::Lanczos if (-3.0..3.0).contains(&x) => sinc(x) * sinc(x / 3.0),
        Filter::Lanczos => 0.0,
    }
}

fn sinc(x: f64) -> f64 {
    let angle = x * std::f64::consts::PI;
    if x == 0.0 { 1.0 } else { libm::sin(angle) / angle }
}

#[inline(always)]
fn to_pixel(sum: i32) -> u8 {
    (sum >> FRACTION_BITS).clamp(0, 255) as u8
}

/// Lanes that a pixel of the horizontal pass takes: a vector of four, of which as many count as there are channels.
const LANES: usize = 4;

/// Scales the rows of a band; pixels of the result have [`LANES`] numbers.
struct Horizontal<'a> {
    image: &'a Pixels,
    band: Window,
    taps: &'a Taps,
}

impl Kernel for Horizontal<'_> {
    type Output = Vec<u8>;

    #[inline(always)]
    fn run<const PANEL: usize>(self) -> Vec<u8> {
        match self.image.channels {
            1 => self.scale::<1>(),
            _ => self.scale::<3>(),
        }
    }
}

impl Horizontal<'_> {
    #[inline(always)]
    fn scale<const CHANNELS: usize>(self) -> Vec<u8> {
        let Horizontal { image, band, taps } = self;
        let width = taps.first.len();
        let mut narrow = vec![0; width * band.height as usize * LANES];
        let row_len = image.width as usize * CHANNELS;
        // A row, and the numbers that the lanes of its last pixel read behind it.
        let mut padded = vec![0; row_len + LANES];
        let rows = image.data.chunks_exact(row_len).skip(band.y as usize);
        for (row, out) in rows.zip(narrow.chunks_exact_mut(width * LANES)) {
            padded[..row_len].copy_from_slice(row);
            let places = taps.first.iter().zip(taps.weights.chunks_exact(taps.most));
            for ((first, weights), out) in places.zip(out.as_chunks_mut::<LANES>().0) {
                let values = &padded[*first as usize * CHANNELS..];
                let mut sums = [HALF; LANES];
                let mut at = 0;
                for weight in weights {
                    // Only taps without weight lie behind the row.
                    let Some(values) = values.get(at..at + LANES) else { break };
                    for lane in 0..LANES {
                        sums[lane] += i32::from(values[lane]) * weight;
                    }
                    at += CHANNELS;
                }
                *out = sums.map(to_pixel);
            }
        }
        narrow
    }
}

/// Columns that the vertical pass sums at once.
const COLUMNS: usize = 16 * LANES;

/// Scales columns of `width` pixels of [`LANES`] numbers; row 0 is row `offset` of the input that `taps` speak of.
struct Vertical<'a> {
    narrow: &'a [u8],
    width: usize,
    channels: u32,
    offset: u32,
    taps: &'a Taps,
}

impl Kernel for Vertical<'_> {
    type Output = Pixels;

    #[inline(always)]
    fn run<const PANEL: usize>(self) -> Pixels {
        let Vertical { narrow, width, channels, offset, taps } = self;
        let row_len = width * LANES;
        let mut data = vec![0; width * channels as usize * taps.first.len()];
        let mut line = vec![0; row_len];
        let places = taps.first.iter().zip(taps.weights.chunks_exact(taps.most));
        for ((first, weights), out) in places.zip(data.chunks_exact_mut(width * channels as usize)) {
            let rows = &narrow[(first - offset) as usize * row_len..];
            let (chunks, rest) = line.as_chunks_mut::<COLUMNS>();
            let start = chunks.len() * COLUMNS;
            for (chunk, out) in chunks.iter_mut().enumerate() {
                column_sums(&rows[chunk * COLUMNS..], row_len, weights, out);
            }
            for (pixel, out) in rest.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
                column_sums(&rows[start + pixel * LANES..], row_len, weights, out);
            }
            let pixels = line.as_chunks::<LANES>().0.iter();
            match channels {
                1 => out.iter_mut().zip(pixels).for_each(|(out, pixel)| *out = pixel[0]),
                _ => {
                    let out = out.as_chunks_mut::<3>().0.iter_mut();
                    out.zip(pixels).for_each(|(out, pixel)| *out = [pixel[0], pixel[1], pixel[2]]);
                }
            }
        }
        Pixels::new(width as u32, taps.first.len() as u32, channels, data)
    }
}

/// The weighted sums of `COUNT` neighbours in each of the rows.
#[inline(always)]
fn column_sums<const COUNT: usize>(rows: &[u8], row_len: usize, weights: &[i32], out: &mut [u8; COUNT]) {
    let mut sums = [HALF; COUNT];
    for (row, weight) in rows.chunks(row_len).zip(weights) {
        let Some(values) = row.first_chunk::<COUNT>() else { break };
        for lane in 0..COUNT {
            sums[lane] += i32::from(values[lane]) * weight;
        }
    }
    *out = sums.map(to_pixel);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FILTERS: [Filter; 3] = [Filter::Bilinear, Filter::Bicubic, Filter::Lanczos];

    fn noise(width: u32, height: u32, channels: u32) -> Pixels {
        let data = (0..width * height * channels).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        Pixels::new(width, height, channels, data)
    }

    #[test]
    fn one_colour_stays_one_colour() {
        for filter in FILTERS {
            for (width, height) in [(1, 1), (3, 17), (40, 5)] {
                let image = Pixels::new(13, 9, 3, [7, 128, 255].repeat(13 * 9));
                let resized = resize(&image, width, height, filter);
                assert!(resized.data.chunks(3).all(|pixel| pixel == [7, 128, 255]), "{filter:?} {width}x{height}");
            }
        }
    }

    #[test]
    fn every_level_gives_the_same_pixels() {
        use convoy_kernels::cpu::{Level, with_level};
        for (channels, filter) in
            [(1, Filter::Bilinear), (3, Filter::Bilinear), (3, Filter::Bicubic), (3, Filter::Lanczos)]
        {
            let image = noise(67, 45, channels);
            for (width, height) in [(32, 32), (67, 20), (90, 45), (101, 77), (3, 1)] {
                let portable = with_level(Level::Portable, || resize(&image, width, height, filter));
                for level in Level::ALL {
                    let found = with_level(level, || resize(&image, width, height, filter));
                    assert!(found.is_none() || found == portable, "{level:?} {filter:?} {width}x{height}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn a_window_is_a_crop_of_the_whole(
            width in 1u32..40, height in 1u32..40, new_width in 1u32..40, new_height in 1u32..40,
            colour: bool, filter in 0usize..3, corner: (u16, u16), extent: (u16, u16),
        ) {
            let image = noise(width, height, if colour { 3 } else { 1 });
            let (x, y) = (u32::from(corner.0) % new_width, u32::from(corner.1) % new_height);
            let window = Window {
                x, y,
                width: 1 + u32::from(extent.0) % (new_width - x),
                height: 1 + u32::from(extent.1) % (new_height - y),
            };
            let whole = resize(&image, new_width, new_height, FILTERS[filter]);
            let part = resize_window(&image, new_width, new_height, window, FILTERS[filter]);
            prop_assert_eq!(part, whole.crop(window));
        }
    }
}
