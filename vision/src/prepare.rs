//! From an image to the network's input: the same for training, validation and prediction.
//!
//! Pixels are computed in integers, and the last step from 8 bits to f32 goes by a table of 256 entries, so that every
//! CPU gives the same bits.

use std::borrow::Cow;

use convoy_common::plan::{Input, Normalization, Plan};
use convoy_common::spec::{Augment, Prepare};

use crate::augment;
use crate::geometry::Geometry;
use crate::pixels::{Pixels, Window};

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

/// The whole way from an image to the network's input: geometry, augmentation in training, normalization. It is part of
/// every model file.
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
    /// When `normalization` has other than one mean and one deviation for each channel of `input`.
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

    /// Shape of the network's input.
    pub fn input(&self) -> Input {
        self.geometry.input
    }

    /// How images get the input's size and channels.
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// Writes one sample, HWC, normalised as `(x / 255 - mean) / std` in f32, in this order.
    ///
    /// `sample` is the sample's index in its split, the address of its augmentation.
    ///
    /// # Panics
    /// When `out` has another length than the input.
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

    /// The window of the image that [`Preparation::prepare_part`] wants.
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

    /// [`Preparation::prepare_u8`] of the window alone.
    fn part_u8(&self, part: &Pixels, mode: Mode, sample: u32) -> Pixels {
        match mode {
            Mode::Evaluate => self.geometry.apply(part),
            Mode::Train { seed, epoch } => {
                augment::apply(&self.augment, &self.geometry, part, augment::address(seed, epoch, sample))
            }
        }
    }

    /// The image that a prepared sample (HWC) shows: normalization undone, rounded and clamped to 0..=255.
    pub fn denormalise(&self, sample: &[f32]) -> Pixels {
        let Input { width, height, channels } = self.geometry.input;
        let statistics = self.normalization.mean.iter().zip(&self.normalization.std).cycle();
        let undo =
            |(number, (mean, std)): (&f32, (&f32, &f32))| ((number * std + mean) * 255.0).round().clamp(0.0, 255.0);
        let data = sample.iter().zip(statistics).map(|pair| undo(pair) as u8).collect();
        Pixels::new(width, height, channels, data)
    }
}
