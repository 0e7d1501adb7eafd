//! Colour changes on 8-bit images with the rules of torchvision's `transforms.v2.functional` for `uint8`: computed in
//! f32 in a stated order, clamped to 0..=255 and truncated. Every operation is one of IEEE 754, so bits do not
//! depend on the CPU.

use crate::pixels::Pixels;

fn truncate(value: f32) -> u8 {
    value.clamp(0.0, 255.0) as u8
}

/// `value * factor + other * (1 - factor)`.
fn blend(value: u8, other: f32, factor: f32) -> u8 {
    truncate(f32::from(value) * factor + other * (1.0 - factor))
}

/// Luma by torchvision's weights, rounded down.
fn grey(pixel: [u8; 3]) -> f32 {
    let [red, green, blue] = pixel.map(f32::from);
    (red * 0.2989 + green * 0.587 + blue * 0.114).floor()
}

/// Every number times `factor` (`adjust_brightness`).
pub(crate) fn brightness(image: &mut Pixels, factor: f32) {
    image.data.iter_mut().for_each(|value| *value = truncate(f32::from(*value) * factor));
}

/// Blends with the mean of the luma, an exact integer sum divided once (`adjust_contrast`).
pub(crate) fn contrast(image: &mut Pixels, factor: f32) {
    let (sum, count): (u64, usize) = match image.channels {
        3 => {
            let pixels = image.data.as_chunks::<3>().0;
            (pixels.iter().map(|pixel| grey(*pixel) as u64).sum(), pixels.len())
        }
        _ => (image.data.iter().map(|value| u64::from(*value)).sum(), image.data.len()),
    };
    let mean = (sum as f64 / count as f64) as f32;
    image.data.iter_mut().for_each(|value| *value = blend(*value, mean, factor));
}

/// Blends each pixel with its luma (`adjust_saturation`); grey images stay as they are.
pub(crate) fn saturation(image: &mut Pixels, factor: f32) {
    if image.channels == 3 {
        for pixel in image.data.as_chunks_mut::<3>().0 {
            let grey = grey(*pixel);
            *pixel = pixel.map(|value| blend(value, grey, factor));
        }
    }
}

/// Turns the hue by `shift` of a full circle (`adjust_hue`); grey images stay as they are.
pub(crate) fn hue(image: &mut Pixels, shift: f32) {
    if image.channels == 3 {
        for pixel in image.data.as_chunks_mut::<3>().0 {
            let [hue, saturation, value] = to_hsv(pixel.map(|value| f32::from(value) / 255.0));
            let turned = hue + shift;
            let rgb = from_hsv([turned - turned.floor(), saturation, value]);
            // torchvision's way back to integers: almost 256 equal bins.
            *pixel = rgb.map(|value| truncate(value * (256.0 - 1e-3)));
        }
    }
}

/// Hue, saturation and value in 0..=1 (`_rgb_to_hsv`).
fn to_hsv([red, green, blue]: [f32; 3]) -> [f32; 3] {
    let (high, low) = (red.max(green).max(blue), red.min(green).min(blue));
    let range = high - low;
    if range == 0.0 {
        return [0.0, 0.0, high];
    }
    let [from_red, from_green, from_blue] = [red, green, blue].map(|channel| (high - channel) / range);
    let sixths = if high == red {
        from_blue - from_green
    } else if high == green {
        2.0 + from_red - from_blue
    } else {
        4.0 + from_green - from_red
    };
    let hue = sixths / 6.0 + 1.0;
    [hue - hue.floor(), range / high, high]
}

/// Back from hue, saturation and value (`_hsv_to_rgb`).
fn from_hsv([hue, saturation, value]: [f32; 3]) -> [f32; 3] {
    let sixths = hue * 6.0;
    let sector = sixths.floor();
    let part = sixths - sector;
    let clamp = |number: f32| number.clamp(0.0, 1.0);
    let p = clamp(value * (1.0 - saturation));
    let q = clamp(value * (1.0 - saturation * part));
    let t = clamp(value * (1.0 - saturation * (1.0 - part)));
    match sector as i32 % 6 {
        0 => [value, t, p],
        1 => [q, value, p],
        2 => [p, value, t],
        3 => [p, q, value],
        4 => [t, p, value],
        _ => [value, p, q],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn colours() -> Pixels {
        let data = (0..4096u32 * 3).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        Pixels::new(64, 64, 3, data)
    }

    #[test]
    fn factors_of_one_change_nothing() {
        let mut image = colours();
        brightness(&mut image, 1.0);
        contrast(&mut image, 1.0);
        saturation(&mut image, 1.0);
        assert_eq!(image, colours());
    }

    #[test]
    fn extremes() {
        let mut grey = colours();
        saturation(&mut grey, 0.0);
        assert!(grey.data.chunks(3).all(|pixel| pixel[0] == pixel[1] && pixel[1] == pixel[2]));
        let mut flat = colours();
        contrast(&mut flat, 0.0);
        assert!(flat.data.iter().all(|value| *value == flat.data[0]));
        let mut black = colours();
        brightness(&mut black, 0.0);
        assert!(black.data.iter().all(|value| *value == 0));
    }

    #[test]
    fn thirds_of_the_circle_swap_primaries() {
        let mut red = Pixels::new(1, 1, 3, vec![255, 0, 0]);
        hue(&mut red, 1.0 / 3.0);
        assert_eq!(red.data, [0, 255, 0]);
        hue(&mut red, -1.0 / 3.0);
        assert_eq!(red.data, [255, 0, 0]);
    }
}
