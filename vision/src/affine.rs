//! Rotation and scale about the centre in one pass, bilinear, in fixed point.

use convoy_common::spec::Fill;

use crate::pixels::Pixels;

/// Bits behind the point of a position.
const FRACTION_BITS: u32 = 32;
/// Bits behind the point of a bilinear weight.
const WEIGHT_BITS: u32 = 16;

/// The image turned counterclockwise by `degrees` and scaled by `scale` about its centre; pixels from outside are black
/// or those of the nearest edge. As `torchvision.transforms.v2.functional.affine` with bilinear interpolation and the
/// angle's sign turned (its positive angles turn clockwise): an output pixel looks up the input at
/// `R(degrees) (p - centre) / scale + centre`.
///
/// Positions have 32 bits behind the point, weights 16; results are rounded to nearest.
pub(crate) fn rotate_and_scale(image: &Pixels, degrees: f64, scale: f64, fill: Fill) -> Pixels {
    let radians = degrees * (std::f64::consts::PI / 180.0);
    let fixed = |number: f64| (number * (1u64 << FRACTION_BITS) as f64).round() as i64;
    let (along, across) = (fixed(libm::cos(radians) / scale), fixed(libm::sin(radians) / scale));
    let (width, height) = (i64::from(image.width), i64::from(image.height));
    // Distances from the centre are counted in half pixels, so that they are integers.
    let position = |part_x: i64, x: i64, part_y: i64, y: i64, side: i64| {
        ((part_x * (2 * x + 1 - width) + part_y * (2 * y + 1 - height)) >> 1) + ((side - 1) << (FRACTION_BITS - 1))
    };
    let mut data = Vec::with_capacity(image.data.len());
    for y in 0..height {
        for x in 0..width {
            let from_x = position(along, x, -across, y, width);
            let from_y = position(across, x, along, y, height);
            match image.channels {
                1 => data.extend(bilinear::<1>(image, from_x, from_y, fill)),
                _ => data.extend(bilinear::<3>(image, from_x, from_y, fill)),
            }
        }
    }
    Pixels::new(image.width, image.height, image.channels, data)
}

/// The image between its pixels.
fn bilinear<const CHANNELS: usize>(image: &Pixels, x: i64, y: i64, fill: Fill) -> [u8; CHANNELS] {
    let one = 1u64 << WEIGHT_BITS;
    let share = |position: i64| (position >> (FRACTION_BITS - WEIGHT_BITS)) as u64 & (one - 1);
    let (left, top) = (x >> FRACTION_BITS, y >> FRACTION_BITS);
    let (right_share, lower_share) = (share(x), share(y));
    let corners = [
        (left, top, (one - right_share) * (one - lower_share)),
        (left + 1, top, right_share * (one - lower_share)),
        (left, top + 1, (one - right_share) * lower_share),
        (left + 1, top + 1, right_share * lower_share),
    ];
    let mut sums = [1u64 << (2 * WEIGHT_BITS - 1); CHANNELS];
    let (last_x, last_y) = (i64::from(image.width) - 1, i64::from(image.height) - 1);
    for (x, y, weight) in corners {
        if fill == Fill::Zeros && !((0..=last_x).contains(&x) && (0..=last_y).contains(&y)) {
            continue;
        }
        let pixel = image.pixel(x.clamp(0, last_x) as u32, y.clamp(0, last_y) as u32);
        for (sum, value) in sums.iter_mut().zip(pixel) {
            *sum += weight * u64::from(*value);
        }
    }
    sums.map(|sum| (sum >> (2 * WEIGHT_BITS)) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(side: u32) -> Pixels {
        Pixels::new(side, side, 1, (0..side * side).map(|i| (i * 5) as u8).collect())
    }

    #[test]
    fn nothing_changes_nothing() {
        for side in [4, 5] {
            assert_eq!(rotate_and_scale(&image(side), 0.0, 1.0, Fill::Zeros), image(side));
        }
    }

    #[test]
    fn quarter_turns_are_exact() {
        let turned = rotate_and_scale(&image(5), 90.0, 1.0, Fill::Edge);
        for (x, y) in [(0, 0), (4, 0), (1, 3), (2, 2)] {
            assert_eq!(turned.pixel(x, y), image(5).pixel(4 - y, x), "counterclockwise at {x}, {y}");
        }
    }

    #[test]
    fn outside_is_filled() {
        let white = Pixels::new(6, 6, 3, vec![255; 108]);
        let small = rotate_and_scale(&white, 0.0, 0.5, Fill::Zeros);
        assert_eq!((small.pixel(0, 0), small.pixel(3, 3)), (&[0, 0, 0][..], &[255, 255, 255][..]));
        assert_eq!(rotate_and_scale(&white, 33.0, 0.5, Fill::Edge), white);
    }
}
