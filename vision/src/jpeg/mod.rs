//! JPEG files: sequential and progressive ones with Huffman codes, of every sampling, in one scan or several.
//!
//! There is one decoder, for whole files and for windows of them. A file that is sequential and has all in one scan is
//! decoded as far as a window needs it: without the inverse transform, upsampling and colours of blocks outside, and
//! without entropy decoding below. Whole files must be sound up to their end marker. All arithmetic is that of
//! integers, so vectors change no bit.

mod bits;
mod colours;
mod fault;
mod frame;
mod header;
mod huffman;
mod idct;
mod plane;
mod progressive;
mod sequential;
mod tables;
mod upsample;

#[cfg(test)]
mod tests;

use crate::decode_error::DecodeError;
use crate::exif::{WithExif, orientation_of};
use crate::limits::Limits;
use crate::pixels::{Pixels, Window};
use fault::{CUT_OFF, Fault};
use frame::Scan;
use header::Header;
use plane::Area;

/// Decodes a whole file.
///
/// # Errors
/// When the file is damaged, cut off, of a kind that is not supported, or claims more than `limits` allow.
pub(crate) fn decode_jpeg(bytes: &[u8], limits: &Limits) -> Result<WithExif, DecodeError> {
    let fault = |reason: Fault| DecodeError::Jpeg { reason: reason.to_owned() };
    let (mut header, first) = Header::open(bytes).map_err(fault)?;
    let (width, height) = (header.frame.width, header.frame.height);
    limits.check(width.into(), height.into())?;
    // Before the long work.
    if !header.is_complete(bytes) {
        return Err(fault(CUT_OFF));
    }
    let window = Window::whole((width, height));
    let area = Area::of(&header.frame, window);
    let planes = match header.frame.progressive {
        true => progressive::decode(&mut header, first, bytes),
        false => sequential::decode(&mut header, first, bytes, &area),
    };
    let pixels = upsample::to_pixels(&header.frame, header.colours, &planes.map_err(fault)?, &area, window);
    Ok((pixels, header.exif.map(|exif| bytes[exif].to_vec())))
}

/// A JPEG file whose header was read, and whose windows can be decoded alone: sequential, all in one scan, upright.
///
/// The pixels are bit for bit those that [`decode`](crate::decode()) makes of the whole file.
#[derive(Debug)]
pub struct Baseline {
    bytes: Vec<u8>,
    header: Box<Header>,
    scan: Scan,
}

impl Baseline {
    /// Reads the header.
    ///
    /// # Errors
    /// The bytes, where windows of the file cannot be decoded alone, or it is larger than `limits`.
    /// [`decode`](crate::decode()) may decode all of it.
    pub fn open(bytes: Vec<u8>, limits: &Limits) -> Result<Self, Vec<u8>> {
        let Ok((mut header, scan)) = Header::open(&bytes) else { return Err(bytes) };
        let frame = &header.frame;
        let turned = header.exif.clone().and_then(|exif| orientation_of(&bytes[exif])).unwrap_or(1) != 1;
        let many = scan.parts.len() != frame.components.len();
        if turned || many || frame.progressive || !limits.allow(frame.width.into(), frame.height.into()) {
            return Err(bytes);
        }
        header.tables.complete_for(&scan);
        Ok(Baseline { bytes, header: Box::new(header), scan })
    }

    /// The bytes of the file.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Columns and rows.
    pub fn size(&self) -> (u32, u32) {
        (self.header.frame.width, self.header.frame.height)
    }

    /// 1 for grey, 3 for colours.
    pub fn channels(&self) -> u32 {
        self.header.colours.channels()
    }

    /// The pixels of `window`, which must lie inside the image; `None` where the data are irregular as far as they are
    /// read.
    pub fn window(&self, window: Window) -> Option<Pixels> {
        let Header { frame, tables, colours, at, .. } = &*self.header;
        let area = Area::of(frame, window);
        let planes = sequential::decode_scan(frame, tables, &self.scan, &self.bytes[*at..], &area).ok()?;
        Some(upsample::to_pixels(frame, *colours, &planes, &area, window))
    }
}
