use std::cell::RefCell;
use std::fmt;
use std::thread::LocalKey;

use crate::cpu::{self, Kernel};
use crate::scratch::{Free, Pooled};
use crate::shape::expect_len;

/// A value in memory: the upper half of an `f32`, and never one that [`Bf16::from_f32`] does not give. So no product
/// of two, and no sum of products, is ever denormal or -0.0, and what a CPU does with those is of no account.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Bf16(u16);

/// The bits of 2^-56, the smallest magnitude above 0.
pub(super) const SMALLEST: u32 = 0x2380;

/// The bits of the one NaN.
pub(super) const NAN: u32 = 0x7fc0;

impl Bf16 {
    /// +0.0.
    pub const ZERO: Bf16 = Bf16(0);

    /// Rounds to nearest, ties to even; then magnitudes below 2^-56 become +0.0. NaN stays NaN.
    #[inline(always)]
    pub fn from_f32(value: f32) -> Bf16 {
        let bits = value.to_bits();
        let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
        let kept = if rounded & 0x7fff < SMALLEST { 0 } else { rounded };
        Bf16(if bits & 0x7fff_ffff > 0x7f80_0000 { NAN } else { kept } as u16)
    }

    /// The same value.
    #[inline(always)]
    pub fn to_f32(self) -> f32 {
        f32::from_bits(u32::from(self.0) << 16)
    }

    /// Neither infinite nor NaN.
    #[inline(always)]
    pub(super) fn is_finite(self) -> bool {
        self.0 & 0x7f80 != 0x7f80
    }

    /// The value with these bits, of any origin: magnitudes below 2^-56 become +0.0, and every NaN the one NaN.
    #[inline(always)]
    pub fn from_bits(bits: u16) -> Bf16 {
        Bf16::from_f32(f32::from_bits(u32::from(bits) << 16))
    }

    /// The upper half of the `f32`'s bits.
    pub fn to_bits(self) -> u16 {
        self.0
    }
}

thread_local! {
    static FREE: Free<Bf16> = const { RefCell::new(Vec::new()) };
}

impl Pooled for Bf16 {
    fn free() -> &'static LocalKey<Free<Bf16>> {
        &FREE
    }

    fn unwritten() -> Bf16 {
        Bf16(NAN as u16)
    }
}

impl fmt::Debug for Bf16 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_f32().fmt(f)
    }
}

/// [`Bf16::from_f32`] of each value.
///
/// # Panics
/// If the lengths differ.
pub fn round(from: &[f32], to: &mut [Bf16]) {
    expect_len("to", to.len(), from.len());
    cpu::dispatch(Round { from, to });
}

/// [`Bf16::to_f32`] of each value.
///
/// # Panics
/// If the lengths differ.
pub fn widen(from: &[Bf16], to: &mut [f32]) {
    expect_len("to", to.len(), from.len());
    cpu::dispatch(Widen { from, to });
}

/// The bits of [`Bf16::from_f32`] of each value, the lower byte first.
///
/// # Panics
/// If the lengths differ.
pub fn to_le_bytes(from: &[f32], to: &mut [[u8; 2]]) {
    expect_len("to", to.len(), from.len());
    cpu::dispatch(ToBytes { from, to });
}

/// [`Bf16::from_bits`] of each two bytes, the lower one first, as `f32`.
///
/// # Panics
/// If the lengths differ.
pub fn from_le_bytes(from: &[[u8; 2]], to: &mut [f32]) {
    expect_len("to", to.len(), from.len());
    cpu::dispatch(FromBytes { from, to });
}

struct Round<'a> {
    from: &'a [f32],
    to: &'a mut [Bf16],
}

impl Kernel for Round<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const PANEL: usize>(self) {
        for (to, from) in self.to.iter_mut().zip(self.from) {
            *to = Bf16::from_f32(*from);
        }
    }
}

struct Widen<'a> {
    from: &'a [Bf16],
    to: &'a mut [f32],
}

impl Kernel for Widen<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const PANEL: usize>(self) {
        for (to, from) in self.to.iter_mut().zip(self.from) {
            *to = from.to_f32();
        }
    }
}

struct ToBytes<'a> {
    from: &'a [f32],
    to: &'a mut [[u8; 2]],
}

