//! Numbers in as few bytes as they need (LEB128, unsigned: seven bits a byte, the lowest first).

use std::io::{self, Read, Write};

/// Writes `number`.
///
/// # Errors
/// As `out`.
pub fn write(out: &mut impl Write, mut number: u64) -> io::Result<()> {
    while number >= 0x80 {
        out.write_all(&[number as u8 | 0x80])?;
        number >>= 7;
    }
    out.write_all(&[number as u8])
}

/// Reads a number that [`write`] wrote.
///
/// # Errors
/// As `from`; [`io::ErrorKind::InvalidData`] where the number goes on beyond ten bytes.
pub fn read(from: &mut impl Read) -> io::Result<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let mut byte = [0];
        from.read_exact(&mut byte)?;
        number |= u64::from(byte[0] & 0x7F) << shift;
        if byte[0] < 0x80 {
            return Ok(number);
        }
    }
    Err(io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_and_endless_ones_do_not() {
        for (number, bytes) in [(0, 1), (127, 1), (128, 2), (u64::from(u32::MAX), 5), (u64::MAX, 10)] {
            let mut out = Vec::new();
            write(&mut out, number).unwrap();
            assert_eq!((out.len(), read(&mut out.as_slice()).unwrap()), (bytes, number));
            assert_eq!(read(&mut &out[..bytes - 1]).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        }
        assert_eq!(read(&mut [0x80; 11].as_slice()).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
