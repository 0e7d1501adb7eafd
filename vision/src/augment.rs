//! Random changes to training images. All random numbers are looked up at (seed, augmentation, epoch, sample), one
//! stream per operation, so that an image depends on its address alone and an operation switched off leaves the
//! others as they are.
//!
//! Order: random resized crop (or resize and random crop), scale and rotation, flips, brightness, contrast,
//! saturation, hue; after normalization, erasing.

use convoy_common::plan::Input;
use convoy_common::random::{Address, Purpose};
use convoy_common::spec::Augment;

use crate::affine::rotate_and_scale;
use crate::color;
use crate::geometry::{Geometry, Placement};
use crate::pixels::{Pixels, Window};
use crate::resize::resize;

/// The stream of each operation; never renumbered.
#[derive(Clone, Copy)]
#[repr(u32)]
enum Operation {
    ResizedCrop = 1,
    Crop = 2,
    Scale = 3,
    Rotate = 4,
    HorizontalFlip = 5,
    VerticalFlip = 6,
    Brightness = 7,
    Contrast = 8,
    Saturation = 9,
    Hue = 10,
    Erase = 11,
}

/// The random numbers of one operation on one sample.
struct Draw(Address);

impl Draw {
    fn of(address: Address, operation: Operation) -> Self {
        Draw(address.stream(operation as u32))
    }

    /// A number that is uniform in the range.
    fn uniform(&self, index: u32, [low, high]: [f64; 2]) -> f64 {
        low + (high - low) * self.0.uniform_f64(index)
    }

    /// A number whose logarithm is uniform in the logarithms of the range.
    fn log_uniform(&self, index: u32, [low, high]: [f64; 2]) -> f64 {
        libm::exp(self.uniform(index, [libm::log(low), libm::log(high)]))
    }

    /// One of `low..=high`.
    fn integer(&self, index: u32, low: i64, high: i64) -> i64 {
        low + (self.0.uniform_f64(index) * (high - low + 1) as f64) as i64
    }

    fn happens(&self, probability: f64) -> bool {
        self.0.uniform_f64(0) < probability
    }
}

/// Where the random numbers of a sample lie.
pub(crate) fn address(seed: u64, epoch: u32, sample: u32) -> Address {
    Address::new(seed, Purpose::Augmentation, epoch, sample)
}

/// The window of an image of this size that a random resized crop takes, if there is to be one.
pub(crate) fn window(augment: &Augment, width: u32, height: u32, address: Address) -> Option<Window> {
    let aspect = augment.crop_aspect.unwrap_or([0.75, 4.0 / 3.0]);
    let draw = Draw::of(address, Operation::ResizedCrop);
    augment.random_resized_crop.map(|share| resized_crop(width, height, share, aspect, &draw))
}

/// The image at the input's size and channels, changed at random; after a random resized crop, `image` is its
/// [`window()`].
pub(crate) fn apply(augment: &Augment, geometry: &Geometry, image: &Pixels, address: Address) -> Pixels {
    let mut out = to_size(augment, geometry, image, address);
    let scale = augment.scale.map_or(1.0, |range| Draw::of(address, Operation::Scale).uniform(0, range));
    let degrees = Draw::of(address, Operation::Rotate).uniform(0, [-augment.rotate, augment.rotate]);
    if scale != 1.0 || degrees != 0.0 {
        out = rotate_and_scale(&out, degrees, scale, geometry.fill);
    }
    if Draw::of(address, Operation::HorizontalFlip).happens(augment.horizontal_flip) {
        out.flip_horizontal();
    }
    if Draw::of(address, Operation::VerticalFlip).happens(augment.vertical_flip) {
        out.flip_vertical();
    }
    change_colours(augment, &mut out, address);
    out
}

fn to_size(augment: &Augment, geometry: &Geometry, image: &Pixels, address: Address) -> Pixels {
    let image = geometry.converted(image);
    if augment.random_resized_crop.is_some() {
        return resize(&image, geometry.input.width, geometry.input.height, geometry.filter);
    }
    let centre = geometry.placement(image.width, image.height);
    let place = match augment.crop_padding {
        0 => centre,
        padding => moved(centre, geometry.input, padding, &Draw::of(address, Operation::Crop)),
    };
    geometry.place(&image, place)
}

/// The area and aspect of a random resized crop, and where it lies: ten tries, then the largest centre crop whose
/// aspect is allowed (torchvision's `RandomResizedCrop.get_params`).
fn resized_crop(width: u32, height: u32, share: [f64; 2], aspects: [f64; 2], draw: &Draw) -> Window {
    let (across, down) = (f64::from(width), f64::from(height));
    for attempt in (0..40).step_by(4) {
        let area = across * down * draw.uniform(attempt, share);
        let aspect = draw.log_uniform(attempt + 1, aspects);
        let crop_width = (area * aspect).sqrt().round_ties_even();
        let crop_height = (area / aspect).sqrt().round_ties_even();
        if crop_width >= 1.0 && crop_width <= across && crop_height >= 1.0 && crop_height <= down {
            let y = draw.integer(attempt + 2, 0, (down - crop_height) as i64) as u32;
            let x = draw.integer(attempt + 3, 0, (across - crop_width) as i64) as u32;
            return Window { x, y, width: crop_width as u32, height: crop_height as u32 };
        }
    }
    let side = |length: f64, limit: u32| (length.round_ties_even() as u32).clamp(1, limit);
    let (crop_width, crop_height) = match across / down {
        aspect if aspect < aspects[0] => (width, side(across / aspects[0], height)),
        aspect if aspect > aspects[1] => (side(down * aspects[1], width), height),
        _ => (width, height),
    };
    Window { x: (width - crop_width) / 2, y: (height - crop_height) / 2, width: crop_width, height: crop_height }
}