impl Kernel for ToBytes<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const PANEL: usize>(self) {
        for (to, from) in self.to.iter_mut().zip(self.from) {
            *to = Bf16::from_f32(*from).0.to_le_bytes();
        }
    }
}

struct FromBytes<'a> {
    from: &'a [[u8; 2]],
    to: &'a mut [f32],
}

impl Kernel for FromBytes<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const PANEL: usize>(self) {
        for (to, from) in self.to.iter_mut().zip(self.from) {
            *to = Bf16::from_bits(u16::from_le_bytes(*from)).to_f32();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::noise;

    #[test]
    fn every_half_stays_what_it_is_or_becomes_zero() {
        for bits in 0..=u16::MAX {
            let value = f32::from_bits(u32::from(bits) << 16);
            let found = Bf16::from_bits(bits).to_f32();
            if value.is_nan() {
                assert_eq!(found.to_bits(), 0x7fc0_0000);
            } else if value.abs() < libm::scalbnf(1.0, -56) {
                assert_eq!(found.to_bits(), 0);
            } else {
                assert_eq!(found.to_bits(), value.to_bits());
            }
        }
    }

    /// The nearest of all halves, found by trying them.
    #[test]
    fn rounding_is_to_the_nearest_and_then_to_the_even() {
        let step = libm::scalbnf(1.0, -7);
        for (value, expected) in [
            (1.0 + step / 2.0, 1.0),
            (1.0 + step * 1.5, 1.0 + 2.0 * step),
            (1.0 + step / 2.0 + f32::EPSILON, 1.0 + step),
            (-(1.0 + step * 1.5), -(1.0 + 2.0 * step)),
            (f32::MAX, f32::INFINITY),
            (f32::NEG_INFINITY, f32::NEG_INFINITY),
            (-0.0, 0.0),
            (libm::scalbnf(1.0, -56), libm::scalbnf(1.0, -56)),
            (-(libm::scalbnf(1.0, -56)), -(libm::scalbnf(1.0, -56))),
            // It is cut after it is rounded: this one is below, and rounds up to 2^-56.
            (f32::from_bits(libm::scalbnf(1.0, -56).to_bits() - 1), libm::scalbnf(1.0, -56)),
            (f32::from_bits(libm::scalbnf(1.0, -56).to_bits() - 0x8000), libm::scalbnf(1.0, -56)),
            (f32::from_bits(libm::scalbnf(1.0, -56).to_bits() - 0x8001), 0.0),
            (f32::MIN_POSITIVE / 2.0, 0.0),
        ] {
            assert_eq!(Bf16::from_f32(value).to_f32().to_bits(), f32::to_bits(expected), "{value:e}");
        }
        assert!(Bf16::from_f32(f32::from_bits(0x7f80_0001)).to_f32().is_nan());
        assert!(Bf16::from_f32(f32::from_bits(0xffff_ffff)).to_f32().is_nan());
    }

    #[test]
    fn in_bulk_as_one_by_one() {
        let mut values = noise(1, 1003);
        values.extend([f32::NAN, -0.0, f32::INFINITY, 1e-17, 1.4e-17, -1e-40]);
        let mut rounded = vec![Bf16::ZERO; values.len()];
        round(&values, &mut rounded);
        let expected: Vec<Bf16> = values.iter().map(|v| Bf16::from_f32(*v)).collect();
        assert_eq!(rounded, expected);
        let mut wide = vec![0.0; values.len()];
        widen(&rounded, &mut wide);
        assert!(wide.iter().zip(&expected).all(|(a, b)| a.to_bits() == b.to_f32().to_bits()));

        let mut bytes = vec![[0; 2]; values.len()];
        to_le_bytes(&values, &mut bytes);
        assert!(bytes.iter().zip(&expected).all(|(bytes, half)| *bytes == half.to_bits().to_le_bytes()));
        // Of any origin.
        let bytes: Vec<[u8; 2]> = (0..=u16::MAX).map(u16::to_le_bytes).collect();
        let mut wide = vec![0.0; bytes.len()];
        from_le_bytes(&bytes, &mut wide);
        let expected = (0..=u16::MAX).map(|bits| Bf16::from_bits(bits).to_f32());
        assert!(wide.iter().zip(expected).all(|(a, b)| a.to_bits() == b.to_bits()));
    }
}
