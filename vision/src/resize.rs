//! Resizing with antialiasing, bit for bit as Pillow's `Image.resize` for 8-bit images (`src/libImaging/Resample.c`):
//! two passes, horizontal then vertical, with weights in 22-bit fixed point and a result of 8 bits after each.
//!
//! Newer versions of Pillow (from 13 on) do the vertical pass first where that is faster; then pixels may differ by 1,
//! with bicubic and Lanczos by more where the first pass overshoots 0..=255.

use convoy_common::spec::Filter;

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

/// The `window` of the image at `width x height`, without computing what lies outside: the same numbers as
/// resizing and then cropping.
pub(crate) fn resize_window(image: &Pixels, width: u32, height: u32, window: Window, filter: Filter) -> Pixels {
    assert!(width > 0 && height > 0, "an image of {width} x {height}");
    assert!(window.x + window.width <= width && window.y + window.height <= height, "{window:?} in {width} x {height}");
    let rows = Taps::new(image.height, height, window.y, window.height, filter);
    // Only the rows that the vertical pass reads go through the horizontal one.
    let (first, last) = if image.height == height { (window.y, window.y + window.height) } else { rows.reach() };
    let band = Window { x: 0, y: first, width: image.width, height: last - first };
    let narrow = if image.width == width {
        image.crop(Window { x: window.x, width: window.width, ..band })
    } else {
        let columns = Taps::new(image.width, width, window.x, window.width, filter);
        match image.channels {
            1 => horizontal::<1>(image, band, &columns),
            _ => horizontal::<3>(image, band, &columns),
        }
    };
    if image.height == height { narrow } else { vertical(&narrow, first, &rows) }
}

/// For each place of the output: the first place of the input that counts, and the weights from there on.
struct Taps {
    first: Vec<u32>,
    weights: Vec<Vec<i32>>,
}

impl Taps {
    /// Weights for places `from..from + count` of an axis scaled from `input` to `output` (`precompute_coeffs`
    /// and `normalize_coeffs_8bpc` in Pillow).
    fn new(input: u32, output: u32, from: u32, count: u32, filter: Filter) -> Self {
        let scale = f64::from(input) / f64::from(output);
        let stretch = scale.max(1.0);
        let support = support(filter) * stretch;
        let mut taps = Taps { first: Vec::new(), weights: Vec::new() };
        for place in from..from + count {
            let centre = (f64::from(place) + 0.5) * scale;
            let low = (centre - support + 0.5).max(0.0) as u32;
            let high = ((centre + support + 0.5) as u32).min(input);
            let shape: Vec<f64> =
                (low..high).map(|tap| weight(filter, (f64::from(tap) - centre + 0.5) * (1.0 / stretch))).collect();
            let sum: f64 = shape.iter().sum();
            let fixed = |weight: f64| {
                let scaled = if sum == 0.0 { weight } else { weight / sum } * f64::from(1u32 << FRACTION_BITS);
                (scaled + if scaled < 0.0 { -0.5 } else { 0.5 }) as i32
            };
            taps.first.push(low);
            taps.weights.push(shape.into_iter().map(fixed).collect());
        }
        taps
    }

    /// The places of the input between the first and the last tap.
    fn reach(&self) -> (u32, u32) {
        let ends = self.first.iter().zip(&self.weights).map(|(first, weights)| first + weights.len() as u32);
        (self.first.first().copied().unwrap_or(0), ends.max().unwrap_or(0))
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

fn to_pixel(sum: i32) -> u8 {
    (sum >> FRACTION_BITS).clamp(0, 255) as u8
}

/// Scales the rows of `band`.
fn horizontal<const CHANNELS: usize>(image: &Pixels, band: Window, taps: &Taps) -> Pixels {
    let width = taps.first.len();
    let mut data = Vec::with_capacity(width * band.height as usize * CHANNELS);
    let row_len = image.width as usize * CHANNELS;
    for row in image.data.chunks_exact(row_len).skip(band.y as usize).take(band.height as usize) {
        let (pixels, _) = row.as_chunks::<CHANNELS>();
        for (first, weights) in taps.first.iter().zip(&taps.weights) {
            let mut sums = [HALF; CHANNELS];
            for (pixel, weight) in pixels[*first as usize..].iter().zip(weights) {
                for (sum, value) in sums.iter_mut().zip(pixel) {
                    *sum += i32::from(*value) * weight;
                }
            }
            data.extend(sums.map(to_pixel));
        }
    }
    Pixels::new(width as u32, band.height, CHANNELS as u32, data)
}

/// Scales columns; row 0 of `image` is row `offset` of the input that `taps` speak of.
fn vertical(image: &Pixels, offset: u32, taps: &Taps) -> Pixels {
    let row_len = image.width as usize * image.channels as usize;
    let mut data = Vec::with_capacity(row_len * taps.first.len());
    let mut sums = vec![HALF; row_len];
    for (first, weights) in taps.first.iter().zip(&taps.weights) {
        sums.fill(HALF);
        let rows = image.data.chunks_exact(row_len).skip((first - offset) as usize);
        for (row, weight) in rows.zip(weights) {
            for (sum, value) in sums.iter_mut().zip(row) {
                *sum += i32::from(*value) * weight;
            }
        }
        data.extend(sums.iter().map(|sum| to_pixel(*sum)));
    }
    Pixels::new(image.width, taps.first.len() as u32, image.channels, data)
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
