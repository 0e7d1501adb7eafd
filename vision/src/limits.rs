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

/// Pixels of a picture that no memory is asked for beyond [`SMALL`].
const SMALL_PIXELS: u64 = 1 << 20;
/// Bytes that a pixel takes while it is decoded, at most: of 16 bits as they are stored, or the coefficients of a
/// progressive JPEG, and what is made of them, upright and not.
const BYTES_OF_PIXEL: u64 = 20;
/// Bytes for a picture of which only the file is known.
pub(crate) const SMALL: u64 = bytes_of(SMALL_PIXELS);

/// Bytes that decoding so many pixels takes, at most.
pub(crate) const fn bytes_of(pixels: u64) -> u64 {
    pixels.saturating_mul(BYTES_OF_PIXEL)
}

impl Limits {
    /// Those of pictures that take no more memory than [`SMALL`].
    pub(crate) fn of_small(&self) -> Limits {
        Limits { max_pixels: self.max_pixels.min(SMALL_PIXELS), ..*self }
    }

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
