//! From an image to the network's input: the same for training, validation and prediction.
//!
//! Sizes and offsets are computed in f64 and rounded, pixels in integers, the last step from 8 bits to f32 by a
//! table of 256 entries, so that every CPU gives the same bits.

use std::borrow::Cow;

use convoy_common::plan::{Input, Normalization, Plan};
use convoy_common::spec::{Augment, Fill, Filter, Prepare, Resize};

use crate::augment;
use crate::pixels::{Pixels, Window};
use crate::resize::resize_window;

/// Whether samples are changed at random.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// As they are: validation, statistics, prediction.
    Evaluate,
    /// Augmented; every random number lies at (`seed`, augmentation, `epoch`, sample).
    Train {
        /// The job's seed.
        seed: u64,
        /// The epoch.
        epoch: u32,
    },
}

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
    /// Corner of the window; outside of the scaled image where it is padded.
    pub x: i64,
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

    /// Where the window lies for an image of this size, without augmentation.
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

    /// Scales the image and cuts out the window.
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

/// The same, but with the smaller half of an odd padding before the image (torchvision's `CenterCrop`).
fn centred_or_padded(side: u32, target: u32) -> i64 {
    if side < target { -i64::from((target - side) / 2) } else { centred(side, target) }
}

/// Start and length of the part of `offset..offset + length` that lies in `0..side`; at least one place, the
/// nearest, so that there is something to replicate.
fn overlap(offset: i64, length: u32, side: u32) -> (u32, u32) {
    let start = offset.clamp(0, i64::from(side) - 1);
    let end = (offset + i64::from(length)).clamp(start + 1, i64::from(side));
    (start as u32, (end - start) as u32)
}

/// The whole way from an image to the network's input; what a model file stores.
#[derive(Debug, Clone, PartialEq)]
pub struct Preparation {
    geometry: Geometry,
    augment: Augment,
    normalization: Normalization,
    /// For each channel, the number that each pixel value becomes.
    table: Vec<[f32; 256]>,
}

impl Preparation {
    /// The preparation of a plan.
    pub fn of(plan: &Plan) -> Self {
        Preparation::new(&plan.spec.prepare, &plan.spec.augment, plan.input, &plan.normalization)
    }

    /// The preparation by its parts.
    ///
    /// # Panics
    /// When `normalization` has not one number for each channel of `input`.
    pub fn new(prepare: &Prepare, augment: &Augment, input: Input, normalization: &Normalization) -> Self {
        let channels = input.channels as usize;
        let given = (normalization.mean.len(), normalization.std.len());
        assert_eq!(given, (channels, channels), "one mean and one deviation for each channel");
        let channel = |(mean, std): (&f32, &f32)| std::array::from_fn(|value| (value as f32 / 255.0 - mean) / std);
        Preparation {
            geometry: Geometry::new(prepare, input),
            augment: augment.clone(),
            normalization: normalization.clone(),
            table: normalization.mean.iter().zip(&normalization.std).map(channel).collect(),
        }
    }

    /// What the network sees.
    pub fn input(&self) -> Input {
        self.geometry.input
    }

    /// Size and channels without augmentation or normalization.
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// Writes one sample, HWC, normalised as `(x / 255 - mean) / std` in f32, in this order.
    ///
    /// `sample` is the sample's index in its split, the address of its augmentation.
    ///
    /// # Panics
    /// When `out` has not the input's length.
    pub fn prepare(&self, image: &Pixels, mode: Mode, sample: u32, out: &mut [f32]) {
        self.prepare_part(&self.cut(image, mode, sample), mode, sample, out);
    }

    /// The window of an image of this size that [`Preparation::prepare_part`] wants.
    pub(crate) fn window(&self, width: u32, height: u32, mode: Mode, sample: u32) -> Window {
        let crop = match mode {
            Mode::Evaluate => None,
            Mode::Train { seed, epoch } => {
                augment::window(&self.augment, width, height, augment::address(seed, epoch, sample))
            }
        };
        crop.unwrap_or(Window::whole((width, height)))
    }

    fn cut<'a>(&self, image: &'a Pixels, mode: Mode, sample: u32) -> Cow<'a, Pixels> {
        let window = self.window(image.width, image.height, mode, sample);
        if window == Window::whole((image.width, image.height)) {
            return Cow::Borrowed(image);
        }
        Cow::Owned(image.crop(window))
    }

    /// [`Preparation::prepare`] of an image of which only the [`Preparation::window`] is there.
    pub(crate) fn prepare_part(&self, part: &Pixels, mode: Mode, sample: u32, out: &mut [f32]) {
        assert_eq!(out.len(), self.geometry.input.len(), "room for one sample");
        let image = self.part_u8(part, mode, sample);
        match &self.table[..] {
            [grey] => out.iter_mut().zip(&image.data).for_each(|(number, value)| *number = grey[usize::from(*value)]),
            [red, green, blue] => {
                for (numbers, [r, g, b]) in out.as_chunks_mut().0.iter_mut().zip(image.data.as_chunks().0) {
                    *numbers = [red[usize::from(*r)], green[usize::from(*g)], blue[usize::from(*b)]];
                }
            }
            _ => unreachable!("an input has one or three channels"),
        }
        if let Mode::Train { seed, epoch } = mode {
            augment::erase(&self.augment, self.geometry.input, augment::address(seed, epoch, sample), out);
        }
    }

    /// The sample before normalization: resized and, in training, augmented, except for erasing, which comes
    /// after normalization.
    pub fn prepare_u8(&self, image: &Pixels, mode: Mode, sample: u32) -> Pixels {
        self.part_u8(&self.cut(image, mode, sample), mode, sample)
    }

    fn part_u8(&self, part: &Pixels, mode: Mode, sample: u32) -> Pixels {
        match mode {
            Mode::Evaluate => self.geometry.apply(part),
            Mode::Train { seed, epoch } => {
                augment::apply(&self.augment, &self.geometry, part, augment::address(seed, epoch, sample))
            }
        }
    }

    /// The image that a prepared sample shows: normalization undone, rounded and clamped to 0..=255.
    pub fn denormalise(&self, sample: &[f32]) -> Pixels {
        let Input { width, height, channels } = self.geometry.input;
        let statistics = self.normalization.mean.iter().zip(&self.normalization.std).cycle();
        let undo =
            |(number, (mean, std)): (&f32, (&f32, &f32))| ((number * std + mean) * 255.0).round().clamp(0.0, 255.0);
        let data = sample.iter().zip(statistics).map(|pair| undo(pair) as u8).collect();
        Pixels::new(width, height, channels, data)
    }
}
