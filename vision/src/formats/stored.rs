//! What decoders give.

use crate::pixels::Pixels;

/// A picture as its file has it.
pub(crate) struct Stored {
    /// As they lie in the file, 8 bits.
    pub(crate) pixels: Pixels,
    /// Orientation 1..=8, where the file says one.
    pub(crate) orientation: Option<u8>,
    /// Least and largest number of a picture of 16 bits.
    pub(crate) range16: Option<[u16; 2]>,
}
