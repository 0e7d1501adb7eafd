//! Strips and tiles of TIFF files, unpacked.

use std::io::Read;

use flate2::bufread::ZlibDecoder;
use weezl::{BitOrder, LzwStatus, decode};

use super::directory::damaged;
use crate::decode_error::DecodeError;

/// How strips and tiles are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packing {
    Plain,
    Lzw,
    Deflate,
    PackBits,
}

impl Packing {
    /// The packing of this number in the tag `Compression`.
    pub(super) fn of(number: u32) -> Result<Self, DecodeError> {
        let other = match number {
            1 => return Ok(Packing::Plain),
            5 => return Ok(Packing::Lzw),
            8 | 32_946 => return Ok(Packing::Deflate),
            32_773 => return Ok(Packing::PackBits),
            2..=4 => "fax compression",
            6 | 7 => "JPEG compression",
            50_000 => "Zstandard compression",
            50_001 => "WebP compression",
            _ => return Err(damaged(format!("compression {number} is not read; save it with LZW, deflate or none"))),
        };
        Err(damaged(format!("{other} is not read; save it with LZW, deflate or none")))
    }

    /// Unpacks `length` bytes of `packed`. What follows them is not looked at.
    pub(super) fn unpack(self, packed: &[u8], length: usize) -> Result<Vec<u8>, DecodeError> {
        let too_early = || damaged("it ends too early");
        let mut out = Vec::new();
        match self {
            Packing::Plain => out.extend_from_slice(packed.get(..length).ok_or_else(too_early)?),
            Packing::Deflate => {
                let read = ZlibDecoder::new(packed).take(length as u64).read_to_end(&mut out);
                read.map_err(|error| damaged(error.to_string()))?;
            }
            Packing::Lzw => {
                out.resize(length, 0);
                let filled = lzw(packed, &mut out)?;
                out.truncate(filled);
            }
            Packing::PackBits => packbits(packed, length, &mut out),
        }
        if out.len() < length { Err(too_early()) } else { Ok(out) }
    }
}

/// Unpacks into `out`, and says how much of it was filled.
fn lzw(mut packed: &[u8], out: &mut [u8]) -> Result<usize, DecodeError> {
    let mut decoder = decode::Decoder::with_tiff_size_switch(BitOrder::Msb, 8);
    let mut filled = 0;
    while filled < out.len() {
        let step = decoder.decode_bytes(packed, &mut out[filled..]);
        packed = &packed[step.consumed_in..];
        filled += step.consumed_out;
        match step.status {
            Ok(LzwStatus::Ok) if step.consumed_in + step.consumed_out > 0 => {}
            Ok(_) => break,
            Err(error) => return Err(damaged(error.to_string())),
        }
    }
    Ok(filled)
}

/// Runs: of a byte `n` up to 127, `n + 1` bytes follow as they are; from 129, one that stands there `257 - n` times.
fn packbits(mut packed: &[u8], length: usize, out: &mut Vec<u8>) {
    while let Some((&count, rest)) = packed.split_first().filter(|_| out.len() < length) {
        let count = usize::from(count);
        let used = match count {
            0..=127 => {
                let plain = &rest[..rest.len().min(count + 1)];
                out.extend_from_slice(plain);
                plain.len()
            }
            128 => 0,
            _ => {
                out.extend(rest.first().into_iter().flat_map(|byte| std::iter::repeat_n(*byte, 257 - count)));
                rest.len().min(1)
            }
        };
        packed = &rest[used..];
    }
    out.truncate(length);
}
