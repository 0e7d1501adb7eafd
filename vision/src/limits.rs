//! Limits on the size of images.

use convoy_common::spec::Data;

/// The largest size that an image may claim. It is checked before memory is taken for the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Largest width or height in pixels.
    pub max_side: u32,
    /// Most pixels.
    pub max_pixels: u64,
}

impl Limits {
    /// Whether an image of this size may be decoded.
    pub(crate) fn allow(&self, width: u64, height: u64) -> bool {
        let side = u64::from(self.max_side);
        // Sides are checked first, so that the product cannot overflow.
        width <= side && height <= side && width * height <= self.max_pixels
    }
}

impl From<&Data> for Limits {
    /// `data.max_image_side`, and 2^27 (134 million) pixels.
    fn from(data: &Data) -> Self {
        Limits { max_side: data.max_image_side, max_pixels: 1 << 27 }
    }
}
