//! Elements of files to f32.

use std::io::{self, Read};

use safetensors::tensor::Dtype;

/// Elements that are read at a time.
const BLOCK: usize = 8192;

/// Reads `bytes` bytes of elements of type `dtype`: F32, F16 and BF16 exactly, F64 rounded to nearest.
///
/// # Panics
/// When `dtype` is another; the caller checks.
pub(crate) fn read_f32(reader: &mut impl Read, dtype: Dtype, bytes: usize) -> io::Result<Vec<f32>> {
    match dtype {
        Dtype::F32 => read(reader, bytes, f32::from_le_bytes),
        Dtype::F64 => read(reader, bytes, |bytes| f64::from_le_bytes(bytes) as f32),
        Dtype::F16 => read(reader, bytes, |bytes| from_f16(u16::from_le_bytes(bytes))),
        Dtype::BF16 => read(reader, bytes, |bytes| f32::from_bits(u32::from(u16::from_le_bytes(bytes)) << 16)),
        other => panic!("elements of type {other:?} are not read as f32"),
    }
}

fn read<const SIZE: usize>(reader: &mut impl Read, bytes: usize, to: fn([u8; SIZE]) -> f32) -> io::Result<Vec<f32>> {
    let mut block = vec![0; bytes.min(BLOCK * SIZE)];
    let mut values = Vec::with_capacity(bytes / SIZE);
    let mut left = bytes;
    while left > 0 {
        let block = &mut block[..left.min(BLOCK * SIZE)];
        reader.read_exact(block)?;
        values.extend(block.as_chunks().0.iter().map(|bytes| to(*bytes)));
        left -= block.len();
    }
    Ok(values)
}

/// IEEE 754 binary16 to binary32, exact.
fn from_f16(bits: u16) -> f32 {
    let sign = u32::from(bits & 0x8000) << 16;
    let (exponent, fraction) = (u32::from(bits >> 10 & 0x1F), u32::from(bits & 0x3FF));
    match exponent {
        // Subnormal: a multiple of 2^-24.
        0 => f32::from_bits((fraction as f32 * (1.0 / 16_777_216.0)).to_bits() | sign),
        31 => f32::from_bits(sign | 0x7F80_0000 | fraction << 13),
        _ => f32::from_bits(sign | (exponent + 112) << 23 | fraction << 13),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves() {
        let check = |bits: u16, expected: f32| assert_eq!(from_f16(bits).to_bits(), expected.to_bits(), "{bits:#x}");
        check(0x3C00, 1.0);
        check(0xC000, -2.0);
        check(0x8000, -0.0);
        check(0x7BFF, 65504.0);
        check(0x0400, 6.103_515_6e-5);
        check(0x0001, 5.960_464_5e-8);
        check(0x83FF, -6.097_555e-5);
        check(0x7C00, f32::INFINITY);
        check(0x3555, 0.333_251_95);
        assert!(from_f16(0x7E00).is_nan());
    }

    #[test]
    fn types() {
        let check = |dtype, bytes: &[u8], expected: &[f32]| {
            assert_eq!(read_f32(&mut &bytes[..], dtype, bytes.len()).unwrap(), expected);
        };
        check(Dtype::F64, &0.1f64.to_le_bytes(), &[0.1]);
        check(Dtype::BF16, &[0x80, 0x3F, 0x00, 0xC0], &[1.0, -2.0]);
        check(Dtype::F16, &[0x00, 0x3C], &[1.0]);
        let many: Vec<f32> = (0..BLOCK + 7).map(|i| i as f32 * 0.5).collect();
        let bytes: Vec<u8> = many.iter().flat_map(|x| x.to_le_bytes()).collect();
        check(Dtype::F32, &bytes, &many);
        assert!(read_f32(&mut &bytes[1..], Dtype::F32, bytes.len()).is_err());
    }
}
