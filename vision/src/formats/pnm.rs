//! PGM and PPM files to pixels: binary (P5, P6) and as text (P2, P3), of 8 or 16 bits.

use super::depth16::{narrow, range_of};
use super::stored::Stored;
use crate::decode_error::DecodeError;
use crate::limits::Limits;
use crate::pixels::Pixels;

/// What files begin with, before a space or a comment.
const MAGICS: [&[u8; 2]; 4] = [b"P2", b"P3", b"P5", b"P6"];

/// Whether a file is one: two letters may begin a text, so the width must follow.
pub(crate) fn is_pnm(bytes: &[u8]) -> bool {
    let Some((magic, rest)) = bytes.split_at_checked(2) else { return false };
    let begins = rest.first().is_some_and(|byte| byte.is_ascii_whitespace() || *byte == b'#');
    MAGICS.iter().any(|known| *known == magic) && begins && PnmHeader { rest }.number().is_ok()
}

fn damaged(reason: impl Into<String>) -> DecodeError {
    DecodeError::Damaged { format: "PNM", reason: reason.into() }
}

/// Decodes the first picture of a file. Numbers are scaled from its largest number to 255, rounded, as Pillow does; of
/// 16 bits to 65535, which become their place in `range` where there is one.
pub(crate) fn decode_pnm(bytes: &[u8], limits: &Limits, range: Option<[u16; 2]>) -> Result<Stored, DecodeError> {
    let (magic, rest) = bytes.split_at_checked(2).ok_or_else(|| damaged("it ends too early"))?;
    let mut header = PnmHeader { rest };
    let (width, height, most) = (header.number()?, header.number()?, header.number()?);
    limits.check(width.into(), height.into())?;
    if width == 0 || height == 0 {
        return Err(damaged("it has no pixels"));
    }
    if most == 0 || most > u32::from(u16::MAX) {
        return Err(damaged(format!("its largest number is {most}; known are 1 to 65535")));
    }
    let channels = if matches!(magic, b"P3" | b"P6") { 3 } else { 1 };
    let count = width as usize * height as usize * channels as usize;
    let wide = most > 255;
    let values: Vec<u16> = match magic {
        b"P2" | b"P3" => header.text(count, most)?,
        _ => header.binary(count, wide)?,
    };
    let scaled = |to: u32| values.iter().map(move |value| scale(*value, most, to));
    let (data, range16) = match wide {
        true => {
            let values: Vec<u16> = scaled(u16::MAX.into()).collect();
            (narrow(&values, range), range_of(&values))
        }
        false => (scaled(255).map(|value| value as u8).collect(), None),
    };
    Ok(Stored { pixels: Pixels::new(width, height, channels, data), orientation: None, range16 })
}

/// A number of a picture whose largest is `most`, where the largest shall be `to`.
fn scale(value: u16, most: u32, to: u32) -> u16 {
    match most == to {
        true => value,
        false => (f64::from(value) / f64::from(most) * f64::from(to)).round_ties_even().min(f64::from(to)) as u16,
    }
}

/// What follows the first two letters.
struct PnmHeader<'a> {
    rest: &'a [u8],
}

impl<'a> PnmHeader<'a> {
    /// The next number, without what stands before it: space, and comments up to the ends of their lines. The one
    /// space behind it is passed too.
    fn number(&mut self) -> Result<u32, DecodeError> {
        let too_early = || damaged("it ends too early");
        loop {
            let (first, rest) = self.rest.split_first().ok_or_else(too_early)?;
            match first {
                b'#' => {
                    let end = self.rest.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
                    self.rest = &self.rest[end.ok_or_else(too_early)?..];
                }
                byte if byte.is_ascii_whitespace() => self.rest = rest,
                _ => break,
            }
        }
        let digits = self.rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (number, rest) = self.rest.split_at(digits);
        let number = std::str::from_utf8(number).ok().and_then(|number| number.parse().ok());
        let number = number.ok_or_else(|| damaged("its header holds something that is no number"))?;
        self.rest = match rest.split_first() {
            Some((byte, rest)) if byte.is_ascii_whitespace() => rest,
            Some((b'#', _)) => rest,
            // It may have had more digits.
            None => return Err(too_early()),
            Some(_) => return Err(damaged("its header holds something that is no number")),
        };
        Ok(number)
    }

    fn text(mut self, count: usize, most: u32) -> Result<Vec<u16>, DecodeError> {
        // Each number takes two bytes, but the last.
        if self.rest.len() < (2 * count).saturating_sub(1) {
            return Err(damaged("it ends too early"));
        }
        let mut number = || match self.number()? {
            number if number <= most => Ok(number as u16),
            number => Err(damaged(format!("it holds the number {number}, but its largest is {most}"))),
        };
        (0..count).map(|_| number()).collect()
    }

    fn binary(self, count: usize, wide: bool) -> Result<Vec<u16>, DecodeError> {
        let length = if wide { 2 * count } else { count };
        let data = self.rest.get(..length).ok_or_else(|| damaged("it ends too early"))?;
        Ok(match wide {
            true => data.as_chunks::<2>().0.iter().map(|pair| u16::from_be_bytes(*pair)).collect(),
            false => data.iter().map(|byte| u16::from(*byte)).collect(),
        })
    }
}
