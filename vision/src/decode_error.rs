//! Why bytes cannot be decoded.

use crate::limits::Limits;

/// Why bytes are no image that can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Of no format that is read by its first bytes, whatever its name says.
    #[error("is not a JPEG, PNG, WebP, BMP, GIF, TIFF or PNM file: it {looks}")]
    NotAnImage {
        /// Its likely format.
        looks: &'static str,
    },
    /// Larger than the limits.
    #[error(
        "claims {width} x {height} pixels, more than the limit of {} a side and {} in all; \
         scale it down, or raise data.max_image_side", .limits.max_side, .limits.max_pixels
    )]
    TooLarge {
        /// Claimed columns.
        width: u64,
        /// Claimed rows.
        height: u64,
        /// The limits in force.
        limits: Limits,
    },
    /// A truncated, corrupt or unsupported JPEG.
    #[error("is a truncated, corrupt or unsupported JPEG: {reason}")]
    Jpeg {
        /// The decoder's words.
        reason: String,
    },
    /// A truncated, corrupt or unsupported PNG.
    #[error("is a truncated, corrupt or unsupported PNG: {reason}")]
    Png {
        /// The decoder's words.
        reason: String,
    },
    /// Another truncated, corrupt or unsupported file.
    #[error("is a truncated, corrupt or unsupported {format}: {reason}")]
    Damaged {
        /// `BMP`, `GIF`, `PNM`, `TIFF` or `WebP`.
        format: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The decoder itself failed.
    #[error("makes the decoder fail: {reason}")]
    Panic {
        /// The message of its panic.
        reason: String,
    },
}

impl Limits {
    /// Checks the size that an image claims, before memory is taken for it.
    ///
    /// # Errors
    /// When it is larger than the limits.
    pub(crate) fn check(&self, width: u64, height: u64) -> Result<(), DecodeError> {
        if self.allow(width, height) { Ok(()) } else { Err(DecodeError::TooLarge { width, height, limits: *self }) }
    }
}
