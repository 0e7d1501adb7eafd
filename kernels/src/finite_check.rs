//! Looking for NaN, infinity and numbers too large to be meant.

use crate::cpu::simd;

/// The bits of an f32 that hold its exponent: all of them set in NaN and infinity, and in no other number.
pub const EXPONENT_BITS: u32 = 0x7f80_0000;

simd! {
    /// The largest exponent of `values`, as the bits of an f32 that hold it: [`EXPONENT_BITS`] where one is NaN or
    /// infinite, 0 for no values at all.
    pub fn largest_exponent(values: &[f32]) -> u32 {
        values.iter().fold(0, |largest, value| largest.max(value.to_bits() & EXPONENT_BITS))
    }
}

/// Whether no value is NaN or infinite. True for no values at all.
pub fn all_finite(values: &[f32]) -> bool {
    // Whole blocks without an early exit, so that the test becomes vectors.
    values.chunks(1024).all(|block| largest_exponent(block) < EXPONENT_BITS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bad_value_is_found_anywhere() {
        let mut values = vec![f32::MAX; 3000];
        assert!(all_finite(&values) && all_finite(&[]));
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -f32::NAN] {
            for at in [0, 1023, 1024, 2999] {
                let good = std::mem::replace(&mut values[at], bad);
                assert!(!all_finite(&values), "{bad} at {at}");
                values[at] = good;
            }
        }
    }

    #[test]
    fn the_largest_exponent_is_the_exponent_of_the_largest() {
        assert_eq!(largest_exponent(&[]), 0);
        assert_eq!(largest_exponent(&[0.0, -0.0]), 0);
        assert_eq!(largest_exponent(&[1.5, -3.0, 2.0]), 2f32.to_bits());
        assert_eq!(largest_exponent(&[1.0, f32::MIN]), EXPONENT_BITS - (1 << 23));
        assert_eq!(largest_exponent(&[1.0, f32::NAN, 2.0]), EXPONENT_BITS);
    }
}
