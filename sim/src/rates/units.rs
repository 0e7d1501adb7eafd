//! Sizes, rates and times as people write them.

use std::fmt;

/// Why a text is no quantity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitError {
    /// What it should be.
    what: &'static str,
    /// Units that are known, with what they stand for.
    units: &'static [(&'static str, u64)],
}

impl fmt::Display for UnitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units: Vec<&str> = self.units.iter().map(|(unit, _)| *unit).collect();
        let example = units.first().unwrap_or(&"");
        write!(f, "{} is a positive number with a unit of {}, such as 2.5{example}", self.what, units.join(", "))
    }
}

impl std::error::Error for UnitError {}

/// The bytes of a size such as `45mb`.
///
/// # Errors
/// When it is none.
///
/// # Examples
/// ```
/// use convoy_sim::rates::bytes;
///
/// assert_eq!(bytes("2.5mb"), Ok(2_500_000));
/// assert!(bytes("45").unwrap_err().to_string().ends_with("a unit of mb, kb, gb, kib, mib, such as 2.5mb"));
/// ```
pub fn bytes(text: &str) -> Result<u64, UnitError> {
    let units = &[("mb", 1_000_000), ("kb", 1000), ("gb", 1_000_000_000), ("kib", 1024), ("mib", 1024 * 1024)];
    quantity(text, "a size", units)
}

/// The bytes a second of a rate such as `10gbit`.
///
/// # Errors
/// When it is none.
///
/// # Examples
/// ```
/// use convoy_sim::rates::bytes_per_second;
///
/// assert_eq!(bytes_per_second("10gbit"), Ok(1_250_000_000));
/// ```
pub fn bytes_per_second(text: &str) -> Result<u64, UnitError> {
    quantity(text, "a rate", &[("gbit", 125_000_000), ("mbit", 125_000)])
}

/// The nanoseconds of a time such as `200ms`.
///
/// # Errors
/// When it is none.
///
/// # Examples
/// ```
/// use convoy_sim::rates::nanos;
///
/// assert_eq!(nanos("200ms"), Ok(200_000_000));
/// ```
pub fn nanos(text: &str) -> Result<u64, UnitError> {
    quantity(text, "a time", &[("ms", 1_000_000), ("us", 1000), ("s", 1_000_000_000)])
}

/// More than any run needs, and little enough to be calculated with.
const MOST: u64 = 1 << 42;

fn quantity(text: &str, what: &'static str, units: &'static [(&'static str, u64)]) -> Result<u64, UnitError> {
    let lower = text.trim().to_ascii_lowercase();
    let (number, unit) = lower.split_at(lower.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(lower.len()));
    let named = units.iter().find(|(name, _)| *name == unit);
    let value = named.and_then(|(_, factor)| scaled(number.trim_end(), *factor));
    value.filter(|value| (1..=MOST).contains(value)).ok_or(UnitError { what, units })
}

/// A decimal number times a factor, rounded down.
fn scaled(number: &str, factor: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str| (1..=9).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) {
        return None;
    }
    let ten = 10u64.pow(fraction.len() as u32);
    let part = u128::from(fraction.parse::<u64>().ok()?) * u128::from(factor) / u128::from(ten);
    whole.parse::<u64>().ok()?.checked_mul(factor)?.checked_add(u64::try_from(part).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_may_have_fractions_and_units_any_case() {
        assert_eq!([bytes("45mb"), bytes("0.5 KiB"), bytes("1GB")], [Ok(45_000_000), Ok(512), Ok(1_000_000_000)]);
        assert_eq!([bytes_per_second("250mbit"), bytes_per_second("2.5Gbit")], [Ok(31_250_000), Ok(312_500_000)]);
        assert_eq!([nanos("100us"), nanos("1.25s"), nanos(" 3ms")], [Ok(100_000), Ok(1_250_000_000), Ok(3_000_000)]);
    }

    #[test]
    fn anything_else_is_told_what_is_accepted() {
        for text in ["", "mb", "45", "-1mb", "1..5mb", "1.mb", ".5mb", "45mbit", "0mb", "9999999999mb", "4 5mb", "é"] {
            assert!(bytes(text).is_err(), "{text}");
        }
        let told = bytes_per_second("10gb").unwrap_err().to_string();
        assert_eq!(told, "a rate is a positive number with a unit of gbit, mbit, such as 2.5gbit");
    }
}
