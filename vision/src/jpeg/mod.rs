//! Windows of baseline JPEG files, without computing pixels outside: the inverse transform, upsampling and colours of
//! the blocks that a window needs, and no entropy decoding below them.
//!
//! The pixels are bit for bit those that [`crate::decode()`] makes of the whole file. All arithmetic is that of
//! integers, so vectors change no bit. Files that this decoder does not know (progressive, arithmetic and 12-bit files,
//! several scans, rare samplings, CMYK, files that have to be turned) and irregular data are left to
//! [`crate::decode()`].

mod bits;
mod entropy_scan;
mod header;
mod huffman;
mod idct;
mod upsample;

#[cfg(test)]
mod tests;

use crate::limits::Limits;
use crate::pixels::{Pixels, Window};
use header::Header;

/// A baseline JPEG file whose header was read, and whose windows can be decoded alone.
///
/// The pixels are bit for bit those that [`decode`](crate::decode()) makes of the whole file.
#[derive(Debug)]
pub struct Baseline {
    bytes: Vec<u8>,
    header: Box<Header>,
}

impl Baseline {
    /// Reads the header.
    ///
    /// # Errors
    /// The bytes, where the file is none that this decoder knows or is larger than `limits`.
    /// [`decode`](crate::decode()) may know it.
    pub fn open(bytes: Vec<u8>, limits: &Limits) -> Result<Self, Vec<u8>> {
        match Header::read(&bytes) {
            Some(header) if limits.allow(header.width.into(), header.height.into()) => {
                Ok(Baseline { bytes, header: Box::new(header) })
            }
            _ => Err(bytes),
        }
    }

    /// The bytes of the file.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Columns and rows.
    pub fn size(&self) -> (u32, u32) {
        (self.header.width, self.header.height)
    }

    /// 1 for grey, 3 for colours.
    pub fn channels(&self) -> u32 {
        self.header.components.len() as u32
    }

    /// The pixels of `window`, which must lie inside the image; `None` where the data are irregular as far as they are
    /// read.
    pub fn window(&self, window: Window) -> Option<Pixels> {
        let planes = entropy_scan::decode(&self.header, self.bytes.get(self.header.data..)?, window)?;
        Some(upsample::to_pixels(&planes, window))
    }
}