/// A window anywhere in the scaled image with `padding` around it (torchvision's `RandomCrop` after resizing). The bars
/// of a letterboxed image are part of it.
fn moved(centre: Placement, input: Input, padding: u32, draw: &Draw) -> Placement {
    let offset = |index: u32, centre: i64, side: u32, target: u32| {
        let (target, padding) = (i64::from(target), i64::from(padding));
        let low = centre.min(0) - padding;
        let high = i64::from(side).max(centre + target) + padding - target;
        draw.integer(index, low, high)
    };
    Placement {
        y: offset(0, centre.y, centre.height, input.height),
        x: offset(1, centre.x, centre.width, input.width),
        ..centre
    }
}

fn change_colours(augment: &Augment, image: &mut Pixels, address: Address) {
    let mut factor = |strength: f64, operation: Operation, change: fn(&mut Pixels, f32)| {
        if strength > 0.0 {
            let range = [(1.0 - strength).max(0.0), 1.0 + strength];
            change(image, Draw::of(address, operation).uniform(0, range) as f32);
        }
    };
    factor(augment.brightness, Operation::Brightness, color::brightness);
    factor(augment.contrast, Operation::Contrast, color::contrast);
    factor(augment.saturation, Operation::Saturation, color::saturation);
    if augment.hue > 0.0 {
        color::hue(image, Draw::of(address, Operation::Hue).uniform(0, [-augment.hue, augment.hue]) as f32);
    }
}

/// Share of the area that is erased, and aspect (height over width) of the erased rectangle.
const ERASED_SHARE: [f64; 2] = [0.02, 0.33];
const ERASED_ASPECT: [f64; 2] = [0.3, 3.3];

/// Sets a random rectangle of a normalised sample (HWC) to zero, which is the mean colour for z-scores and mean
/// subtraction (torchvision's `RandomErasing` with `value=0`, ten tries).
pub(crate) fn erase(augment: &Augment, input: Input, address: Address, sample: &mut [f32]) {
    let draw = Draw::of(address, Operation::Erase);
    if !draw.happens(augment.erase) {
        return;
    }
    let (across, down) = (f64::from(input.width), f64::from(input.height));
    for attempt in (4..44).step_by(4) {
        let area = across * down * draw.uniform(attempt, ERASED_SHARE);
        let aspect = draw.log_uniform(attempt + 1, ERASED_ASPECT);
        let height = (area * aspect).sqrt().round_ties_even();
        let width = (area / aspect).sqrt().round_ties_even();
        if height < down && width < across {
            let y = draw.integer(attempt + 2, 0, (down - height) as i64) as usize;
            let x = draw.integer(attempt + 3, 0, (across - width) as i64) as usize;
            let channels = input.channels as usize;
            for row in sample.chunks_exact_mut(input.width as usize * channels).skip(y).take(height as usize) {
                row[x * channels..(x + width as usize) * channels].fill(0.0);
            }
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten thousand draws of one operation.
    fn draws(operation: Operation) -> impl Iterator<Item = Draw> {
        (0..10_000).map(move |sample| Draw::of(address(7, 1, sample), operation))
    }

    #[test]
    fn draws_fill_their_ranges_and_stay_inside() {
        let integers: Vec<i64> = draws(Operation::Crop).map(|draw| draw.integer(0, -2, 3)).collect();
        for number in -2..=3 {
            let share = integers.iter().filter(|found| **found == number).count() as f64 / integers.len() as f64;
            assert!((share - 1.0 / 6.0).abs() < 0.02, "{number}: {share}");
        }
        let uniform: Vec<f64> = draws(Operation::Scale).map(|draw| draw.uniform(0, [0.5, 2.0])).collect();
        assert!(uniform.iter().all(|number| (0.5..2.0).contains(number)));
        let below_one = draws(Operation::Scale).filter(|draw| draw.log_uniform(0, [0.5, 2.0]) < 1.0).count();
        assert!((4_700..5_300).contains(&below_one), "1 is the middle of 0.5 and 2 by logarithm: {below_one}");
    }

    #[test]
    fn crops_lie_inside_and_have_the_area_and_aspect_asked_for() {
        let (share, aspects) = ([0.2, 0.5], [0.5, 2.0]);
        for draw in draws(Operation::ResizedCrop) {
            let Window { x, y, width, height } = resized_crop(200, 100, share, aspects, &draw);
            assert!(x + width <= 200 && y + height <= 100);
            let (area, aspect) = (f64::from(width * height) / 20_000.0, f64::from(width) / f64::from(height));
            assert!((0.19..0.51).contains(&area) && (0.48..2.05).contains(&aspect), "{area} {aspect}");
        }
    }

    #[test]
    fn a_crop_that_no_draw_fits_is_the_largest_in_the_middle() {
        // No rectangle with the whole area has this aspect.
        let draw = Draw::of(address(7, 1, 0), Operation::ResizedCrop);
        let crop = resized_crop(200, 100, [1.0, 1.0], [1.0, 1.0], &draw);
        assert_eq!(crop, Window { x: 50, y: 0, width: 100, height: 100 });
        let crop = resized_crop(100, 200, [1.0, 1.0], [1.0, 1.0], &draw);
        assert_eq!(crop, Window { x: 0, y: 50, width: 100, height: 100 });
    }
}
