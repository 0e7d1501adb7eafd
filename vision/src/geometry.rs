//! How an image gets the size and channels of the network's input.
//!
//! Sizes and offsets are computed in f64 and rounded, so that every CPU gives the same bits.

use std::borrow::Cow;

use convoy_common::plan::Input;
use convoy_common::spec::{Fill, Filter, Prepare, Resize};

use crate::pixels::{Pixels, Window};
use crate::resize::resize_window;

/// How an image is brought to the input's size and channels.
#[derive(Debug, Clone, PartialEq)]
pub struct Geometry {
    pub(crate) input: Input,
    pub(crate) resize: Resize,
    pub(crate) crop_fraction: f64,
    pub(crate) filter: Filter,
    pub(crate) fill: Fill,
}

/// Where the input's window lies in the scaled image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Placement {
    /// Size that the image is scaled to.
    pub width: u32,
    pub height: u32,
    /// Column of the window's upper left corner; outside of the scaled image where it is padded.
    pub x: i64,
    /// Row of the window's upper left corner.
    pub y: i64,
}

impl Geometry {
    /// The rules of `prepare` for the given input; size and channels of `prepare` itself are not looked at.
    pub fn new(prepare: &Prepare, input: Input) -> Self {
        Geometry {
            input,
            resize: prepare.resize,
            crop_fraction: prepare.crop_fraction,
            filter: prepare.filter,
            fill: prepare.fill,
        }
    }

    /// The image at the input's size and channels, without augmentation.
    ///
    /// - `crop`: the shorter side becomes `floor(size / crop_fraction)`, the longer one is rounded down; then the
    ///   centre, offsets rounded half to even (torchvision's `Resize` and `CenterCrop`). For an input that is not
    ///   square, the image is scaled until it just covers it.
    /// - `letterbox`: the longer side becomes `size`, the other is rounded; the image lies in the middle of the
    ///   fill (Pillow's `ImageOps.pad`).
    /// - `stretch`: both sides.
    /// - `none`: the centre, padded where the image is smaller.
    pub fn apply(&self, image: &Pixels) -> Pixels {
        self.place(&self.converted(image), self.placement(image.width, image.height))
    }

    /// The image with the input's channels.
    pub(crate) fn converted<'a>(&self, image: &'a Pixels) -> Cow<'a, Pixels> {
        if image.channels == self.input.channels {
            return Cow::Borrowed(image);
        }
        Cow::Owned(image.clone().into_channels(self.input.channels))
    }

    /// Where the input's window lies for an image of this size, without augmentation.
    pub(crate) fn placement(&self, width: u32, height: u32) -> Placement {
        let (target_width, target_height) = (self.input.width, self.input.height);
        let (width, height) = match self.resize {
            Resize::Crop => {
                let enlarged = |side: u32| (f64::from(side) / self.crop_fraction).floor() as u64;
                covering(width.into(), height.into(), enlarged(target_width), enlarged(target_height))
            }
            Resize::Letterbox => contained(width, height, target_width, target_height),
            Resize::Stretch => (target_width, target_height),
            Resize::None => (width, height),
        };
        let offset = if self.resize == Resize::None { centred_or_padded } else { centred };
        Placement { width, height, x: offset(width, target_width), y: offset(height, target_height) }
    }

    /// Scales an image of the input's channels and cuts out the window, padded where it reaches outside.
    pub(crate) fn place(&self, image: &Pixels, place: Placement) -> Pixels {
        let across = overlap(place.x, self.input.width, place.width);
        let down = overlap(place.y, self.input.height, place.height);
        let window = Window { x: across.0, y: down.0, width: across.1, height: down.1 };
        let scaled = resize_window(image, place.width, place.height, window, self.filter);
        if (window.width, window.height) == (self.input.width, self.input.height) {
            return scaled;
        }
        let (x, y) = (place.x - i64::from(window.x), place.y - i64::from(window.y));
        scaled.padded_window(x, y, self.input.width, self.input.height, self.fill)
    }
}

/// The smallest size with the aspect of `width x height` that covers the target, rounded down.
fn covering(width: u64, height: u64, target_width: u64, target_height: u64) -> (u32, u32) {
    let (new_width, new_height) = if width * target_height >= height * target_width {
        (target_height * width / height, target_height)
    } else {
        (target_width, target_width * height / width)
    };
    (new_width as u32, new_height as u32)
}

/// The largest size with the aspect of `width x height` inside the target, rounded half to even, at least 1.
fn contained(width: u32, height: u32, target_width: u32, target_height: u32) -> (u32, u32) {
    let (w, h) = (f64::from(width), f64::from(height));
    let (across, down) = (f64::from(target_width), f64::from(target_height));
    let side = |length: f64| (length.round_ties_even() as u32).max(1);
    match u64::from(width) * u64::from(target_height) {
        product if product > u64::from(height) * u64::from(target_width) => (target_width, side(h / w * across)),
        product if product < u64::from(height) * u64::from(target_width) => (side(w / h * down), target_height),
        _ => (target_width, target_height),
    }
}

/// Offset of a window of `target` in the middle of `side`, rounded half to even.
fn centred(side: u32, target: u32) -> i64 {
    ((f64::from(side) - f64::from(target)) / 2.0).round_ties_even() as i64
}

/// As [`centred`], but where the window is larger than the image, the smaller half of an odd padding comes before the
/// image (torchvision's `CenterCrop`).
fn centred_or_padded(side: u32, target: u32) -> i64 {
    if side < target { -i64::from((target - side) / 2) } else { centred(side, target) }
}

/// Start and length of the part of `offset..offset + length` that lies in `0..side`; at least one place, the nearest,
/// so that there is a pixel to replicate.
fn overlap(offset: i64, length: u32, side: u32) -> (u32, u32) {
    let start = offset.clamp(0, i64::from(side) - 1);
    let end = (offset + i64::from(length)).clamp(start + 1, i64::from(side));
    (start as u32, (end - start) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placement(resize: Resize, (width, height): (u32, u32), input: (u32, u32)) -> Placement {
        let input = Input { width: input.0, height: input.1, channels: 1 };
        Geometry::new(&Prepare { resize, ..Prepare::default() }, input).placement(width, height)
    }

    #[test]
    fn each_rule_places_the_window() {
        let check = |resize, size, expected: (u32, u32, i64, i64)| {
            let Placement { width, height, x, y } = placement(resize, size, (10, 10));
            assert_eq!((width, height, x, y), expected, "{resize:?}");
        };
        check(Resize::Crop, (40, 20), (20, 10, 5, 0));
        check(Resize::Letterbox, (40, 20), (10, 5, 0, -2));
        check(Resize::Stretch, (40, 20), (10, 10, 0, 0));
        check(Resize::None, (40, 5), (40, 5, 15, -2));
    }

    #[test]
    fn a_crop_fraction_scales_to_more_than_is_kept() {
        let prepare = Prepare { resize: Resize::Crop, crop_fraction: 0.875, ..Prepare::default() };
        let geometry = Geometry::new(&prepare, Input { width: 224, height: 224, channels: 3 });
        let Placement { width, height, x, y } = geometry.placement(512, 256);
        assert_eq!((width, height, x, y), (512, 256, 144, 16));
    }

    #[test]
    fn a_window_beside_the_image_still_touches_it() {
        assert_eq!(overlap(-3, 5, 10), (0, 2));
        assert_eq!(overlap(20, 5, 10), (9, 1));
        assert_eq!(overlap(-20, 5, 10), (0, 1));
    }
}
